"""Spherical k-means."""

from __future__ import annotations

import faiss
import numpy as np
from numpy.typing import NDArray


def fit_kmeans(vectors: NDArray[np.float32], k: int, seed: int = 0) -> NDArray[np.float32]:
    """Cluster unit rows (n, d), n >= k, by spherical k-means; return unit centers (k, d), equal for equal seeds.

    The result is the best of twenty runs from random starts. With more than 2,048 rows per center, a sample drawn with
    the seed is used.
    """
    # One point per center is enough; without this setting FAISS warns on stderr below 39.
    settings = {"niter": 25, "nredo": 20, "seed": seed, "spherical": True, "min_points_per_centroid": 1}
    clustering = faiss.Kmeans(vectors.shape[1], k, max_points_per_centroid=2048, **settings)
    # FAISS 1.15 splits many small steps among threads: 10,000 x 50 d take 0.1 s in one thread and 2 s in several.
    faiss.omp_set_num_threads(1)
    clustering.train(np.ascontiguousarray(vectors))
    centers: NDArray[np.float32] = clustering.centroids
    return centers
