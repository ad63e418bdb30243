"""Label spreading against the iteration of the paper, and what it does with clusters and with degenerate input."""

from __future__ import annotations

import numpy as np
import pytest

from simsearch.rerank.label_spreading import (
    _N_NEIGHBORS,
    _POWER,
    _PRIOR,
    _SEED_AGAINST,
    _SPREADING,
    build_direction,
    spread_labels,
)
from tests.rerank.conftest import clustered, unit


def iterate_labels(vectors: np.ndarray, weights: np.ndarray, similarities: np.ndarray) -> np.ndarray:
    """The same scores by the iteration F = alpha S F + Y of Zhou et al., edge by edge."""
    n = len(vectors)
    edges = np.zeros((n, n))
    for row in range(n):
        cosines = {other: float(vectors[row] @ vectors[other]) for other in range(n) if other != row}
        for other in sorted(cosines, key=lambda at: -cosines[at])[:_N_NEIGHBORS]:
            edge = max(cosines[other], 0) ** _POWER
            edges[row, other] = edges[other, row] = max(edge, edges[row, other])
    degree = edges.sum(axis=1)
    normalized = edges / np.sqrt(np.outer(degree, degree))
    n_for, n_against = (weights > 0).sum(), (weights < 0).sum()
    seeds = np.where(weights > 0, 1 / n_for, np.where(weights < 0, -_SEED_AGAINST / n_against, 0))
    spread = seeds.copy()
    for _ in range(400):
        spread = _SPREADING * normalized @ spread + seeds
    prior = (similarities - similarities.mean()) / similarities.std()
    return spread / np.abs(spread).max() + _PRIOR * prior


def test_scores_are_those_of_the_iteration():
    vectors = clustered(60)
    weights = np.zeros(60)
    weights[[1, 5, 9]], weights[[2, 7]] = 1, -1
    similarities = (vectors @ vectors[1]).astype(np.float64)
    np.testing.assert_allclose(
        spread_labels(vectors, weights, similarities), iterate_labels(vectors, weights, similarities), atol=1e-5
    )


def test_the_direction_is_the_weighted_mean_for_less_a_part_of_the_mean_against():
    vectors = clustered(4)
    direction = build_direction(vectors, np.array([1.0, 3.0, -2.0, -2.0]))
    expected = 0.25 * vectors[0] + 0.75 * vectors[1] - 0.25 * (vectors[2] + vectors[3]) / 2
    np.testing.assert_allclose(direction, expected, atol=1e-6)


def test_labels_follow_a_chain_of_neighbors_that_is_nearer_than_the_other_class():
    angles = np.concatenate([np.linspace(0, 1.2, 40), np.linspace(2.2, 3.4, 40)])
    vectors = unit(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    weights = np.zeros(80)
    weights[[0, 1, 2]], weights[[77, 78, 79]] = 1, -1
    scores = spread_labels(vectors, weights, np.zeros(80))
    assert scores[:40].min() > scores[40:].max()
    assert scores[:3].min() > scores[40:].max()


@pytest.mark.parametrize("n", [1, 2, 5])
def test_few_or_equal_points_give_finite_scores(n: int):
    vectors = np.repeat(clustered(1), n, axis=0)
    weights = np.zeros(n)
    weights[0] = 1
    assert np.isfinite(spread_labels(vectors, weights, np.ones(n))).all()
