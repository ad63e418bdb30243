"""`simsearch watch` as a process on real folders: it finds changes, survives failures, and stops on a signal."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simsearch import Collection
from simsearch.errors import CollectionBusy
from simsearch.store.writer import CatalogWriter
from tests.conftest import draw_picture
from tests.support.command_line import run
from tests.support.stores import configure, new_bucket, proxy, s3_server, well

pytestmark = pytest.mark.long

WATCH = [sys.executable, "-m", "simsearch", "watch"]
DEADLINE_S = 30.0
SETTLE_S = 0.3
N_FIRST = 5


class Watching:
    """A running `simsearch watch --json`: the documents of its runs and the lines of its stderr, as they come."""

    def __init__(self, collection: Path, *arguments: object, prefix: tuple[str, ...] = (), **options: object) -> None:
        words = map(str, [*arguments, "--into", collection, "--backbone", "histogram", "--settle", SETTLE_S, "--json"])
        self.collection = collection
        self.runs: list[dict] = []
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [*prefix, *WATCH, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
        )
        self._readers = [
            threading.Thread(target=lambda: self.runs.extend(map(json.loads, self.process.stdout))),
            threading.Thread(target=lambda: self.lines.extend(map(str.rstrip, self.process.stderr))),
        ]
        for reader in self._readers:
            reader.start()

    def until(self, holds: Callable[[], object]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not holds():
            assert time.monotonic() < deadline, (self.runs, self.lines)
            assert self.process.poll() is None, self.lines
            time.sleep(0.02)

    def until_first_run(self) -> Watching:
        self.until(lambda: self.runs)
        return self

    def until_it_holds(self, name: str) -> None:
        self.until(lambda: name in files(self.collection))

    def until_it_lacks(self, name: str) -> None:
        self.until(lambda: name not in files(self.collection))

    def n_embedded(self) -> int:
        """Images that all runs together embedded, once none is under way."""
        self.until(lambda: rows(self.collection, "SELECT count(*) FROM runs WHERE ended_at IS NULL") == [0])
        return rows(self.collection, "SELECT sum(embedded) FROM runs")[0]

    def said(self, words: str) -> int:
        return sum(words in line for line in self.lines)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Its exit status; what the system makes of a kill is negative."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        status = self.process.wait(DEADLINE_S)
        for reader in self._readers:
            reader.join(DEADLINE_S)
        self.process.stdout.close()
        self.process.stderr.close()
        return status


def rows(collection: Path, query: str) -> list:
    with contextlib.closing(sqlite3.connect(f"file:{collection}/catalog.db?mode=ro", uri=True)) as connection:
        return [row[0] for row in connection.execute(query)]


def files(collection: Path) -> set[str]:
    """The names of the files that a collection holds."""
    with contextlib.suppress(sqlite3.OperationalError):  # it is being made
        return {Path(os.fsdecode(path)).name for path in rows(collection, "SELECT path FROM files")}
    return set()


def n_runs(collection: Path) -> int:
    return rows(collection, "SELECT count(*) FROM runs")[0]


@contextlib.contextmanager
def writing(watching: Watching) -> Iterator[None]:
    """Write to a collection as another run does, once the watch has ended its own."""
    with contextlib.ExitStack() as stack:

        def begins() -> bool:
            with contextlib.suppress(CollectionBusy):
                stack.enter_context(CatalogWriter.open_or_create(watching.collection))
                return True
            return False

        watching.until(begins)
        yield


def jpeg(seed: int, side_px: int = 700) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side_px, side_px, 3), dtype=np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "JPEG", quality=95)
    return encoded.getvalue()


@pytest.fixture
def watching(tmp_path: Path) -> Iterator[Callable[..., Watching]]:
    """Start a watch; it ends with the test."""
    started: list[Watching] = []

    def start(*arguments: object, into: Path = tmp_path / "ix", **options: object) -> Watching:
        started.append(Watching(into, *arguments, **options))
        return started[-1]

    yield start
    for one in started:
        one.end(signal.SIGKILL)


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    for seed in range(N_FIRST):
        draw_picture(tmp_path / "inbox" / f"first_{seed}.png", seed)
    return tmp_path / "inbox"


@pytest.fixture(scope="module")
def shared_watch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watching]:
    """One watch that many tests use, each in a folder of its own below the one that is watched."""
    place = tmp_path_factory.mktemp("watched")
    draw_picture(place / "photos" / "first.png", 0)
    one = Watching(place / "ix", place / "photos").until_first_run()
    yield one
    assert one.end() == 128 + signal.SIGTERM


@pytest.fixture
def folder(shared_watch: Watching, request: pytest.FixtureRequest) -> Path:
    made = shared_watch.collection.parent / "photos" / request.node.name
    made.mkdir()
    return made


def test_a_new_picture_is_found_by_a_query(shared_watch: Watching, folder: Path):
    picture = draw_picture(folder / "new.png", 100)
    shared_watch.until_it_holds("new.png")
    with Collection.open(shared_watch.collection) as opened:
        shared_watch.until(lambda: opened.search(picture, k=1).hits[0].path == str(picture))


def test_a_file_that_is_written_in_pieces_is_indexed_once_when_complete(shared_watch: Watching, folder: Path):
    before, content = shared_watch.n_embedded(), jpeg(1)
    with (folder / "slow.jpg").open("wb") as file:
        for start in range(0, len(content), len(content) // 15):
            file.write(content[start : start + len(content) // 15])
            file.flush()
            time.sleep(SETTLE_S / 4)
    shared_watch.until_it_holds("slow.jpg")
    assert shared_watch.n_embedded() == before + 1
    assert not any("slow.jpg" in str(run["skipped"]) for run in shared_watch.runs)


def test_a_stalled_copy_is_not_skipped_once_it_is_complete(shared_watch: Watching, folder: Path):
    content = jpeg(2)
    with (folder / "stalled.jpg").open("wb") as file:
        file.write(content[: len(content) // 2])
        file.flush()
        shared_watch.until(lambda: shared_watch.runs[-1]["skipped"])
        file.write(content[len(content) // 2 :])
    shared_watch.until_it_holds("stalled.jpg")
    shared_watch.until(lambda: not shared_watch.runs[-1]["skipped"])
    assert rows(shared_watch.collection, "SELECT path FROM skips") == []


def test_a_deleted_picture_disappears_from_results(shared_watch: Watching, folder: Path):
    picture = draw_picture(folder / "doomed.png", 101)
    shared_watch.until_it_holds("doomed.png")
    picture.unlink()
    shared_watch.until_it_lacks("doomed.png")


def test_a_renamed_picture_and_a_renamed_folder_keep_their_vectors(shared_watch: Watching, folder: Path):
    picture = draw_picture(folder / "sub" / "tulip.png", 102)
    shared_watch.until_it_holds("tulip.png")
    embedded = shared_watch.n_embedded()
    picture.rename(picture.with_name("rose.png"))
    shared_watch.until_it_holds("rose.png")
    (folder / "sub").rename(folder / "moved")
    where = "SELECT path FROM files WHERE path LIKE '%tulip.png' OR path LIKE '%rose.png'"
    shared_watch.until(lambda: rows(shared_watch.collection, where) == [str(folder / "moved" / "rose.png")])
    assert shared_watch.n_embedded() == embedded


def test_two_hundred_pictures_at_once_need_few_runs(shared_watch: Watching, folder: Path, tmp_path: Path):
    for seed in range(200):
        draw_picture(tmp_path / "burst" / f"burst_{seed}.png", 1000 + seed)
    before = n_runs(shared_watch.collection)
    shutil.copytree(tmp_path / "burst", folder / "burst")
    shared_watch.until(lambda: sum("burst" in name for name in files(shared_watch.collection)) == 200)
    assert n_runs(shared_watch.collection) - before <= 3


def test_folders_made_and_linked_later_are_watched_too(shared_watch: Watching, folder: Path, tmp_path: Path):
    (folder / "made" / "later").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    draw_picture(folder / "made" / "one.png", 103)
    shared_watch.until_it_holds("one.png")
    draw_picture(folder / "made" / "later" / "deep.png", 104)
    draw_picture(tmp_path / "elsewhere" / "linked.png", 105)
    shared_watch.until(lambda: {"deep.png", "linked.png"} <= files(shared_watch.collection))
    (folder / "link").unlink()


def test_a_name_that_is_not_utf8_does_not_stop_notifications(shared_watch: Watching, folder: Path):
    try:
        shutil.copy(draw_picture(folder / "plain.png", 106), os.fsencode(folder) + b"/caf\xe9.png")
    except OSError as error:
        pytest.skip(f"this file system refuses such names: {error}")
    shared_watch.until_it_holds("plain.png")
    draw_picture(folder / "after.png", 107)
    shared_watch.until_it_holds("after.png")
    n_strange = "SELECT count(*) FROM files WHERE typeof(path) = 'blob'"
    shared_watch.until(lambda: rows(shared_watch.collection, n_strange) == [1])
    os.unlink(os.fsencode(folder) + b"/caf\xe9.png")
    shared_watch.until(lambda: rows(shared_watch.collection, n_strange) == [0])


def test_it_waits_while_another_run_writes_and_reports_it_once(shared_watch: Watching, folder: Path):
    with writing(shared_watch):
        draw_picture(folder / "patient.png", 108)
        shared_watch.until(lambda: shared_watch.said("another run is writing"))
        time.sleep(3 * SETTLE_S)  # long enough for a second try
    shared_watch.until_it_holds("patient.png")
    shared_watch.until(lambda: shared_watch.said("indexing again"))
    assert shared_watch.said("another run is writing") == 1


def test_a_file_that_is_written_all_the_time_does_not_block_others(shared_watch: Watching, folder: Path):
    done = threading.Event()

    def scribble() -> None:
        with (folder / "camera.log").open("w") as log:
            while not done.wait(SETTLE_S / 8):
                log.write("a line\n")
                log.flush()

    scribbling = threading.Thread(target=scribble)
    scribbling.start()
    try:
        draw_picture(folder / "beside.png", 109)
        shared_watch.until_it_holds("beside.png")
    finally:
        done.set()
        scribbling.join()


def test_hidden_files_and_files_of_the_collection_start_no_run(watching, inbox: Path):
    one = watching(inbox, into=inbox / "indexes" / "ix").until_first_run()
    before = n_runs(one.collection)
    (inbox / ".thumbnails").mkdir()
    (inbox / ".thumbnails" / "x.png").write_bytes(b"x")
    time.sleep(4 * SETTLE_S)
    assert n_runs(one.collection) == before
    for seed in range(3):  # while this process reads the catalog that lies in the source
        picture = draw_picture(inbox / f"shown_{seed}.png", 50 + seed)
        one.until_it_holds(picture.name)


@pytest.mark.parametrize("how", [(), ("--poll", "0.2")], ids=["told", "polling"])
def test_a_source_that_is_missing_for_a_while_keeps_its_pictures(
    watching, inbox: Path, tmp_path: Path, how: tuple[str, ...]
):
    one = watching(inbox, *how).until_first_run()
    inbox.rename(tmp_path / "away")
    one.until(lambda: one.said("does not exist"))
    draw_picture(tmp_path / "away" / "meanwhile.png", 60)
    (tmp_path / "away").rename(inbox)
    one.until_it_holds("meanwhile.png")
    draw_picture(inbox / "later.png", 61)
    one.until_it_holds("later.png")
    one.end()
    assert len(files(one.collection)) == N_FIRST + 2
    assert [run["gone"] for run in one.runs] == [0] * len(one.runs)
    assert [one.said(words) for words in ("does not exist", "available again")] == [1, 1]


def test_a_source_that_becomes_empty_keeps_its_pictures_and_others_are_indexed(watching, inbox: Path, tmp_path: Path):
    draw_picture(tmp_path / "other" / "other.png", 70)
    one = watching(inbox, tmp_path / "other").until_first_run()
    inbox.rename(tmp_path / "away")
    inbox.mkdir()  # what a place to mount at looks like when nothing is mounted
    draw_picture(tmp_path / "other" / "more.png", 71)
    one.until_it_holds("more.png")
    assert len(files(one.collection)) == N_FIRST + 2
    inbox.rmdir()
    (tmp_path / "away").rename(inbox)
    (inbox / "first_0.png").unlink()
    one.until_it_lacks("first_0.png")
    assert len(files(one.collection)) == N_FIRST + 1


def test_an_empty_folder_waits_for_its_first_picture(watching, tmp_path: Path):
    (tmp_path / "inbox").mkdir()
    one = watching(tmp_path / "inbox")
    one.until(lambda: one.said("no images in"))
    draw_picture(tmp_path / "inbox" / "first.png", 1)
    one.until_first_run()
    assert one.runs[0]["embedded"] == 1


def test_lists_and_single_pictures_are_polled(watching, inbox: Path, tmp_path: Path):
    listed = tmp_path / "list.txt"
    listed.write_text(f"{inbox}/first_0.png\n")
    single = draw_picture(tmp_path / "single.png", 80)
    one = watching(listed, single, "--poll", "0.2").until_first_run()
    assert files(one.collection) == {"first_0.png", "single.png"}
    listed.write_text(f"{inbox}/first_0.png\n{inbox}/first_1.png\n")
    one.until_it_holds("first_1.png")
    draw_picture(single, 81)
    one.until(lambda: len(one.runs) == 3)
    assert [(run["files"], run["embedded"]) for run in one.runs] == [(2, 2), (3, 1), (3, 1)]


def test_an_object_store_is_polled_and_keeps_its_pictures_while_it_refuses_access(
    watching, inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with s3_server() as endpoint, proxy(endpoint) as door:
        bucket = new_bucket(endpoint)
        bucket.put_folder(inbox, "inbox/")
        configure(door.address, monkeypatch, tmp_path)
        one = watching(f"{bucket.address}/inbox", "--poll", "0.2").until_first_run()
        assert one.runs[0]["embedded"] == N_FIRST
        bucket.put("inbox/new.png", draw_picture(tmp_path / "new.png", 120).read_bytes())
        one.until_it_holds("new.png")
        door.mood = lambda method, path: "403"
        one.until(lambda: one.said("cannot be read"))
        bucket.delete("inbox/first_0.png")
        door.mood = well
        one.until_it_lacks("first_0.png")
        one.until(lambda: one.said("available again"))
        one.end()
    assert len(files(one.collection)) == N_FIRST
    assert one.said("cannot be read") == 1


def test_a_change_of_a_single_picture_is_detected_without_polling(watching, tmp_path: Path):
    single = draw_picture(tmp_path / "single.png", 80)
    one = watching(single).until_first_run()
    draw_picture(single, 81)
    one.until(lambda: len(one.runs) == 2)
    assert one.runs[1]["embedded"] == 1


def test_it_polls_when_the_system_has_no_folder_watches_left(watching, inbox: Path):
    limited = ("unshare", "--user", "--map-root-user", "sh", "-c")
    script = 'echo 1 > /proc/sys/user/max_inotify_watches && exec "$@"'
    if not shutil.which("unshare") or subprocess.run([*limited, script, "sh", "true"], capture_output=True).returncode:
        pytest.skip("no right to a namespace of users, where the limit on watches could be lowered")
    draw_picture(inbox / "a" / "deep.png", 90)
    one = watching(inbox, prefix=(*limited, script, "sh")).until_first_run()
    assert one.said("sysctl fs.inotify.max_user_watches") == 1
    assert one.said("polling every 10 s") == 1
    one.end()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_at_once_and_indexed_pictures_are_kept(watching, inbox: Path, number: signal.Signals):
    one = watching(inbox).until_first_run()
    started = time.monotonic()
    assert one.end(number) == 128 + number
    assert time.monotonic() - started < 5
    assert len(one.lines) == 2
    assert "watching" in one.lines[0]
    assert one.lines[1] == f"simsearch: stopped; {one.collection} keeps what was indexed"
    assert len(files(one.collection)) == N_FIRST


def test_it_resumes_after_it_was_killed(watching, inbox: Path):
    first = watching(inbox).until_first_run()
    assert first.end(signal.SIGKILL) == -signal.SIGKILL
    draw_picture(inbox / "meanwhile.png", 110)
    (inbox / "first_0.png").unlink()
    second = watching(inbox).until_first_run()
    told = second.runs[0]
    assert (told["embedded"], told["reused"], told["gone"]) == (1, N_FIRST - 1, 1)
    draw_picture(inbox / "after.png", 111)
    second.until_it_holds("after.png")


def test_one_line_is_printed_for_each_run_that_changed_something(inbox: Path, tmp_path: Path):
    process = subprocess.Popen(
        [*WATCH, "inbox", "--backbone", "histogram", "--settle", "0.2"],
        cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stderr.readline() == "simsearch: watching inbox into indexes/inbox  (Ctrl-C stops it)\n"
        assert process.stderr.readline().startswith("indexes/inbox: 5 embedded; now 5 images in 5 files (")
        os.utime(inbox / "first_0.png")  # no change of content is no line
        (inbox / "broken.jpg").write_bytes(b"\xff\xd8\xff")
        assert process.stderr.readline().startswith("indexes/inbox: 1 skipped; now 5 images in 5 files (")
        assert process.stderr.readline().startswith("  skipped inbox/broken.jpg: ")
        (inbox / "first_1.png").rename(inbox / "renamed.png")
        assert process.stderr.readline().startswith("indexes/inbox: 1 added, 1 gone; now 5 images in 5 files (")
    finally:
        process.terminate()
        out, _ = process.communicate(timeout=DEADLINE_S)
    assert out == ""


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["nowhere"], 1, "nowhere does not exist; check the path"),
        (["-"], 2, "cannot watch a list on stdin"),
        (["inbox", "--backbone", "resnet51"], 2, "unknown backbone 'resnet51'"),
    ],
)
def test_one_line_says_why_it_does_not_start(inbox: Path, tmp_path: Path, arguments: list[str], status: int, said: str):
    done = run("watch", *arguments, cwd=tmp_path)
    assert done.returncode == status
    assert done.stdout == ""
    assert said in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "indexes").exists()
