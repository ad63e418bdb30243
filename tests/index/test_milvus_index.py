"""Indexes in Milvus answer as FAISS ones do: the same tests of both, against NumPy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from simsearch.filters import compile_sql, parse
from simsearch.index.cache import IndexCache
from simsearch.index.protocol import Index
from simsearch.search import RankingLimits, rank_hits
from simsearch.store.catalog import Catalog
from simsearch.store.writer import CatalogWriter
from tests.support.milvus_catalogs import FINGERPRINT, add_images, move_to_milvus, searched, unit_rows

pytestmark = pytest.mark.long

N, WIDTH = 500, 16
VECTORS = unit_rows(N, WIDTH)
VECTORS[100:110] = VECTORS[100]  # pictures that look the same: ties
QUERIES = np.concatenate([unit_rows(5, WIDTH, seed=1), VECTORS[100:101]])


@pytest.fixture(scope="module", params=["faiss", "milvus"])
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """A catalog of 500 vectors, and their index. View ids are 1 to 500, in the order of the vectors."""
    folder = tmp_path_factory.mktemp("index") / "collection"
    with CatalogWriter.open_or_create(folder) as writer:
        add_images(writer, VECTORS)
    if request.param == "faiss":
        with Catalog.open(folder) as catalog:
            yield catalog, IndexCache(catalog).open_index(FINGERPRINT)
        return
    move_to_milvus(folder, str(folder / "vectors.db"))
    with searched(folder) as (catalog, indexes):
        yield catalog, indexes.open_index(FINGERPRINT)


def test_the_length_is_the_number_of_vectors(opened: tuple[Catalog, Index]):
    assert len(opened[1]) == N


@pytest.mark.parametrize("n", [1, 7, N, N + 50])
def test_the_nearest_are_those_of_a_brute_force_scan(opened: tuple[Catalog, Index], n: int):
    similarities, ids = opened[1].search(QUERIES, n)
    expected = QUERIES @ VECTORS.T
    assert ids.shape == similarities.shape == (len(QUERIES), min(n, N))
    for row, query in enumerate(expected):
        np.testing.assert_allclose(similarities[row], np.sort(query)[::-1][:n], atol=1e-6)
        np.testing.assert_allclose(query[ids[row] - 1], similarities[row], atol=1e-6)
        assert len(set(ids[row].tolist())) == min(n, N)


def test_similarities_are_float32_cosines_and_ids_are_int64(opened: tuple[Catalog, Index]):
    similarities, ids = opened[1].search(VECTORS[:20], 3)
    assert similarities.dtype == np.float32
    assert ids.dtype == np.int64
    assert similarities.max() <= 1
    assert (similarities[:, 0] > 1 - 1e-6).all()


@pytest.mark.parametrize("least", [-1.1, 0.0, 0.3, 0.99, 1.1])
def test_range_search_finds_all_that_are_more_similar(opened: tuple[Catalog, Index], least: float):
    similarities, ids = opened[1].range_search(QUERIES[0], least)
    expected = np.flatnonzero(VECTORS @ QUERIES[0] > least) + 1
    np.testing.assert_array_equal(np.sort(ids), expected)
    np.testing.assert_allclose(similarities, (VECTORS @ QUERIES[0])[ids - 1], atol=1e-6)


def ids_of(catalog: Catalog, text: str) -> Callable[[], np.ndarray]:
    stored = catalog.find_model(FINGERPRINT)
    return lambda: catalog.find_matching_ids(stored.id, compile_sql(parse(text), catalog.count_columns()))


@pytest.mark.parametrize(
    "text", ["width = 103", "width > 140 and id < 400", "name ~ '0012'", "id = 7", "id > 1000", "size >= 1000"]
)
def test_a_subset_returns_exactly_the_matching_rows(opened: tuple[Catalog, Index], text: str):
    catalog, index = opened
    part = index.select_matching(parse(text), ids_of(catalog, text))
    ids = ids_of(catalog, text)()
    assert len(part) == len(ids)
    for n in (3, N):
        similarities, found = part.search(QUERIES[:1], n)
        assert set(found[0].tolist()) <= set(ids.tolist())
        best = np.sort(VECTORS[ids - 1] @ QUERIES[0])[::-1][:n]
        np.testing.assert_allclose(similarities[0], best, atol=1e-6)
    np.testing.assert_array_equal(np.sort(part.range_search(QUERIES[0], -1.1)[1]), ids)


def test_vectors_are_returned_in_the_requested_order(opened: tuple[Catalog, Index]):
    ids = np.array([7, 499, 3, 7, 101])
    np.testing.assert_array_equal(opened[1].read_vectors(ids), VECTORS[ids - 1])
    assert opened[1].read_vectors(np.empty(0, np.int64)).shape == (0, WIDTH)


def test_equal_similarities_are_ordered_by_image(opened: tuple[Catalog, Index]):
    catalog, index = opened
    hits = rank_hits(VECTORS[100], index, catalog, RankingLimits(k=4))
    assert [hit.image_id for hit in hits] == [101, 102, 103, 104]
    assert {hit.similarity for hit in hits} == {1.0}


def test_hits_are_the_same_for_any_k_and_offset(opened: tuple[Catalog, Index]):
    catalog, index = opened
    everything = rank_hits(QUERIES[1], index, catalog, RankingLimits(k=None))
    assert len(everything) == N
    for k, offset in ((10, 0), (5, 95), (N, 0), (3, N - 2)):
        hits = rank_hits(QUERIES[1], index, catalog, RankingLimits(k=k, offset=offset))
        assert [hit.image_id for hit in hits] == [hit.image_id for hit in everything[offset : offset + k]]


def test_an_exact_index_has_no_note(opened: tuple[Catalog, Index]):
    assert opened[1].notes == ()


@pytest.mark.parametrize(("n", "n_queries"), [(4_000, 20), pytest.param(10_000, 100, marks=pytest.mark.thorough)])
def test_thousands_of_vectors_match_a_brute_force_scan_with_and_without_filters(tmp_path: Path, n: int, n_queries: int):
    """Ids and similarities of queries over vectors of 256 numbers."""
    vectors, queries = unit_rows(n, 256, seed=2), unit_rows(n_queries, 256, seed=3)
    folder = tmp_path / "collection"
    with CatalogWriter.open_or_create(folder) as writer:
        add_images(writer, vectors)
    with Catalog.open(folder) as catalog:
        files = IndexCache(catalog).open_index(FINGERPRINT)
        move_to_milvus(folder, str(tmp_path / "vectors.db"))
        condition = parse("width between 110 and 120 and class != '3'")
        ids = ids_of(catalog, str(condition))
        with searched(folder) as (_, indexes):
            index = indexes.open_index(FINGERPRINT)
            part, part_of_files = index.select_matching(condition, ids), files.select_matching(condition, ids)
            for query in queries:
                for one, other in ((index, files), (part, part_of_files)):
                    got = rank_hits(query, one, catalog, RankingLimits(k=10))
                    wanted = rank_hits(query, other, catalog, RankingLimits(k=10))
                    assert [hit.image_id for hit in got] == [hit.image_id for hit in wanted]
                    np.testing.assert_allclose(
                        [hit.similarity for hit in got], [hit.similarity for hit in wanted], atol=1.5e-6
                    )
                scan = vectors @ query
                _, found = index.search(query[None], 10)
                np.testing.assert_allclose(scan[found[0] - 1], np.sort(scan)[::-1][:10], atol=1e-6)


def test_more_results_than_one_milvus_query_returns_are_complete(tmp_path: Path):
    """Milvus returns at most 16,384 results; all of 17,000 vectors, many of them equal, are returned."""
    vectors = unit_rows(17_000, 8, seed=4)
    vectors[:16_500] = vectors[0]
    folder = tmp_path / "collection"
    with CatalogWriter.open_or_create(folder) as writer:
        add_images(writer, vectors)
    move_to_milvus(folder, str(tmp_path / "vectors.db"))
    with searched(folder) as (catalog, indexes):
        index = indexes.open_index(FINGERPRINT)
        similarities, ids = index.search(vectors[:1], 16_700)
        assert len(set(ids[0].tolist())) == 16_700
        np.testing.assert_allclose(similarities[0], np.sort(vectors @ vectors[0])[::-1][:16_700], atol=1e-6)
        _, ids = index.range_search(vectors[0], 0.5)
        np.testing.assert_array_equal(np.sort(ids), np.flatnonzero(vectors @ vectors[0] > 0.5) + 1)
        text = "size < 16800"
        part = index.select_matching(parse(text), ids_of(catalog, text))
        assert len(part.range_search(vectors[0], -1.1)[1]) == len(part) == len(ids_of(catalog, text)())
