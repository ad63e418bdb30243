"""Dimensionality reduction by centered PCA, with or without whitening, fitted to the database itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import xxhash
from numpy.typing import NDArray

from simsearch.errors import UsageError

Vectors = NDArray[np.float32]

_BLOCK_ROWS = 4096

_MIN_VARIANCE = 1e-10
"""Axes with a variance below this, relative to the first axis, are left out: float32 rows hold only rounding there."""

_MIN_LENGTH = 1e-6
"""Rows nearer to the mean than this are treated as the mean: their difference is rounding."""


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """A mean (d,) and axes (d, width), both float32; a row x becomes `(x - mean) @ axes`, normalized to length 1.

    The axes are sorted by falling variance; the lengths of the axes contain the whitening.
    """

    mean: NDArray[np.float32]
    axes: NDArray[np.float32]

    @classmethod
    def fit(cls, vectors: Vectors | Iterable[Vectors], width: int, whitening: float = 0.0) -> Projection:
        """Fit the principal axes of unit rows (n, d), given as one array or as blocks; memory holds d x d and a block.

        Each axis is divided by its standard deviation to the power `whitening`: 0 is plain PCA, 1 is full whitening
        (Jégou & Chum, "Negative evidences and co-occurences in image retrieval: the benefit of PCA and whitening",
        ECCV 2012). The width is limited by d, by n - 1, and by the number of axes with any variance. The largest
        component of each axis is positive, so that the same rows give the same signs.

        Raises `UsageError` if all rows are equal.
        """
        n_rows, mean, covariance = _compute_moments(_iterate_blocks(vectors))
        variances, axes = np.linalg.eigh(covariance)
        variances, axes = variances[::-1], axes[:, ::-1]
        if not variances[0] > _MIN_LENGTH**2:
            raise UsageError("a projection needs two different pictures", "index more, or omit pca and whiten")
        n_varying = int(np.count_nonzero(variances > _MIN_VARIANCE * variances[0]))
        width = min(width, n_varying, n_rows - 1)
        variances, axes = variances[:width], axes[:, :width]
        signs = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(width)])
        axes = axes * signs / variances ** (whitening / 2)
        return cls(mean.astype(np.float32), axes.astype(np.float32))

    @property
    def width(self) -> int:
        """The number of dimensions of projected rows."""
        return int(self.axes.shape[1])

    @property
    def digest(self) -> str:
        """A hash of the projection: equal digests mean equal projected vectors."""
        return xxhash.xxh3_128_hexdigest(self.to_bytes())

    def apply(self, vectors: Vectors) -> Vectors:
        """Project rows (n, d) to unit rows (n, width). A row at the mean has no direction: it becomes zeros."""
        projected = np.empty((len(vectors), self.width), np.float32)
        for start in range(0, len(vectors), _BLOCK_ROWS):
            centered = vectors[start : start + _BLOCK_ROWS] - self.mean
            rows = centered @ self.axes
            lengths = np.linalg.norm(rows, axis=1, keepdims=True)
            has_direction = (np.linalg.norm(centered, axis=1, keepdims=True) > _MIN_LENGTH) & (lengths > 0)
            rows /= np.where(has_direction, lengths, 1)
            projected[start : start + _BLOCK_ROWS] = rows * has_direction
        return projected

    def apply_to_directions(self, directions: Vectors) -> Vectors:
        """Project directions (n, d), such as those of texts, to unit rows (n, width).

        They are not centered: the product of a direction with a centered row differs from that with the row by a
        constant. A direction without a part along the axes becomes zeros.
        """
        rows = directions @ self.axes
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return (rows / np.where(lengths > _MIN_LENGTH, lengths, np.inf)).astype(np.float32)

    def to_bytes(self) -> bytes:
        """Write d as little-endian uint32, then mean and axes as little-endian float32, row by row."""
        return b"".join(
            [len(self.mean).to_bytes(4, "little"), self.mean.astype("<f4").tobytes(), self.axes.astype("<f4").tobytes()]
        )

    @classmethod
    def from_bytes(cls, stored: bytes) -> Projection:
        """Read the output of `to_bytes`.

        Raises `ValueError` on other bytes.
        """
        width_before = int.from_bytes(stored[:4], "little")
        numbers = np.frombuffer(stored, "<f4", offset=4).astype(np.float32)
        if width_before == 0 or len(numbers) < 2 * width_before:
            raise ValueError("the bytes are not a projection")
        return cls(numbers[:width_before], numbers[width_before:].reshape(width_before, -1))


def _iterate_blocks(vectors: Vectors | Iterable[Vectors]) -> Iterator[Vectors]:
    if isinstance(vectors, np.ndarray):
        for start in range(0, len(vectors), _BLOCK_ROWS):
            yield vectors[start : start + _BLOCK_ROWS]
    else:
        yield from vectors


def _compute_moments(blocks: Iterator[Vectors]) -> tuple[int, NDArray[np.float64], NDArray[np.float64]]:
    """Compute the number of rows, their mean (d,) and their covariance (d, d) over n, summed in float64."""
    n_rows, total, products = 0, np.zeros(1), np.zeros((1, 1))
    for block in blocks:
        rows = block.astype(np.float64)
        n_rows, total, products = n_rows + len(rows), total + rows.sum(axis=0), products + rows.T @ rows
    mean = total / max(n_rows, 1)
    return n_rows, mean, products / max(n_rows, 1) - np.outer(mean, mean)
