"""Rows that lie in clusters, as those of pictures do."""

from __future__ import annotations

import numpy as np
import pytest


def clustered(n: int, *, width: int = 32, n_clusters: int = 8, seed: int = 0) -> np.ndarray:
    """Unit rows (n, width) float32 around a few centres."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((n_clusters, width))
    rows = centres[random.integers(0, n_clusters, n)] + 0.8 * random.standard_normal((n, width))
    return unit(rows)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def products(vectors: np.ndarray) -> np.ndarray:
    """Similarities (n, n) in float64, -inf of each row to itself."""
    similarities = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    np.fill_diagonal(similarities, -np.inf)
    return similarities


@pytest.fixture
def vectors() -> np.ndarray:
    return clustered(120)
