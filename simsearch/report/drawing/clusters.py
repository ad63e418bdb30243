"""A drawing of clusters: a row each, with size, most frequent class and most typical images."""

from __future__ import annotations

import math
import os

from simsearch.errors import ImageError
from simsearch.report.drawing.canvas import ACCENT, FAINT, INK, RULE, Canvas, Position, frame_picture
from simsearch.report.drawing.tiles import MAX_WAIT_S
from simsearch.sources.retry import limit_patience
from simsearch.visualization.clusters import Cluster
from simsearch.visualization.overview import Clustering

MAX_CLUSTERS = 100
"""Only the largest clusters are drawn."""

_CELL_PX, _GAP_PX, _MARGIN_PX, _TEXT_PX = 132, 12, 28, 232
_ROW_PX = _TEXT_PX + 5 * (_CELL_PX + _GAP_PX) - _GAP_PX
_MAX_IN_ONE_COLUMN = 8
"""More clusters are drawn in two columns."""


def draw_clusters(clustering: Clustering, file: str | os.PathLike[str]) -> tuple[ImageError, ...]:
    """Draw the clusters, the largest first, and save the drawing in the format of the file's extension.

    Pictures that cannot be read are gray squares, and their errors are returned. A server that does not answer is
    waited for `MAX_WAIT_S` seconds once.

    Raises `UsageError` when the extension is not that of a picture format, `SimsearchError` when the file cannot be
    written.
    """
    shown = clustering.clusters[:MAX_CLUSTERS]
    n_columns = 1 if len(shown) <= _MAX_IN_ONE_COLUMN else 2
    n_rows = math.ceil(len(shown) / n_columns)
    step = (_ROW_PX + 2 * _MARGIN_PX, _CELL_PX + 2 * _GAP_PX)
    canvas = Canvas(n_columns * step[0], 2 * _MARGIN_PX + n_rows * step[1] - 2 * _GAP_PX)
    failures: list[ImageError] = []
    with limit_patience(MAX_WAIT_S):
        pictures = [
            [frame_picture(image.path, _CELL_PX, on_failure=failures.append) for image in clustering.list_typical(one)]
            for one in shown
        ]
    for number, cluster in enumerate(shown):
        column, row = divmod(number, n_rows)
        left, top = _MARGIN_PX + column * step[0], _MARGIN_PX + row * step[1]
        if row:
            canvas.draw.line([(left, top - _GAP_PX), (left + _ROW_PX, top - _GAP_PX)], RULE, 1)
        _draw_caption(canvas, cluster, (left, top))
        for cell, picture in enumerate(pictures[number]):
            canvas.paste(picture, (left + _TEXT_PX + cell * (_CELL_PX + _GAP_PX), top))
    canvas.save(file)
    return tuple(failures)


def _draw_caption(canvas: Canvas, cluster: Cluster, position: Position) -> None:
    left, top = position
    width_px = _TEXT_PX - _GAP_PX
    canvas.draw_text((left, top + 6), f"{cluster.size:,} {'image' if cluster.size == 1 else 'images'}", 22, INK)
    if cluster.label is not None:
        canvas.draw_name((left, top + 38), f"{cluster.label_share:.0%} {cluster.label}", 17, width_px, ACCENT)
    canvas.draw_text((left, top + 66), f"cluster {cluster.number}, tightness {cluster.tightness:.2f}", 14, FAINT)
    canvas.draw_bar((left, top + 90), cluster.tightness, width_px - 24)
