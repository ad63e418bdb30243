"""Snap two-dimensional positions to the cells of a grid, one image per cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_EMPTY_SHARE, _MARGIN_SHARE = 0.5, 0.15


@dataclass(frozen=True, slots=True)
class GridLayout:
    """Positions snapped to cells: `columns` and `rows` (n,) from the upper left, all different, below `side`.

    `exact` (n, 2) are the positions before snapping, as fractional column and row.
    """

    side: int
    columns: Ints
    rows: Ints
    exact: Floats


def snap_to_grid(positions: NDArray[np.float32]) -> GridLayout:
    """Move each position (n, 2) in [0, 1] to the nearest free cell of a square grid with twice as many cells.

    Positions are processed by their distance to the center of their own cell, nearest first; ties in their order. Of
    equally near free cells the first by row, then by column, is taken.
    """
    n = len(positions)
    length = np.sqrt(n / (1 - _EMPTY_SHARE))
    margin = 1 + int(_MARGIN_SHARE * length)  # space for positions that are crowded at an edge
    side = int(np.ceil(length)) + 2 * margin
    scaled = positions.astype(np.float64) * length + margin
    own = scaled.astype(np.int64)
    is_taken = np.zeros((side, side), dtype=bool)  # by row, column
    cells = np.empty((n, 2), dtype=np.int64)
    for i in np.argsort(((scaled - own - 0.5) ** 2).sum(axis=1), kind="stable").tolist():
        cells[i] = _find_free_cell(is_taken, own[i], scaled[i])
        is_taken[cells[i, 1], cells[i, 0]] = True
    return GridLayout(side, cells[:, 0], cells[:, 1], scaled)


def _find_free_cell(is_taken: NDArray[np.bool_], own: Ints, position: Floats) -> tuple[int, int]:
    """Find the free cell (column, row) whose center is nearest to a position, in squares of growing size."""
    side = len(is_taken)
    column, row = own.tolist()
    if not is_taken[row, column]:
        return column, row
    reach = 1
    while True:
        top, left = max(0, row - reach), max(0, column - reach)
        rows, columns = np.nonzero(~is_taken[top : row + reach + 1, left : column + reach + 1])
        if len(rows):
            distances = (columns + left + 0.5 - position[0]) ** 2 + (rows + top + 0.5 - position[1]) ** 2
            best = int(distances.argmin())
            # A cell outside the square may be nearer than one in its corner.
            if distances[best] <= reach**2 or reach >= side:
                return int(columns[best]) + left, int(rows[best]) + top
        reach *= 2
