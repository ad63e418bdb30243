"""The perceptual hash of a picture and of its mirror image: 64 bits each that edits change little."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HASHED_SIDE_PX = 32
"""The side of the gray square whose frequencies are the hash."""

_N_FREQUENCIES = 8
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
    gray = image if image.mode == "L" else image.convert("L")
    small = gray.resize((HASHED_SIDE_PX, HASHED_SIDE_PX), Image.Resampling.BOX, reducing_gap=1.0)
    return hash_gray(np.asarray(small, np.float32))


def hash_gray(small: NDArray[np.float32]) -> PictureHashes:
    """Compute the hashes of a gray picture that was squeezed to (32, 32), as `compute_hashes` does."""
    transform = _build_cosines()
    frequencies = (transform @ small @ transform.T).astype(np.float32)
    signs = np.where(np.arange(_N_FREQUENCIES) % 2, -1, 1).astype(np.float32)
    return PictureHashes(_pack_bits(frequencies), _pack_bits(frequencies * signs))


def count_different_bits(a: int, b: int) -> int:
    """Count the different bits of two hashes, from 0 to 64."""
    return ((a ^ b) & _ALL_BITS).bit_count()


def _pack_bits(frequencies: NDArray[np.float32]) -> int:
    ordered = np.sort(frequencies, axis=None)  # `np.median` takes 20 times as long
    median = (ordered[ordered.size // 2 - 1] + ordered[ordered.size // 2]) / 2
    bits = frequencies > median
    return int.from_bytes(np.packbits(bits).tobytes(), "big", signed=True)


@functools.cache
def _build_cosines() -> NDArray[np.float32]:
    """The lowest frequencies of the type-II discrete cosine transform, (8, 32)."""
    positions = np.arange(HASHED_SIDE_PX) + 0.5
    cosines = np.cos(np.pi / HASHED_SIDE_PX * np.arange(_N_FREQUENCIES)[:, None] * positions)
    return cosines.astype(np.float32)
