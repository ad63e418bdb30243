"""Alpha query expansion (alpha-QE): move a vector towards its neighbors."""

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
    """Add to a vector (d,) its neighbors (m, d), each weighted by similarity^alpha, and normalize the sum to length 1.

    Accepts several vectors at once: (..., d), (..., m, d) and (..., m) give (..., d). The vector itself has the weight
    1, a neighbor of negative similarity the weight 0. To expand a query: search, expand with the first m results,
    search again. A zero vector whose neighbors all have the weight 0 stays zero.

    Radenović, Tolias & Chum, "Fine-tuning CNN Image Retrieval with No Human Annotation", TPAMI 2018.
    """
    weights = np.maximum(similarities, 0) ** np.float32(alpha)
    sums = vectors + np.einsum("...m,...md->...d", weights, neighbors)
    lengths = np.linalg.norm(sums, axis=-1, keepdims=True)
    expanded: NDArray[np.float32] = sums / np.where(lengths > 0, lengths, 1)
    return expanded
