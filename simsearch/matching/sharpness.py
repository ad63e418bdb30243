"""Blocks of a square picture, and its sharpness."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simsearch.matching.opencv import blur

Floats = NDArray[np.float32]

BLOCK_PX = 8
_FINE_SIGMA_PX, _COARSE_SIGMA_PX = 0.7, 2.0


def measure_sharpness(square: Floats) -> float:
    """The energy of the finest detail as a share of that of coarser detail: the median of the blocks, 0 without any."""
    fine, wide = blur(square, _FINE_SIGMA_PX), blur(square, _COARSE_SIGMA_PX)
    coarse_energy = sum_blocks(np.square(fine - wide))
    has_detail = coarse_energy > BLOCK_PX**2
    if not has_detail.any():
        return 0.0
    return float(np.median(sum_blocks(np.square(square - fine))[has_detail] / coarse_energy[has_detail]))


def sum_blocks(values: Floats) -> Floats:
    """Sum a square (s, s) over its blocks of `BLOCK_PX`: (s / 8, s / 8)."""
    n = len(values) // BLOCK_PX
    sums: Floats = values.reshape(n, BLOCK_PX, n, BLOCK_PX).sum((1, 3))
    return sums
