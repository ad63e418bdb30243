"""Spherical k-means."""

from __future__ import annotations

import faiss
import numpy as np
from numpy.typing import NDArray


def fit_kmeans(vectors: NDArray[np.float32], k: int, seed: int = 0) -> NDArray[np.float32]:
    """Spherical k-means: k unit centres (k, d) of unit rows (n, d), n >= k; the same for the same seed.

    The best of twenty runs from random starts. Of more than 2,048 rows a centre, a sample is taken with the seed.
    """
    # One point a centre is enough: without it FAISS warns on stderr below 39.
    settings = {"niter": 25, "nredo": 20, "seed": seed, "spherical": True, "min_points_per_centroid": 1}
    clustering = faiss.Kmeans(vectors.shape[1], k, max_points_per_centroid=2048, **settings)
    faiss.omp_set_num_threads(1)  # FAISS 1.15 shares out each of many small steps: 10,000 x 50 d take 0.1 s, else 2 s
    clustering.train(np.ascontiguousarray(vectors))
    centres: NDArray[np.float32] = clustering.centroids
    return centres
