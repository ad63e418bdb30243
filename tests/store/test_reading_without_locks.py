"""A reader without permission to write to the folder: it sees changes, and never takes them for damage."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from simsearch import Collection
from simsearch.store.catalog import Catalog
from simsearch.store.writer import CatalogWriter
from tests.conftest import HISTOGRAM, ROOT, draw_picture
from tests.support import oneshot
from tests.support.milvus_catalogs import add_images, entry, unit_rows

pytestmark = pytest.mark.long

_SEARCHES = """
import os, sys
from simsearch import Collection
assert not os.access(sys.argv[1], os.W_OK)
with Collection.open(sys.argv[1]) as collection:
    print("open", flush=True)
    for line in sys.stdin:
        hits = collection.search(int(line), k=None).hits
        print(*sorted(os.path.basename(path) for hit in hits for path in hit.paths), flush=True)
"""

_READS = """
import random, sys
from simsearch import Collection
from simsearch.store.snapshot import open_snapshot
from simsearch.store.database import read_again
from pathlib import Path

folder, choose = Path(sys.argv[1]), random.Random(0)

def read_images(ids):
    with open_snapshot(folder) as snapshot:
        return snapshot.read_images(ids)

n = 0
print("open", flush=True)
with Collection.open(folder) as collection:
    while True:
        ids = choose.sample(range(1, 3001), 50)
        if n % 2:
            images = read_again(lambda: read_images(ids))
            assert {image.digest for image in images.values()} == {f"{number:032x}" for number in ids}
        else:
            assert collection.search(ids[0], k=1).hits[0].image_id == ids[0]
            assert not collection.catalog.find_damage()
        n += 1
        print(n, flush=True)
"""


@contextlib.contextmanager
def reader(code: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has opened the collection in `folder` and may not write there, while this process may."""
    folder.chmod(0o555)
    if shutil.which("setpriv") is None or os.geteuid() != 0:
        pytest.skip("needs root and setpriv, to start a process with fewer rights")
    process = subprocess.Popen(
        ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", sys.executable, "-c", code, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n", process.communicate()[1]
        yield process
    finally:
        process.kill()
        process.communicate()


def ask(process: subprocess.Popen[str], image_id: int) -> list[str]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{image_id}\n")
    process.stdin.flush()
    answer = process.stdout.readline().split()
    assert answer, process.communicate()[1]
    return answer


def test_a_reader_without_permission_to_write_sees_every_change(photos: Path, collection: Path):
    shutil.rmtree(photos / "b")
    oneshot.ingest(collection, [photos], HISTOGRAM)
    first = [f"picture_{seed:02}.png" for seed in range(6)]
    with reader(_SEARCHES, collection) as process:
        assert ask(process, 1) == first
        draw_picture(photos / "new.png", 99)
        oneshot.ingest(collection, [photos])
        assert ask(process, 1) == ["new.png", *first]
        oneshot.remove(collection, [str(photos / "a" / "picture_01.png")])
        assert ask(process, 1) == ["new.png", first[0], *first[2:]]
        with CatalogWriter.open(collection) as writer:  # the log of a writer is read, too
            with writer.transaction():
                writer.forget_files([str(photos / "new.png")])
            assert ask(process, 1) == [first[0], *first[2:]]
        oneshot.prune(collection)
        assert ask(process, 1) == [first[0], *first[2:]]
        oneshot.ingest(collection, [photos])
        assert ask(process, 1) == ["new.png", *first]


@pytest.mark.long
def test_a_reader_without_permission_to_write_never_takes_a_change_for_damage(collection: Path):
    """The catalog is larger than the page cache of SQLite, and all pages change again and again while it is read."""
    changes = random.Random(1)
    rows = unit_rows(3000, 512)
    with CatalogWriter.open_or_create(collection) as writer:
        stored = add_images(writer, rows)
    with Collection.open(collection) as opened:
        opened.search(1, k=1)  # makes the index
    with reader(_READS, collection) as process:
        assert process.stdout is not None
        n_read = 0
        while n_read < 30:
            with CatalogWriter.open(collection) as writer, writer.transaction():
                numbers = changes.sample(range(1, 3001), 2000)
                writer.annotate((number, "color", changes.choice("abc") * 300) for number in numbers)
                moved = (
                    entry(f"/photos/{number}/{changes.random()}.png", number, [rows[number - 1]])
                    for number in numbers[:200]
                )
                writer.record_files(moved, stored.id)
            line = process.stdout.readline()
            assert line, process.communicate()[1]
            n_read = int(line)


def test_without_permission_to_write_nothing_is_written(photos: Path, collection: Path):
    oneshot.ingest(collection, [photos], HISTOGRAM)
    before = {file.name: file.read_bytes() for file in (collection).iterdir()}
    with reader(_SEARCHES, collection) as process:
        assert len(ask(process, 1)) == 12
    assert {file.name: file.read_bytes() for file in (collection).iterdir()} == before


def test_a_reader_with_permission_to_write_uses_locks(photos: Path, collection: Path):
    oneshot.ingest(collection, [photos], HISTOGRAM)
    with Catalog.open(collection) as catalog:
        assert catalog.count_contents()["files"] == 12
        assert (collection / "catalog.db-shm").exists()
