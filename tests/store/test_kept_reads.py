"""What a reader keeps of a catalog until another connection changes it."""

from __future__ import annotations

from pathlib import Path

from simsearch.index.kinds import IndexKindChoice
from simsearch.store.catalog import Catalog
from simsearch.store.writer import CatalogWriter
from tests.support.synthetic import clustered, fill


def write_setting(folder: Path, value: str | None) -> None:
    with CatalogWriter.open(folder) as writer, writer.transaction():
        writer.write_setting("rerank", value)


def test_a_reader_sees_each_commit_at_its_next_call(tmp_path: Path):
    folder = fill(tmp_path / "ix", clustered(50, seed=1), IndexKindChoice()).folder
    with Catalog.open(folder) as catalog:
        first = catalog.list_models()[0]
        assert catalog.find_model(first.fingerprint) is catalog.find_model(first.fingerprint)
        assert catalog.read_setting("rerank") is None
        for value in ("pca16", "pca32", None):
            write_setting(folder, value)
            assert catalog.read_setting("rerank") == value
        with CatalogWriter.open(folder) as writer:
            with writer.transaction():
                writer.forget_files(["/pictures/000003.png"])
                writer.forget_orphans()
            own = writer.list_models()[0].change_token
        assert own != first.change_token
        assert catalog.list_models()[0].change_token == own
        assert catalog.count_images(first.id) == 49


def test_a_query_looks_once_but_a_read_transaction_looks_again(tmp_path: Path):
    folder = fill(tmp_path / "ix", clustered(50, seed=1), IndexKindChoice()).folder
    with Catalog.open(folder) as catalog:
        with catalog.look_once():
            assert catalog.read_setting("rerank") is None
            write_setting(folder, "pca16")
            assert catalog.read_setting("rerank") is None
            with catalog.read_transaction():
                assert catalog.read_setting("rerank") == "pca16"
        assert catalog.read_setting("rerank") == "pca16"


def test_a_writer_reads_what_it_has_written_and_not_committed(tmp_path: Path):
    folder = fill(tmp_path / "ix", clustered(50, seed=1), IndexKindChoice()).folder
    with CatalogWriter.open(folder) as writer, writer.transaction():
        writer.write_setting("rerank", "pca16")
        assert writer.read_setting("rerank") == "pca16"
        writer.write_setting("rerank", "pca32")
        assert writer.read_setting("rerank") == "pca32"
