"""Hashes of overlapping regions of a picture, which find pictures that are partly covered.

A network describes a picture as a whole, so boxes, text or stickers over it change its vector as much as another motif
does. The regions between them stay as they are: of two pictures with several equal regions at the same places one is
probably an edit of the other.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simsearch.matching.opencv import blur

RegionHashes = NDArray[np.uint32]

N_REGIONS = 81
"""9 x 9 regions, each a fifth of the sides wide."""

_CENTERS_PX = np.arange(12, 85, 9)
_SAMPLES_PX = np.array([-8, -4, 0, 4, 8])
_FINE_SIGMA_PX, _WIDE_SIGMA_PX = 1.8, 7.0
_MIN_DETAIL = 6.0
_BITS = np.delete(np.arange(25), 12)  # all samples but the middle one
_WEIGHTS = np.left_shift(1, np.arange(24))
_IS_HASH = 1 << 24


def compute_region_hashes(square: NDArray[np.float32]) -> RegionHashes:
    """Compute the hashes (81,) of the regions of a gray picture squeezed to (96, 96); 0 for a region without detail.

    The 24 bits of a hash tell where the picture is lighter than its surroundings, at 5 x 5 places of the region.
    """
    detail = blur(square, _FINE_SIGMA_PX) - blur(square, _WIDE_SIGMA_PX)
    places = _CENTERS_PX[:, None] + _SAMPLES_PX
    samples = detail[places[:, None, :, None], places[None, :, None, :]].reshape(N_REGIONS, 25)
    hashes = (samples[:, _BITS] > 0) @ _WEIGHTS + _IS_HASH
    return np.where(samples.std(1) > _MIN_DETAIL, hashes, 0).astype(np.uint32)


def count_equal_regions(a: RegionHashes, b: RegionHashes) -> int:
    """Count the regions (81,) that are equal in two pictures."""
    return int(((a == b) & (a > 0)).sum())
