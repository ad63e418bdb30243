"""The catalog's schema, in numbered steps that are only ever appended. The one import of sqlite-utils.

A step that has landed is never edited: catalogs out there have taken it. Each step ends by setting
`user_version` to its number, which is how a reader knows what it looks at without running any of this.
"""

from __future__ import annotations

import sqlite3

from sqlite_utils import Database, Migrations

_steps = Migrations("simsearch")


@_steps(name="0001_collection")
def _create_tables(db: Database) -> None:
    for statement in (
        # 'sims': what `file` and readers know a catalog by
        "PRAGMA application_id = 1936289139",
        "CREATE TABLE collection (uuid TEXT NOT NULL, created_at TEXT NOT NULL)",
        "INSERT INTO collection VALUES (lower(hex(randomblob(16))), datetime('now'))",
        # One row for each distinct picture content. Ids are never used twice.
        """CREATE TABLE images (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            digest TEXT NOT NULL UNIQUE,
            width INTEGER NOT NULL,
            height INTEGER NOT NULL,
            format TEXT NOT NULL,
            size_bytes INTEGER NOT NULL)""",
        # Where contents were found. A path that is no valid UTF-8 is a BLOB of its bytes, all others are TEXT.
        """CREATE TABLE files (
            id INTEGER PRIMARY KEY,
            path NOT NULL UNIQUE,
            size_bytes INTEGER NOT NULL,
            mtime_ns INTEGER NOT NULL,
            image_id INTEGER NOT NULL REFERENCES images(id))""",
        "CREATE INDEX files_by_image ON files(image_id)",
        # Renditions of an image that were embedded. The id is the FAISS id; never used twice.
        """CREATE TABLE views (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            image_id INTEGER NOT NULL REFERENCES images(id) ON DELETE CASCADE,
            kind TEXT NOT NULL,
            parameters TEXT NOT NULL,
            UNIQUE (image_id, kind, parameters))""",
        # `generation` counts the transactions that changed the model's vectors: a cache is fresh if it agrees.
        """CREATE TABLE models (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            fingerprint TEXT NOT NULL UNIQUE,
            backbone TEXT NOT NULL,
            width INTEGER NOT NULL,
            details TEXT NOT NULL,
            generation INTEGER NOT NULL DEFAULT 0)""",
        # Little-endian float32, `width` of them, of unit length.
        """CREATE TABLE vectors (
            id INTEGER PRIMARY KEY,
            model_id INTEGER NOT NULL REFERENCES models(id) ON DELETE CASCADE,
            view_id INTEGER NOT NULL REFERENCES views(id) ON DELETE CASCADE,
            vector BLOB NOT NULL,
            UNIQUE (model_id, view_id))""",
        "CREATE INDEX vectors_by_view ON vectors(view_id)",
        # What was made of a model on the collection's own pictures: an int8 graph as OpenVINO writes it.
        """CREATE TABLE graphs (
            model_id INTEGER PRIMARY KEY REFERENCES models(id) ON DELETE CASCADE,
            definition BLOB NOT NULL,
            weights BLOB NOT NULL)""",
        """CREATE TABLE runs (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            model_id INTEGER NOT NULL REFERENCES models(id) ON DELETE CASCADE,
            sources TEXT NOT NULL,
            process INTEGER NOT NULL,
            started_at TEXT NOT NULL,
            ended_at TEXT,
            embedded INTEGER,
            reused INTEGER)""",
        "CREATE TABLE skips (id INTEGER PRIMARY KEY, path NOT NULL UNIQUE, reason TEXT NOT NULL)",
        "PRAGMA user_version = 1",
    ):
        db.execute(statement)


@_steps(name="0002_rankings")
def _add_projections(db: Database) -> None:
    for statement in (
        # Which augmented views the model is to have of every image, as JSON; NULL: none.
        "ALTER TABLE models ADD COLUMN augmentation TEXT",
        # PCAs of a model's vectors, fitted to so many of them: see `rerank.projection.Projection.to_bytes`.
        """CREATE TABLE projections (
            id INTEGER PRIMARY KEY,
            model_id INTEGER NOT NULL REFERENCES models(id) ON DELETE CASCADE,
            method TEXT NOT NULL,
            n_vectors INTEGER NOT NULL,
            projection BLOB NOT NULL,
            UNIQUE (model_id, method))""",
        "PRAGMA user_version = 2",
    ):
        db.execute(statement)


@_steps(name="0003_questions")
def _add_metadata_and_settings(db: Database) -> None:
    for statement in (
        # When and by what a picture was taken, as its EXIF says: `YYYY-MM-DDTHH:MM:SS` on the camera's clock.
        # NULL: not known, or indexed by an older simsearch and not decoded since.
        "ALTER TABLE images ADD COLUMN taken_at TEXT",
        "ALTER TABLE images ADD COLUMN camera TEXT",
        # Columns of the user's own. A value is what it was given as: INTEGER, REAL or TEXT.
        """CREATE TABLE annotations (
            image_id INTEGER NOT NULL REFERENCES images(id) ON DELETE CASCADE,
            name TEXT NOT NULL,
            value NOT NULL,
            PRIMARY KEY (image_id, name)) WITHOUT ROWID""",
        "CREATE INDEX annotations_by_name ON annotations(name)",
        # Pairs that look alike and that a person said are no duplicates; the smaller id first.
        """CREATE TABLE rejected_pairs (
            image_a INTEGER NOT NULL REFERENCES images(id) ON DELETE CASCADE,
            image_b INTEGER NOT NULL REFERENCES images(id) ON DELETE CASCADE,
            PRIMARY KEY (image_a, image_b),
            CHECK (image_a < image_b)) WITHOUT ROWID""",
        "CREATE INDEX rejected_pairs_by_b ON rejected_pairs(image_b)",
        # What the owner of the collection chose, such as the method that answers are ranked by.
        "CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
        "PRAGMA user_version = 3",
    ):
        db.execute(statement)


@_steps(name="0004_past_one_machine")
def _add_etags_and_indexes(db: Database) -> None:
    for statement in (
        # What an object store calls the state in which it holds the content. NULL: a file on a disk, or no answer.
        "ALTER TABLE files ADD COLUMN etag TEXT",
        # What is searched in the place of a model's vectors, how it was made, and how often it is right.
        # `method` is what was made of the vectors first, as in `projections`; '' for the vectors as they are.
        """CREATE TABLE indexes (
            model_id INTEGER NOT NULL REFERENCES models(id) ON DELETE CASCADE,
            method TEXT NOT NULL,
            kind TEXT NOT NULL,
            details TEXT NOT NULL,
            PRIMARY KEY (model_id, method)) WITHOUT ROWID""",
        "PRAGMA user_version = 4",
    ):
        db.execute(statement)


@_steps(name="0005_changes")
def _add_changes(db: Database) -> None:
    # Which images have changed, whatever wrote them, since the collection is searched in Milvus: what it has to be
    # told. Each counts up from the largest number before; an image has the number of its last change. Outer
    # statements say what to do on a conflict, and SQLite obeys them within triggers too: only an upsert is its own.
    is_told = "WHEN EXISTS (SELECT 1 FROM settings WHERE name = 'milvus')"
    number = "(SELECT ifnull(max(number), 0) + 1 FROM changes)"
    upsert = "ON CONFLICT (image_id) DO UPDATE SET number = excluded.number"
    events = (
        ("files_added", "INSERT ON files", "NEW.image_id"),
        ("files_moved_to", "UPDATE ON files", "NEW.image_id"),
        ("files_moved_from", "UPDATE ON files", "OLD.image_id"),
        ("files_gone", "DELETE ON files", "OLD.image_id"),
        ("images_noted", "UPDATE ON images", "NEW.id"),
        ("annotations_added", "INSERT ON annotations", "NEW.image_id"),
        ("annotations_changed", "UPDATE ON annotations", "NEW.image_id"),
        ("annotations_gone", "DELETE ON annotations", "OLD.image_id"),
        ("views_gone", "DELETE ON views", "OLD.image_id"),
        ("vectors_added", "INSERT ON vectors", "(SELECT image_id FROM views WHERE id = NEW.view_id)"),
    )
    for statement in (
        "CREATE TABLE changes (image_id INTEGER PRIMARY KEY, number INTEGER NOT NULL)",
        "CREATE INDEX changes_by_number ON changes(number)",
        *(
            f"""CREATE TRIGGER {name} AFTER {event} {is_told} BEGIN
                INSERT INTO changes (image_id, number) VALUES ({image_id}, {number}) {upsert}; END"""
            for name, event, image_id in events
        ),
        "PRAGMA user_version = 5",
    ):
        db.execute(statement)


def migrate(connection: sqlite3.Connection) -> None:
    """Take every step that the catalog behind `connection` has not taken yet, each in a transaction."""
    _steps.apply(Database(connection))


def count_steps() -> int:
    """How many steps there are: the `user_version` of a current catalog."""
    return len(_steps.pending(Database(memory=True)))
