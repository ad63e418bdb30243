"""A run that is killed, or finds a full disk, loses at most its current batch."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from simsearch import Collection
from simsearch.errors import CollectionBusy, CollectionNotWritable, DiskFull
from simsearch.store.writer import CatalogWriter
from tests.conftest import HISTOGRAM, draw_picture
from tests.support import oneshot
from tests.support.command_line import make_unmeasured_environment
from tests.support.disks import small_disk

pytestmark = pytest.mark.long

N_PICTURES = 260


def index_process(folder: Path, collection: Path, **options) -> subprocess.Popen:
    command = [
        sys.executable,
        "-m",
        "simsearch",
        "index",
        str(folder),
        "--into",
        str(collection),
        "--json",
        "--backbone",
        "histogram",
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def finished(process: subprocess.Popen) -> tuple[int, str]:
    """Return the exit status and stderr."""
    _, errors = process.communicate()
    return process.returncode, errors


def content(collection: Path) -> dict[str, list]:
    """Everything in the catalog except times, process ids and counters of runs."""
    queries = {
        "images": "SELECT id, digest, width, height, format, size_bytes FROM images ORDER BY id",
        "files": "SELECT path, size_bytes, mtime_ns, image_id FROM files ORDER BY path",
        "views": "SELECT id, image_id, kind, parameters FROM views ORDER BY id",
        "models": "SELECT fingerprint, backbone, width, details FROM models",
        "vectors": "SELECT view_id, vector FROM vectors ORDER BY view_id",
        "skips": "SELECT path, reason FROM skips ORDER BY path",
    }
    with contextlib.closing(sqlite3.connect(collection / "catalog.db")) as connection:
        return {table: connection.execute(query).fetchall() for table, query in queries.items()}


def answers(collection: Path) -> list:
    with Collection.open(collection) as opened:
        return [opened.search(number, k=5).hits for number in range(1, N_PICTURES, 20)]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few hundred pictures, with a broken one and a copy among them."""
    folder = tmp_path_factory.mktemp("many")
    for seed in range(N_PICTURES):
        draw_picture(folder / f"{seed:03}.png", seed, side_px=160)
    (folder / "100_broken.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    shutil.copy(folder / "050.png", folder / "150_copy.png")
    return folder


def wait_for_images(collection: Path, process: subprocess.Popen) -> None:
    """Wait until a run has committed its first images, or has ended."""
    while process.poll() is None:
        with contextlib.suppress(sqlite3.OperationalError):  # before the first table
            uri = f"file:{collection / 'catalog.db'}?mode=ro"
            with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
                if connection.execute("SELECT count(*) FROM images").fetchone()[0]:
                    return
        time.sleep(0.002)


@pytest.mark.parametrize("n_rounds", [6, pytest.param(24, marks=pytest.mark.thorough)])
def test_a_killed_run_continues_to_the_same_catalog_and_results(many: Path, tmp_path: Path, n_rounds: int):
    """The run is killed at random moments, and in every second round as soon as its first images are committed."""
    started = time.monotonic()
    assert finished(index_process(many, tmp_path / "whole")) == (0, "")
    duration = time.monotonic() - started
    expected, expected_answers = content(tmp_path / "whole"), answers(tmp_path / "whole")
    assert len(expected["images"]) == N_PICTURES

    moments = random.Random(0)
    n_killed = n_rows_before_the_end = 0
    for number in range(n_rounds):
        collection = tmp_path / f"killed_{number}"
        for _ in range(1 if number % 2 else moments.randint(1, 3)):
            process = index_process(many, collection)
            if number % 2:
                wait_for_images(collection, process)
            else:
                time.sleep(duration * moments.uniform(0.05, 1.0))
            process.kill()
            was_killed = finished(process)[0] == -signal.SIGKILL
            n_killed += was_killed
            if not was_killed:  # the first run was slower, such as on a busy machine: the next moments are earlier
                duration /= 2
        if (collection / "catalog.db").exists():
            with contextlib.suppress(sqlite3.OperationalError):  # killed before the first table
                n_rows_before_the_end += 0 < len(content(collection)["images"]) < N_PICTURES
        assert finished(index_process(many, collection)) == (0, "")
        assert content(collection) == expected
        assert answers(collection) == expected_answers
        with Collection.open(collection) as opened:
            found = opened.verify()
        assert (found.problems, found.notes) == ((), ())
        leftovers = {file.name for file in collection.iterdir()} - {"catalog.db", "catalog.lock"}
        assert {Path(name).suffix for name in leftovers} == {".faiss"}
    assert n_killed >= n_rounds * 3 // 4
    assert n_rows_before_the_end >= n_rounds // 3, "no kill fell between two batches: the test would show nothing"


@pytest.mark.parametrize("leftover", [b"", None])
def test_a_run_starts_after_a_killed_creation(photos: Path, collection: Path, leftover: bytes | None):
    """Killed before the first table: an empty database, or one with nothing but sqlite-utils' own table."""
    collection.mkdir(parents=True)
    if leftover is None:
        from sqlite_utils import Database, Migrations

        with Database(collection / "catalog.db") as database:
            Migrations("simsearch").ensure_migrations_table(database)
    else:
        (collection / "catalog.db").write_bytes(leftover)
    assert oneshot.ingest(collection, [photos], HISTOGRAM).n_embedded == 12


def test_an_interrupted_run_says_how_to_continue(many: Path, tmp_path: Path):
    process = index_process(many, tmp_path / "ix")
    deadline = time.monotonic() + 30
    while not (tmp_path / "ix" / "catalog.db").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    code, errors = finished(process)
    assert code == 130
    assert "the same command resumes" in errors
    assert "Traceback" not in errors


def test_a_second_run_at_the_same_time_finds_the_collection_busy(photos: Path, collection: Path):
    oneshot.ingest(collection, [photos], HISTOGRAM)
    with CatalogWriter.open_or_create(collection):
        code, errors = finished(index_process(photos, collection))
        assert (code, errors.count("\n")) == (1, 1)
        assert "another run is writing" in errors
        for verb in (oneshot.rebuild, oneshot.prune):
            with pytest.raises(CollectionBusy):
                verb(collection)
    assert oneshot.ingest(collection, [photos], HISTOGRAM).n_reused == 12


def test_readers_continue_while_a_run_writes(photos: Path, collection: Path):
    oneshot.ingest(collection, [photos], HISTOGRAM)
    with CatalogWriter.open_or_create(collection) as writer, writer.transaction():
        writer.forget_files([str(photos / "a" / "picture_00.png")])
        with Collection.open(collection) as opened:
            assert len(opened.search(1, k=12).hits) == 12
    with Collection.open(collection) as opened:
        assert len(opened.search(2, k=12).hits) == 11


def test_a_full_disk_is_reported_and_committed_images_are_safe(many: Path, tmp_path: Path):
    with small_disk(tmp_path / "disk", 700) as disk:
        with pytest.raises(DiskFull, match="free some space"):
            oneshot.ingest(disk / "ix", [many], HISTOGRAM)
        with Collection.open(disk / "ix") as opened:
            n_kept = opened.info().to_dict()["images"]
            assert 0 < n_kept < N_PICTURES
            assert opened.verify().problems == ()
        subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
        report = oneshot.ingest(disk / "ix", [many], HISTOGRAM)
        assert (report.n_images, report.n_reused) == (N_PICTURES, n_kept + 1)


def test_a_file_size_limit_is_reported_in_one_line(many: Path, tmp_path: Path):
    """The same as a full disk, where nothing can be mounted: a limit on the size of files."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))

    env = make_unmeasured_environment()
    code, errors = finished(index_process(many, tmp_path / "ix", preexec_fn=limit, env=env))
    assert code == 1
    assert "no disk space left to write" in errors
    assert errors.count("\n") == 1
    assert finished(index_process(many, tmp_path / "ix")) == (0, "")
    assert len(content(tmp_path / "ix")["images"]) == N_PICTURES


def test_a_catalog_of_the_schema_before_this_one_answers_in_a_read_only_folder(tmp_path: Path):
    old = Path(__file__).parent / "fixtures" / "version_0_1" / "catalog.db"
    with small_disk(tmp_path / "disk", 5000) as disk:
        shutil.copy(old, disk)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with Collection.open(disk) as opened:
            assert opened.search(1, k=1, backbone="histogram").hits[0].image_id == 1
            assert opened.catalog.change_token == 0


def test_a_read_only_folder_is_reported_and_left_unchanged(photos: Path, tmp_path: Path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(CollectionNotWritable, match="`folder`"):
        oneshot.ingest(tmp_path / "file" / "ix", [photos], HISTOGRAM)
    assert (tmp_path / "file").read_text() == "not a folder"


def test_a_read_only_collection_can_be_searched(photos: Path, tmp_path: Path):
    with small_disk(tmp_path / "disk", 5000) as disk:
        oneshot.ingest(disk / "ix", [photos], HISTOGRAM)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with Collection.open(disk / "ix") as opened:
            assert len(opened.search(1, k=12).hits) == 12
        with pytest.raises(CollectionNotWritable, match="`folder`"):
            oneshot.ingest(disk / "ix", [photos], HISTOGRAM)
        assert os.statvfs(disk).f_flag & os.ST_RDONLY
