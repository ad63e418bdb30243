"""The perceptual hash of a picture and of its mirror image: 64 bits each that edits change little."""

from __future__ import annotations

import functools
from collections.abc import Sequence
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
    return hash_squeezed([squeeze_to_hashed(image)])[0]


def squeeze_to_hashed(image: Image.Image) -> NDArray[np.uint8]:
    """Squeeze a picture to the gray square (32, 32) whose frequencies are the hash."""
    gray = image if image.mode == "L" else image.convert("L")
    return np.asarray(gray.resize((HASHED_SIDE_PX, HASHED_SIDE_PX), Image.Resampling.BOX, reducing_gap=1.0))


def hash_squeezed(squares: Sequence[NDArray[np.uint8 | np.float32]]) -> list[PictureHashes]:
    """Compute the hashes of gray squares (32, 32), as `compute_hashes` does: many at once take less time for each."""
    if not squares:
        return []
    transform = _build_cosines()
    frequencies = (transform @ np.stack(squares).astype(np.float32) @ transform.T).astype(np.float32)
    upright, mirrored = _pack_bits(frequencies), _pack_bits(frequencies * _build_mirror_signs())
    return [PictureHashes(*pair) for pair in zip(upright, mirrored, strict=True)]


def count_different_bits(a: int, b: int) -> int:
    """Count the different bits of two hashes, from 0 to 64."""
    return ((a ^ b) & _ALL_BITS).bit_count()


def _pack_bits(frequencies: NDArray[np.float32]) -> list[int]:
    """Compare the frequencies of pictures (n, 8, 8) with their medians, and pack the bits of each to an integer (n)."""
    values = frequencies.reshape(len(frequencies), -1)
    middle = values.shape[1] // 2
    median = np.partition(values, [middle - 1, middle], axis=1)[:, [middle - 1, middle]].mean(axis=1, keepdims=True)
    integers: list[int] = np.packbits(values > median, axis=1).view(">i8")[:, 0].tolist()
    return integers


@functools.cache
def _build_mirror_signs() -> NDArray[np.float32]:
    """The sign (8,) that a mirror image gives each horizontal frequency."""
    return np.where(np.arange(_N_FREQUENCIES) % 2, -1, 1).astype(np.float32)


@functools.cache
def _build_cosines() -> NDArray[np.float32]:
    """The lowest frequencies of the type-II discrete cosine transform, (8, 32)."""
    positions = np.arange(HASHED_SIDE_PX) + 0.5
    cosines = np.cos(np.pi / HASHED_SIDE_PX * np.arange(_N_FREQUENCIES)[:, None] * positions)
    return cosines.astype(np.float32)
