"""A catalog that is damaged, locked or missing: which error is raised, and what is left unchanged."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from simsearch.errors import CollectionBusy, CollectionDamaged, CollectionNotFound
from simsearch.index.kinds import IndexKindChoice
from simsearch.models.choice import resolve_model
from simsearch.store.catalog import Catalog
from simsearch.store.sqlite_errors import CATALOG_NAME
from simsearch.store.writer import CatalogWriter
from tests.conftest import HISTOGRAM
from tests.support.synthetic import clustered, fill

READS: dict[str, Callable[[Catalog], Any]] = {
    "find_model": lambda catalog: catalog.find_model(resolve_model(HISTOGRAM).fingerprint),
    "find_original_view": lambda catalog: catalog.find_original_view(8),
    "count_contents": lambda catalog: catalog.count_contents(),
    "iterate_paths": lambda catalog: list(catalog.iterate_paths()),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fill(tmp_path / "collection", clustered(20, seed=1), IndexKindChoice()).folder


@pytest.mark.parametrize("name", READS)
def test_a_read_of_a_damaged_catalog_names_the_collection(name: str, folder: Path):
    with Catalog.open(folder) as catalog:
        assert READS[name](catalog)
    with closing(sqlite3.connect(folder / CATALOG_NAME)) as connection:
        (page_size,) = connection.execute("PRAGMA page_size").fetchone()
    content = (folder / CATALOG_NAME).read_bytes()
    (folder / CATALOG_NAME).write_bytes(content[:page_size] + b"\xff" * (len(content) - page_size))
    with Catalog.open(folder) as catalog, pytest.raises(CollectionDamaged, match="is damaged") as caught:
        READS[name](catalog)
    assert caught.value.collection == str(folder)


@pytest.mark.parametrize("name", READS)
def test_a_read_of_a_locked_catalog_says_that_another_run_writes(name: str, folder: Path):
    with closing(sqlite3.connect(folder / CATALOG_NAME, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = DELETE")  # without a write-ahead log, a writer locks readers out
        with Catalog.open(folder) as catalog:
            catalog._connection.execute("PRAGMA busy_timeout = 0")
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(CollectionBusy, match="another run is writing"):
                READS[name](catalog)


@pytest.mark.parametrize("leftover", ["nothing", "folder", "empty file"])
def test_opening_a_collection_to_write_creates_none(leftover: str, tmp_path: Path):
    folder = tmp_path / "collection"
    if leftover != "nothing":
        folder.mkdir()
    if leftover == "empty file":
        (folder / CATALOG_NAME).touch()
    with pytest.raises(CollectionNotFound, match="no collection at"):
        CatalogWriter.open(folder)
    assert not Catalog.exists(folder)
    CatalogWriter.open_or_create(folder).close()
    assert Catalog.exists(folder)


def test_one_writer_at_a_time(folder: Path):
    with CatalogWriter.open(folder):
        for open_writer in (CatalogWriter.open, CatalogWriter.open_or_create):
            with pytest.raises(CollectionBusy):
                open_writer(folder)
    CatalogWriter.open(folder).close()


def test_a_writer_that_cannot_open_the_catalog_releases_the_lock(folder: Path):
    content = (folder / CATALOG_NAME).read_bytes()
    (folder / CATALOG_NAME).write_bytes(b"no database" * 1000)
    for _ in range(2):
        with pytest.raises(CollectionDamaged):
            CatalogWriter.open(folder)
    (folder / CATALOG_NAME).write_bytes(content)
    CatalogWriter.open(folder).close()
