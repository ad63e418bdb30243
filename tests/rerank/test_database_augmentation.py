"""Query expansion by hand, and database augmentation against a database made anew without the query."""

from __future__ import annotations

import numpy as np
import pytest

from simsearch.rerank.database_augmentation import LeaveOneOut, blend
from simsearch.rerank.neighbors import NeighborLists, find_nearest_others
from simsearch.rerank.query_expansion import expand
from tests.rerank.conftest import clustered, products, unit


def _blended(vectors: np.ndarray, n_neighbors: int, alpha: float) -> np.ndarray:
    """Row by row, from the definition."""
    rows, similarities = [], products(vectors)
    for row, near in zip(vectors, similarities, strict=True):
        nearest = np.argsort(-near)[: min(n_neighbors, len(vectors) - 1)]
        total = row + sum(max(near[other], 0.0) ** alpha * vectors[other] for other in nearest)
        rows.append(total / np.linalg.norm(total))
    return np.array(rows)


def test_an_expanded_query_is_the_one_worked_out_by_hand():
    neighbors = np.array([[0.6, 0.8], [0.0, 1.0], [-1.0, 0.0]], np.float32)
    similarities = np.array([0.6, 0.0, -1.0], np.float32)
    expanded = expand(np.array([1, 0], np.float32), neighbors, similarities, alpha=2)
    # (1, 0) + 0.36 (0.6, 0.8) = (1.216, 0.288)
    np.testing.assert_allclose(expanded, np.array([1.216, 0.288]) / np.hypot(1.216, 0.288), atol=1e-6)
    assert expanded.dtype == np.float32


def test_without_neighbors_the_query_stays():
    query = clustered(1)[0]
    expanded = expand(query, np.empty((0, 32), np.float32), np.empty(0, np.float32))
    np.testing.assert_allclose(expanded, query, atol=1e-7)


def test_a_zero_vector_without_weighted_neighbors_stays_zero():
    np.testing.assert_array_equal(expand(np.zeros(32, np.float32), clustered(3), np.zeros(3, np.float32)), 0)


def test_many_queries_at_once_give_what_each_gives(vectors: np.ndarray):
    near = find_nearest_others(vectors, 4)
    together = expand(vectors, vectors[near.positions], near.similarities)
    for row, (positions, similarities) in enumerate(zip(near.positions, near.similarities, strict=True)):
        alone = expand(vectors[row], vectors[positions], similarities)
        np.testing.assert_allclose(together[row], alone, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 3.0])
@pytest.mark.parametrize(("n", "n_neighbors"), [(120, 5), (120, 1), (6, 5), (6, 50), (2, 3), (1, 5)])
def test_blended_rows_are_those_of_the_definition(n: int, n_neighbors: int, alpha: float):
    vectors = clustered(n)
    blended = blend(vectors, find_nearest_others(vectors, n_neighbors + 1), n_neighbors, alpha)
    np.testing.assert_allclose(blended, _blended(vectors, n_neighbors, alpha), atol=1e-5)


def test_neighbors_on_the_other_side_weigh_nothing():
    vectors = unit(np.array([[1, 0], [-1, 0.1], [-1, -0.1]]))
    np.testing.assert_allclose(blend(vectors, find_nearest_others(vectors, 2), 2)[0], [1, 0], atol=1e-7)


def test_rows_of_many_blocks_are_all_blended():
    vectors = clustered(3000, width=600)
    near = find_nearest_others(vectors, 3)
    rows = [0, 1500, 2999]
    expected = [expand(vectors[row], vectors[near.positions[row]], near.similarities[row]) for row in rows]
    np.testing.assert_allclose(blend(vectors, near, 3)[rows], expected, atol=1e-6)


@pytest.mark.parametrize(("n", "n_neighbors"), [(120, 5), (120, 1), (40, 20), (7, 5), (6, 5), (5, 5), (2, 3), (1, 2)])
def test_a_corrected_database_is_one_made_anew_without_the_query(n: int, n_neighbors: int):
    vectors = clustered(n, seed=2)
    neighbors = find_nearest_others(vectors, n_neighbors + 1)
    blended, without = blend(vectors, neighbors, n_neighbors), LeaveOneOut(vectors, neighbors, n_neighbors)
    for query in range(n):
        corrected = without.correct_rows(query)
        honest = blended.copy()
        honest[corrected.positions] = corrected.vectors
        others = np.delete(np.arange(n), query)
        np.testing.assert_allclose(honest[others], _blended(vectors[others], n_neighbors, 3).reshape(-1, 32), atol=1e-5)
        assert corrected.positions.tolist() == sorted(
            row for row in others.tolist() if query in neighbors.positions[row, :n_neighbors]
        )


def test_a_query_pulls_its_neighbors_when_it_is_not_taken_out(vectors: np.ndarray):
    """What the correction is for: without it every neighbor looks more like the query than it is."""
    neighbors = find_nearest_others(vectors, 6)
    blended, without = blend(vectors, neighbors, 5), LeaveOneOut(vectors, neighbors, 5)
    gains = [
        (blended[corrected.positions] - corrected.vectors) @ vectors[query]
        for query in range(len(vectors))
        if len((corrected := without.correct_rows(query)).positions)
    ]
    assert np.concatenate(gains).min() > 0.01


def test_lists_without_a_next_neighbor_are_refused(vectors: np.ndarray):
    with pytest.raises(ValueError, match="lists of depth 5 cannot replace one of 5 neighbors"):
        LeaveOneOut(vectors, find_nearest_others(vectors, 5), 5)


def test_lists_keep_their_order_when_cut(vectors: np.ndarray):
    cut: NeighborLists = find_nearest_others(vectors, 9).truncate(4)
    np.testing.assert_array_equal(cut.positions, find_nearest_others(vectors, 4).positions)
