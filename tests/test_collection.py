"""One open collection: reading, writing and creating through the same object."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from simsearch import Collection
from simsearch.errors import CollectionBusy, CollectionNotFound, NoImages, UsageError
from simsearch.models.choice import ModelChoice
from simsearch.store.writer import CatalogWriter
from tests.conftest import HISTOGRAM, draw_picture
from tests.support import oneshot


def test_opening_a_collection_to_create_it_writes_nothing(collection: Path):
    with Collection.open(collection, create=True) as opened:
        assert not collection.exists()
        with pytest.raises(CollectionNotFound):
            opened.search(1)
        with pytest.raises(CollectionNotFound):
            opened.prune()
        with pytest.raises(CollectionNotFound):
            opened.verify()
    assert not collection.exists()
    with pytest.raises(CollectionNotFound):
        Collection.open(collection)


def test_a_run_that_finds_no_picture_leaves_no_folder_and_the_next_one_creates_it(collection: Path, photos: Path):
    (photos.parent / "empty").mkdir()
    with Collection.open(collection, create=True) as opened:
        with pytest.raises(NoImages):
            opened.ingest([photos.parent / "empty"], HISTOGRAM)
        assert not collection.exists()
        assert opened.ingest([photos], HISTOGRAM).n_images == 12
        assert len(opened.search(photos / "a" / "picture_00.png").hits) == 10


def test_one_open_collection_is_filled_searched_and_pruned(collection: Path, photos: Path):
    with Collection.open(collection, create=True) as opened:
        opened.ingest([photos], HISTOGRAM)
        assert opened.search(photos / "a" / "picture_00.png", k=None).hits[0].rank == 1
        new = draw_picture(photos / "new.png", 99)
        opened.ingest([photos], HISTOGRAM)
        assert opened.search(new, k=1).hits[0].path == str(new)
        assert opened.remove([str(new)]) == 1
        assert str(new) not in {hit.path for hit in opened.search(new, k=None).hits}
        assert opened.prune().n_images == 1
        opened.set_default_rerank("pca4")
        assert opened.search(1, k=2).rerank == "pca4"
        assert opened.rebuild() == [f"{opened.model().fingerprint}.faiss"]
        assert not opened.verify().problems
        assert len(opened.search(1, k=None).hits) == 12


def test_an_open_collection_sees_what_another_process_writes(collection: Path, photos: Path):
    oneshot.ingest(collection, [photos], HISTOGRAM)
    with Collection.open(collection) as opened:
        first = photos / "a" / "picture_00.png"
        assert len(opened.search(first, k=None).hits) == 12
        new = draw_picture(photos / "new.png", 99)
        code = (
            "import sys\nfrom simsearch import Collection\n"
            "with Collection.open(sys.argv[1]) as collection:\n    collection.ingest([sys.argv[2]])\n"
        )
        subprocess.run([sys.executable, "-c", code, str(collection), str(photos)], check=True)
        assert len(opened.search(first, k=None).hits) == 13
        assert opened.search(new, k=1).hits[0].path == str(new)
        with CatalogWriter.open(collection), pytest.raises(CollectionBusy):
            opened.prune()
        opened.prune()


def test_an_ingest_opens_the_catalog_once_to_read_and_once_to_write(collection: Path, photos: Path):
    code = (
        "import sys\nfrom simsearch import Collection, ModelChoice\n"
        "opened = []\n"
        "sys.addaudithook(lambda event, args: opened.append(args[0]) if event == 'sqlite3.connect' else None)\n"
        "with Collection.open(sys.argv[1], create=True) as collection:\n"
        "    collection.ingest([sys.argv[2]], ModelChoice(backbone='histogram'))\n"
        "print(len(opened))\n"
    )
    for _ in ("new", "again"):
        command = [sys.executable, "-c", code, str(collection), str(photos)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout == "2\n"


def test_embedders_of_a_run_and_of_queries_are_shared_where_they_are_handed_in(collection: Path, photos: Path):
    embedders: dict = {}
    with Collection.open(collection, create=True, embedders=embedders) as opened:
        report = opened.ingest([photos], ModelChoice(backbone="builtin", precision="f32"))
        assert embedders == {}
        opened.search(draw_picture(photos.parent / "elsewhere.png", 50))
    assert list(embedders) == [report.model]


def test_one_collection_answers_several_threads(collection: Path, photos: Path):
    oneshot.ingest(collection, [photos], HISTOGRAM)
    paths = [str(path) for path in sorted(photos.rglob("*.png"))]
    start = threading.Barrier(4)

    def search_all(number: int) -> list[str]:
        start.wait()
        answers = [opened.search(path, k=1).hits[0].path for _ in range(3) for path in paths]
        if number == 0:
            opened.rebuild()
        return answers + [opened.search(path, k=1).hits[0].path for path in paths]

    with Collection.open(collection) as opened, ThreadPoolExecutor(4) as pool:
        assert list(pool.map(search_all, range(4))) == [paths * 4] * 4


def test_a_catalog_in_two_threads_says_so_and_not_that_it_is_damaged(collection: Path, photos: Path):
    oneshot.ingest(collection, [photos], HISTOGRAM)
    with (
        Collection.open(collection) as opened,
        ThreadPoolExecutor(1) as pool,
        opened.catalog.read_transaction(),
        pytest.raises(UsageError, match="in use by another thread; call methods of `Collection`, which wait"),
    ):
        pool.submit(lambda: opened.search(1)).result()
    with Collection.open(collection) as opened:
        assert opened.search(1).hits
