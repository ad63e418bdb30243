"""Maintenance of a collection: verify, rebuild, remove, prune, and index files that are missing, foreign or damaged."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from simsearch import Collection, ModelChoice
from simsearch.errors import CollectionNotFound, CollectionNotWritable, ModelNotIndexed, UsageError
from simsearch.index.files import is_intact
from simsearch.store.snapshot import open_snapshot
from simsearch.store.writer import CatalogWriter
from tests.conftest import HISTOGRAM, NOBODY, as_bound_user, draw_picture
from tests.support import oneshot
from tests.support.command_line import run
from tests.support.milvus_catalogs import add_images, unit_rows


@pytest.fixture
def indexed(photos: Path, collection: Path) -> Path:
    oneshot.ingest(collection, [photos], HISTOGRAM)
    return collection


def cache_of(collection: Path) -> Path:
    (file,) = collection.glob("*.faiss")
    return file


def answers(collection: Path) -> list:
    with Collection.open(collection) as opened:
        return [opened.search(number, k=12).hits for number in range(1, 13)]


def change(collection: Path, statement: str) -> None:
    with sqlite3.connect(collection / "catalog.db") as connection:
        connection.execute(statement)
    connection.close()


def test_a_fresh_collection_is_in_order(indexed: Path):
    with Collection.open(indexed) as opened:
        found = opened.verify()
    assert (found.problems, found.notes) == ((), ())


def test_an_up_to_date_index_is_used_and_not_rebuilt(indexed: Path):
    before = cache_of(indexed).stat().st_mtime_ns
    answers(indexed)
    assert cache_of(indexed).stat().st_mtime_ns == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_in_the_place_of_an_index_is_not_waited_for(indexed: Path):
    expected, file = answers(indexed), cache_of(indexed)
    file.unlink()
    os.mkfifo(file)
    code = "import sys; from simsearch import Collection; Collection.open(sys.argv[1]).search(1)"
    subprocess.run([sys.executable, "-c", code, str(indexed)], timeout=60, check=True)
    assert answers(indexed) == expected


@pytest.mark.parametrize("harm", ["delete", "tear", "empty", "flip", "lfs", "foreign"])
def test_a_damaged_index_changes_no_result_and_is_rebuilt(indexed: Path, photos: Path, tmp_path: Path, harm: str):
    expected, file = answers(indexed), cache_of(indexed)
    content = file.read_bytes()
    if harm == "delete":
        file.unlink()
    elif harm == "foreign":
        draw_picture(tmp_path / "others" / "x.png", 70)
        oneshot.ingest(tmp_path / "other", [tmp_path / "others"], HISTOGRAM)
        shutil.copy(cache_of(tmp_path / "other"), file)
    else:
        flipped = content[:40] + bytes([content[40] ^ 255]) + content[41:]
        harmed = {"tear": content[:-5], "empty": b"", "flip": flipped, "lfs": b"version https://git-lfs.github.com/"}
        file.write_bytes(harmed[harm])
    with Collection.open(indexed) as opened:
        found = opened.verify()
        if harm == "flip":  # only reading every byte shows this one
            assert found.problems == (f"the content of {file.name} is damaged; run `simsearch rebuild`",)
        else:
            assert "rebuild" in found.notes[0]
    assert answers(indexed) == expected
    assert is_intact(file)


def test_an_index_left_behind_by_a_killed_run_catches_up(indexed: Path, photos: Path):
    old = cache_of(indexed).read_bytes()
    for seed in range(20, 25):
        draw_picture(photos / f"new_{seed}.png", seed)
    oneshot.ingest(indexed, [photos], HISTOGRAM)
    expected = answers(indexed)
    cache_of(indexed).write_bytes(old)
    assert answers(indexed) == expected
    with Collection.open(indexed) as opened:
        assert opened.verify().notes == ()


def test_rebuild_deletes_index_files_of_no_model_and_no_other_file(indexed: Path):
    own = b"an index of something else"
    (indexed / "resnet50-000000000000.faiss").write_bytes(own)
    (indexed / ".ann-notes").write_bytes(own)
    (indexed / ".ann-0123456789abcdef").write_bytes(b"of a killed run")
    left = shutil.copy(cache_of_histogram(indexed), indexed / "left.faiss")
    with CatalogWriter.open(indexed) as writer, writer.transaction():
        writer.forget_model(writer.list_models()[0])
    oneshot.rebuild(indexed)
    assert not left.exists()
    assert (indexed / "resnet50-000000000000.faiss").read_bytes() == own
    assert (indexed / ".ann-notes").read_bytes() == own


def test_an_incomplete_index_file_of_a_killed_run_is_deleted(indexed: Path):
    for name in (".ann-0123456789abcdef", ".ann-0123456789abcdef.faiss", ".ann-mine"):
        (indexed / name).touch()
    oneshot.rebuild(indexed)
    assert [file.name for file in indexed.glob(".ann-*")] == [".ann-mine"]


def cache_of_histogram(collection: Path) -> Path:
    (file,) = collection.glob("histogram-*.faiss")
    return file


def test_a_folder_in_the_place_of_an_index_file_is_told_and_answers_are_right(indexed: Path):
    expected, file = answers(indexed), cache_of(indexed)
    file.unlink()
    (file / "inner").mkdir(parents=True)
    assert answers(indexed) == expected
    for verb in (oneshot.rebuild, lambda folder: oneshot.prune(folder, "histogram")):
        with pytest.raises(CollectionNotWritable, match=r"cannot be deleted .*; remove it, or change"):
            verb(indexed)
    assert (file / "inner").is_dir()


def test_an_index_file_that_cannot_be_deleted_is_told_and_deleted_by_the_next_prune(photos: Path, open_folder: Path):
    """In a sticky folder only its owner may delete a file."""
    open_folder.chmod(0o1777)
    oneshot.ingest(open_folder / "ix", [photos], HISTOGRAM)
    file, folder = cache_of(open_folder / "ix"), open_folder / "ix"
    folder.chmod(0o1777)
    with as_bound_user():
        if file.stat().st_uid == os.geteuid():
            pytest.skip("needs root, to make a file of another user")
    for name in ("catalog.db", "catalog.lock"):
        os.chown(folder / name, NOBODY, NOBODY)
    with as_bound_user(), pytest.raises(CollectionNotWritable, match="cannot be deleted"):
        oneshot.prune(folder, "histogram")
    assert file.exists()
    for name in ("catalog.db", "catalog.lock"):
        os.chown(folder / name, os.getuid(), os.getgid())
    oneshot.prune(folder)
    assert not file.exists()


def test_remove_takes_a_folder_out_of_the_results_and_leaves_the_files(indexed: Path, photos: Path):
    assert oneshot.remove(indexed, [str(photos / "a")]) == 6
    with Collection.open(indexed) as opened:
        names = {Path(hit.path).parent.name for hit in opened.search(str(photos / "a" / "picture_00.png"), k=12).hits}
    assert names == {"b"}
    assert len(list((photos / "a").iterdir())) == 6
    assert oneshot.ingest(indexed, [photos], HISTOGRAM).n_embedded == 0


def test_remove_of_a_folder_leaves_those_whose_names_begin_as_its_own(indexed: Path, photos: Path):
    draw_picture(photos / "ab" / "other.png", 90)
    draw_picture(photos / "a.png", 91)
    oneshot.ingest(indexed, [photos], HISTOGRAM)
    assert oneshot.remove(indexed, [str(photos / "a")]) == 6
    assert oneshot.remove(indexed, [str(photos / "ab"), str(photos / "a.png")]) == 2


def test_remove_of_an_unknown_path_is_an_error_and_removes_nothing(indexed: Path, photos: Path):
    with pytest.raises(UsageError, match="has no file"):
        oneshot.remove(indexed, [str(photos / "a"), "elsewhere"])
    with Collection.open(indexed) as opened:
        assert opened.info().to_dict()["files"] == 12


def test_prune_deletes_images_without_files_and_ids_are_not_reused(indexed: Path, photos: Path):
    (photos / "b" / "picture_11.png").unlink()
    oneshot.ingest(indexed, [photos], HISTOGRAM)
    assert oneshot.prune(indexed).to_dict()["images"] == 1
    with Collection.open(indexed) as opened:
        assert (opened.info().to_dict()["orphans"], opened.info().to_dict()["models"][0]["views"]) == (0, 11)
        assert opened.verify().notes == ()
    new = draw_picture(photos / "new.png", 40)
    oneshot.ingest(indexed, [photos], HISTOGRAM)
    with Collection.open(indexed) as opened:
        assert opened.search(new, k=1).hits[0].image_id == 13


def test_prune_of_a_backbone_deletes_only_its_vectors_and_index(indexed: Path, photos: Path):
    other = oneshot.ingest(indexed, [photos], ModelChoice(backbone="histogram", resize="pad"))
    assert oneshot.prune(indexed, other.model).to_dict()["models"] == 1
    with Collection.open(indexed) as opened:
        assert [model["resize"] for model in opened.info().to_dict()["models"]] == ["squash"]
    assert len(list(indexed.glob("*.faiss"))) == 1


def test_prune_of_an_unknown_backbone_is_an_error(indexed: Path):
    with pytest.raises(ModelNotIndexed, match="not indexed with resnet50"):
        oneshot.prune(indexed, "resnet50")


def test_verify_reports_damage(indexed: Path):
    change(indexed, "UPDATE vectors SET vector = zeroblob(length(vector)) WHERE id = 3")
    with Collection.open(indexed) as opened:
        assert "1 vectors of histogram are not of unit length" in opened.verify().problems[0]


def test_verify_reports_a_vector_of_a_wrong_width(indexed: Path):
    change(indexed, "UPDATE vectors SET vector = zeroblob(8) WHERE id = 3")
    with Collection.open(indexed) as opened:
        assert "wrong length" in opened.verify().problems[0]


def test_verify_reports_dangling_rows(indexed: Path):
    change(indexed, "DELETE FROM images WHERE id = 3")
    with Collection.open(indexed) as opened:
        assert any("missing row of images" in line for line in opened.verify().problems)


def test_a_rebuild_whose_file_cannot_be_written_does_not_succeed(collection: Path):
    resource = pytest.importorskip("resource")
    with CatalogWriter.open_or_create(collection) as writer:
        add_images(writer, unit_rows(3000, 64))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, limits[1]))
        advice = "check the permissions and the disk"
        with (
            Collection.open(collection) as opened,
            pytest.raises(CollectionNotWritable, match=rf"\.faiss cannot be written .*; {advice}"),
        ):
            opened.rebuild()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert oneshot.rebuild(collection) == [cache_of(collection).name]


def test_files_that_cannot_be_checked_are_not_called_missing(open_folder: Path):
    for seed in range(3):
        draw_picture(open_folder / "photos" / f"{seed}.png", seed)
    oneshot.ingest(open_folder / "ix", [open_folder / "photos"], HISTOGRAM)
    (open_folder / "photos" / "2.png").unlink()
    (open_folder / "photos").chmod(0)
    try:
        with Collection.open(open_folder / "ix") as opened, as_bound_user():
            (note,) = opened.verify().notes
    finally:
        (open_folder / "photos").chmod(0o755)
    assert "3 files cannot be checked" in note
    assert "(Permission denied); check the permissions" in note
    with Collection.open(open_folder / "ix") as opened:
        assert opened.verify().notes[0].startswith("1 file is missing")


def test_verify_notes_missing_files_and_orphans(indexed: Path, photos: Path):
    oneshot.remove(indexed, [str(photos / "a" / "picture_00.png")])
    (photos / "a" / "picture_01.png").unlink()
    with Collection.open(indexed) as opened:
        notes = " ".join(opened.verify().notes)
    assert "1 file is missing" in notes
    assert "1 images have no file" in notes


@pytest.mark.parametrize("verb", [oneshot.rebuild, oneshot.prune, lambda folder: oneshot.remove(folder, ["x"])])
def test_no_verb_creates_a_collection(tmp_path: Path, verb):
    with pytest.raises(CollectionNotFound):
        verb(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_the_tables_open_in_sqlite_utils(indexed: Path):
    from sqlite_utils import Database

    with Database(indexed / "catalog.db") as database:
        assert database["images"].count == 12
        assert {"width", "height", "digest", "format"} <= set(database["images"].columns_dict)


def test_prune_does_not_wait_for_a_reader_and_says_so(indexed: Path, photos: Path):
    (photos / "a" / "picture_00.png").unlink()
    oneshot.ingest(indexed, [photos])
    with open_snapshot(indexed) as snapshot:
        assert snapshot.find_copied_images() == []  # the snapshot begins with the first read
        (note,) = oneshot.prune(indexed).notes
        assert "another process is reading" in note
        done = run("prune", "--in", indexed, cwd=indexed)
        assert (done.returncode, done.stderr.count("another process is reading")) == (0, 1)
    assert oneshot.prune(indexed).notes == ()
