"""Transactions of a catalog, and what removing a file takes with it."""

from __future__ import annotations

import contextlib
from pathlib import Path

from simsearch.sources.scan import Skip
from simsearch.store import settings
from simsearch.store.catalog import Catalog
from simsearch.store.writer import CatalogWriter


def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path):
    with CatalogWriter.open_or_create(tmp_path / "collection") as writer:
        with writer.transaction():
            writer.write_setting(settings.RERANK, "aqe3")
        with contextlib.suppress(KeyError), writer.transaction():
            writer.write_setting(settings.RERANK, "dba5")
            writer.record_skips([Skip("/photos/a.png", "damaged")])
            raise KeyError
        assert (writer.read_setting(settings.RERANK), writer.list_skips()) == ("aqe3", [])
    with Catalog.open(tmp_path / "collection") as catalog:
        assert (catalog.read_setting(settings.RERANK), catalog.list_skips()) == ("aqe3", [])


def test_a_removed_file_is_no_skip_any_more(tmp_path: Path):
    kept, removed = Skip("/photos/a.png", "damaged"), Skip("/photos/b.png", "damaged")
    with CatalogWriter.open_or_create(tmp_path / "collection") as writer, writer.transaction():
        writer.record_skips([kept, removed])
        assert writer.forget_files([removed.path]) == 0  # it has no picture in the catalog
        assert writer.list_skips() == [kept]
