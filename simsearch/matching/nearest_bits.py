"""Nearest neighbors among short lists of binary codes, by the number of different bits."""

from __future__ import annotations

import faiss
import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.uint8]


def find_nearest_bits(queries: Codes, rows: Codes, n: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Find the n nearest of `rows` (m, b bytes) for each of `queries` (q, b): distances in bits and positions, (q, n).

    The nearest come first; n is at most m. Runs in the calling thread only: pairs of pictures are spread over threads.
    """
    faiss.omp_set_num_threads(1)
    index = faiss.IndexBinaryFlat(8 * rows.shape[1])
    index.add(np.ascontiguousarray(rows))
    distances, positions = index.search(np.ascontiguousarray(queries), n)
    return distances, positions
