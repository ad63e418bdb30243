"""Feature maps as a picture: what goes in, and a square grid of maps for each layer."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from simsearch.report.drawing.canvas import FAINT, INK, Canvas, format_file_name, map_to_colors
from simsearch.study.features import ImageFeatures, LayerFeatures

_PANEL_PX = 572
_CAPTION_PX = 58
_GAP_PX = 36
_MARGIN_PX = 28
_PICTURE_PX = 400
_COLUMNS = 3
_MAX_COLUMNS_WITH_WIDE_GAPS = 12
"""Grids of more columns are set closer."""

_SCALE_NOTE = (
    "Each map is scaled to its own range: brightness compares",
    "places within a map, not one map with another.",
)


def draw_feature_maps(features: ImageFeatures, file: str | os.PathLike[str]) -> None:
    """Draw the picture and its blocks, and save the drawing by its extension.

    Raises `UsageError` when the extension means no picture format, `SimsearchError` when it cannot be saved.
    """
    n_panels = 1 + len(features.layers)
    columns = 2 if n_panels == 4 else min(_COLUMNS, n_panels)
    rows = math.ceil(n_panels / columns)
    step = (_PANEL_PX + _GAP_PX, _PANEL_PX + _CAPTION_PX + _GAP_PX)
    canvas = Canvas(
        2 * _MARGIN_PX + columns * step[0] - _GAP_PX,
        2 * _MARGIN_PX + rows * step[1] - _GAP_PX,
    )
    places = [(_MARGIN_PX + n % columns * step[0], _MARGIN_PX + n // columns * step[1]) for n in range(n_panels)]
    _draw_heading(canvas, features, places[0])
    for block, place in zip(features.layers, places[1:], strict=True):
        _draw_panel(canvas, block, place, by_activation=features.by_activation)
    canvas.save(file)


def scale_maps(maps: NDArray[np.float32]) -> NDArray[np.float64]:
    """(h, w, n) to [0, 1], each map by its own range, from its least value to its greatest; a flat map is 0."""
    shares: NDArray[np.float64] = maps.astype(np.float64) - maps.min(axis=(0, 1))
    reach = shares.max(axis=(0, 1))
    shares /= np.where(reach > 0, reach, 1)
    return shares


def _draw_heading(canvas: Canvas, features: ImageFeatures, place: tuple[int, int]) -> None:
    left, top = place
    canvas.draw_name((left, top), format_file_name(features.path), 22, _PANEL_PX, INK)
    side, resize = features.model.side_px, features.model.resize
    canvas.draw_text((left, top + 31), f"{features.model.backbone} sees {side} x {side} px ({resize})", 15, FAINT)
    seen = Image.fromarray(features.pixels).resize((_PICTURE_PX, _PICTURE_PX), Image.Resampling.LANCZOS)
    canvas.paste(seen, (left, top + _CAPTION_PX))
    legend = top + _CAPTION_PX + _PICTURE_PX + 22
    canvas.paste(Image.fromarray(map_to_colors(np.tile(np.linspace(0, 1, _PICTURE_PX), (12, 1)))), (left, legend))
    canvas.draw_text((left, legend + 17), "a map's least value", 13, FAINT)
    canvas.draw_text((left + _PICTURE_PX, legend + 17), "its greatest", 13, FAINT, anchor="ra")
    for number, line in enumerate((*_SCALE_NOTE, *features.notes)):
        canvas.draw_name((left, legend + 48 + 20 * number), line, 13, _PANEL_PX)


def _draw_panel(canvas: Canvas, block: LayerFeatures, place: tuple[int, int], *, by_activation: bool) -> None:
    left, top = place
    canvas.draw_name((left, top), block.layer, 22, _PANEL_PX, INK)
    canvas.draw_text((left, top + 31), _describe_layer(block, by_activation), 15, FAINT)
    columns = math.ceil(math.sqrt(len(block.channels)))
    gap = 4 if columns <= _MAX_COLUMNS_WITH_WIDE_GAPS else 1
    cell = (_PANEL_PX + gap) // columns - gap
    for number, tile in enumerate(_color_maps(block.maps, cell)):
        corner = (left + number % columns * (cell + gap), top + _CAPTION_PX + number // columns * (cell + gap))
        canvas.paste(tile, corner)


def draw_map_grid(block: LayerFeatures, columns: int, cell_px: int) -> Image.Image:
    """The first maps of a block, at most `columns` squared, as a square RGBA picture with nothing between them."""
    step = cell_px + 2
    side = columns * step - 2
    grid = Image.new("RGBA", (side, side))
    for number, tile in enumerate(_color_maps(block.maps[..., : columns**2], cell_px)):
        grid.paste(tile, (number % columns * step, number // columns * step))
    return grid


def _color_maps(maps: NDArray[np.float32], cell_px: int) -> Iterator[Image.Image]:
    """Each of the maps (h, w, n) in colours, a square of that side."""
    # Small maps keep their cells, large ones are averaged.
    rule = Image.Resampling.NEAREST if max(maps.shape[:2]) <= cell_px else Image.Resampling.BOX
    for colours in np.moveaxis(map_to_colors(scale_maps(maps)), 2, 0):
        yield Image.fromarray(np.ascontiguousarray(colours)).resize((cell_px, cell_px), rule)


def _describe_layer(block: LayerFeatures, by_activation: bool) -> str:
    height, width = block.maps.shape[:2]
    n_shown = len(block.channels)
    which = f"all {block.n_maps:,}" if n_shown == block.n_maps else f"{n_shown} of {block.n_maps:,}"
    order = "the most active first" if by_activation else "in the order of channels"
    return f"layer {block.index}: {which} maps of {width} x {height}, {order}"
