"""A vector moved towards its neighbours: alpha query expansion."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simsearch.rerank.method import ALPHA


def expand(
    vectors: NDArray[np.float32],
    neighbors: NDArray[np.float32],
    similarities: NDArray[np.float32],
    alpha: float = ALPHA,
) -> NDArray[np.float32]:
    """The unit vector (d,) along a vector (d,) plus its neighbours (m, d), each weighted by similarity^alpha.

    Any number of vectors can be given at once: (..., d), (..., m, d) and (..., m) give (..., d). The vector itself
    weighs 1, a neighbour of negative similarity 0. To expand a query: search, expand with the first m answers,
    search again. Vectors of zeros without weighing neighbours stay zeros.

    Radenović, Tolias & Chum, "Fine-tuning CNN Image Retrieval with No Human Annotation", TPAMI 2018.
    """
    weights = np.maximum(similarities, 0) ** np.float32(alpha)
    sums = vectors + np.einsum("...m,...md->...d", weights, neighbors)
    lengths = np.linalg.norm(sums, axis=-1, keepdims=True)
    expanded: NDArray[np.float32] = sums / np.where(lengths > 0, lengths, 1)
    return expanded
