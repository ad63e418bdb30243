"""Rankings against plain NumPy: a database made anew for every query, without it, all similarities at once."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass, replace

import numpy as np
import pytest

from simsearch.evaluation.embedding import TaskVectors
from simsearch.evaluation.ranking import Ranker
from simsearch.rerank.k_reciprocal import KReciprocalReranker, KReciprocalSettings
from simsearch.rerank.method import RerankMethod
from simsearch.rerank.neighbors import NeighborDatabase
from tests.rerank.conftest import clustered, unit

N_ROWS, N_QUERIES, WIDTH = 130, 300, 24
EVERY_METHOD = [
    "none", "pca10", "whiten10", "dba4", "aqe3", "k-reciprocal7", "pca10+dba4", "pca10+dba4+aqe3", "dba1+aqe1",
    "pca10+dba4+aqe3+k-reciprocal7", "dba4+k-reciprocal7", "aqe3+k-reciprocal20",
]  # fmt: skip


def embedded(n: int = N_ROWS, *, n_views: int = 0, seed: int = 0) -> TaskVectors:
    """Rows in clusters, and views of each that lie near it."""
    originals = clustered(n, width=WIDTH, seed=seed)
    noise = np.random.default_rng(seed + 1).standard_normal((n, n_views, WIDTH))
    return TaskVectors(originals, unit(originals[:, None] + 0.15 * noise))


@dataclass
class Brute:
    """What one query gets in float64. `rows` is the database without the query, which `own` is (-1: none)."""

    rows: np.ndarray
    views: np.ndarray
    query: np.ndarray
    own: int
    similarities: np.ndarray

    @classmethod
    def of(cls, data: TaskVectors, method: RerankMethod, query: np.ndarray, own: int) -> Brute:
        rows, views = data.originals.astype(np.float64), data.augmented.astype(np.float64)
        query = query.astype(np.float64)
        if method.width is not None:
            mean = rows.mean(axis=0)
            _, deviations, axes = np.linalg.svd(rows - mean, full_matrices=False)
            scale = deviations[: method.width] ** method.whitening
            rows, views, query = (
                _unit((some - mean) @ axes[: method.width].T / scale) for some in (rows, views, query)
            )
        if method.dba is not None:
            rows = _blended(rows, own, method.dba)
        found = cls(rows, views, query, own, np.empty(0))
        found.search()
        if method.aqe is not None:
            near = [at for at in found.order().tolist() if at != own][: method.aqe]
            weights = np.maximum(found.similarities[near], 0) ** 3
            found.query = _unit(query + weights @ rows[near])
            found.search()
        return found

    def search(self) -> None:
        self.similarities = np.max([self.rows @ self.query, *(self.views @ self.query).T], axis=0)

    def order(self, similarities: np.ndarray | None = None) -> np.ndarray:
        """All positions, by falling similarity in millionths, then by position; the query itself last."""
        values = np.rint(1e6 * (self.similarities if similarities is None else similarities.astype(np.float64)))
        if self.own >= 0:
            values[self.own] = -2e6
        return np.argsort(-values, kind="stable")

    def reordered(self, similarities: np.ndarray, k1: int) -> np.ndarray:
        """The order after k-reciprocal re-ranking among the same rows, the query being one of them."""
        points = np.vstack([self.rows, self.query]) if self.own < 0 else self.rows.copy()
        points[self.own] = self.query  # the last one, where it is in none
        order = self.order(similarities)
        first = order[: min(100, len(order) - (self.own >= 0))]
        reciprocal = KReciprocalReranker(
            NeighborDatabase.from_vectors(points.astype(np.float32), k1), KReciprocalSettings(k1=k1)
        )
        again = reciprocal.reorder(self.own % len(points), first, similarities[first].astype(np.float32)).order
        return np.concatenate([first[again], order[len(first) :]])


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def _blended(rows: np.ndarray, own: int, n_neighbours: int) -> np.ndarray:
    """Every row with its nearest others, the query being none of them."""
    similarities = rows @ rows.T
    np.fill_diagonal(similarities, -2)
    if own >= 0:
        similarities[:, own] = -2
    blended = np.empty_like(rows)
    for at, row in enumerate(rows):
        near = np.argsort(-similarities[at])[:n_neighbours]
        blended[at] = _unit(row + np.maximum(similarities[at, near], 0) ** 3 @ rows[near])
    return blended


def check(data: TaskVectors, method: RerankMethod, queries: np.ndarray, own: np.ndarray) -> None:
    """Similarities and orders of all queries are those of brute force; some that are asked are looked at."""
    nothing = [np.array([at] if at >= 0 else [], np.int64) for at in own.tolist()]
    blocks = list(Ranker(data, method).rank(queries, own, nothing))
    orders = np.concatenate([block.order for block in blocks])
    similarities = np.concatenate([block.similarities for block in blocks])
    assert orders.shape == similarities.shape == (len(queries), len(data.originals))
    for at in range(0, len(queries), 7):
        expected = Brute.of(data, method, queries[at], int(own[at]))
        others = np.arange(len(data.originals)) != own[at]
        np.testing.assert_allclose(similarities[at, others], expected.similarities[others], atol=5e-6)
        if method.k_reciprocal is not None:
            np.testing.assert_array_equal(orders[at], expected.reordered(similarities[at], method.k_reciprocal))
            continue
        assert sorted(orders[at].tolist()) == list(range(len(data.originals)))
        falling = expected.similarities[orders[at]][: len(others) - (own[at] >= 0)]
        assert (np.diff(falling) < 1e-5).all()
        if own[at] >= 0:
            assert orders[at, -1] == own[at]


@pytest.mark.parametrize("n_views", [0, 2])
@pytest.mark.parametrize("text", EVERY_METHOD)
def test_leave_one_out_is_as_if_the_query_had_never_been_in_the_database(text: str, n_views: int):
    """Where ranking is quick, with more queries than a block takes."""
    data, method = embedded(n_views=n_views), RerankMethod.parse(text)
    own = np.arange(N_QUERIES if method.k_reciprocal is None else 21) % N_ROWS
    check(data, method, data.originals[own], own)


@pytest.mark.parametrize("n_views", [0, 2])
@pytest.mark.parametrize("text", EVERY_METHOD)
def test_queries_from_outside_are_ranked_as_by_brute_force(text: str, n_views: int):
    data, queries = embedded(n_views=n_views), clustered(40, width=WIDTH, seed=9)
    check(data, RerankMethod.parse(text), queries, np.full(40, -1))


@pytest.mark.parametrize("text", EVERY_METHOD)
def test_a_query_by_a_part_of_an_image_in_the_database_is_not_its_row(text: str):
    """Its vector is another one, and the whole image is no answer."""
    data, queries = embedded(), clustered(30, width=WIDTH, seed=9)
    check(data, RerankMethod.parse(text), queries, np.arange(30) * 4)


@pytest.mark.parametrize("text", EVERY_METHOD)
def test_queries_of_a_block_do_not_see_each_other(text: str):
    data = embedded(n_views=1)
    own = np.array([-1, 5, -1, 90, 5])
    queries = np.vstack([clustered(5, width=WIDTH, seed=4)[[0, 1, 2]], data.originals[[90, 5]]])
    ranker = Ranker(data, RerankMethod.parse(text))
    ignored = [np.array([at, 7] if at >= 0 else [3]) for at in own.tolist()]
    (together,) = ranker.rank(queries, own, ignored)
    for at in range(5):
        (alone,) = ranker.rank(queries[at : at + 1], own[at : at + 1], ignored[at : at + 1])
        np.testing.assert_allclose(alone.similarities[0], together.similarities[at], atol=1e-6)
        np.testing.assert_array_equal(alone.order[0], together.order[at])


@pytest.mark.parametrize("text", EVERY_METHOD)
def test_junk_comes_last_and_leaves_the_rest_in_order(text: str):
    data = embedded()
    own, ranker = np.array([-1, 8]), Ranker(data, RerankMethod.parse(text))
    queries = np.vstack([clustered(1, width=WIDTH, seed=4), data.originals[8]])
    (plain,) = ranker.rank(queries, own, [np.empty(0, np.int64), np.array([8])])
    junk = [plain.order[at, [0, 3, 50]] for at in (0, 1)]
    (cleaned,) = ranker.rank(queries, own, [junk[0], np.append(junk[1], 8)])
    for at, n_last in ((0, 3), (1, 4)):
        rest = [image for image in plain.order[at].tolist() if image not in {*junk[at].tolist(), own[at]}]
        assert cleaned.order[at, :-n_last].tolist() == rest
        last = {*junk[at].tolist(), int(own[at])} - {-1}
        assert set(cleaned.order[at, -n_last:].tolist()) == last


def test_blocks_cover_all_queries_in_order():
    data = embedded(20_000)
    queries = data.originals[:250]
    blocks = list(Ranker(data, RerankMethod()).rank(queries, np.arange(250), [np.array([at]) for at in range(250)]))
    assert [block.queries.start for block in blocks] == [0, 100, 200]
    np.testing.assert_array_equal(np.concatenate([block.order[:, -1] for block in blocks]), np.arange(250))


def test_memory_holds_a_block_and_never_all_pairs():
    data = embedded(20_000)
    ranker = Ranker(data, RerankMethod.parse("pca16"))
    own, ignored = np.arange(250), [np.array([at]) for at in range(250)]
    tracemalloc.start()
    for _ in ranker.rank(data.originals[:250], own, ignored):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 120e6  # 20,000 x 20,000 similarities are 1,600 MB


@pytest.mark.parametrize("n_views", [0, 2])
@pytest.mark.parametrize("text", EVERY_METHOD)
def test_one_query_through_the_index_is_answered_as_in_a_block(text: str, n_views: int):
    data = embedded(n_views=n_views)
    ranker = Ranker(data, RerankMethod.parse(text))
    for query in clustered(10, width=WIDTH, seed=5):
        (block,) = ranker.rank(query[None], np.array([-1]), [np.empty(0, np.int64)])
        assert ranker.search(query, 12).tolist() == block.order[0, :12].tolist()


@pytest.mark.parametrize("text", EVERY_METHOD)
@pytest.mark.parametrize("n", [3, 5])
def test_a_handful_of_images_is_enough_for_every_method(text: str, n: int):
    data = embedded(n, n_views=1)
    own = np.arange(n)
    check(data, replace(RerankMethod.parse(text), pca=None, whiten=None), data.originals, own)
    (block,) = Ranker(data, RerankMethod.parse(text)).rank(data.originals, own, [np.array([at]) for at in range(n)])
    assert block.order[:, -1].tolist() == own.tolist()
    assert sorted(Ranker(data, RerankMethod.parse(text)).search(data.originals[0], 99).tolist()) == list(range(n))


def test_the_width_is_that_of_the_projection():
    assert [Ranker(embedded(), RerankMethod.parse(text)).width for text in ("none", "pca10", "pca99", "dba4")] == [
        24,
        10,
        24,
        24,
    ]
