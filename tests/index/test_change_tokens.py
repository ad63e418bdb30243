"""An index of another history of the catalog is never taken for a current one, nor updated to one.

A history ends where an older copy of `catalog.db` comes back, where a power cut takes the last commits, or where a
model is deleted and indexed again. Ids and counts of the next history are those of the first one again.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest

from simsearch import Collection
from simsearch.index.cache import IndexCache
from tests.conftest import HISTOGRAM, draw_picture
from tests.support import oneshot


def draw_pictures(folder: Path, seeds: range) -> list[Path]:
    return [draw_picture(folder / f"{seed:03}.png", seed) for seed in seeds]


def search_all(folder: Path, *, rerank: str = "none") -> list[list[tuple[int, float]]]:
    with Collection.open(folder) as opened:
        return search_each_image(opened, rerank=rerank)


def search_each_image(opened: Collection, *, rerank: str = "none") -> list[list[tuple[int, float]]]:
    ids = sorted({image_id for _, image_id, _ in opened.catalog.iterate_contents()})
    answers = (opened.search(image_id, k=None, rerank=rerank).hits for image_id in ids)
    return [[(hit.image_id, round(hit.similarity, 5)) for hit in hits] for hits in answers]


def assert_answers_as_rebuilt(folder: Path) -> None:
    """Answers are those of new index files, and every picture finds itself."""
    found = search_all(folder)
    assert found
    assert all(hits[0][1] > 0.9999 for hits in found)
    with Collection.open(folder) as opened:
        assert opened.verify().to_dict() == {"problems": [], "notes": []} or opened.info().n_orphans
    oneshot.rebuild(folder)
    assert found == search_all(folder)


@pytest.mark.parametrize("n_others", [1, 3, 5])
def test_a_catalog_restored_from_a_copy_does_not_use_the_index_of_the_other_history(n_others: int, tmp_path: Path):
    folder = tmp_path / "ix"
    draw_pictures(tmp_path / "first", range(12))
    oneshot.ingest(folder, [tmp_path / "first"], HISTOGRAM)
    shutil.copy(folder / "catalog.db", tmp_path / "copy.db")
    draw_pictures(tmp_path / "lost", range(20, 23))
    oneshot.ingest(folder, [tmp_path / "lost"], HISTOGRAM)
    shutil.copy(tmp_path / "copy.db", folder / "catalog.db")
    others = draw_pictures(tmp_path / "others", range(30, 30 + n_others))
    oneshot.ingest(folder, [tmp_path / "others"], HISTOGRAM)
    with Collection.open(folder) as opened:
        assert [opened.search(other, k=1).hits[0].path for other in others] == list(map(str, others))
    assert_answers_as_rebuilt(folder)


@pytest.mark.parametrize("n_others", [1, 3])
def test_commits_lost_in_a_power_cut_leave_an_index_that_is_not_used(n_others: int, tmp_path: Path):
    """Index files are synced to the disk, the log of SQLite is not: without the log the catalog is older."""
    folder, after = tmp_path / "ix", tmp_path / "after"
    draw_pictures(tmp_path / "first", range(12))
    oneshot.ingest(folder, [tmp_path / "first"], HISTOGRAM)
    draw_pictures(tmp_path / "lost", range(20, 23))
    with contextlib.closing(sqlite3.connect(folder / "catalog.db")) as reader:  # the log stays while one reads
        reader.execute("SELECT count(*) FROM files").fetchone()
        oneshot.ingest(folder, [tmp_path / "lost"], HISTOGRAM)
        after.mkdir()
        for file in (folder / "catalog.db", *folder.glob("*.faiss")):
            shutil.copy(file, after)
    with Collection.open(after) as opened:
        assert opened.info().n_images == 12
    draw_pictures(tmp_path / "others", range(30, 30 + n_others))
    oneshot.ingest(after, [tmp_path / "others"], HISTOGRAM)
    assert_answers_as_rebuilt(after)


def test_the_index_that_a_killed_prune_left_is_not_used(tmp_path: Path):
    folder = tmp_path / "ix"
    draw_pictures(tmp_path / "first", range(12))
    oneshot.ingest(folder, [tmp_path / "first"], HISTOGRAM)
    (file,) = folder.glob("*.faiss")
    kept = shutil.copy(file, tmp_path / "kept")
    oneshot.remove(folder, [str(tmp_path / "first")])
    oneshot.prune(folder, "histogram")
    assert not file.exists()
    shutil.copy(kept, file)  # killed between its commit and the deletion
    draw_pictures(tmp_path / "others", range(30, 42))
    oneshot.ingest(folder, [tmp_path / "others"], HISTOGRAM)
    assert_answers_as_rebuilt(folder)


@pytest.mark.parametrize("rerank", ["none", "pca4"])
def test_an_open_collection_sees_that_a_model_was_deleted_and_indexed_again(rerank: str, tmp_path: Path):
    folder = tmp_path / "ix"
    draw_pictures(tmp_path / "first", range(12))
    oneshot.ingest(folder, [tmp_path / "first"], HISTOGRAM)
    with Collection.open(folder) as opened:
        search_each_image(opened, rerank=rerank)
        oneshot.remove(folder, [str(tmp_path / "first")])
        oneshot.prune(folder, "histogram")
        draw_pictures(tmp_path / "others", range(30, 42))
        oneshot.ingest(folder, [tmp_path / "others"], HISTOGRAM)
        found = search_each_image(opened, rerank=rerank)
        assert len(found) == 12
        assert found == search_all(folder, rerank=rerank)


def test_an_index_of_an_earlier_state_is_updated_and_not_rebuilt(tmp_path: Path):
    """The history of tokens is kept: a file from before several runs still saves the work."""
    folder = tmp_path / "ix"
    draw_pictures(tmp_path / "first", range(12))
    oneshot.ingest(folder, [tmp_path / "first"], HISTOGRAM)
    (file,) = folder.glob("*.faiss")
    kept = shutil.copy(file, tmp_path / "kept")
    for seed in (50, 51):
        draw_pictures(tmp_path / "first", range(seed, seed + 1))
        oneshot.ingest(folder, [tmp_path / "first"], HISTOGRAM)
    shutil.copy(kept, file)
    with Collection.open(folder) as opened:
        cache = IndexCache(opened.catalog, rewrite_limit_bytes=0)
        cache.open_index(opened.model().fingerprint)
    assert file.read_bytes() == Path(kept).read_bytes()
    assert file.with_suffix(".recent").exists()
    assert_answers_as_rebuilt(folder)
