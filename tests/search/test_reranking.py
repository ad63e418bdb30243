"""Answers under a method: those that the benchmark measures, from indexes that are kept in step with the catalog."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from simsearch import Collection
from simsearch.errors import UsageError
from simsearch.evaluation.embedding import list_images, load_vectors
from simsearch.evaluation.ranking import Ranker
from simsearch.images.views import ViewChoice
from simsearch.index.cache import IndexCache
from simsearch.index.files import is_intact, read_stamp
from simsearch.rerank.method import RerankMethod
from simsearch.search import Hit
from simsearch.search.examples import Example
from simsearch.store.catalog import Catalog
from simsearch.store.writer import CatalogWriter
from tests.conftest import HISTOGRAM, draw_picture
from tests.support import oneshot

N_PICTURES = 160
METHODS = [
    "none", "whiten16", "dba3", "aqe4", "k-reciprocal6", "pca16+aqe4", "dba3+aqe4", "dba3+k-reciprocal6",
    "aqe4+k-reciprocal6", "pca16+dba3+aqe4+k-reciprocal6",
]  # fmt: skip


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("methods") / "photos"
    for seed in range(N_PICTURES):
        draw_picture(folder / f"{seed:03}.png", seed % 120, side_px=24 + seed // 120 * 8)
    return folder


@pytest.fixture(scope="module", params=[0, 2], ids=["originals", "two views"])
def indexed(request: pytest.FixtureRequest, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    collection = tmp_path_factory.mktemp("indexes") / f"views_{request.param}"
    oneshot.ingest(collection, [pictures], HISTOGRAM, augment=ViewChoice(request.param))
    return collection


@pytest.fixture
def own(pictures: Path, collection: Path) -> Path:
    """A collection that a test may change."""
    oneshot.ingest(collection, [pictures], HISTOGRAM)
    return collection


Measured = tuple[list[str], np.ndarray]


def measured(collection: Path, queries: list[np.ndarray], method: str, own: Sequence[int] = ()) -> list[Measured]:
    """What the benchmark ranks for each vector: paths in order, and their similarities; `own` positions come last."""
    with Catalog.open(collection) as catalog:
        stored = catalog.list_models()[0]
        items = list_images(catalog, list(catalog.iterate_paths()))
        embedded = load_vectors(catalog, stored, [item.digest for item in items])
    ranker = Ranker(embedded, RerankMethod.parse(method))
    own = own or [-1] * len(queries)
    ignored = [np.array([at] if at >= 0 else [], np.int64) for at in own]
    (block,) = ranker.rank(np.stack(queries), np.array(own), ignored)
    return [
        ([items[at].paths[0] for at in order], similarities[order])
        for order, similarities in zip(block.order, block.similarities, strict=True)
    ]


def assert_ranked_as(hits: Sequence[Hit], expected: Measured) -> None:
    """The same similarities of the same images, in the same order but for those that rounding alone parts."""
    paths, similarities = expected
    found = {hit.path: hit.similarity for hit in hits}
    assert found == pytest.approx(dict(zip(paths, similarities.tolist(), strict=True)), abs=3e-6)
    moved = [at for at, hit in enumerate(hits) if hit.path != paths[at]]
    assert len(moved) <= 4
    assert all(found[hits[at].path] == pytest.approx(similarities[at], abs=3e-6) for at in moved)


def vector_of(path: Path) -> np.ndarray:
    """The vector of a picture that is not in the collection."""
    from simsearch.images.decode import decode_square, read_raw_file
    from simsearch.images.resize import ResizeRule
    from simsearch.models.histogram import SIDE_PX, compute_histograms

    raw = read_raw_file(str(path), has_picture_extension=True, max_pixels=10**9)
    return compute_histograms(decode_square(raw, ResizeRule(SIDE_PX, "squash"), max_pixels=10**9)[1][None])[0]


@pytest.mark.parametrize("method", METHODS)
def test_a_picture_from_outside_gets_the_answers_that_the_benchmark_measures(
    indexed: Path, tmp_path: Path, method: str
):
    outside = [draw_picture(tmp_path / f"{seed}.png", seed) for seed in (500, 501, 502)]
    expected = measured(indexed, [vector_of(path) for path in outside], method)
    with Collection.open(indexed) as opened:
        for path, wanted in zip(outside, expected, strict=True):
            answer = opened.search(path, k=None, rerank=method)
            assert answer.rerank == method
            assert_ranked_as(answer.hits, wanted)


@pytest.mark.parametrize("method", [method for method in METHODS if "dba" not in method])
def test_a_picture_of_the_collection_is_asked_as_if_it_were_not_there_when_it_is_excluded(indexed: Path, method: str):
    """With dba the benchmark blends its neighbours without it; a search leaves them as they are."""
    with Catalog.open(indexed) as catalog:
        stored = catalog.list_models()[0]
        vectors = [catalog.find_vector(stored, catalog.find_original_view(image_id)) for image_id in (3, 77)]
    expected = measured(indexed, vectors, method, own=[2, 76])
    with Collection.open(indexed) as opened:
        for image_id, (paths, similarities) in zip((3, 77), expected, strict=True):
            hits = opened.search(image_id, k=None, rerank=method, exclude_self=True).hits
            assert_ranked_as(hits, (paths[:-1], similarities[:-1]))


def test_the_picture_itself_comes_first_where_neither_it_nor_the_query_is_moved(indexed: Path):
    with Collection.open(indexed) as opened:
        for method in ("none", "pca16", "whiten16", "k-reciprocal6", "pca16+k-reciprocal6"):
            assert opened.search(7, k=1, rerank=method).hits[0].image_id == 7


def test_pages_are_parts_of_one_ranking(indexed: Path):
    with Collection.open(indexed) as opened:
        for method in ("none", "pca16+aqe4", "k-reciprocal6"):
            whole = opened.search(5, k=N_PICTURES, rerank=method).hits
            assert [hit.rank for hit in whole] == list(range(1, N_PICTURES + 1))
            for offset, k in ((0, 10), (10, 10), (95, 10), (100, 3), (158, 10)):
                assert opened.search(5, k=k, offset=offset, rerank=method).hits == whole[offset : offset + k]
            assert opened.search(5, k=4, offset=500, rerank=method).hits == ()


def test_a_filter_leaves_out_and_does_not_reorder(indexed: Path):
    where = "name ~ '3' or name = '100.png'"
    with Collection.open(indexed) as opened:
        for method in ("none", "pca16+dba3+aqe4"):
            everything = opened.search(5, k=None, rerank=method).hits
            wanted = [
                (hit.path, hit.similarity) for hit in everything if "3" in Path(hit.path).name or "100." in hit.path
            ]
            found = opened.search(5, k=None, rerank=method, where=where).hits
            assert [(hit.path, hit.similarity) for hit in found] == wanted
        reordered = opened.search(5, k=None, rerank="k-reciprocal6", where=where).hits
        assert {hit.path for hit in reordered} == {path for path, _ in wanted}


# What is kept


def derived(collection: Path) -> list[str]:
    return sorted(file.name.split("~")[1] for file in collection.glob("*~*.faiss"))


def projections(collection: Path) -> dict[str, tuple[int, bytes]]:
    with sqlite3.connect(collection / "catalog.db") as connection:
        rows = connection.execute("SELECT method, n_vectors, projection FROM projections").fetchall()
    connection.close()
    return {method: (n, blob) for method, n, blob in rows}


def test_a_projection_is_fitted_once_and_its_index_kept(own: Path):
    with Collection.open(own) as opened:
        opened.search(1, rerank="pca16")
    kept, (file,) = projections(own), own.glob("*~*.faiss")
    before = file.stat().st_mtime_ns
    assert {name: n for name, (n, _) in kept.items()} == {"pca16": N_PICTURES}
    with Collection.open(own) as opened:
        opened.search(2, rerank="pca16+aqe4+k-reciprocal6")
        assert opened.verify().notes == ()
    assert (projections(own), file.stat().st_mtime_ns, derived(own)) == (kept, before, ["pca16.faiss"])


def test_plain_queries_and_expansion_keep_nothing(own: Path):
    with Collection.open(own) as opened:
        opened.search(1, rerank="aqe4+k-reciprocal6")
    assert (projections(own), derived(own)) == ({}, [])


def test_new_pictures_are_projected_as_the_others_and_a_blended_index_is_made_anew(
    own: Path, pictures: Path, tmp_path: Path
):
    methods = ["pca16", "dba3", "pca16+dba3"]
    with Collection.open(own) as opened:
        for method in methods:
            opened.search(1, rerank=method)
        more = tmp_path / "more"
        for seed in range(900, 920):
            draw_picture(more / f"{seed}.png", seed)
        oneshot.ingest(own, [more], HISTOGRAM)
        fitted = projections(own)
        continued = {method: opened.search(170, k=None, rerank=method).hits for method in methods}
    assert projections(own) == fitted
    assert fitted["pca16"][0] == N_PICTURES
    for file in own.glob("*~*.faiss"):
        file.unlink()
    with Collection.open(own) as opened:
        for method in methods:
            hits = opened.search(170, k=None, rerank=method).hits
            assert len(hits) == N_PICTURES + 20
            assert [hit.path for hit in hits] == [hit.path for hit in continued[method]]
    assert derived(own) == ["dba3.faiss", "pca16+dba3.faiss", "pca16.faiss"]


def test_a_projection_is_fitted_anew_when_the_vectors_have_doubled(tmp_path: Path, collection: Path):
    photos = tmp_path / "photos"
    for seed in range(20):
        draw_picture(photos / f"{seed:03}.png", seed)
    oneshot.ingest(collection, [photos], HISTOGRAM)
    with Collection.open(collection) as opened:
        opened.search(1, rerank="pca8")
        for seed in range(20, 39):
            draw_picture(photos / f"{seed:03}.png", seed)
        oneshot.ingest(collection, [photos], HISTOGRAM)
        opened.search(1, rerank="pca8")
        assert projections(collection)["pca8"][0] == 20
        draw_picture(photos / "040.png", 40)
        oneshot.ingest(collection, [photos], HISTOGRAM)
        hits = opened.search(1, k=None, rerank="pca8").hits
    assert projections(collection)["pca8"][0] == 40
    with Catalog.open(collection) as catalog:
        vector = catalog.find_vector(catalog.list_models()[0], 1)
    ((paths, _),) = measured(collection, [vector], "pca8")
    assert [hit.path for hit in hits] == paths


def test_while_another_run_writes_a_projection_serves_its_query_and_is_not_kept(own: Path):
    with contextlib.closing(CatalogWriter.open(own)), Collection.open(own) as opened:
        expected = opened.search(3, rerank="pca16").hits
        assert projections(own) == {}
    with Collection.open(own) as opened:
        assert opened.search(3, rerank="pca16").hits == expected
    assert list(projections(own)) == ["pca16"]


def test_a_place_that_cannot_be_written_to_is_asked_all_the_same(own: Path, tmp_path: Path):
    import os

    if os.geteuid() == 0:
        pytest.skip("the superuser may write anywhere")
    with Collection.open(own) as opened:
        expected = opened.search(3, rerank="pca16+dba3").hits
    for file in own.glob("*~*.faiss"):
        file.unlink()
    own.chmod(0o555)
    try:
        with Collection.open(own) as opened:
            assert opened.search(3, rerank="pca16+dba3").hits == expected
    finally:
        own.chmod(0o755)


@pytest.mark.parametrize("harm", ["tear", "other projection", "damaged projection", "blended differently"])
def test_a_harmed_or_foreign_derived_index_changes_no_answer(own: Path, harm: str):
    methods = ["pca16", "dba3", "dba5"]
    with Collection.open(own) as opened:
        expected = [opened.search(3, k=None, rerank=method).hits for method in methods]
        fingerprint = opened.info().to_dict()["models"][0]["model"]
    files = {file.name.split("~")[1]: file for file in own.glob("*~*.faiss")}
    if harm == "tear":
        for file in files.values():
            file.write_bytes(file.read_bytes()[:-3])
        with Collection.open(own) as opened:
            assert len(opened.verify().notes) == 3
    elif harm.endswith("projection"):
        changes = {"other": "DELETE FROM projections", "damaged": "UPDATE projections SET projection = x'0000000000'"}
        with sqlite3.connect(own / "catalog.db") as connection:
            connection.execute(changes[harm.split()[0]])
        connection.close()
        with Collection.open(own) as opened:
            opened.search(3, rerank="pca16")
    else:
        shutil.copy(files["dba3.faiss"], own / f"{fingerprint}~dba5.faiss")
    with Collection.open(own) as opened:
        assert [opened.search(3, k=None, rerank=method).hits for method in methods] == expected
        assert opened.verify().notes == ()
    assert all(is_intact(file) for file in files.values())


def test_prune_deletes_stale_derived_files_and_rebuild_all_of_them(own: Path, pictures: Path, tmp_path: Path):
    copies = tmp_path / "copies"
    shutil.copytree(pictures, copies)
    extra = draw_picture(copies / "extra.png", 999)
    oneshot.ingest(own, [copies], HISTOGRAM)
    with Collection.open(own) as opened:
        opened.search(1, rerank="pca16+dba3")
        opened.search(1, rerank="pca16")
    oneshot.prune(own)
    assert derived(own) == ["pca16+dba3.faiss", "pca16.faiss"]
    extra.unlink()
    oneshot.ingest(own, [copies], HISTOGRAM)
    oneshot.prune(own)
    assert derived(own) == []
    with Collection.open(own) as opened:
        assert len(opened.search(1, k=None, rerank="pca16+dba3").hits) == N_PICTURES
    names = oneshot.rebuild(own)
    assert [file.name for file in own.glob("*.faiss")] == names


def test_prune_of_a_backbone_takes_what_was_made_of_it_along(own: Path, pictures: Path):
    from simsearch import ModelChoice

    other = oneshot.ingest(own, [pictures], ModelChoice(backbone="histogram", resize="pad"))
    with Collection.open(own) as opened:
        opened.search(1, rerank="pca16", backbone=other.model)
    assert len(derived(own)) == 1
    oneshot.prune(own, other.model)
    assert (derived(own), projections(own)) == ([], {})


def test_the_stamp_says_what_was_made_of_the_vectors(own: Path):
    with Collection.open(own) as opened:
        opened.search(1, rerank="pca16")
    with Catalog.open(own) as catalog:
        plain = IndexCache(catalog).locate_file(catalog.list_models()[0].fingerprint)
    (file,) = own.glob("*~*.faiss")
    assert read_stamp(plain).derivation == ""
    assert read_stamp(file).derivation.startswith("pca16 ")


# The collection's own method


def test_a_collection_may_have_a_method_of_its_own(own: Path):
    with Collection.open(own) as opened:
        plain = opened.search(3, k=20)
        better = opened.search(3, k=20, rerank="pca16+dba3")
        assert plain.hits != better.hits
    oneshot.set_default_rerank(own, "dba3+pca16")
    with Collection.open(own) as opened:
        assert opened.default_rerank == opened.info().to_dict()["rerank"] == "pca16+dba3"
        assert (opened.search(3, k=20).rerank, opened.search(3, k=20).hits) == ("pca16+dba3", better.hits)
        assert opened.search(3, k=20, rerank="none").hits == plain.hits
    oneshot.set_default_rerank(own, "none")
    with Collection.open(own) as opened:
        assert (opened.default_rerank, opened.search(3, k=20).hits) == ("none", plain.hits)


def test_an_invalid_method_is_refused_before_any_work(own: Path):
    with pytest.raises(UsageError, match="did you mean 'pca'"):
        oneshot.set_default_rerank(own, "pac16")
    with Collection.open(own) as opened, pytest.raises(UsageError, match="has the step pca twice"):
        opened.search(1, rerank="pca16+pca8")


def test_a_projection_of_one_picture_is_a_usage_error(tmp_path: Path, collection: Path):
    draw_picture(tmp_path / "photos" / "one.png", 1)
    oneshot.ingest(collection, [tmp_path / "photos"], HISTOGRAM)
    with Collection.open(collection) as opened:
        with pytest.raises(UsageError, match="two different pictures"):
            opened.search(1, rerank="pca16")
        for method in ("dba3", "aqe4", "k-reciprocal6"):
            assert len(opened.search(1, rerank=method).hits) == 1


def test_several_pictures_are_combined_where_they_are_compared(own: Path):
    with Catalog.open(own) as catalog:
        stored = catalog.list_models()[0]
        vectors = [catalog.find_vector(stored, catalog.find_original_view(number)) for number in (3, 9, 20)]
        ids = catalog.list_vector_ids(stored.id)
        everything = np.concatenate([rows for _, rows in catalog.iterate_vectors(stored, ids)])
    from simsearch.models.projection import Projection

    projection = Projection.fit(everything, 16)
    placed, rows = projection.apply(np.stack(vectors)), projection.apply(everything)
    query = placed[0] + 2 * placed[1] - 0.5 * placed[2]
    expected = rows @ (query / np.linalg.norm(query))
    with Collection.open(own) as opened:
        hits = opened.search([3, Example(9, 2), Example(20, -0.5)], k=None, rerank="pca16").hits
    assert {hit.image_id: hit.similarity for hit in hits} == pytest.approx(
        dict(zip(range(1, N_PICTURES + 1), expected.tolist(), strict=True)), abs=3e-6
    )
