"""k-reciprocal re-ranking against dense matrices, written straight from the paper."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from simsearch.rerank.k_reciprocal import KReciprocalReranker, KReciprocalSettings
from simsearch.rerank.neighbors import NeighborDatabase, NeighborLists
from simsearch.rerank.patched_database import PatchedDatabase
from tests.rerank.conftest import clustered, products


class Dense:
    """All points against all points; Zhong et al., CVPR 2017, as it is written there."""

    def __init__(self, vectors: np.ndarray, k1: int, k2: int) -> None:
        similarities = products(vectors)
        np.fill_diagonal(similarities, 2)  # every point heads its own list
        order = np.argsort(-similarities, axis=1)
        self.distances = 1 - np.where(similarities == 2, 1, similarities)
        self.order = order[:, 1:]
        names = [[set(row[: k + 1].tolist()) for row in order] for k in (k1, round(k1 / 2))]
        mutual, mutual_half = ([{g for g in near if p in lists[g]} for p, near in enumerate(lists)] for lists in names)
        encodings = np.zeros_like(similarities)
        for p, own in enumerate(mutual):
            joined = set(own)  # R*(p, k1)
            for q in own:
                if len(own & mutual_half[q]) >= Fraction(2, 3) * len(mutual_half[q]):
                    joined |= mutual_half[q]
            for g in joined:  # the encoding
                encodings[p, g] = np.exp(-self.distances[p, g])
        encodings /= encodings.sum(axis=1, keepdims=True)
        self.encodings = np.array([encodings[row[:k2]].mean(axis=0) for row in order])  # local query expansion

    def values(self, query: int, candidates: np.ndarray, own_share: float) -> np.ndarray:
        own, theirs = self.encodings[query], self.encodings[candidates]
        jaccard = 1 - np.minimum(own, theirs).sum(axis=1) / np.maximum(own, theirs).sum(axis=1)
        return (1 - own_share) * jaccard + own_share * self.distances[query, candidates]

    def check(self, reciprocal: KReciprocalReranker, query: int, m: int = 30, own_share: float = 0.3) -> bool:
        """Order and values of the first m; whether the order changed at all."""
        candidates = self.order[query, :m]
        found = reciprocal.reorder(query, candidates, (1 - self.distances[query, candidates]).astype(np.float32))
        expected = self.values(query, candidates, own_share)
        order = np.argsort(expected, kind="stable")
        np.testing.assert_array_equal(found.order, order)
        np.testing.assert_allclose(found.values, expected[order], atol=1e-6)
        return found.order.tolist() != list(range(len(candidates)))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("k1", "k2"), [(20, 6), (7, 3), (5, 1), (1, 6), (3, 8)])
def test_a_row_as_query_is_re_ranked_as_by_dense_matrices(seed: int, k1: int, k2: int):
    vectors = clustered(100, seed=seed)
    dense, reciprocal = (
        Dense(vectors, k1, k2),
        KReciprocalReranker(NeighborDatabase.from_vectors(vectors, k1), KReciprocalSettings(k1=k1, k2=k2)),
    )
    n_changed = sum([dense.check(reciprocal, query) for query in range(100)])
    assert n_changed > 50


@pytest.mark.parametrize("seed", range(4))
def test_a_query_from_outside_is_a_point_among_the_others(seed: int):
    vectors = clustered(150, seed=seed)
    database = NeighborDatabase.from_vectors(vectors[:140], 20)
    for query in vectors[140:]:
        dense = Dense(np.vstack([vectors[:140], query]), 20, 6)
        assert dense.check(KReciprocalReranker(PatchedDatabase(database, np.array([140]), query[None])), 140)


def test_rows_replaced_for_one_query_are_what_it_is_re_ranked_among():
    vectors, others = clustered(100), clustered(100, seed=1)
    database = NeighborDatabase.from_vectors(vectors, 25)
    for query in range(0, 100, 9):
        positions = np.random.default_rng(query).permutation(100)[:12]
        changed = vectors.copy()
        changed[positions] = others[positions]
        assert Dense(changed, 20, 6).check(
            KReciprocalReranker(PatchedDatabase(database, positions, others[positions])), query
        )


@pytest.mark.parametrize("own_share", [0.05, 1.0])
def test_the_own_share_mixes_similarity_into_the_value(own_share: float):
    vectors = clustered(100)
    dense, settings = Dense(vectors, 10, 4), KReciprocalSettings(k1=10, k2=4, original_weight=own_share)
    changed = [
        dense.check(KReciprocalReranker(NeighborDatabase.from_vectors(vectors, 10), settings), query, 15, own_share)
        for query in range(30)
    ]
    assert any(changed) == (own_share < 1)


def test_what_was_asked_before_does_not_change_an_answer():
    vectors = clustered(100)
    used, dense = KReciprocalReranker(NeighborDatabase.from_vectors(vectors, 20)), Dense(vectors, 20, 6)
    for query in [5, 80, 5, 41, 5]:
        dense.check(used, query)


@pytest.mark.parametrize("n", [2, 3, 10])
def test_a_database_smaller_than_its_lists_is_re_ranked(n: int):
    vectors = clustered(n)
    for query in range(n):
        Dense(vectors, 20, 6).check(KReciprocalReranker(NeighborDatabase.from_vectors(vectors, 20)), query)


def test_no_candidates_stay_none():
    found = KReciprocalReranker(NeighborDatabase.from_vectors(clustered(3), 20)).reorder(
        0, np.empty(0, np.int64), np.empty(0, np.float32)
    )
    assert (len(found.order), len(found.values)) == (0, 0)


def test_candidates_of_equal_value_keep_their_order():
    """Three copies of one picture have the same lists but for themselves, and the same value."""
    vectors = np.repeat(clustered(4), 3, axis=0)
    candidates = np.array([5, 3, 4, 8, 6, 7])
    similarities = (vectors[candidates] @ vectors[0]).astype(np.float32)
    found = KReciprocalReranker(NeighborDatabase.from_vectors(vectors, 11), KReciprocalSettings(k1=11, k2=12)).reorder(
        0, candidates, similarities
    )
    np.testing.assert_allclose(np.diff(found.values).reshape(-1)[[0, 1, 3, 4]], 0, atol=1e-7)


class RecordingPoints:
    """Points that record whose lists were searched."""

    def __init__(self, database: NeighborDatabase) -> None:
        self._database = database
        self.searched: set[int] = set()

    def __len__(self) -> int:
        return len(self._database)

    def read_vectors(self, positions: np.ndarray) -> np.ndarray:
        return self._database.read_vectors(positions)

    def find_neighbors(self, positions: np.ndarray, depth: int) -> NeighborLists:
        self.searched.update(positions.tolist())
        return self._database.find_neighbors(positions, depth)


def test_only_lists_near_the_query_are_searched():
    """Fifty far-away groups of forty: a query answered from one group needs no list of the others."""
    random = np.random.default_rng(0)
    rows = np.repeat(np.eye(50), 40, axis=0) + 0.02 * random.standard_normal((2000, 50))
    vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    points = RecordingPoints(NeighborDatabase.from_vectors(vectors, 20))
    KReciprocalReranker(points).reorder(85, np.arange(86, 120), vectors[86:120] @ vectors[85])
    assert points.searched <= set(range(80, 120))
