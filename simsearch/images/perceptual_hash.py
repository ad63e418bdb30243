"""The perceptual hash of a picture and of its mirror image: 64 bits each that edits change little."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_SIDE_PX, _N_FREQUENCIES = 32, 8
_ALL_BITS = 2**64 - 1


class PictureHashes(NamedTuple):
    """The hash of a picture and of its mirror image, as signed 64-bit integers."""

    upright: int
    mirrored: int


def compute_hashes(image: Image.Image) -> PictureHashes:
    """Compute pHash: the signs of the 8 x 8 lowest frequencies of the 32 x 32 gray picture around their median.

    C. Zauner, Implementation and benchmarking of perceptual image hash functions, 2010, section 3.2. Mirroring changes
    the sign of the odd horizontal frequencies.
    """
    small = image.resize((_SIDE_PX, _SIDE_PX), Image.Resampling.BOX, reducing_gap=1.0).convert("L")
    transform = _build_cosines()
    frequencies = transform @ np.asarray(small, np.float32) @ transform.T
    signs = np.where(np.arange(_N_FREQUENCIES) % 2, -1, 1).astype(np.float32)
    return PictureHashes(_pack_bits(frequencies), _pack_bits(frequencies * signs))


def count_different_bits(a: int, b: int) -> int:
    """Count the different bits of two hashes, from 0 to 64."""
    return ((a ^ b) & _ALL_BITS).bit_count()


def _pack_bits(frequencies: NDArray[np.float32]) -> int:
    bits = frequencies > np.median(frequencies)
    return int.from_bytes(np.packbits(bits).tobytes(), "big", signed=True)


@functools.cache
def _build_cosines() -> NDArray[np.float32]:
    """The lowest frequencies of the type-II discrete cosine transform, (8, 32)."""
    positions = np.arange(_SIDE_PX) + 0.5
    cosines = np.cos(np.pi / _SIDE_PX * np.arange(_N_FREQUENCIES)[:, None] * positions)
    return cosines.astype(np.float32)
