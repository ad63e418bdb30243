"""The migrations of the schema, and the version that a reader checks."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from simsearch import Collection
from simsearch.errors import CollectionDamaged, CollectionNotFound, CollectionTooNew
from simsearch.store.catalog import Catalog
from simsearch.store.connection import SCHEMA_VERSION
from simsearch.store.migrations import count_steps, migrate
from simsearch.store.sqlite_errors import CATALOG_NAME
from simsearch.store.writer import CatalogWriter
from tests.conftest import HISTOGRAM
from tests.support import oneshot


def test_a_reader_expects_the_version_of_the_last_migration():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection)
    assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    assert count_steps() == SCHEMA_VERSION


def test_migrations_are_applied_once():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection)
    before = connection.execute("SELECT uuid FROM collection").fetchall()
    migrate(connection)
    assert connection.execute("SELECT uuid FROM collection").fetchall() == before


def test_the_schema_is_what_the_architecture_documents():
    """A released migration is never edited: a change of this list needs a new one."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection)
    columns = {
        table: [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        for (table,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND sql NOTNULL")
        if "sqlite_" not in table
    }
    assert columns == {
        "collection": ["uuid", "created_at", "change_token"],
        "images": ["id", "digest", "width", "height", "format", "size_bytes", "taken_at", "camera"],
        "files": ["id", "path", "size_bytes", "mtime_ns", "image_id", "etag"],
        "views": ["id", "image_id", "kind", "parameters"],
        "models": ["id", "fingerprint", "backbone", "width", "details", "generation", "augmentation"],
        "vectors": ["id", "model_id", "view_id", "vector"],
        "perceptual_hashes": ["image_id", "upright", "mirrored"],
        "picture_statistics": ["image_id", "brightness", "contrast", "sharpness"],
        "copy_pairs": ["image_a", "image_b", "version", "evidence"],
        "copy_searches": ["model_id", "image_id", "version"],
        "region_hashes": ["image_id", "version", "hashes"],
        "projections": ["id", "model_id", "method", "n_vectors", "projection"],
        "graphs": ["model_id", "definition", "weights"],
        "runs": ["id", "model_id", "sources", "process", "started_at", "ended_at", "embedded", "reused"],
        "skips": ["id", "path", "reason"],
        "annotations": ["image_id", "name", "value"],
        "rejected_pairs": ["image_a", "image_b"],
        "settings": ["name", "value"],
        "indexes": ["model_id", "method", "kind", "details"],
        "changes": ["image_id", "number"],
        "vector_states": ["model_id", "token"],
    }


@pytest.mark.parametrize("has_graphs", [True, False], ids=["schema 1", "schema 1 of the first commits"])
def test_opening_a_catalog_of_an_older_simsearch_upgrades_it(tmp_path: Path, photos: Path, has_graphs: bool):
    collection = tmp_path / "old"
    oneshot.ingest(collection, [photos], HISTOGRAM)
    with sqlite3.connect(collection / CATALOG_NAME) as connection:  # back to the first step
        for (trigger,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {trigger}")
        connection.execute("ALTER TABLE models DROP COLUMN augmentation")
        for column in ("taken_at", "camera"):
            connection.execute(f"ALTER TABLE images DROP COLUMN {column}")
        connection.execute("ALTER TABLE files DROP COLUMN etag")
        connection.execute("ALTER TABLE collection DROP COLUMN change_token")
        for table in (
            "projections",
            "annotations",
            "rejected_pairs",
            "settings",
            "indexes",
            "changes",
            "vector_states",
            "perceptual_hashes",
            "picture_statistics",
            "copy_pairs",
            "copy_searches",
            "region_hashes",
        ):
            connection.execute(f"DROP TABLE {table}")
        if not has_graphs:
            connection.execute("DROP TABLE graphs")
        connection.execute("DELETE FROM _sqlite_migrations WHERE name <> '0001_collection'")
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    with Collection.open(collection) as opened:
        assert opened.info().to_dict()["images"] == 12
        assert len(opened.search(sorted(photos.rglob("*.png"))[0], k=3).hits) == 3
    with sqlite3.connect(collection / CATALOG_NAME) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    connection.close()
    (photos / "a" / "picture_00.png").unlink()
    assert oneshot.ingest(collection, [photos]).n_images == 11


def test_a_catalog_of_a_newer_simsearch_is_refused_by_reader_and_writer(tmp_path: Path):
    CatalogWriter.open_or_create(tmp_path).close()
    with sqlite3.connect(tmp_path / CATALOG_NAME) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    for opened in (Catalog.open, CatalogWriter.open_or_create):
        with pytest.raises(CollectionTooNew, match="pip install -U simsearch"):
            opened(tmp_path)


def test_a_foreign_database_is_refused_and_left_unchanged(tmp_path: Path):
    with sqlite3.connect(tmp_path / CATALOG_NAME) as connection:
        connection.execute("CREATE TABLE birds (name TEXT)")
    connection.close()
    for opened in (Catalog.open, CatalogWriter.open_or_create):
        with pytest.raises(CollectionDamaged, match="not a simsearch catalog"):
            opened(tmp_path)
    with sqlite3.connect(tmp_path / CATALOG_NAME) as connection:
        assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("birds",)]
    connection.close()


def test_a_file_that_is_not_a_database_is_refused(tmp_path: Path):
    (tmp_path / CATALOG_NAME).write_bytes(b"version https://git-lfs.github.com/spec/v1\n" * 50)
    for opened in (Catalog.open, CatalogWriter.open_or_create):
        with pytest.raises(CollectionDamaged, match="restore"):
            opened(tmp_path)


@pytest.mark.parametrize("leftover", ["nothing", "empty", "migrations table"])
def test_an_interrupted_creation_is_not_found_by_readers_and_continued_by_writers(tmp_path: Path, leftover: str):
    if leftover == "empty":
        (tmp_path / CATALOG_NAME).touch()
    if leftover == "migrations table":
        from sqlite_utils import Database, Migrations

        with Database(tmp_path / CATALOG_NAME) as database:
            Migrations("simsearch").ensure_migrations_table(database)
    with pytest.raises(CollectionNotFound, match="simsearch index"):
        Catalog.open(tmp_path)
    with CatalogWriter.open_or_create(tmp_path) as writer:
        assert writer.count_contents()["files"] == 0
