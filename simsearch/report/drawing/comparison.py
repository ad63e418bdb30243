"""Drawings of a comparison: each pair of images side by side, and all similarities as a heat map."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from simsearch.report.drawing.canvas import EMPTY, FAINT, INK, Canvas, frame_picture, map_to_colors
from simsearch.study.compare import ImageComparison
from simsearch.study.views import shorten_stem
from simsearch.text import shorten_path

MAX_PAIRS = 100
"""The first pairs are drawn for each backbone; the heat map shows all pairs."""

MAX_IMAGES_WITHOUT_HEAT_MAP = 3
"""A heat map is drawn for more images than this."""

_FOLDER = "cos_sim"
_HEAT_MAP = "heat_map.png"

_PAIR_PX = 380
_GAP_PX = 24
_MARGIN_PX = 28


@dataclass(frozen=True, slots=True)
class ComparisonPictures:
    """The files that were drawn, by the name of the model.

    `pairs` are by the positions of their two images; a model without an entry in `heat_maps` has none.
    """

    pairs: Mapping[str, Mapping[tuple[int, int], Path]]
    heat_maps: Mapping[str, Path]


def draw_comparison(comparison: ImageComparison, folder: str | os.PathLike[str]) -> ComparisonPictures:
    """Draw the first `MAX_PAIRS` pairs as `folder`/cos_sim/<model>/<a>_<b>.jpg, and heat_map.png beside them.

    The heat map is drawn for more than `MAX_IMAGES_WITHOUT_HEAT_MAP` images. Equal file names get a number.

    Raises `SimsearchError` when a file cannot be written.
    """
    place = Path(folder) / _FOLDER
    pairs = list(islice(comparison.iterate_pairs(), MAX_PAIRS))
    files = dict(zip([(pair.first, pair.second) for pair in pairs], _name_files(comparison, len(pairs)), strict=True))
    squares = {
        at: frame_picture(comparison.paths[at], _PAIR_PX) for at in sorted({at for pair in files for at in pair})
    }
    drawn: dict[str, dict[tuple[int, int], Path]] = {name: {} for name in comparison.models}
    heat_maps: dict[str, Path] = {}
    for name, matrix in comparison.similarities.items():
        for (first, second), file in files.items():
            path = drawn[name][first, second] = place / name / file
            several = [(comparison.paths[at], squares[at]) for at in (first, second)]
            _draw_pair(several, float(matrix[first, second]), name).save(path)
        if len(comparison.paths) > MAX_IMAGES_WITHOUT_HEAT_MAP:
            heat_maps[name] = place / name / _HEAT_MAP
            draw_heat_map(comparison.paths, matrix, name).save(heat_maps[name])
    return ComparisonPictures(drawn, heat_maps)


def _name_files(comparison: ImageComparison, n: int) -> list[str]:
    """Name the first n pairs <a>_<b>.jpg; a name that is taken, ignoring case, gets a number."""
    stems = [shorten_stem(path) for path in comparison.paths]
    names: list[str] = []
    taken: set[str] = set()
    for pair in islice(comparison.iterate_pairs(), n):
        plain = f"{stems[pair.first]}_{stems[pair.second]}"
        name, number = plain, 1
        while name.casefold() in taken:
            number += 1
            name = f"{plain}-{number}"
        taken.add(name.casefold())
        names.append(f"{name}.jpg")
    return names


def _draw_pair(several: Sequence[tuple[str, Image.Image]], similarity: float, name: str) -> Canvas:
    width = 2 * (_MARGIN_PX + _PAIR_PX) + _GAP_PX
    canvas = Canvas(width, 2 * _MARGIN_PX + _PAIR_PX + 104)
    for number, (path, square) in enumerate(several):
        left = _MARGIN_PX + number * (_PAIR_PX + _GAP_PX)
        canvas.paste(square, (left, _MARGIN_PX))
        canvas.draw_name(
            (left + _PAIR_PX // 2, _MARGIN_PX + _PAIR_PX + 8), shorten_path(path), 14, _PAIR_PX, anchor="ma"
        )
    below = _MARGIN_PX + _PAIR_PX + 40
    canvas.draw_bar((_MARGIN_PX, below), similarity, width - 2 * _MARGIN_PX)
    canvas.draw_text((width // 2, below + 16), f"{similarity:.4f}", 28, INK, anchor="ma")
    canvas.draw_name((width // 2, below + 50), f"cosine similarity, {name}", 14, width - 2 * _MARGIN_PX, anchor="ma")
    return canvas


# The heat map

_HEAT_MAP_PX = 1300
_MAX_CELL_PX, _MIN_CELL_PX = 68, 2
_MIN_CELL_FOR_NAMES_PX, _MIN_CELL_FOR_PICTURES_PX, _MIN_CELL_FOR_VALUES_PX = 13, 24, 34
_NAMES_PX = 210
_TITLE_PX = 44
_LEGEND_PX = 60


def draw_heat_map(paths: Sequence[str], matrix: NDArray[np.float64], name: str) -> Canvas:
    """Draw the similarities (n, n) of two or more images; brighter is more similar.

    The colors span the range from the lowest to the highest similarity. Images, names and values are drawn where the
    cells are large enough. The diagonal is empty.
    """
    n = len(paths)
    cell = max(_MIN_CELL_PX, min(_MAX_CELL_PX, _HEAT_MAP_PX // n))
    names_px = _NAMES_PX if cell >= _MIN_CELL_FOR_NAMES_PX else 0
    pictures_px = cell if cell >= _MIN_CELL_FOR_PICTURES_PX else 0
    left, top = _MARGIN_PX + names_px + pictures_px + 6, _MARGIN_PX + _TITLE_PX + pictures_px + 6
    width = max(left + n * cell + _MARGIN_PX, 520)
    canvas = Canvas(width, top + n * cell + _LEGEND_PX + _MARGIN_PX)
    which = "" if names_px else f": {n:,} images in the order given"
    canvas.draw_name((_MARGIN_PX, _MARGIN_PX), f"Cosine similarity, {name}{which}", 22, width - 2 * _MARGIN_PX, INK)
    others = matrix[~np.eye(n, dtype=bool)]
    low, high = float(others.min()), float(others.max())
    shares = (matrix - low) / ((high - low) or 1)
    canvas.paste(_draw_cells(shares, cell), (left, top))
    if cell >= _MIN_CELL_FOR_VALUES_PX:
        _draw_values(canvas, matrix, shares, (left, top, cell))
    for at, path in enumerate(paths):
        if pictures_px:
            square = frame_picture(path, cell - 2)
            canvas.paste(square, (left - cell - 4, top + at * cell + 1))
            canvas.paste(square, (left + at * cell + 1, top - cell - 4))
        if names_px:
            position = (left - pictures_px - 14, top + at * cell + cell // 2)
            canvas.draw_name(position, shorten_path(path), min(14, cell - 2), names_px - 10, anchor="rm")
    _draw_legend(canvas, (left, top + n * cell + 20), (low, high))
    return canvas


def _draw_cells(shares: NDArray[np.float64], cell: int) -> Image.Image:
    colours = map_to_colors(np.clip(shares, 0, 1))
    colours[np.eye(len(shares), dtype=bool)] = tuple(bytes.fromhex(EMPTY[1:]))
    side = len(shares) * cell
    return Image.fromarray(colours).resize((side, side), Image.Resampling.NEAREST)


def _draw_values(
    canvas: Canvas, matrix: NDArray[np.float64], shares: NDArray[np.float64], layout: tuple[int, int, int]
) -> None:
    left, top, cell = layout
    digits, size = (3, 16) if cell >= 56 else (2, 13)
    for row, column in np.ndindex(matrix.shape):
        if row != column:
            colour = INK if shares[row, column] > 0.6 else "#ffffff"
            middle = (left + column * cell + cell // 2, top + row * cell + cell // 2)
            canvas.draw_text(middle, f"{matrix[row, column]:.{digits}f}", size, colour, anchor="mm")


def _draw_legend(canvas: Canvas, position: tuple[int, int], ends: tuple[float, float]) -> None:
    left, top = position
    length = 240
    canvas.paste(Image.fromarray(map_to_colors(np.tile(np.linspace(0, 1, length), (12, 1)))), position)
    canvas.draw_text((left, top + 18), f"{ends[0]:.3f}", 14, FAINT)
    canvas.draw_text((left + length, top + 18), f"{ends[1]:.3f}", 14, FAINT, anchor="ra")
