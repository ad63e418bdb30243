"""Kinds of index: their results against brute force, the facts they report, and how they follow changes."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from pathlib import Path

import faiss
import numpy as np
import pytest
from typer.testing import CliRunner

from simsearch import Collection
from simsearch.cli.app import app
from simsearch.errors import UsageError
from simsearch.index.build import _GroundTruth, _tune
from simsearch.index.cache import IndexCache
from simsearch.index.files import is_intact
from simsearch.index.kinds import KINDS, IndexKindChoice, choose_n_lists
from simsearch.index.quantized import QuantizedIndex
from simsearch.models.choice import resolve_model
from simsearch.sources.progress import LISTENER, PreparationListener
from simsearch.store.catalog import Catalog
from simsearch.store.writer import CatalogWriter
from tests.conftest import HISTOGRAM, draw_picture
from tests.support import oneshot
from tests.support.synthetic import WIDTH, Filled, clustered, fill, record

pytestmark = pytest.mark.long

N = 4_000
CODED = [name for name, kind in KINDS.items() if kind.is_approximate]
GIGABYTES = 1 << 30


def open_index(folder: Path):
    """Open the index of the only model as a query does, with its catalog."""
    catalog = Catalog.open(folder)
    return catalog, IndexCache(catalog).open_index(catalog.list_models()[0].fingerprint)


def truth(vectors: np.ndarray, queries: np.ndarray, among: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The similarities and ids (q, n) of the nearest among rows, by brute force in float64."""
    similarities = queries.astype(np.float64) @ vectors[among].T.astype(np.float64)
    order = np.argsort(-similarities, axis=1, kind="stable")[:, :n]
    return np.take_along_axis(similarities, order, 1), among[order] + 1


def recall(found: np.ndarray, true: np.ndarray) -> float:
    return float(np.mean([len(set(row) & set(wanted)) / len(wanted) for row, wanted in zip(found, true, strict=True)]))


@pytest.fixture(scope="module", params=["flat", *CODED])
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Filled:
    """A collection of each kind; tests of this fixture change nothing in it."""
    folder = tmp_path_factory.mktemp("kinds") / request.param
    return fill(folder, clustered(N, seed=1), IndexKindChoice(request.param, 0.97))


EVERYTHING = np.arange(N)


def test_the_wanted_recall_is_reached_with_new_queries(filled: Filled):
    queries = clustered(300, seed=2)
    catalog, index = open_index(filled.folder)
    with catalog:
        _, ids = index.search(queries, 10)
    assert recall(ids, truth(filled.vectors, queries, EVERYTHING, 10)[1]) >= 0.95


def test_a_query_finds_the_same_alone_and_in_a_batch(filled: Filled):
    queries = clustered(60, seed=2)
    catalog, index = open_index(filled.folder)
    with catalog:
        together = index.search(queries, 40)[1]
        alone = [index.search(query[None], 40)[1][0] for query in queries]
    assert [set(row) for row in together.tolist()] == [set(row.tolist()) for row in alone]


def tolerance(kind: str) -> float:
    """The largest error of a similarity: that of float32, of float16, or of 16 bits scaled."""
    return 1e-6 if kind in ("flat", "ivf", "hnsw") else 5e-4 if kind == "hnsw-fp16" else 2e-5


def test_similarities_are_those_of_the_vectors_whatever_the_codes_are(filled: Filled):
    queries = clustered(20, seed=3)
    catalog, index = open_index(filled.folder)
    with catalog:
        similarities, ids = index.search(queries, 25)
    assert similarities.shape == ids.shape == (20, 25)
    assert (np.diff(similarities, axis=1) <= 0).all()
    exact = np.take_along_axis(queries @ filled.vectors.T, ids - 1, 1)
    assert np.abs(similarities - exact).max() < tolerance(filled.folder.name)


@pytest.mark.parametrize("share", [0.5, 0.1, 0.02, 0.005])
def test_a_filter_does_not_cost_recall(filled: Filled, share: float):
    random = np.random.default_rng(4)
    among = np.sort(random.choice(N, int(N * share), replace=False))
    queries = clustered(100, seed=5)
    catalog, index = open_index(filled.folder)
    with catalog:
        part = index.select(among + 1)
        assert len(part) == len(among)
        _, ids = part.search(queries, 10)
    assert set(ids.ravel().tolist()) <= set((among + 1).tolist())
    assert recall(ids, truth(filled.vectors, queries, among, 10)[1]) >= 0.95


def test_a_search_for_all_vectors_finds_all(filled: Filled):
    query = clustered(1, seed=6)
    catalog, index = open_index(filled.folder)
    with catalog:
        similarities, ids = index.search(query, N + 5)
        assert len(index) == N
    expected, _ = truth(filled.vectors, query, EVERYTHING, N)
    assert sorted(ids[0].tolist()) == list(range(1, N + 1))
    assert np.abs(similarities - expected).max() < tolerance(filled.folder.name)


def test_a_threshold_misses_nothing(filled: Filled):
    query = clustered(1, seed=7)[0]
    catalog, index = open_index(filled.folder)
    with catalog:
        similarities, ids = index.range_search(query, 0.3)
        few_similarities, few = index.select(np.arange(1, N, 2)).range_search(query, 0.3)
    exact = filled.vectors @ query
    assert sorted(ids.tolist()) == (np.flatnonzero(exact > 0.3) + 1).tolist()
    assert np.abs(similarities - exact[ids - 1]).max() < tolerance(filled.folder.name)
    assert sorted(few.tolist()) == [number for number in sorted(ids.tolist()) if number % 2]
    assert np.abs(few_similarities - exact[few - 1]).max() < tolerance(filled.folder.name)


def test_vectors_are_read_as_they_were_recorded(filled: Filled):
    ids = np.array([7, 3000, 12])
    catalog, index = open_index(filled.folder)
    with catalog:
        assert (index.read_vectors(ids) == filled.vectors[ids - 1]).all()


def test_an_exact_index_can_be_opened_for_every_kind(filled: Filled):
    with Catalog.open(filled.folder) as catalog:
        whole = IndexCache(catalog).open_exact_index(catalog.list_models()[0].fingerprint)
        order = np.argsort(whole.ids)
        assert (whole.rows[order] == filled.vectors).all()


# What an index says of itself


@pytest.mark.parametrize("filled", CODED, indirect=True)
def test_the_reported_recall_agrees_with_brute_force(filled: Filled):
    with Collection.open(filled.folder) as collection:
        facts = collection.info().to_dict()["models"][0]["index"]
    assert (facts["kind"], facts["n_vectors"], facts["recent"], facts["removed"]) == (filled.folder.name, N, 0, 0)
    rows = np.random.default_rng(8).choice(N, 300, replace=False)
    catalog, index = open_index(filled.folder)
    with catalog:
        _, ids = index.search(filled.vectors[rows], 11)
    _, true = truth(filled.vectors, filled.vectors[rows], EVERYTHING, 11)
    others = [[found for found in row if found != own + 1][:10] for row, own in zip(ids, rows, strict=True)]
    true_others = [[near for near in row if near != own + 1] for row, own in zip(true, rows, strict=True)]
    measured = recall(np.array(others), np.array(true_others))
    assert facts["recall_at_10"] >= 0.95
    assert measured == pytest.approx(facts["recall_at_10"], abs=0.02)


def test_only_approximate_results_have_a_note(tmp_path: Path):
    for seed in range(3):
        draw_picture(tmp_path / "photos" / f"{seed}.png", seed)
    collection = tmp_path / "indexes"
    oneshot.ingest(collection, [tmp_path / "photos"], HISTOGRAM)
    random = np.random.default_rng(0)
    with CatalogWriter.open_or_create(collection) as writer:
        rows = random.random((1_500, writer.list_models()[0].width)).astype(np.float32)
        record(writer, rows / np.linalg.norm(rows, axis=1, keepdims=True), 0)
    runner = CliRunner()
    asked = ["query", str(tmp_path / "photos" / "0.png"), "--in", str(collection), "--json"]
    assert "notes" not in json.loads(runner.invoke(app, asked).stdout)
    rebuilt = runner.invoke(app, ["rebuild", "--in", str(collection), "--index-kind", "ivf-sq8", "--recall", "0.9"])
    assert "ivf-sq8, recall@10 " in rebuilt.stdout
    (note,) = json.loads(runner.invoke(app, asked).stdout)["notes"]
    assert note.startswith("approximate: ivf-sq8 index, recall@10 ")
    assert "ivf-sq8, recall@10 " in runner.invoke(app, ["info", "--in", str(collection)]).stdout
    runner.invoke(app, ["rebuild", "--in", str(collection), "--index-kind", "flat"])
    assert "notes" not in json.loads(runner.invoke(app, asked).stdout)


def test_the_error_for_an_unknown_index_kind_lists_the_known_ones(tmp_path: Path):
    with pytest.raises(UsageError, match=r"'ivf-sq9'.*ivf-sq8"):
        IndexKindChoice("ivf-sq9")
    told = CliRunner().invoke(app, ["index", str(tmp_path), "--index-kind", "ivf-sq9"], env={"COLUMNS": "200"})
    assert told.exit_code == 2
    assert "'ivf-sq9'" in told.output
    assert "ivf-sq8" in told.output


@pytest.mark.parametrize("share", [0, -1, 1.5, float("nan")])
def test_a_recall_out_of_range_is_an_error(share: float):
    with pytest.raises(UsageError, match="recall"):
        IndexKindChoice(recall=share)


def test_the_index_file_has_the_permissions_of_the_catalog(tmp_path: Path):
    folder = fill(tmp_path / "ix", clustered(1_200, seed=1), IndexKindChoice("ivf-sq8", 0.9)).folder
    assert base_of(folder).stat().st_mode == (folder / "catalog.db").stat().st_mode


# Which kind it is


@pytest.mark.parametrize(
    ("n", "width", "memory", "recall", "kind"),
    [
        (10_000, 1280, 24 * GIGABYTES, 0.99, "flat"),
        (250_000, 256, 24 * GIGABYTES, 0.99, "flat"),
        (1_000_000, 256, 24 * GIGABYTES, 0.99, "ivf-sq8"),
        (1_000_000, 256, 24 * GIGABYTES, 1.0, "flat"),
        (100_000, 256, GIGABYTES // 2, 0.99, "ivf-sq8"),
        (100_000_000, 256, 24 * GIGABYTES, 0.99, "ivf-rabitq"),
        (1_000_000, 256, 0, 0.99, "ivf-sq8"),
    ],
)
def test_auto_selects_by_count_memory_and_recall(n: int, width: int, memory: int, recall: float, kind: str):
    assert IndexKindChoice("auto", recall).select_kind(n, width, memory).name == kind


@pytest.mark.parametrize(
    ("n", "lists"),
    [(30, 1), (1_000, 16), (20_000, 256), (100_000, 1_024), (1_000_000, 4_096), (10_000_000, 16_384), (10**9, 65_536)],
)
def test_the_number_of_lists_grows_with_the_square_root(n: int, lists: int):
    assert choose_n_lists(n) == lists


def test_vectors_are_in_the_lists_of_their_nearest_centers_where_a_graph_finds_these(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("simsearch.index.kinds._MIN_LISTS_FOR_HNSW", 64)
    filled = fill(tmp_path / "ix", clustered(20_000, seed=1), IndexKindChoice("ivf-sq8", 0.97))
    catalog, index = open_index(filled.folder)
    with catalog:
        lists = faiss.downcast_index(index.faiss_index)
        centers = faiss.downcast_index(lists.quantizer)
        assert isinstance(centers, faiss.IndexHNSW)
        nearest = (filled.vectors @ centers.reconstruct_n(0, lists.nlist).T).argmax(axis=1)
        inside = np.full(len(nearest) + 1, -1)
        for number in filter(lists.invlists.list_size, range(lists.nlist)):
            ids = faiss.rev_swig_ptr(lists.invlists.get_ids(number), lists.invlists.list_size(number))
            inside[ids] = number
        assert (inside[1:] == nearest).mean() > 0.99
        assert index.details.recall_at_10 >= 0.96


def test_a_strong_filter_searches_as_many_lists_as_it_needs_where_a_graph_finds_these(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for place in ("kinds", "build"):
        monkeypatch.setattr(f"simsearch.index.{place}.choose_n_lists", lambda _: 2_048)
    monkeypatch.setattr("simsearch.index.quantized._SCAN_LIMIT", 50)
    vectors = clustered(20_000, seed=1)
    filled = fill(tmp_path / "ix", vectors, IndexKindChoice("ivf-sq8", 0.97))
    catalog, index = open_index(filled.folder)
    with catalog:
        index.details = dataclasses.replace(index.details, effort=8, refine=1)
        few = index.select(np.arange(1, len(vectors), 100))
        faiss.cvar.indexIVF_stats.reset()
        few.search(filled.vectors[:50], 10)
    assert faiss.cvar.indexIVF_stats.nlist / 50 >= 0.95 * 8 * 100


def test_an_effort_that_adds_nothing_does_not_end_the_search_for_a_higher_one(tmp_path: Path):
    recalls = {16: 0.90, 20: 0.93, 24: 0.93, 32: 0.96, 40: 0.96, 48: 0.98}
    filled = fill(tmp_path / "ix", clustered(2_000, seed=1), IndexKindChoice("hnsw-fp16", 0.97))
    catalog, index = open_index(filled.folder)

    class Truth(_GroundTruth):
        def measure_recalls(self, index: QuantizedIndex):
            return np.full(300, recalls.get(index.details.effort, 0.98))

    with catalog:
        assert _tune(index, Truth(np.arange(300), filled.vectors[:300])).effort == 48


def test_building_a_large_index_is_told_with_its_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("simsearch.index.update._MIN_TOLD_VECTORS", 20_000)
    told: list[tuple[str, list[float]]] = []

    @contextlib.contextmanager
    def listen(activity: str):
        told.append((activity, []))
        yield told[-1][1].append

    token = LISTENER.set(PreparationListener(on_activity=listen))
    try:
        fill(tmp_path / "small", clustered(2_000, seed=1), IndexKindChoice("ivf-sq8"))
        assert told == []
        fill(tmp_path / "large", clustered(20_000, seed=1), IndexKindChoice("ivf-sq8"))
    finally:
        LISTENER.reset(token)
    ((activity, shares),) = told
    assert activity == "building the index of 20,000 vectors"
    assert len(shares) > 2
    assert shares == sorted(shares)
    assert 0 < shares[0] < shares[-1] <= 1


@pytest.mark.parametrize("kind", CODED)
def test_a_small_collection_has_an_exact_index_whatever_the_choice(kind: str, tmp_path: Path):
    assert f"{kind} needs at least 1,000 vectors; with 300 the index is exact" in IndexKindChoice(kind).list_notes(300)
    fill(tmp_path / "small", clustered(300, seed=1), IndexKindChoice(kind))
    with Collection.open(tmp_path / "small") as collection:
        assert collection.info().to_dict()["models"][0]["index"]["kind"] == "flat"


def test_the_kind_changes_only_when_a_run_names_one(tmp_path: Path):
    filled = fill(tmp_path / "ix", clustered(1_500, seed=1), IndexKindChoice("ivf", 0.95))
    fingerprint = resolve_model(HISTOGRAM).fingerprint
    with CatalogWriter.open_or_create(filled.folder) as writer:
        record(writer, clustered(10, seed=9), 1_500)
        cache = IndexCache(writer)
        cache.refresh(fingerprint)
        assert cache.describe(writer.list_models()[0]).kind == "ivf"
    oneshot.rebuild(filled.folder, IndexKindChoice("hnsw", 0.95))
    oneshot.rebuild(filled.folder)
    with Collection.open(filled.folder) as collection:
        assert collection.info().to_dict()["models"][0]["index"]["kind"] == "hnsw"


# Change


def change(folder: Path, added: np.ndarray, n_before: int, removed: list[int]) -> None:
    """Add images, prune others, and bring the index up to date; even a small base is kept."""
    with CatalogWriter.open_or_create(folder) as writer:
        record(writer, added, n_before)
        with writer.transaction():
            writer.forget_files([f"/pictures/{number:06}.png" for number in removed])
            writer.forget_orphans()
        IndexCache(writer, rewrite_limit_bytes=0).refresh(resolve_model(HISTOGRAM).fingerprint)


@pytest.fixture(scope="module", params=["flat", *CODED])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Filled:
    """A collection of each kind, to be copied."""
    folder = tmp_path_factory.mktemp("made") / request.param
    return fill(folder, clustered(2_000, seed=1), IndexKindChoice(request.param, 0.97))


@pytest.fixture
def kept(made: Filled, tmp_path: Path) -> Filled:
    """A copy of a collection of each kind, for tests that change it."""
    return Filled(shutil.copytree(made.folder, tmp_path / made.folder.name), made.vectors)


def base_of(folder: Path) -> Path:
    return folder / f"{resolve_model(HISTOGRAM).fingerprint}.faiss"


def test_a_few_changes_are_written_to_a_delta_file_and_found(kept: Filled):
    before = base_of(kept.folder).stat()
    added, removed = clustered(50, seed=10), list(range(0, 150))
    change(kept.folder, added, 2_000, removed)
    assert base_of(kept.folder).stat().st_ino == before.st_ino
    assert base_of(kept.folder).with_suffix(".recent").stat().st_size < 50 * WIDTH * 4 + 150 * 8 + 5_000
    whole, among = np.concatenate([kept.vectors, added]), np.arange(150, 2_050)
    queries = np.concatenate([added, clustered(100, seed=11), kept.vectors[:100]])
    catalog, index = open_index(kept.folder)
    with catalog:
        assert len(index) == len(among)
        similarities, ids = index.search(queries, 10)
        part = index.select(np.arange(1, 2_051, 2)).search(queries, 5)[1]
        near = index.range_search(added[0], 0.5)[1]
        rows = index.read_vectors(np.array([2_050, 1_000, 2_001]))
        assert len(IndexCache(catalog).open_exact_index(catalog.list_models()[0].fingerprint)) == len(among)
    assert (ids[:50, 0] == np.arange(2_001, 2_051)).all()
    assert ids.min() > 150
    exact = np.take_along_axis(queries @ whole.T, ids - 1, 1)
    assert np.abs(similarities - exact).max() < tolerance(kept.folder.name)
    assert recall(ids, truth(whole, queries, among, 10)[1]) >= 0.95
    assert (part % 2 == 1).all()
    assert part.min() > 150
    assert sorted(near.tolist()) == [at + 1 for at in np.flatnonzero(whole @ added[0] > 0.5) if at >= 150]
    assert (rows == whole[[2_049, 999, 2_000]]).all()
    with Collection.open(kept.folder) as collection:
        facts = collection.info().to_dict()["models"][0]["index"]
        assert (facts["recent"], facts["removed"]) == (50, 150)
        assert not [note for note in collection.verify().notes if ".faiss" in note]


@pytest.mark.parametrize("made", CODED, indirect=True)
def test_a_search_beside_removed_vectors_does_not_list_all_ids(kept: Filled, monkeypatch: pytest.MonkeyPatch):
    """Listing those of ten million vectors reads the whole index file, which took 20 s at the first search."""
    change(kept.folder, clustered(50, seed=10), 2_000, list(range(0, 150)))

    def refuse(*_: object) -> None:
        raise AssertionError("all ids are listed")

    monkeypatch.setattr(QuantizedIndex, "_read_list_ids", refuse)
    monkeypatch.setattr(QuantizedIndex, "_read_id_map", refuse)
    catalog, index = open_index(kept.folder)
    with catalog:
        assert len(index) == 1_900
        assert index.search(clustered(20, seed=11), 10)[1].min() > 150


def test_many_changes_are_written_into_the_base(kept: Filled):
    added, removed = clustered(1_100, seed=12), list(range(0, 400))
    change(kept.folder, added, 2_000, removed)
    assert not base_of(kept.folder).with_suffix(".recent").exists()
    assert is_intact(base_of(kept.folder))
    whole, among = np.concatenate([kept.vectors, added]), np.arange(400, 3_100)
    queries = clustered(200, seed=13)
    catalog, index = open_index(kept.folder)
    with catalog:
        assert len(index) == len(among)
        similarities, ids = index.search(queries, 10)
    exact = np.take_along_axis(queries @ whole.T, ids - 1, 1)
    assert np.abs(similarities - exact).max() < tolerance(kept.folder.name)
    assert recall(ids, truth(whole, queries, among, 10)[1]) >= 0.94


def test_an_index_is_trained_again_when_the_collection_has_doubled(tmp_path: Path):
    filled = fill(tmp_path / "ix", clustered(1_500, seed=1), IndexKindChoice("ivf-sq8", 0.97))
    change(filled.folder, clustered(2_500, seed=2), 1_500, [])
    with Collection.open(filled.folder) as collection:
        facts = collection.info().to_dict()["models"][0]["index"]
    assert (facts["n_vectors"], facts["recent"]) == (4_000, 0)
    assert facts["recall_at_10"] >= 0.95


@pytest.mark.parametrize("harm", ["torn", "gone", "of_another_base"])
def test_a_damaged_delta_file_is_rebuilt(kept: Filled, harm: str):
    added = clustered(50, seed=10)
    change(kept.folder, added, 2_000, [])
    recent = base_of(kept.folder).with_suffix(".recent")
    if harm == "torn":
        recent.write_bytes(recent.read_bytes()[:-7])
    elif harm == "gone":
        recent.unlink()
    else:
        recent.write_bytes(recent.read_bytes().replace(b'"base": "', b'"base": "0', 1))
    with Collection.open(kept.folder) as collection:
        assert "rebuild" in collection.verify().notes[0]
    catalog, index = open_index(kept.folder)
    with catalog:
        assert (index.search(added, 1)[1][:, 0] == np.arange(2_001, 2_051)).all()


def test_a_restored_older_base_catches_up(kept: Filled):
    old = base_of(kept.folder).read_bytes()
    added = clustered(1_100, seed=12)
    change(kept.folder, added, 2_000, [5])
    base_of(kept.folder).write_bytes(old)
    catalog, index = open_index(kept.folder)
    with catalog:
        assert len(index) == 3_099
        assert (index.search(added, 1)[1][:, 0] == np.arange(2_001, 3_101)).mean() > 0.99


def test_an_open_index_stays_valid_while_another_process_replaces_its_file(kept: Filled):
    catalog, index = open_index(kept.folder)
    with catalog:
        before = index.search(kept.vectors[:20], 5)
        change(kept.folder, clustered(1_100, seed=12), 2_000, list(range(1_000, 1_400)))
        after = index.search(kept.vectors[:20], 5)
    is_kept = ~((before[1] > 1_000) & (before[1] <= 1_400)).any(axis=1)
    assert is_kept.any()
    assert (before[1][is_kept] == after[1][is_kept]).all()


@pytest.mark.parametrize("kind", ["hnsw-sq8", "ivf-sq8"])
def test_the_default_recall_holds_for_new_queries_under_filters_and_after_changes(kind: str, tmp_path: Path):
    """500 new queries: as built, with filters of 50, 5 and 0.5 %, with 10 % more vectors, and with 10 % fewer."""
    n, queries, random = 6_000, clustered(500, seed=21), np.random.default_rng(22)
    filled = fill(tmp_path / "ix", clustered(n, seed=20), IndexKindChoice(kind))
    added = clustered(n // 10, seed=23)
    removed = random.choice(n, n // 10, replace=False)
    everything, whole = np.arange(n), np.concatenate([filled.vectors, added])

    def measure(among: np.ndarray, *, is_filter: bool = False) -> float:
        catalog, index = open_index(filled.folder)
        with catalog:
            searched = index.select(among + 1) if is_filter else index
            ids = np.concatenate([searched.search(query[None], 10)[1] for query in queries])
        return recall(ids, truth(whole, queries, among, 10)[1])

    assert measure(everything) >= 0.985
    for share in (0.5, 0.05, 0.005):
        among = np.sort(random.choice(n, int(n * share), replace=False))
        assert measure(among, is_filter=True) >= 0.985
    change(filled.folder, added, n, [])
    assert measure(np.arange(len(whole))) >= 0.985
    change(filled.folder, added[:0], len(whole), removed.tolist())
    assert measure(np.setdiff1d(np.arange(len(whole)), removed)) >= 0.985
