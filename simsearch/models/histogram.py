"""The histogram backbone: color and edge histograms, without a network. The baseline for every comparison.

Two parts of equal weight, each the square root of counts (Hellinger, Arandjelovic & Zisserman 2012), L2-normalized:

* color: HSV in 8 x 3 x 3 bins over a 2 x 2 grid (Swain & Ballard 1991; the grid separates top and bottom),
* edges: unsigned gradient orientations in 9 bins, weighted by magnitude, over an 8 x 8 grid (after Dalal & Triggs
  2005).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

NAME = "histogram"
SIDE_PX = 128
_HUES, _SATURATIONS, _VALUES, _COLOR_GRID = 8, 3, 3, 2
_ORIENTATIONS, _EDGE_GRID = 9, 8
_N_COLORS = _HUES * _SATURATIONS * _VALUES
WIDTH = _COLOR_GRID**2 * _N_COLORS + _EDGE_GRID**2 * _ORIENTATIONS


def compute_histograms(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Compute histograms: (n, 128, 128, 3) uint8 RGB to (n, 864) float32 unit rows."""
    color = _normalize_hellinger(_count_colors(batch))
    edges = _normalize_hellinger(_count_edges(batch))
    return np.concatenate([color, edges], axis=1) * np.float32(np.sqrt(0.5))


def _normalize_hellinger(counts: NDArray[np.float32]) -> NDArray[np.float32]:
    """Square roots of the relative counts. Where all counts are 0 they are set equal, so that the row has length 1."""
    total = counts.sum(axis=1, keepdims=True)
    even = np.float32(1 / counts.shape[1])
    shares = np.where(total > 0, counts / np.maximum(total, np.float32(1e-12)), even)
    return np.sqrt(shares)


def _count_colors(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
    red, green, blue = (batch[..., c].astype(np.float32) for c in range(3))
    value = np.maximum(np.maximum(red, green), blue)
    spread = value - np.minimum(np.minimum(red, green), blue)
    divisor = np.maximum(spread, 1)
    hue = np.where(
        value == red,
        (green - blue) / divisor % 6,
        np.where(value == green, (blue - red) / divisor + 2, (red - green) / divisor + 4),
    )
    saturation = spread / np.maximum(value, 1)
    bins = (
        _assign_bins(hue / 6, _HUES) * (_SATURATIONS * _VALUES)
        + _assign_bins(saturation, _SATURATIONS) * _VALUES
        + _assign_bins(value / 256, _VALUES)
    )
    return _count_per_cell(bins, np.ones_like(value), n_bins=_N_COLORS, grid=_COLOR_GRID)


def _count_edges(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
    # Values are whole numbers, so equal neighbors differ by exactly 0; rounding errors would choose the bin of an edge.
    red, green, blue = (batch[..., c].astype(np.float32) for c in range(3))
    # Element by element: the last bits of a matrix product depend on the size of the batch.
    grey = np.float32(0.299) * red + np.float32(0.587) * green + np.float32(0.114) * blue
    down, across = np.gradient(grey, axis=(1, 2))
    orientation = np.arctan2(down, across) / np.pi % 1
    magnitude = np.hypot(down, across)
    return _count_per_cell(_assign_bins(orientation, _ORIENTATIONS), magnitude, n_bins=_ORIENTATIONS, grid=_EDGE_GRID)


def _assign_bins(share: NDArray[Any], n_bins: int) -> NDArray[np.intp]:
    return np.clip((share * n_bins).astype(np.intp), 0, n_bins - 1)


def _count_per_cell(
    bins: NDArray[np.intp], weights: NDArray[np.float32], *, n_bins: int, grid: int
) -> NDArray[np.float32]:
    """Weighted counts of `bins` (n, side, side) in each cell of a grid: (n, grid * grid * n_bins) float32."""
    n, side = bins.shape[:2]
    place = np.arange(side) * grid // side
    cell = place[:, None] * grid + place[None, :]
    image = np.arange(n)[:, None, None] * grid * grid
    flat = (image + cell) * n_bins + bins
    counts = np.bincount(flat.ravel(), weights=weights.ravel(), minlength=n * grid * grid * n_bins)
    return counts.reshape(n, -1).astype(np.float32)
