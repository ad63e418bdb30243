"""Milvus is in step with the catalog, whatever was written, interrupted, copied or restored before it is asked."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from simsearch.errors import StoreOccupied, StoreUnavailable, UsageError
from simsearch.filters import compile_sql, parse
from simsearch.images.views import NO_AUGMENTATION, Augmentation
from simsearch.index.milvus.cache import MilvusIndexCache
from simsearch.index.milvus.client import MilvusConnection
from simsearch.index.milvus.config import MilvusConfig, StoreChoice, switch_store
from simsearch.index.milvus.expected_rows import open_expected_rows
from simsearch.index.milvus.sync import count_differences
from simsearch.store.catalog import Catalog
from simsearch.store.writer import CatalogWriter
from tests.support.milvus_catalogs import (
    FINGERPRINT,
    add_images,
    annotate,
    entry,
    move_to_milvus,
    searched,
    unit_rows,
)
from tests.support.milvus_servers import free_port, refusing, serving

WIDTH = 8
VECTORS = unit_rows(40, WIDTH)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A collection of forty images, that is searched in Milvus and in step with it."""
    made = tmp_path / "collection"
    with CatalogWriter.open_or_create(made) as writer:
        add_images(writer, VECTORS)
    move_to_milvus(made, str(made / "vectors.db"))
    with searched(made) as (_, indexes):
        indexes.open_index(FINGERPRINT)
    return made


def deviations(folder: Path) -> tuple[int, int, int]:
    """What Milvus has less, more, and otherwise than the catalog, at this moment."""
    with searched(folder) as (catalog, indexes):
        stored = catalog.find_model(FINGERPRINT)
        with open_expected_rows(catalog, stored) as wanted:
            return count_differences(indexes._open_table(stored), wanted)


def matching(folder: Path, text: str) -> list[int]:
    """The images that a filtered search of Milvus gives, after a check that no row of it deviates."""
    with searched(folder) as (catalog, indexes):
        stored, condition = catalog.find_model(FINGERPRINT), parse(text)

        def ids() -> np.ndarray:
            return catalog.find_matching_ids(stored.id, compile_sql(condition, catalog.count_columns()))

        _, found = indexes.open_index(FINGERPRINT).select_matching(condition, ids).range_search(VECTORS[0], -1.1)
        np.testing.assert_array_equal(np.sort(found), ids())
        images = {view.image_id for view in catalog.find_live_views(found.tolist()).values()}
    assert deviations(folder) == (0, 0, 0)
    return sorted(images)


def test_what_is_added_is_found(folder: Path):
    with CatalogWriter.open_or_create(folder) as writer:
        add_images(writer, unit_rows(5, WIDTH, seed=9), first=41)
    assert deviations(folder) == (5, 0, 0)
    assert matching(folder, "id > 38") == [39, 40, 41, 42, 43, 44, 45]


def test_what_is_annotated_is_found_and_no_more_when_it_is_cleared(folder: Path):
    annotate(folder, [(3, "price", 20), (4, "price", 30), (5, "colour", "blue")])
    assert deviations(folder) == (0, 0, 3)
    assert matching(folder, "price >= 20") == [3, 4]
    annotate(folder, [(4, "price", 10)])
    assert matching(folder, "price >= 20") == [3]
    with CatalogWriter.open_or_create(folder) as writer, writer.transaction():
        writer.delete_column("price")
    annotate(folder, [(6, "price", 1)])
    assert matching(folder, "price is present") == [6]
    assert matching(folder, "colour = blue") == [5]


def test_images_without_a_file_match_nothing_and_go_when_they_are_pruned(folder: Path):
    with CatalogWriter.open_or_create(folder) as writer, writer.transaction():
        gone = [path for path in writer.iterate_paths() if "/000003" in path or "/000004" in path]
        assert writer.forget_files(gone) == 2
    assert matching(folder, "id < 6") == [1, 2, 5]
    with CatalogWriter.open_or_create(folder) as writer, writer.transaction():
        assert writer.forget_orphans() == 2
    assert deviations(folder) == (0, 2, 0)
    assert matching(folder, "id < 6") == [1, 2, 5]


def test_a_file_that_moved_is_found_at_its_new_place_alone(folder: Path):
    with CatalogWriter.open_or_create(folder) as writer, writer.transaction():
        path = next(path for path in writer.iterate_paths() if "/000003" in path)
        writer.forget_files([path])
        writer.record_files([entry("/photos/new/000003.png", 3, [])], writer.list_models()[0].id)
    assert matching(folder, "class = new") == [3]
    assert matching(folder, f"path = '{path}'") == []


def test_a_copy_makes_an_image_match_by_any_of_its_files(folder: Path):
    with CatalogWriter.open_or_create(folder) as writer, writer.transaction():
        writer.record_files([entry("/photos/copies/x.png", 3, [], size=7)], writer.list_models()[0].id)
    assert matching(folder, "class = copies") == [3]
    assert matching(folder, "class = '3' and id < 9") == [3]
    assert matching(folder, "class = copies and size > 7") == []
    assert len(matching(folder, "class != copies")) == 40


def test_a_path_that_came_to_hold_another_picture_matches_as_that_one(folder: Path):
    with CatalogWriter.open_or_create(folder) as writer, writer.transaction():
        path = next(path for path in writer.iterate_paths() if "/000003" in path)
        writer.record_files([entry(path, 99, [VECTORS[7]])], writer.list_models()[0].id)
    assert matching(folder, f"path = '{path}'") == [41]
    assert matching(folder, "id = 3") == []


def test_augmented_views_come_and_go(folder: Path):
    with CatalogWriter.open_or_create(folder) as writer, writer.transaction():
        stored = writer.set_augmentation(writer.list_models()[0], Augmentation(2, 0, NO_AUGMENTATION.ranges))
        for number in range(1, 41):
            views = [VECTORS[number - 1], *unit_rows(2, WIDTH, seed=number)]
            writer.record_files([entry(f"/photos/{number % 7}/{number:06}.png", number, views)], stored.id)
    assert deviations(folder)[0] == 80
    assert len(matching(folder, "width > 0")) == 40
    with CatalogWriter.open_or_create(folder) as writer, writer.transaction():
        writer.set_augmentation(writer.list_models()[0], NO_AUGMENTATION)
    assert deviations(folder) == (0, 80, 0)
    assert len(matching(folder, "width > 0")) == 40


def test_a_copy_of_a_collection_and_the_collection_take_nothing_of_each_other(folder: Path, tmp_path: Path):
    """Both count their changes from the same number on, and lie in the same Milvus."""
    with CatalogWriter.open_or_create(folder) as writer, writer.transaction():
        switch_store(writer, StoreChoice(str(tmp_path / "shared.db")))
    matching(folder, "id > 0")
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    annotate(folder, [(1, "price", 1)])
    annotate(copy, [(2, "price", 1)])
    for _ in range(2):
        assert matching(folder, "price = 1") == [1]
        assert matching(copy, "price = 1") == [2]


def test_a_catalog_that_was_restored_is_believed_not_milvus(folder: Path, tmp_path: Path):
    saved = shutil.copytree(folder, tmp_path / "saved", ignore=shutil.ignore_patterns("vectors.db"))
    annotate(folder, [(1, "price", 1)])
    assert matching(folder, "price = 1") == [1]
    for name in ("catalog.db", "catalog.db-wal", "catalog.db-shm"):
        (folder / name).unlink(missing_ok=True)
    shutil.copy(saved / "catalog.db", folder / "catalog.db")
    annotate(folder, [(2, "price", 1)])
    assert matching(folder, "price = 1") == [2]


def test_what_changed_while_faiss_files_were_searched_is_seen_after_moving_back(folder: Path):
    with CatalogWriter.open_or_create(folder) as writer, writer.transaction():
        switch_store(writer, StoreChoice())
        writer.annotate([(1, "price", 1)])
        assert writer.find_last_change() == 0
    move_to_milvus(folder, str(folder / "vectors.db"))
    assert matching(folder, "price = 1") == [1]


def test_rows_that_somebody_else_deleted_or_changed_are_told_by_verify_and_put_right_by_a_push(folder: Path):
    with searched(folder) as (catalog, indexes):
        stored = catalog.find_model(FINGERPRINT)
        assert indexes.find_problems(stored) == []
        table = indexes._open_table(stored)
        with open_expected_rows(catalog, stored) as wanted:
            row = wanted.read_image_rows([5])[0]
        table.delete([1, 2])
        table.upsert([{"view_id": 5, **row.fields, "digest": 1}], VECTORS[6:7])
        told = " ".join(indexes.find_problems(stored))
        assert "2 rows" in told
        assert "are missing" in told
        assert "1 rows" in told
        assert "1 vectors" in told
        assert "; run `simsearch push` to repair it" in told
    with (
        CatalogWriter.open_or_create(folder) as writer,
        MilvusIndexCache(writer, MilvusConfig.from_catalog(writer)) as indexes,
    ):
        assert indexes.push(FINGERPRINT) == 40
        assert indexes.find_problems(writer.list_models()[0]) == []


def test_while_another_run_writes_milvus_is_asked_as_it_is_and_filters_by_the_catalog(folder: Path):
    with CatalogWriter.open_or_create(folder) as writer:
        with writer.transaction():
            writer.annotate([(3, "price", 20)])
        add_images(writer, unit_rows(1, WIDTH, seed=5), first=41)
        with searched(folder) as (catalog, indexes):
            index = indexes.open_index(FINGERPRINT)
            assert any("is behind the catalog" in note for note in index.notes)
            assert len(index.range_search(VECTORS[0], -1.1)[1]) == 40
            condition = parse("price = 20")
            stored = catalog.find_model(FINGERPRINT)
            sql = compile_sql(condition, catalog.count_columns())
            part = index.select_matching(condition, lambda: catalog.find_matching_ids(stored.id, sql))
            assert part.range_search(VECTORS[0], -1.1)[1].tolist() == [3]
            assert deviations(folder) == (1, 0, 1), "a reader that may not write must leave Milvus alone"
    assert matching(folder, "price = 20 or id = 41") == [3, 41]


def test_a_deleted_model_leaves_nothing_in_milvus(folder: Path):
    with (
        CatalogWriter.open_or_create(folder) as writer,
        MilvusIndexCache(writer, MilvusConfig.from_catalog(writer)) as indexes,
    ):
        table = indexes._open_table(writer.list_models()[0])
        name, server = table.name, table.connection
        with writer.transaction():
            writer.forget_model(writer.list_models()[0].id)
        server.open_table(f"{name}_x", WIDTH)
        indexes.discard(FINGERPRINT)
        assert not server.has_table(name)
        assert server.has_table(f"{name}_x")
        indexes.discard_stale()  # of a model that was deleted while the server was away
        assert not server.has_table(f"{name}_x")


# Interrupted


_PUSH = """
import sys
from simsearch.index.milvus.cache import MilvusIndexes
from simsearch.index.milvus.config import Place
from simsearch.store.writer import CatalogWriter
with CatalogWriter.open_or_create(__import__("pathlib").Path(sys.argv[1])) as writer:
    with MilvusIndexes(writer, Place.of(writer)) as indexes:
        print(indexes.push(sys.argv[2]))
"""


def pushing(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", _PUSH, str(folder), FINGERPRINT]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@pytest.mark.long
def test_a_push_that_was_killed_goes_on_where_it_was(tmp_path: Path):
    folder, vectors = tmp_path / "collection", unit_rows(12_000, 64, seed=6)
    with CatalogWriter.open_or_create(folder) as writer:
        add_images(writer, vectors)
    move_to_milvus(folder, str(tmp_path / "vectors.db"))
    with pushing(folder) as first:
        deadline = time.monotonic() + 120
        while size_of(tmp_path / "vectors.db") < 1_500_000 and time.monotonic() < deadline and first.poll() is None:
            time.sleep(0.01)
        os.kill(first.pid, signal.SIGKILL)
    missing, surplus, other = deviations(folder)
    assert 0 < missing < 12_000
    assert (surplus, other) == (0, 0)
    with pushing(folder) as second:
        out, err = second.communicate(timeout=120)
    assert (out.strip(), err) == (b"12000", b"")
    assert deviations(folder) == (0, 0, 0)


def push_for_ever(indexes: MilvusIndexCache) -> None:
    while True:
        indexes.push(FINGERPRINT)


@pytest.mark.long
def test_a_server_that_goes_away_in_the_middle_is_told_in_a_line_and_the_next_push_goes_on(tmp_path: Path):
    folder, port = tmp_path / "collection", free_port()
    with CatalogWriter.open_or_create(folder) as writer:
        add_images(writer, unit_rows(6000, 64, seed=7))
    move_to_milvus(folder, f"http://127.0.0.1:{port}")
    with (
        CatalogWriter.open_or_create(folder) as writer,
        MilvusIndexCache(writer, MilvusConfig.from_catalog(writer)) as indexes,
        serving(tmp_path / "data", port) as server,
    ):
        threading.Timer(1.5, server.kill).start()
        started = time.monotonic()
        with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{port}"):
            push_for_ever(indexes)
        assert time.monotonic() - started < 60
    with serving(tmp_path / "data", port):
        assert deviations(folder)[1:] == (0, 0)
        with (
            CatalogWriter.open_or_create(folder) as writer,
            MilvusIndexCache(writer, MilvusConfig.from_catalog(writer)) as indexes,
        ):
            assert indexes.push(FINGERPRINT) == 6000
        assert deviations(folder) == (0, 0, 0)


# A server on the network, and what goes wrong with it


@pytest.mark.long
def test_a_server_is_asked_by_several_threads_and_says_that_its_graph_may_miss_some(tmp_path: Path):
    folder, port, vectors = tmp_path / "collection", free_port(), unit_rows(2000, 32, seed=8)
    with CatalogWriter.open_or_create(folder) as writer:
        add_images(writer, vectors)
    move_to_milvus(folder, f"http://127.0.0.1:{port}")
    found: dict[int, np.ndarray] = {}

    def ask(number: int) -> None:
        with searched(folder) as (_, indexes):
            index = indexes.open_index(FINGERPRINT)
            assert "may miss some" in index.notes[0]
            assert index.select_matching(parse("id = 7"), lambda: np.array([7])).search(vectors[:1], 5)[1].tolist() == [
                [7]
            ]
            found[number] = index.search(vectors[number : number + 1], 10)[1][0]

    with serving(tmp_path / "data", port):
        with (
            CatalogWriter.open_or_create(folder) as writer,
            MilvusIndexCache(writer, MilvusConfig.from_catalog(writer)) as indexes,
        ):
            indexes.push(FINGERPRINT)
            assert indexes.describe(writer.list_models()[0])["index"] == "HNSW"
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert sorted(found) == [0, 1, 2, 3]
    for number, ids in found.items():
        exact = np.argsort(-(vectors @ vectors[number]), kind="stable")[:10] + 1
        assert len(np.intersect1d(ids, exact)) >= 9


def test_where_nobody_listens_a_line_says_so_soon(folder: Path):
    uri = f"http://127.0.0.1:{free_port()}"
    move_to_milvus(folder, uri)
    started = time.monotonic()
    with searched(folder) as (catalog, indexes):
        with pytest.raises(StoreUnavailable) as caught:
            indexes.open_index(FINGERPRINT)
        assert time.monotonic() - started < 15
        assert uri in caught.value.problem
        assert "cannot be reached" in caught.value.problem
        assert "\n" not in str(caught.value)
        assert uri in indexes.find_problems(catalog.list_models()[0])[0]
        assert uri in str(indexes.describe(catalog.list_models()[0])["problem"])


def test_a_wrong_token_is_told_with_the_variable_that_holds_it(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MILVUS_TOKEN", "root:wrong-secret")
    with refusing() as uri:
        move_to_milvus(folder, uri)
        with searched(folder) as (_, indexes), pytest.raises(StoreUnavailable, match="MILVUS_TOKEN") as caught:
            indexes.open_index(FINGERPRINT)
    assert "wrong-secret" not in str(caught.value)


def test_milvus_lite_that_another_process_uses_is_told_as_such(folder: Path):
    opening = f"MilvusLite({str(folder / 'vectors.db')!r})"
    code = f"from milvus_lite.db import MilvusLite; {opening}; print('', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"\n"
        with searched(folder) as (_, indexes), pytest.raises(StoreUnavailable, match="in use by another process"):
            indexes.open_index(FINGERPRINT)
        other.communicate(b"\n", timeout=60)
    assert matching(folder, "id = 1") == [1]


def test_a_file_in_the_place_of_milvus_lite_is_left_alone(folder: Path, tmp_path: Path):
    (tmp_path / "old.db").write_text("somebody's")
    move_to_milvus(folder, str(tmp_path / "old.db"))
    with searched(folder) as (_, indexes), pytest.raises(StoreUnavailable, match="is a file"):
        indexes.open_index(FINGERPRINT)
    assert (tmp_path / "old.db").read_text() == "somebody's"


def test_what_was_killed_before_it_had_an_index_gets_one(folder: Path):
    with searched(folder) as (catalog, indexes):
        table = indexes._open_table(catalog.list_models()[0])
        table._client.release_collection(table.name)
        table._client.drop_index(table.name, table._client.list_indexes(table.name)[0])
    with searched(folder) as (catalog, indexes):
        assert indexes.open_index(FINGERPRINT).search(VECTORS[:1], 1)[1].tolist() == [[1]]
        assert indexes.describe(catalog.list_models()[0])["index"] == "FLAT"


def test_an_index_that_its_owner_made_is_kept_and_told(folder: Path):
    with searched(folder) as (catalog, indexes):
        table = indexes._open_table(catalog.list_models()[0])
        table._client.release_collection(table.name)
        table._client.drop_index(table.name, table._client.list_indexes(table.name)[0])
        params = table._client.prepare_index_params()
        params.add_index("vector", index_type="IVF_FLAT", metric_type="IP", params={"nlist": 2})
        table._client.create_index(table.name, params)
    with searched(folder) as (catalog, indexes):
        index = indexes.open_index(FINGERPRINT)
        assert index.search(VECTORS[:1], 1)[1].tolist() == [[1]]
        assert "IVF_FLAT" in index.notes[0]


@pytest.mark.parametrize("is_ours", [True, False])
def test_what_else_lies_under_the_name_is_left_alone(folder: Path, is_ours: bool):
    """Of another width, or not made by simsearch."""
    with Catalog.open(folder) as catalog:
        place, stored = MilvusConfig.from_catalog(catalog), catalog.list_models()[0]
        with MilvusIndexCache(catalog, place) as indexes:
            name = indexes._open_table(stored).name
        server = MilvusConnection(place, folder)
        server.drop(name)
        if is_ours:
            server.open_table(name, WIDTH + 1)
        else:
            server._client.create_collection(name, dimension=WIDTH)
        with MilvusIndexCache(catalog, place) as indexes:
            with pytest.raises(StoreOccupied, match=name):
                indexes.open_index(FINGERPRINT)
            if not is_ours:
                with pytest.raises(StoreOccupied):
                    indexes.discard(FINGERPRINT)
        assert server.has_table(name)
        server.close()


# What a user says


@pytest.mark.parametrize(
    ("store", "uri", "told"),
    [
        ("milvus", None, "--milvus-uri"),
        ("faiss", "http://h:1", "--store milvus"),
        ("qdrant", None, "faiss, milvus"),
        (None, "http://root:secret@h:19530", "MILVUS_TOKEN"),
        (None, "localhost:19530", "http://localhost:19530"),
        (None, "vectors", "photos.db"),
        (None, "", "photos.db"),
    ],
)
def test_what_cannot_be_meant_is_told_with_what_can(store: str | None, uri: str | None, told: str):
    with pytest.raises(UsageError, match=told) as caught:
        StoreChoice.from_options(store, uri)
    assert "secret" not in str(caught.value)


def test_nothing_said_changes_nothing():
    assert StoreChoice.from_options(None, None) is None
    assert StoreChoice.from_options("faiss", None) == StoreChoice()
    assert StoreChoice.from_options(None, "https://h:19530/photos") == StoreChoice("https://h:19530/photos")


def test_milvus_lite_below_a_collection_moves_with_it(folder: Path, tmp_path: Path):
    moved = shutil.move(folder, tmp_path / "moved")
    assert matching(Path(moved), "id = 4") == [4]
    assert not folder.exists()
