"""simsearch deletes only what it made: everything else in a collection's folder stays, whatever its name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from simsearch.errors import CollectionError, NoImages, SourceError
from simsearch.store.lock import acquire_lock
from simsearch.store.own_files import delete_shards
from tests.conftest import HISTOGRAM
from tests.support import oneshot

SHARD = Path("shards") / "histogram-0123456789abcdef" / "block-000001.parquet"


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """A folder whose only file looks like a picture and is none."""
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.jpg").write_bytes(b"\xff\xd8\xffjunk")
    return tmp_path / "bad"


def put(file: Path, content: str = "mine") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    return file


@pytest.mark.parametrize(
    "name", ["catalog.csv", "catalog.pdf", "catalog.db.bak", "catalog.lock", "catalog.db-wal", "shards/x"]
)
def test_a_folder_with_files_of_the_user_is_refused_and_they_stay(name: str, bad: Path, photos: Path, tmp_path: Path):
    file = put(tmp_path / "mine" / name)
    for source in (bad, photos):
        with pytest.raises(CollectionError, match="holds other things"):
            oneshot.ingest(tmp_path / "mine", [source], HISTOGRAM)
    assert file.read_text() == "mine"


def test_a_run_in_vain_deletes_the_folder_only_where_it_made_it(bad: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    for name in ("empty", "new"):
        with pytest.raises(NoImages):
            oneshot.ingest(tmp_path / name, [bad], HISTOGRAM)
    assert list((tmp_path / "empty").iterdir()) == []
    assert not (tmp_path / "new").exists()


def test_an_import_in_vain_deletes_only_what_it_made(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    source = put(tmp_path / "vectors.jsonl", '{"path": "gone.png", "vector": [1, 0]}\n')
    with pytest.raises(SourceError, match="none of"):
        oneshot.import_embeddings(tmp_path / "empty", source, "clip")
    assert list((tmp_path / "empty").iterdir()) == []


def test_prune_deletes_shards_of_killed_runs_and_nothing_else(photos: Path, collection: Path):
    oneshot.ingest(collection, [photos], HISTOGRAM)
    shard, own = put(collection / SHARD), put(collection / "shards" / "x")
    oneshot.prune(collection)
    assert (shard.exists(), shard.parent.exists(), own.read_text()) == (False, False, "mine")
    own.unlink()
    put(collection / SHARD)
    oneshot.prune(collection)
    assert not (collection / "shards").exists()


def test_shards_behind_a_link_stay(tmp_path: Path):
    shard = put(tmp_path / "elsewhere" / SHARD)
    (tmp_path / "ix").mkdir()
    (tmp_path / "ix" / "shards").symlink_to(tmp_path / "elsewhere" / "shards")
    delete_shards(tmp_path / "ix")
    assert shard.exists()


def test_a_catalog_made_in_vain_is_deleted_within_the_lock(bad: Path, tmp_path: Path):
    """Whenever a file of the catalog is deleted, no other process can get the lock."""
    code = """
import fcntl, os, sys
from simsearch import Collection, ModelChoice
from simsearch.errors import NoImages
deleted = []
def check(event, args):
    name = os.path.basename(os.fspath(args[0])) if event == "os.remove" else ""
    if name.startswith("catalog."):
        with open(os.path.join(os.path.dirname(os.fspath(args[0])), "catalog.lock")) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                deleted.append(name)
sys.addaudithook(check)
try:
    with Collection.open(sys.argv[1], create=True) as collection:
        collection.ingest([sys.argv[2]], ModelChoice(backbone="histogram"))
except NoImages:
    print(*sorted({"catalog.db", "catalog.lock"} & set(deleted)), os.path.exists(sys.argv[1]))
"""
    command = [sys.executable, "-c", code, str(tmp_path / "new"), str(bad)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "catalog.db catalog.lock False\n"


def test_a_lock_file_that_is_deleted_while_it_is_locked_is_locked_again(tmp_path: Path):
    """Between opening and locking it, the file is replaced: the lock must be on the file that is there."""
    code = """
import fcntl, sys
from pathlib import Path
from simsearch.errors import CollectionBusy
from simsearch.store.lock import acquire_lock
folder, attempts = Path(sys.argv[1]), []
def replace(event, args):
    if event == "fcntl.flock" and args[1] & fcntl.LOCK_EX and not attempts:
        attempts.append(1)
        (folder / "catalog.lock").unlink()
        (folder / "catalog.lock").touch()
sys.addaudithook(replace)
(folder / "catalog.lock").touch()
lock = acquire_lock(folder)
with (folder / "catalog.lock").open() as file:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("locked", len(attempts))
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "locked 1\n"


def test_a_lock_that_the_child_of_a_killed_process_holds_for_a_moment_is_waited_for(tmp_path: Path):
    """A process that is forked inherits the open file, and with it the lock, until it runs another program."""
    code = """
import os, signal, sys, time
from pathlib import Path
from simsearch.store.lock import acquire_lock
lock = acquire_lock(Path(sys.argv[1]))
if os.fork() == 0:
    print("forked", flush=True)
    time.sleep(0.02)
    os._exit(0)
signal.pause()
"""
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "forked\n"
        holder.kill()
        holder.wait()
        acquire_lock(tmp_path).release()
