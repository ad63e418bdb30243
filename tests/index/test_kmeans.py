"""k-means in two levels, against the plain one of FAISS."""

from __future__ import annotations

import faiss
import numpy as np
import pytest

from simsearch.index.kmeans import fit_kmeans_in_two_levels
from tests.support.synthetic import WIDTH, clustered


def measure_fit(rows: np.ndarray, centers: np.ndarray) -> float:
    """The mean cosine of rows to the nearest center."""
    return float((rows @ centers.T).max(axis=1).mean())


@pytest.mark.parametrize("k", [1, 3, 90, 256])
def test_there_are_k_unit_centers_the_same_in_every_run(k: int):
    rows = clustered(8_000, seed=1)
    centers = fit_kmeans_in_two_levels(rows, k)
    assert centers.shape == (k, WIDTH)
    assert np.linalg.norm(centers, axis=1) == pytest.approx(1.0, abs=1e-5)
    assert (centers == fit_kmeans_in_two_levels(rows, k)).all()


def test_the_centers_are_about_as_near_as_those_of_one_level():
    rows, others = clustered(20_000, seed=1), clustered(4_000, seed=2)
    plain = faiss.Kmeans(WIDTH, 256, niter=10, seed=1, spherical=True)
    plain.train(rows)
    assert measure_fit(others, fit_kmeans_in_two_levels(rows, 256)) > measure_fit(others, plain.centroids) - 0.01


def test_small_clusters_far_from_the_others_get_a_center():
    random = np.random.default_rng(0)
    few = np.eye(WIDTH, dtype=np.float32)[:3].repeat(5, axis=0)
    many = np.abs(random.standard_normal((5_000, WIDTH))).astype(np.float32) * -1
    rows = np.concatenate([many / np.linalg.norm(many, axis=1, keepdims=True), few])
    assert measure_fit(few, fit_kmeans_in_two_levels(rows, 100)) > 0.9


def test_as_many_centers_as_rows_are_the_rows():
    rows = clustered(50, seed=1)
    assert measure_fit(rows, fit_kmeans_in_two_levels(rows, 50)) == pytest.approx(1.0, abs=1e-5)
