"""A contact sheet: the query images on the left, the hits in rows beside them."""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Callable, Sequence

from PIL import Image

from simsearch.errors import ImageError
from simsearch.report.drawing.canvas import (
    ACCENT,
    FAINT,
    FRAME,
    INK,
    RULE,
    Canvas,
    Position,
    frame_picture,
    shorten_to_width,
)
from simsearch.report.drawing.tiles import MAX_WAIT_S
from simsearch.search.results import UNVERIFIED, Hit
from simsearch.sources.retry import limit_patience
from simsearch.text import shorten_path

_CELL_PX = 200
_GAP_PX = 18
_CAPTION_PX = 60
_MARGIN_PX = 28
_QUERY_PX = 280
_MAX_COLUMNS = 5
_MAX_QUERIES = 3
_TEXT_PX, _LINE_PX, _TEXT_COLUMNS, _TEXT_LINES = 24, 34, 18, 6


def draw_contact_sheet(
    query_paths: Sequence[str],
    hits: Sequence[Hit],
    backbone: str,
    file: str | os.PathLike[str],
    *,
    texts: Sequence[str] = (),
) -> tuple[ImageError, ...]:
    """Draw queries and hits, each hit with rank, similarity and name, and save the picture by its extension.

    The first three queries are drawn, pictures before texts. Pictures that cannot be read are gray squares, and their
    errors are returned. A server that does not answer is waited for `MAX_WAIT_S` seconds once.

    Raises `UsageError` when the extension is not that of a picture format, `SimsearchError` when the file cannot be
    written.
    """
    columns = max(1, min(_MAX_COLUMNS, len(hits)))
    rows = math.ceil(len(hits) / columns)
    shown_queries = query_paths[:_MAX_QUERIES]
    shown_texts = texts[: _MAX_QUERIES - len(shown_queries)]
    n_shown = len(shown_queries) + len(shown_texts)
    hits_left = _MARGIN_PX + _QUERY_PX + 2 * _GAP_PX
    width = hits_left + columns * (_CELL_PX + _GAP_PX) - _GAP_PX + _MARGIN_PX
    height = 2 * _MARGIN_PX + max(rows * (_CELL_PX + _CAPTION_PX), n_shown * (_QUERY_PX + _CAPTION_PX))
    canvas = Canvas(width, height)
    failures: list[ImageError] = []
    with limit_patience(MAX_WAIT_S):
        query_pictures = [frame_picture(path, _QUERY_PX, on_failure=failures.append) for path in shown_queries]
        hit_pictures = [_frame_hit(hit, failures.append) for hit in hits]
    for number, (path, picture) in enumerate(zip(shown_queries, query_pictures, strict=True)):
        position = (_MARGIN_PX, _MARGIN_PX + number * (_QUERY_PX + _CAPTION_PX))
        _draw_query(canvas, path, picture, backbone, position)
    for number, text in enumerate(shown_texts, start=len(shown_queries)):
        _draw_text_query(canvas, text, backbone, (_MARGIN_PX, _MARGIN_PX + number * (_QUERY_PX + _CAPTION_PX)))
    line = hits_left - _GAP_PX
    canvas.draw.line([(line, _MARGIN_PX), (line, height - _MARGIN_PX)], RULE, 1)
    for number, (hit, picture) in enumerate(zip(hits, hit_pictures, strict=True)):
        row, column = divmod(number, columns)
        position = (hits_left + column * (_CELL_PX + _GAP_PX), _MARGIN_PX + row * (_CELL_PX + _CAPTION_PX))
        _draw_hit(canvas, hit, picture, position)
    canvas.save(file)
    return tuple(failures)


def _draw_query(canvas: Canvas, path: str, picture: Image.Image, backbone: str, position: Position) -> None:
    left, top = position
    canvas.paste(picture, position)
    canvas.draw_text((left, top + _QUERY_PX + 9), "query", 16, ACCENT)
    canvas.draw_name((left + _QUERY_PX, top + _QUERY_PX + 11), backbone, 13, _QUERY_PX - 70, anchor="ra")
    canvas.draw_name((left, top + _QUERY_PX + 33), shorten_path(path), 13, _QUERY_PX)


def _draw_text_query(canvas: Canvas, text: str, backbone: str, position: Position) -> None:
    left, top = position
    canvas.draw.rectangle((left, top, left + _QUERY_PX - 1, top + _QUERY_PX - 1), FRAME)
    lines = textwrap.wrap(text, _TEXT_COLUMNS)[:_TEXT_LINES]
    first = top + _QUERY_PX // 2 - _LINE_PX * (len(lines) - 1) // 2
    for number, line in enumerate(lines):
        width_px = _QUERY_PX - 2 * _GAP_PX
        name = shorten_to_width(line, _TEXT_PX, width_px)
        canvas.draw_text((left + _QUERY_PX // 2, first + number * _LINE_PX), name, _TEXT_PX, INK, anchor="mm")
    canvas.draw_text((left, top + _QUERY_PX + 9), "query", 16, ACCENT)
    canvas.draw_name((left + _QUERY_PX, top + _QUERY_PX + 11), backbone, 13, _QUERY_PX - 70, anchor="ra")


def _frame_hit(hit: Hit, on_failure: Callable[[ImageError], None]) -> Image.Image:
    box = None if hit.verification is None else hit.verification.hit_box
    return frame_picture(hit.path, _CELL_PX, box, on_failure=on_failure)


def _draw_hit(canvas: Canvas, hit: Hit, picture: Image.Image, position: Position) -> None:
    left, top = position
    below = top + _CELL_PX
    canvas.paste(picture, position)
    canvas.draw_bar((left, below + 3), hit.similarity, _CELL_PX, height_px=3)
    canvas.draw_text((left, below + 12), f"{hit.similarity:.3f}", 16, INK)
    canvas.draw_text((left + _CELL_PX, below + 14), f"{hit.rank}", 13, FAINT, anchor="ra")
    if hit.verification is not None and hit.verification != UNVERIFIED:
        canvas.draw_text((left + 58, below + 14), hit.verification.description, 13, ACCENT)
    canvas.draw_name((left, below + 34), shorten_path(hit.path), 13, _CELL_PX)
