"""Detecting changes at sources, and surviving failures; the command is tested in tests/cli/test_watch.py."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from simsearch import Collection
from simsearch.errors import ModelError, SourceError, UsageError
from simsearch.ingest.run import IngestReport
from simsearch.watch import WatchListener, WatchSettings, WatchUpdate, check_sources, watch
from simsearch.watch.changes import ChangeWatcher
from simsearch.watch.filesystems import explain_polling, find_filesystem, is_shared_filesystem
from tests.conftest import HISTOGRAM, draw_picture
from tests.support import oneshot
from tests.test_crash import small_disk

DEADLINE_S = 30.0
QUIET_S = 0.5

MOUNTS = r"""/dev/vda / ext4 rw,relatime 0 0
proc /proc proc rw 0 0
nas:/export /mnt/nas nfs4 rw,vers=4.2 0 0
//nas/photos /mnt/my\040photos cifs rw 0 0
/dev/sdb1 /mnt/usb fuseblk rw 0 0
me@host:/ /mnt/host fuse.sshfs rw 0 0
tmpfs /mnt/nas/scratch tmpfs rw 0 0
/dev/vdb /srv ext4 rw 0 0
nas:/srv /srv nfs rw 0 0
C:\134 /mnt/c 9p rw,aname=drvfs 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind", "shared"),
    [
        ("/home/me/photos", "ext4", False),
        ("/mnt/nas", "nfs4", True),
        ("/mnt/nas/2024/photos", "nfs4", True),
        ("/mnt/nas2", "ext4", False),
        ("/mnt/my photos/a", "cifs", True),
        ("/mnt/usb/DCIM", "fuseblk", False),
        ("/mnt/host/photos", "fuse.sshfs", True),
        ("/mnt/nas/scratch/x", "tmpfs", False),
        ("/srv/photos", "nfs", True),
        ("/mnt/c/Users", "9p", True),
        ("/", "ext4", False),
    ],
)
def test_a_file_system_that_other_machines_change_is_known_by_its_type(path: str, kind: str, shared: bool):
    assert find_filesystem(path, MOUNTS) == kind
    assert is_shared_filesystem(kind) == shared


def test_addresses_and_lists_are_polled_and_local_folders_are_not(tmp_path: Path):
    (tmp_path / "list.txt").write_text("a.png\n")
    assert explain_polling("s3://bucket/photos")
    assert explain_polling(str(tmp_path / "list.txt"))
    assert explain_polling(str(tmp_path)) is None


def test_a_source_that_cannot_be_watched_is_refused_at_the_start(tmp_path: Path):
    check_sources([str(tmp_path), "s3://bucket/photos"])
    with pytest.raises(SourceError, match="nowhere does not exist"):
        check_sources([str(tmp_path), "nowhere"])
    with pytest.raises(UsageError, match="list on stdin"):
        check_sources(["-"])


class RecordingWatcher:
    """A change watcher of folders, and the messages it reported."""

    def __init__(self, *sources: Path, poll_s: float | None = None) -> None:
        self.messages: list[str] = []
        collection = str(sources[0] / "ix")
        self.watcher = ChangeWatcher(
            [str(source) for source in sources], collection, self.messages.append, poll_s=poll_s
        )

    def sees(self, change: Callable[[], object]) -> bool:
        change()
        return not self.watcher.is_quiet_for(QUIET_S)


@pytest.fixture(params=[None, 0.1], ids=["notified", "polled"])
def watcher(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[RecordingWatcher]:
    draw_picture(tmp_path / "photos" / "sub" / "first.png", 0)
    one = RecordingWatcher(tmp_path / "photos", poll_s=request.param)
    yield one
    one.watcher.close()


def test_every_kind_of_change_is_detected_and_no_change_is_quiet(watcher: RecordingWatcher, tmp_path: Path):
    photos = tmp_path / "photos"
    assert watcher.watcher.is_quiet_for(QUIET_S)
    assert watcher.sees(lambda: draw_picture(photos / "new.png", 1))
    assert watcher.watcher.is_quiet_for(QUIET_S)
    assert watcher.sees(lambda: draw_picture(photos / "new.png", 2))
    assert watcher.sees(lambda: (photos / "new.png").rename(photos / "sub" / "moved.png"))
    assert watcher.sees(lambda: shutil.rmtree(photos / "sub"))
    assert watcher.watcher.is_quiet_for(QUIET_S)
    assert watcher.messages == []


def test_files_that_a_scan_ignores_are_no_change(watcher: RecordingWatcher, tmp_path: Path):
    photos = tmp_path / "photos"
    assert not watcher.sees(lambda: (photos / ".DS_Store").write_bytes(b"x"))
    assert not watcher.sees(lambda: draw_picture(photos / "ix" / "catalog.db.png", 4))


def test_a_source_that_is_replaced_by_another_folder_is_still_watched(watcher: RecordingWatcher, tmp_path: Path):
    photos = tmp_path / "photos"
    shutil.copytree(photos, tmp_path / "copy")
    assert watcher.sees(lambda: photos.rename(tmp_path / "away"))
    (tmp_path / "copy").rename(photos)
    deadline = time.monotonic() + DEADLINE_S
    while not watcher.watcher.is_quiet_for(2 * QUIET_S):
        assert time.monotonic() < deadline
    assert watcher.sees(lambda: draw_picture(photos / "new.png", 5))


def test_a_mount_over_a_source_is_detected(tmp_path: Path):
    photos = tmp_path / "photos"
    photos.mkdir()
    one = RecordingWatcher(photos)
    with contextlib.closing(one.watcher):
        photos.rmdir()  # small_disk makes it again
        with small_disk(photos, 1000):
            assert not one.watcher.is_quiet_for(2 * QUIET_S)
            assert one.watcher.is_quiet_for(2 * QUIET_S)
            assert one.sees(lambda: draw_picture(photos / "new.png", 6))


def test_the_state_after_forget_state_is_a_change(tmp_path: Path):
    draw_picture(tmp_path / "photos" / "first.png", 0)
    one = RecordingWatcher(tmp_path / "photos", poll_s=0.1)
    assert one.watcher.is_quiet_for(QUIET_S)
    one.watcher.forget_state(str(tmp_path / "photos"))
    assert not one.watcher.is_quiet_for(QUIET_S)
    assert one.watcher.is_quiet_for(QUIET_S)
    one.watcher.close()


class RecordedWatch:
    """A watch of a folder in this process; it ends when a run has found a file of a certain name."""

    def __init__(self, photos: Path, last: str) -> None:
        self.photos, self.collection = photos, photos.parent / "disk" / "ix"
        self.messages: list[str] = []
        self.updates: list[WatchUpdate] = []
        self._last = last

    def go(self, run: Callable[[Sequence[str]], IngestReport]) -> None:
        listener = WatchListener(on_update=self._record, on_message=self.messages.append)
        late = threading.Timer(DEADLINE_S, lambda: draw_picture(self.photos / self._last, 99))
        late.start()
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            watch(str(self.collection), [str(self.photos)], run, listener, settings=WatchSettings(0.1))
        late.cancel()
        assert time.monotonic() - started < DEADLINE_S, self.messages

    def ingest(self, present: Sequence[str]) -> IngestReport:
        return oneshot.ingest(self.collection, present, HISTOGRAM)

    def _record(self, update: WatchUpdate) -> None:
        self.updates.append(update)
        with Collection.open(self.collection) as opened:
            if any(path.endswith(self._last) for path in opened.catalog.iterate_paths()):
                raise KeyboardInterrupt


@pytest.fixture
def kept(tmp_path: Path) -> RecordedWatch:
    draw_picture(tmp_path / "photos" / "first.png", 0)
    return RecordedWatch(tmp_path / "photos", last="last.png")


def test_an_unexpected_error_in_one_run_is_reported_and_the_next_run_succeeds(kept: RecordedWatch):
    n_runs = 0

    def run(present: Sequence[str]) -> IngestReport:
        nonlocal n_runs
        n_runs += 1
        draw_picture(kept.photos / ("second.png" if n_runs == 1 else "last.png"), n_runs)
        if n_runs == 2:
            raise IndexError("list index out of range")
        return kept.ingest(present)

    kept.go(run)
    assert kept.messages == [
        "a run ended unexpectedly (IndexError: list index out of range); the watch continues and tries again",
        "indexing again",
    ]
    assert [update.report.n_embedded for update in kept.updates] == [2, 1]


def test_a_full_disk_is_reported_once_and_the_watch_continues(kept: RecordedWatch, tmp_path: Path):
    with small_disk(tmp_path / "disk", 4000) as disk:
        filler, n_full = disk / "filler", 0

        def run(present: Sequence[str]) -> IngestReport:
            nonlocal n_full
            if not kept.updates:
                draw_picture(kept.photos / "second.png", 1)
                return kept.ingest(present)
            if n_full < 2:
                n_full += 1
                fill(filler)
                draw_picture(kept.photos / f"more_{n_full}.png", 10 + n_full)  # the next try comes sooner
            else:
                filler.unlink(missing_ok=True)
                draw_picture(kept.photos / "last.png", 2)
            return kept.ingest(present)

        kept.go(run)
        with Collection.open(kept.collection) as opened:
            assert opened.info().to_dict()["images"] == 5
    assert [line.partition(" to ")[0] for line in kept.messages] == ["no disk space left", "indexing again"]


def fill(file: Path) -> None:
    """Take the room that a disk has, but for what it takes to open a catalog."""
    with contextlib.suppress(OSError), file.open("ab", buffering=0) as room:
        while room.write(bytes(4096)):
            pass
    os.truncate(file, file.stat().st_size - 44_000)


def test_an_unavailable_model_ends_the_watch_at_its_first_run(kept: RecordedWatch):
    def run(present: Sequence[str]) -> IngestReport:
        raise ModelError("no weights for it", "fetch them")

    with pytest.raises(ModelError, match="no weights"):
        watch(str(kept.collection), [str(kept.photos)], run, WatchListener(kept.updates.append, kept.messages.append))


def test_a_network_is_loaded_once_for_many_runs(photos: Path, collection: Path):
    class Counting(dict):
        n_set = 0

        def __setitem__(self, key: str, value: object) -> None:
            self.n_set += 1
            super().__setitem__(key, value)

    embedders = Counting()
    for seed in range(3):
        draw_picture(photos / f"new_{seed}.png", 50 + seed)
        report = oneshot.ingest(collection, [photos], HISTOGRAM, embedders=embedders)
    assert report.n_embedded == 1
    assert list(embedders) == [report.model]
    assert embedders.n_set == 1
