"""Vectors as the catalog stores them: little-endian float32, without a header."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import CollectionDamaged


def encode_vector(vector: NDArray[np.float32]) -> bytes:
    """Convert a vector (d,) to the bytes that the catalog stores."""
    return vector.astype("<f4").tobytes()


def decode_vectors(folder: Path, blobs: Sequence[bytes], width: int) -> NDArray[np.float32]:
    """Convert stored vectors to rows (n, width), n >= 0.

    Raises `CollectionDamaged`, naming the collection's `folder`, where a vector has another width.
    """
    if any(len(blob) != 4 * width for blob in blobs):
        raise CollectionDamaged(
            str(folder), "a stored vector has the wrong length", "run `simsearch verify`, then index again"
        )
    rows = np.frombuffer(b"".join(blobs), dtype="<f4").reshape(len(blobs), width)
    return rows.astype(np.float32, copy=False)
