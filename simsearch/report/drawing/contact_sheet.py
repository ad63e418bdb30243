"""A contact sheet: the query on the left, the hits in rows beside it."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from simsearch.errors import ImageError, SimsearchError, UsageError
from simsearch.images.decode import compute_default_max_pixels, decode_image, read_raw_file
from simsearch.search import Hit

_CELL_PX = 200
_GAP_PX = 18
_CAPTION_PX = 46
_MARGIN_PX = 28
_QUERY_PX = 280
_MAX_COLUMNS = 5

_PAPER, _INK, _FAINT, _ACCENT = "#ffffff", "#1d1f23", "#7b818a", "#2f6f8f"
_EMPTY = "#eceef0"


@dataclass(frozen=True, slots=True)
class _SheetCanvas:
    """A canvas with its pen and fonts."""

    image: Image.Image
    draw: ImageDraw.ImageDraw
    large: ImageFont.FreeTypeFont | ImageFont.ImageFont
    small: ImageFont.FreeTypeFont | ImageFont.ImageFont


def draw_contact_sheet(query_paths: Sequence[str], hits: Sequence[Hit], title: str, file: str) -> None:
    """Draw queries and hits, each with rank, similarity and name, and save the picture by its extension.

    Raises `UsageError` when the extension means no picture format, `SimsearchError` when it cannot be saved.
    """
    columns = max(1, min(_MAX_COLUMNS, len(hits)))
    rows = math.ceil(len(hits) / columns)
    hits_left = _MARGIN_PX + _QUERY_PX + 2 * _GAP_PX
    n_shown = min(len(query_paths), 3)
    width = hits_left + columns * (_CELL_PX + _GAP_PX) - _GAP_PX + _MARGIN_PX
    height = 2 * _MARGIN_PX + max(rows * (_CELL_PX + _CAPTION_PX), n_shown * (_QUERY_PX + _CAPTION_PX))
    image = Image.new("RGB", (width, height), _PAPER)
    page = _SheetCanvas(image, ImageDraw.Draw(image), ImageFont.load_default(18), ImageFont.load_default(13))
    for number, path in enumerate(query_paths[:n_shown]):
        place = (_MARGIN_PX, _MARGIN_PX + number * (_QUERY_PX + _CAPTION_PX))
        _draw_picture(page, path, place, _QUERY_PX)
        page.draw.text((place[0], place[1] + _QUERY_PX + 8), "query", _ACCENT, page.large)
        _draw_name(
            page, f"{_format_file_name(path)}  ({title})", (place[0] + 58, place[1] + _QUERY_PX + 12), _QUERY_PX - 58
        )
    line = hits_left - _GAP_PX
    page.draw.line([(line, _MARGIN_PX), (line, height - _MARGIN_PX)], "#d8dbdf", 1)
    for number, hit in enumerate(hits):
        left = hits_left + number % columns * (_CELL_PX + _GAP_PX)
        _draw_hit(page, hit, (left, _MARGIN_PX + number // columns * (_CELL_PX + _CAPTION_PX)))
    _save_image(image, file)


def _draw_hit(page: _SheetCanvas, hit: Hit, place: tuple[int, int]) -> None:
    left, top = place
    _draw_picture(page, hit.path, place, _CELL_PX)
    below = top + _CELL_PX
    # A bar under the picture, as long as the similarity is large.
    page.draw.rectangle([left, below + 3, left + _CELL_PX - 1, below + 5], _EMPTY)
    if (length := round(max(0.0, hit.similarity) * _CELL_PX)) > 0:
        page.draw.rectangle([left, below + 3, left + length - 1, below + 5], _ACCENT)
    page.draw.text((left, below + 11), f"{hit.rank}", _FAINT, page.small)
    page.draw.text((left + 22, below + 9), f"{hit.similarity:.3f}", _INK, page.large)
    _draw_name(page, _format_file_name(hit.path), (left + 76, below + 13), _CELL_PX - 76)


def _draw_picture(page: _SheetCanvas, path: str, place: tuple[int, int], side_px: int) -> None:
    """The picture in the middle of a square, whole; a grey square where it cannot be read any more."""
    left, top = place
    try:
        limit = compute_default_max_pixels()
        raw = read_raw_file(path, has_picture_extension=True, max_pixels=limit)
        thumbnail = decode_image(raw.data, path, max_pixels=limit, target_px=side_px).image
    except ImageError:
        page.draw.rectangle([left, top, left + side_px - 1, top + side_px - 1], _EMPTY)
        page.draw.text((left + 12, top + side_px // 2), "not there any more", _FAINT, page.small)
        return
    thumbnail = ImageOps.contain(thumbnail, (side_px, side_px), Image.Resampling.LANCZOS)
    corner = (left + (side_px - thumbnail.width) // 2, top + (side_px - thumbnail.height) // 2)
    page.draw.rectangle([left, top, left + side_px - 1, top + side_px - 1], "#f6f7f8")
    page.image.paste(thumbnail, corner)


def _draw_name(page: _SheetCanvas, name: str, place: tuple[int, int], width_px: int) -> None:
    """A name, cut in its middle to the width there is: its beginning and its end tell files apart."""
    kept = name
    while len(kept) > 3 and page.draw.textlength(kept, page.small) > width_px:
        half = (len(kept) - 2) // 2
        kept = f"{name[:half]}…{name[-half:]}"
    page.draw.text(place, kept, _FAINT, page.small)


def _format_file_name(path: str) -> str:
    """The file's name with its folder's, which is often its class."""
    return os.fsencode(os.path.join(*Path(path).parts[-2:])).decode("utf-8", "replace")


def _save_image(image: Image.Image, file: str) -> None:
    try:
        image.save(file)
    except ValueError as error:
        raise UsageError(f"{file} has no extension of a picture", "name it .png, .jpg or .webp") from error
    except OSError as error:
        raise SimsearchError(f"{file} cannot be written ({error.strerror or error})", "choose another place") from error
