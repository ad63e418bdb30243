"""A drawing of feature maps: the input image, and a square grid of maps for each layer."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from simsearch.report.drawing.canvas import FAINT, INK, Canvas, map_to_colors
from simsearch.study.features import ImageFeatures, LayerFeatures
from simsearch.text import shorten_path

_PANEL_PX = 572
_CAPTION_PX = 58
_GAP_PX = 36
_MARGIN_PX = 28
_PICTURE_PX = 400
_COLUMNS = 3
_MAX_COLUMNS_WITH_WIDE_GAPS = 12
"""Grids of more columns have narrower gaps."""

_SCALE_NOTE = (
    "Each map is scaled to its own range: compare the brightness",
    "of positions within one map, not of different maps.",
)


def draw_feature_maps(features: ImageFeatures, file: str | os.PathLike[str]) -> None:
    """Draw the input image and the maps of each layer, and save in the format of the file's extension.

    Raises `UsageError` when the extension is not that of a picture format, `SimsearchError` when the file cannot be
    written.
    """
    n_panels = 1 + len(features.layers)
    columns = 2 if n_panels == 4 else min(_COLUMNS, n_panels)
    rows = math.ceil(n_panels / columns)
    step = (_PANEL_PX + _GAP_PX, _PANEL_PX + _CAPTION_PX + _GAP_PX)
    canvas = Canvas(
        2 * _MARGIN_PX + columns * step[0] - _GAP_PX,
        2 * _MARGIN_PX + rows * step[1] - _GAP_PX,
    )
    positions = [(_MARGIN_PX + n % columns * step[0], _MARGIN_PX + n // columns * step[1]) for n in range(n_panels)]
    _draw_heading(canvas, features, positions[0])
    for layer, position in zip(features.layers, positions[1:], strict=True):
        _draw_panel(canvas, layer, position, by_activation=features.by_activation)
    canvas.save(file)


def scale_maps(maps: NDArray[np.float32]) -> NDArray[np.float64]:
    """Scale maps (h, w, n) to [0, 1], each from its lowest to its highest value; a constant map becomes 0."""
    shares: NDArray[np.float64] = maps.astype(np.float64) - maps.min(axis=(0, 1))
    spans = shares.max(axis=(0, 1))
    shares /= np.where(spans > 0, spans, 1)
    return shares


def _draw_heading(canvas: Canvas, features: ImageFeatures, position: tuple[int, int]) -> None:
    left, top = position
    canvas.draw_name((left, top), shorten_path(features.path), 22, _PANEL_PX, INK)
    side, resize = features.model.side_px, features.model.resize
    canvas.draw_text((left, top + 31), f"{features.model.backbone} input: {side} x {side} px ({resize})", 15, FAINT)
    pixels = Image.fromarray(features.pixels).resize((_PICTURE_PX, _PICTURE_PX), Image.Resampling.LANCZOS)
    canvas.paste(pixels, (left, top + _CAPTION_PX))
    legend = top + _CAPTION_PX + _PICTURE_PX + 22
    canvas.paste(Image.fromarray(map_to_colors(np.tile(np.linspace(0, 1, _PICTURE_PX), (12, 1)))), (left, legend))
    canvas.draw_text((left, legend + 17), "lowest value of a map", 13, FAINT)
    canvas.draw_text((left + _PICTURE_PX, legend + 17), "highest value", 13, FAINT, anchor="ra")
    for number, line in enumerate((*_SCALE_NOTE, *features.notes)):
        canvas.draw_name((left, legend + 48 + 20 * number), line, 13, _PANEL_PX)


def _draw_panel(canvas: Canvas, layer: LayerFeatures, position: tuple[int, int], *, by_activation: bool) -> None:
    left, top = position
    canvas.draw_name((left, top), layer.layer, 22, _PANEL_PX, INK)
    canvas.draw_text((left, top + 31), _describe_layer(layer, by_activation), 15, FAINT)
    columns = math.ceil(math.sqrt(len(layer.channels)))
    gap = 4 if columns <= _MAX_COLUMNS_WITH_WIDE_GAPS else 1
    cell = (_PANEL_PX + gap) // columns - gap
    for number, tile in enumerate(_color_maps(layer.maps, cell)):
        corner = (left + number % columns * (cell + gap), top + _CAPTION_PX + number // columns * (cell + gap))
        canvas.paste(tile, corner)


def draw_map_grid(layer: LayerFeatures, columns: int, cell_px: int) -> Image.Image:
    """Draw the first `columns` x `columns` maps of a layer as a square RGBA picture, transparent between the maps."""
    step = cell_px + 2
    side = columns * step - 2
    grid = Image.new("RGBA", (side, side))
    for number, tile in enumerate(_color_maps(layer.maps[..., : columns**2], cell_px)):
        grid.paste(tile, (number % columns * step, number // columns * step))
    return grid


def _color_maps(maps: NDArray[np.float32], cell_px: int) -> Iterator[Image.Image]:
    """Color each of the maps (h, w, n) and resize it to a square."""
    # Small maps keep sharp cells; large ones are averaged.
    filter_ = Image.Resampling.NEAREST if max(maps.shape[:2]) <= cell_px else Image.Resampling.BOX
    for colors in np.moveaxis(map_to_colors(scale_maps(maps)), 2, 0):
        yield Image.fromarray(np.ascontiguousarray(colors)).resize((cell_px, cell_px), filter_)


def _describe_layer(layer: LayerFeatures, by_activation: bool) -> str:
    height, width = layer.maps.shape[:2]
    n_shown = len(layer.channels)
    which = f"all {layer.n_maps:,}" if n_shown == layer.n_maps else f"{n_shown} of {layer.n_maps:,}"
    order = "the most active first" if by_activation else "in channel order"
    return f"layer {layer.index}: {which} maps of {width} x {height}, {order}"
