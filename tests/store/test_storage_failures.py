"""What a reader and a writer say when the disk, its permissions or its locks fail: the cause, and no other."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from simsearch import Collection
from simsearch.errors import CollectionNotReadable, DiskFull
from simsearch.store.writer import CatalogWriter
from tests.conftest import HISTOGRAM, draw_picture
from tests.support import oneshot
from tests.support.command_line import run
from tests.support.disks import fill, make_read_only, small_disk
from tests.support.faults import run_with_fault

pytestmark = pytest.mark.long


@pytest.mark.parametrize("left_kb", [0, 8, 24])
def test_a_collection_on_a_full_disk_is_read(photos: Path, tmp_path: Path, left_kb: int):
    with small_disk(tmp_path / "disk", 2000) as disk:
        oneshot.ingest(disk / "ix", [photos], HISTOGRAM)
        fill(disk, left_kb)
        for words in (
            ["info"], ["verify"], ["query", "--id", "1"], ["export", tmp_path / f"v{left_kb}.csv"],
            ["map", "--out", tmp_path / f"map{left_kb}.html"],
        ):  # fmt: skip
            done = run(*words, "--in", disk / "ix", cwd=tmp_path)
            assert (done.returncode, done.stderr) == (0, ""), words
        with pytest.raises(DiskFull, match="no disk space left to write to"):
            oneshot.remove(disk / "ix", [str(photos)])


def test_a_failing_disk_is_not_called_full_or_damaged(photos: Path, tmp_path: Path):
    done = run_with_fault(
        "fdatasync,fsync", "EIO",
        "-m", "simsearch", "index", photos, "--into", tmp_path / "ix", "--backbone", "histogram", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"the disk of {tmp_path / 'ix'} failed to read or write" in done.stderr
    assert "check the disk" in done.stderr
    assert "restore" not in done.stderr


def test_a_failing_read_is_not_called_damage(photos: Path, tmp_path: Path):
    oneshot.ingest(tmp_path / "ix", [photos], HISTOGRAM)
    words = ("-m", "simsearch", "info", "--in", tmp_path / "ix")
    done = run_with_fault("pread64", "EIO", *words, cwd=tmp_path, file=tmp_path / "ix" / "catalog.db")
    assert "check the disk" in done.stderr
    assert "restore" not in done.stderr


def test_where_flock_is_unknown_a_collection_is_written_by_one_run_at_a_time(photos: Path, tmp_path: Path):
    oneshot.ingest(tmp_path / "ix", [photos], HISTOGRAM)
    draw_picture(photos / "new.png", 99)
    words = ("-m", "simsearch", "index", photos, "--into", tmp_path / "ix")
    done = run_with_fault("flock", "ENOSYS", *words, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "13 images" in done.stdout
    code = """
import pathlib, sys
from simsearch.errors import CollectionBusy
from simsearch.store.writer import CatalogWriter
folder = pathlib.Path(sys.argv[1])
with CatalogWriter.open(folder):
    try:
        CatalogWriter.open(folder)
    except CollectionBusy:
        print("busy")
CatalogWriter.open(folder).close()
print("free")
"""
    done = run_with_fault("flock", "ENOSYS", "-c", code, tmp_path / "ix", cwd=tmp_path)
    assert done.stdout.split() == ["busy", "free"]


def test_a_file_system_without_any_locks_is_named(photos: Path, tmp_path: Path):
    oneshot.ingest(tmp_path / "ix", [photos], HISTOGRAM)
    words = ("-m", "simsearch", "index", photos, "--into", tmp_path / "ix")
    done = run_with_fault("flock,fcntl", "ENOLCK", *words, cwd=tmp_path, file=tmp_path / "ix" / "catalog.lock")
    assert done.returncode == 1
    assert "does not support file locks" in done.stderr


def test_a_log_that_a_reader_cannot_use_is_named(photos: Path, tmp_path: Path):
    oneshot.ingest(tmp_path / "source", [photos], HISTOGRAM)
    with small_disk(tmp_path / "disk", 5000) as disk:
        with CatalogWriter.open(tmp_path / "source") as writer, writer.transaction():
            writer.forget_files([str(photos / "a" / "picture_00.png")])
            writer.write_setting("x", "y" * 10_000)
        with CatalogWriter.open(tmp_path / "source") as writer:
            with writer.transaction():
                writer.write_setting("x", None)
            for name in ("catalog.db", "catalog.db-wal"):
                shutil.copy(tmp_path / "source" / name, disk)
        make_read_only(disk)
        with pytest.raises(CollectionNotReadable, match=r"left the log catalog\.db-wal; run `Collection\.info"):
            Collection.open(disk)
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        with Collection.open(disk) as opened:
            assert opened.info().n_images == 11
