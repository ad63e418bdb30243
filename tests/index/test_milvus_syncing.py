"""Milvus is synchronized with the catalog after any write, interruption, copy or restore."""

from __future__ import annotations

import contextlib
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

pytestmark = pytest.mark.long

WIDTH = 8
VECTORS = unit_rows(40, WIDTH)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A collection of forty images in Milvus, synchronized."""
    made = tmp_path / "collection"
    with CatalogWriter.open_or_create(made) as writer:
        add_images(writer, VECTORS)
    move_to_milvus(made, str(made / "vectors.db"))
    with searched(made) as (_, indexes):
        indexes.open_index(FINGERPRINT)
    return made


def test_searches_wait_for_writes_only_soon_after_a_change(folder: Path):
    with contextlib.closing(MilvusConnection(MilvusConfig(str(folder / "vectors.db")), folder)) as server:
        table = server.open_table("waiting", WIDTH)
        assert table.search_level == "Strong"
        table.note_change(time.monotonic() - 60)
        assert table.search_level == "Bounded"
        assert not len(table.search(VECTORS[:1], 1)[0][1])
        table.delete([1])
        assert table.search_level == "Strong"


def deviations(folder: Path) -> tuple[int, int, int]:
    """The numbers of missing, surplus and different rows in Milvus."""
    with searched(folder) as (catalog, indexes):
        stored = catalog.find_model(FINGERPRINT)
        with open_expected_rows(catalog, stored) as wanted:
            return count_differences(indexes._open_table(stored), wanted)


def matching(folder: Path, text: str) -> list[int]:
    """The images found by a filtered search in Milvus, after a check that no row differs from the catalog."""
    with searched(folder) as (catalog, indexes):
        stored, condition = catalog.find_model(FINGERPRINT), parse(text)

        def ids() -> np.ndarray:
            return catalog.find_matching_ids(stored.id, compile_sql(condition, catalog.count_columns()))

        _, found = indexes.open_index(FINGERPRINT).select_matching(condition, ids).range_search(VECTORS[0], -1.1)
        np.testing.assert_array_equal(np.sort(found), ids())
        images = {view.image_id for view in catalog.find_live_views(found.tolist()).values()}
    assert deviations(folder) == (0, 0, 0)
    return sorted(images)


def test_added_images_are_found(folder: Path):
    with CatalogWriter.open_or_create(folder) as writer:
        add_images(writer, unit_rows(5, WIDTH, seed=9), first=41)
    assert deviations(folder) == (5, 0, 0)
    assert matching(folder, "id > 38") == [39, 40, 41, 42, 43, 44, 45]


def test_annotations_are_found_until_they_are_cleared(folder: Path):
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


def test_images_without_a_file_match_nothing_and_are_deleted_by_prune(folder: Path):
    with CatalogWriter.open_or_create(folder) as writer, writer.transaction():
        gone = [path for path in writer.iterate_paths() if "/000003" in path or "/000004" in path]
        assert writer.forget_files(gone) == 2
    assert matching(folder, "id < 6") == [1, 2, 5]
    with CatalogWriter.open_or_create(folder) as writer, writer.transaction():
        assert writer.forget_orphans() == 2
    assert deviations(folder) == (0, 2, 0)
    assert matching(folder, "id < 6") == [1, 2, 5]


def test_a_moved_file_is_found_only_at_its_new_path(folder: Path):
    with CatalogWriter.open_or_create(folder) as writer, writer.transaction():
        path = next(path for path in writer.iterate_paths() if "/000003" in path)
        writer.forget_files([path])
        writer.record_files([entry("/photos/new/000003.png", 3, [])], writer.list_models()[0].id)
    assert matching(folder, "class = new") == [3]
    assert matching(folder, f"path = '{path}'") == []


def test_an_image_with_copies_matches_by_any_of_its_files(folder: Path):
    with CatalogWriter.open_or_create(folder) as writer, writer.transaction():
        writer.record_files([entry("/photos/copies/x.png", 3, [], size=7)], writer.list_models()[0].id)
    assert matching(folder, "class = copies") == [3]
    assert matching(folder, "class = '3' and id < 9") == [3]
    assert matching(folder, "class = copies and size > 7") == []
    assert len(matching(folder, "class != copies")) == 40


def test_an_overwritten_file_matches_as_the_new_image(folder: Path):
    with CatalogWriter.open_or_create(folder) as writer, writer.transaction():
        path = next(path for path in writer.iterate_paths() if "/000003" in path)
        writer.record_files([entry(path, 99, [VECTORS[7]])], writer.list_models()[0].id)
    assert matching(folder, f"path = '{path}'") == [41]
    assert matching(folder, "id = 3") == []


def test_augmented_views_are_added_and_deleted(folder: Path):
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


def test_a_collection_and_its_copy_do_not_mix_their_rows(folder: Path, tmp_path: Path):
    """Both continue the same sequence of change numbers, and use the same Milvus."""
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


def test_a_restored_catalog_overrides_milvus(folder: Path, tmp_path: Path):
    saved = shutil.copytree(folder, tmp_path / "saved", ignore=shutil.ignore_patterns("vectors.db"))
    annotate(folder, [(1, "price", 1)])
    assert matching(folder, "price = 1") == [1]
    for name in ("catalog.db", "catalog.db-wal", "catalog.db-shm"):
        (folder / name).unlink(missing_ok=True)
    shutil.copy(saved / "catalog.db", folder / "catalog.db")
    annotate(folder, [(2, "price", 1)])
    assert matching(folder, "price = 1") == [2]


def test_changes_made_with_faiss_files_are_synchronized_after_moving_back(folder: Path):
    with CatalogWriter.open_or_create(folder) as writer, writer.transaction():
        switch_store(writer, StoreChoice())
        writer.annotate([(1, "price", 1)])
        assert writer.find_last_change() == 0
    move_to_milvus(folder, str(folder / "vectors.db"))
    assert matching(folder, "price = 1") == [1]


def test_rows_deleted_or_changed_by_others_are_reported_by_verify_and_repaired_by_push(folder: Path):
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


def test_while_another_run_writes_milvus_is_searched_unsynchronized_with_filters_by_the_catalog(folder: Path):
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


def test_a_deleted_model_leaves_no_rows_in_milvus(folder: Path):
    with (
        CatalogWriter.open_or_create(folder) as writer,
        MilvusIndexCache(writer, MilvusConfig.from_catalog(writer)) as indexes,
    ):
        table = indexes._open_table(writer.list_models()[0])
        name, server = table.name, table.connection
        with writer.transaction():
            writer.forget_model(writer.list_models()[0])
        server.open_table(f"{name}_x", WIDTH)
        indexes.discard(FINGERPRINT)
        assert not server.has_table(name)
        assert server.has_table(f"{name}_x")
        indexes.discard_stale()  # of a model that was deleted while the server was away
        assert not server.has_table(f"{name}_x")


# Interrupted


_PUSH = """
import sys
from simsearch.index.milvus.cache import MilvusIndexCache
from simsearch.index.milvus.config import MilvusConfig
from simsearch.store.writer import CatalogWriter
with CatalogWriter.open_or_create(__import__("pathlib").Path(sys.argv[1])) as writer:
    with MilvusIndexCache(writer, MilvusConfig.from_catalog(writer)) as indexes:
        print(indexes.push(sys.argv[2]))
"""


def pushing(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", _PUSH, str(folder), FINGERPRINT]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def test_a_killed_push_is_resumed(tmp_path: Path):
    folder, vectors = tmp_path / "collection", unit_rows(6_000, 64, seed=6)
    with CatalogWriter.open_or_create(folder) as writer:
        add_images(writer, vectors)
    move_to_milvus(folder, str(tmp_path / "vectors.db"))
    with pushing(folder) as first:
        deadline = time.monotonic() + 120
        while size_of(tmp_path / "vectors.db") < 1_000_000 and time.monotonic() < deadline and first.poll() is None:
            time.sleep(0.01)
        os.kill(first.pid, signal.SIGKILL)
    missing, surplus, other = deviations(folder)
    assert 0 < missing < 6_000
    assert (surplus, other) == (0, 0)
    with pushing(folder) as second:
        out, err = second.communicate(timeout=120)
    assert (out.strip(), err) == (b"6000", b"")
    assert deviations(folder) == (0, 0, 0)


def push_for_ever(indexes: MilvusIndexCache) -> None:
    while True:
        indexes.push(FINGERPRINT)


def test_a_lost_server_is_reported_in_one_line_and_the_next_push_resumes(tmp_path: Path):
    folder, port = tmp_path / "collection", free_port()
    with CatalogWriter.open_or_create(folder) as writer:
        add_images(writer, unit_rows(2000, 64, seed=7))
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
            assert indexes.push(FINGERPRINT) == 2000
        assert deviations(folder) == (0, 0, 0)


# A server on the network, and what goes wrong with it


def test_several_threads_search_a_server_with_a_note_about_its_approximate_index(tmp_path: Path):
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
            assert indexes.describe(writer.list_models()[0]).index == "HNSW"
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert sorted(found) == [0, 1, 2, 3]
    for number, ids in found.items():
        exact = np.argsort(-(vectors @ vectors[number]), kind="stable")[:10] + 1
        assert len(np.intersect1d(ids, exact)) >= 9


def test_an_unreachable_server_is_reported_soon_in_one_line(folder: Path):
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
        assert uri in str(indexes.describe(catalog.list_models()[0]).problem)


def test_a_wrong_token_is_reported_with_the_name_of_its_variable(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MILVUS_TOKEN", "root:wrong-secret")
    with refusing() as uri:
        move_to_milvus(folder, uri)
        with searched(folder) as (_, indexes), pytest.raises(StoreUnavailable, match="MILVUS_TOKEN") as caught:
            indexes.open_index(FINGERPRINT)
    assert "wrong-secret" not in str(caught.value)


def test_milvus_lite_in_use_by_another_process_is_reported(folder: Path):
    opening = f"MilvusLite({str(folder / 'vectors.db')!r})"
    code = f"from milvus_lite.db import MilvusLite; {opening}; print('', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"\n"
        with searched(folder) as (_, indexes), pytest.raises(StoreUnavailable, match="in use by another process"):
            indexes.open_index(FINGERPRINT)
        other.communicate(b"\n", timeout=60)
    assert matching(folder, "id = 1") == [1]


def test_a_file_at_the_path_of_milvus_lite_is_not_changed(folder: Path, tmp_path: Path):
    (tmp_path / "old.db").write_text("somebody's")
    move_to_milvus(folder, str(tmp_path / "old.db"))
    with searched(folder) as (_, indexes), pytest.raises(StoreUnavailable, match="is a file"):
        indexes.open_index(FINGERPRINT)
    assert (tmp_path / "old.db").read_text() == "somebody's"


def test_a_table_without_an_index_after_a_kill_gets_one(folder: Path):
    with searched(folder) as (catalog, indexes):
        table = indexes._open_table(catalog.list_models()[0])
        table._client.release_collection(table.name)
        table._client.drop_index(table.name, table._client.list_indexes(table.name)[0])
    with searched(folder) as (catalog, indexes):
        assert indexes.open_index(FINGERPRINT).search(VECTORS[:1], 1)[1].tolist() == [[1]]
        assert indexes.describe(catalog.list_models()[0]).index == "FLAT"


def test_an_index_made_by_the_user_is_kept_with_a_note(folder: Path):
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
def test_a_foreign_table_under_the_same_name_is_not_changed(folder: Path, is_ours: bool):
    """A table with another vector width, or not created by simsearch."""
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
def test_contradictory_options_are_refused_with_advice(store: str | None, uri: str | None, told: str):
    with pytest.raises(UsageError, match=told) as caught:
        StoreChoice.from_options(store, uri)
    assert "secret" not in str(caught.value)


def test_no_option_means_no_choice():
    assert StoreChoice.from_options(None, None) is None
    assert StoreChoice.from_options("faiss", None) == StoreChoice()
    assert StoreChoice.from_options(None, "https://h:19530/photos") == StoreChoice("https://h:19530/photos")


def test_milvus_lite_below_a_collection_moves_with_it(folder: Path, tmp_path: Path):
    moved = shutil.move(folder, tmp_path / "moved")
    assert matching(Path(moved), "id = 4") == [4]
    assert not folder.exists()
