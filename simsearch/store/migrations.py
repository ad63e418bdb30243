"""The catalog's schema as numbered migrations that are only ever appended. The only import of sqlite-utils.

A released migration is never edited, because existing catalogs have applied it. The last statement of each migration
sets `user_version` to its number; a reader checks that number without importing this module.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from sqlite_utils import Database, Migrations

# Int8 graphs in OpenVINO's format, calibrated on the collection's own images.
_GRAPHS = """CREATE TABLE graphs (
        model_id INTEGER PRIMARY KEY REFERENCES models(id) ON DELETE CASCADE,
        definition BLOB NOT NULL,
        weights BLOB NOT NULL)"""

_TABLES = (
    # 'sims' in ASCII: identifies a catalog to this package and to `file`
    "PRAGMA application_id = 1936289139",
    "CREATE TABLE collection (uuid TEXT NOT NULL, created_at TEXT NOT NULL)",
    "INSERT INTO collection VALUES (lower(hex(randomblob(16))), datetime('now'))",
    # One row for each distinct image content. Ids are never reused.
    """CREATE TABLE images (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        digest TEXT NOT NULL UNIQUE,
        width INTEGER NOT NULL,
        height INTEGER NOT NULL,
        format TEXT NOT NULL,
        size_bytes INTEGER NOT NULL)""",
    # The files with these contents. A path that is not valid UTF-8 is a BLOB of its bytes; all others are TEXT.
    """CREATE TABLE files (
        id INTEGER PRIMARY KEY,
        path NOT NULL UNIQUE,
        size_bytes INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,
        image_id INTEGER NOT NULL REFERENCES images(id))""",
    "CREATE INDEX files_by_image ON files(image_id)",
    # The embedded views of an image: the original and augmented ones. The id is the FAISS id, never reused.
    """CREATE TABLE views (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        image_id INTEGER NOT NULL REFERENCES images(id) ON DELETE CASCADE,
        kind TEXT NOT NULL,
        parameters TEXT NOT NULL,
        UNIQUE (image_id, kind, parameters))""",
    # `generation` changes with the model's vectors; an index of the same generation is current. It was a counter; since
    # step 6 it is a random token.
    """CREATE TABLE models (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        fingerprint TEXT NOT NULL UNIQUE,
        backbone TEXT NOT NULL,
        width INTEGER NOT NULL,
        details TEXT NOT NULL,
        generation INTEGER NOT NULL DEFAULT 0)""",
    # Unit vectors of `width` little-endian float32 values.
    """CREATE TABLE vectors (
        id INTEGER PRIMARY KEY,
        model_id INTEGER NOT NULL REFERENCES models(id) ON DELETE CASCADE,
        view_id INTEGER NOT NULL REFERENCES views(id) ON DELETE CASCADE,
        vector BLOB NOT NULL,
        UNIQUE (model_id, view_id))""",
    "CREATE INDEX vectors_by_view ON vectors(view_id)",
    _GRAPHS,
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
)

_PROJECTIONS = (
    # Which augmented views of every image are embedded, as JSON; NULL: none.
    "ALTER TABLE models ADD COLUMN augmentation TEXT",
    # PCA projections fitted to `n_vectors` of a model's vectors: see `models.projection.Projection.to_bytes`.
    """CREATE TABLE projections (
        id INTEGER PRIMARY KEY,
        model_id INTEGER NOT NULL REFERENCES models(id) ON DELETE CASCADE,
        method TEXT NOT NULL,
        n_vectors INTEGER NOT NULL,
        projection BLOB NOT NULL,
        UNIQUE (model_id, method))""",
    "PRAGMA user_version = 2",
)

_METADATA_AND_SETTINGS = (
    # Date (`YYYY-MM-DDTHH:MM:SS`, camera clock) and camera from EXIF.
    # NULL: unknown, or indexed by an older simsearch and not decoded since.
    "ALTER TABLE images ADD COLUMN taken_at TEXT",
    "ALTER TABLE images ADD COLUMN camera TEXT",
    # The user's own columns. A value keeps its type: INTEGER, REAL or TEXT.
    """CREATE TABLE annotations (
        image_id INTEGER NOT NULL REFERENCES images(id) ON DELETE CASCADE,
        name TEXT NOT NULL,
        value NOT NULL,
        PRIMARY KEY (image_id, name)) WITHOUT ROWID""",
    "CREATE INDEX annotations_by_name ON annotations(name)",
    # Pairs of similar images that a person marked as not duplicates; the smaller id first.
    """CREATE TABLE rejected_pairs (
        image_a INTEGER NOT NULL REFERENCES images(id) ON DELETE CASCADE,
        image_b INTEGER NOT NULL REFERENCES images(id) ON DELETE CASCADE,
        PRIMARY KEY (image_a, image_b),
        CHECK (image_a < image_b)) WITHOUT ROWID""",
    "CREATE INDEX rejected_pairs_by_b ON rejected_pairs(image_b)",
    # Settings of the collection: see `store.settings`.
    "CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "PRAGMA user_version = 3",
)

_ETAGS_AND_INDEXES = (
    # The ETag of an object in an object store. NULL: a local file, or a store without ETags.
    "ALTER TABLE files ADD COLUMN etag TEXT",
    # The index of a model's vectors: its kind, how it was built, and its measured recall, as JSON.
    # `method` names the re-ranking method that transformed the vectors, as in `projections`; '': not transformed.
    """CREATE TABLE indexes (
        model_id INTEGER NOT NULL REFERENCES models(id) ON DELETE CASCADE,
        method TEXT NOT NULL,
        kind TEXT NOT NULL,
        details TEXT NOT NULL,
        PRIMARY KEY (model_id, method)) WITHOUT ROWID""",
    "PRAGMA user_version = 4",
)

# Triggers number the changes of images, whatever writes them, while the collection is searched in Milvus, which has to
# receive them. Each change gets the largest number + 1; an image keeps the number of its last change. SQLite applies
# the conflict clause of an outer statement within triggers too; only an upsert keeps its own.
_IS_COUNTED = "WHEN EXISTS (SELECT 1 FROM settings WHERE name = 'milvus')"
_NUMBER = "(SELECT ifnull(max(number), 0) + 1 FROM changes)"
_UPSERT = "ON CONFLICT (image_id) DO UPDATE SET number = excluded.number"
_EVENTS = (
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
_CHANGES = (
    "CREATE TABLE changes (image_id INTEGER PRIMARY KEY, number INTEGER NOT NULL)",
    "CREATE INDEX changes_by_number ON changes(number)",
    *(
        f"""CREATE TRIGGER {name} AFTER {event} {_IS_COUNTED} BEGIN
            INSERT INTO changes (image_id, number) VALUES ({image_id}, {_NUMBER}) {_UPSERT}; END"""
        for name, event, image_id in _EVENTS
    ),
    "PRAGMA user_version = 5",
)

# A counter starts again when a model is deleted or an older copy of the catalog is restored; a random token never does.
_CHANGE_TOKENS = (
    # The tokens that a model's vectors have had, the current one included. Within this history an id never gets another
    # vector, so that an index with one of these tokens can be updated by the ids that differ.
    """CREATE TABLE vector_states (
        model_id INTEGER NOT NULL REFERENCES models(id) ON DELETE CASCADE,
        token INTEGER NOT NULL,
        PRIMARY KEY (model_id, token)) WITHOUT ROWID""",
    "UPDATE models SET generation = random()",
    "INSERT INTO vector_states SELECT id, generation FROM models",
    # A random token that changes with files, columns and rejected pairs.
    "ALTER TABLE collection ADD COLUMN change_token INTEGER NOT NULL DEFAULT 0",
    "UPDATE collection SET change_token = random()",
    "PRAGMA user_version = 6",
)

_COPIES = (
    # The perceptual hashes of an image and of its mirror image (`images.perceptual_hash`). Images that an older
    # simsearch recorded get theirs when duplicates are first searched.
    """CREATE TABLE perceptual_hashes (
        image_id INTEGER PRIMARY KEY REFERENCES images(id) ON DELETE CASCADE,
        upright INTEGER NOT NULL,
        mirrored INTEGER NOT NULL)""",
    # Pairs of images that were found to be copies, the smaller id first, with the version of the comparison, and its
    # evidence as JSON.
    """CREATE TABLE copy_pairs (
        image_a INTEGER NOT NULL REFERENCES images(id) ON DELETE CASCADE,
        image_b INTEGER NOT NULL REFERENCES images(id) ON DELETE CASCADE,
        version INTEGER NOT NULL,
        evidence TEXT NOT NULL,
        PRIMARY KEY (image_a, image_b),
        CHECK (image_a < image_b)) WITHOUT ROWID""",
    "CREATE INDEX copy_pairs_by_b ON copy_pairs(image_b)",
    # Images whose candidates under a model have all been compared, and the version of the comparison.
    """CREATE TABLE copy_searches (
        model_id INTEGER NOT NULL REFERENCES models(id) ON DELETE CASCADE,
        image_id INTEGER NOT NULL REFERENCES images(id) ON DELETE CASCADE,
        version INTEGER NOT NULL,
        PRIMARY KEY (model_id, image_id)) WITHOUT ROWID""",
    "CREATE INDEX copy_searches_by_image ON copy_searches(image_id)",
    "PRAGMA user_version = 7",
)

_STATISTICS = (
    # Gray levels and sharpness of a picture (`images.statistics`). Images that an older simsearch recorded get theirs
    # when the quality of the collection is first checked.
    """CREATE TABLE picture_statistics (
        image_id INTEGER PRIMARY KEY REFERENCES images(id) ON DELETE CASCADE,
        brightness REAL NOT NULL,
        contrast REAL NOT NULL,
        sharpness REAL NOT NULL)""",
    "PRAGMA user_version = 8",
)

_REGION_HASHES = (
    # The hashes of the regions of an image (`matching.region_hashes`), 81 little-endian uint32, for the search for
    # covered copies. `version` is that of the comparison of copies.
    """CREATE TABLE region_hashes (
        image_id INTEGER PRIMARY KEY REFERENCES images(id) ON DELETE CASCADE,
        version INTEGER NOT NULL,
        hashes BLOB NOT NULL)""",
    "PRAGMA user_version = 9",
)

_steps = Migrations("simsearch")


@_steps(name="0001_collection")
def _create_tables(db: Database) -> None:
    _execute_all(db, _TABLES)


@_steps(name="0002_rankings")
def _add_projections(db: Database) -> None:
    _execute_all(db, _PROJECTIONS)


@_steps(name="0003_questions")
def _add_metadata_and_settings(db: Database) -> None:
    _execute_all(db, _METADATA_AND_SETTINGS)


@_steps(name="0004_past_one_machine")
def _add_etags_and_indexes(db: Database) -> None:
    _execute_all(db, _ETAGS_AND_INDEXES)


@_steps(name="0005_changes")
def _add_changes(db: Database) -> None:
    _execute_all(db, _CHANGES)


@_steps(name="0006_change_tokens")
def _add_change_tokens(db: Database) -> None:
    _execute_all(db, _CHANGE_TOKENS)


@_steps(name="0007_copies")
def _add_copies(db: Database) -> None:
    _execute_all(db, _COPIES)


@_steps(name="0008_statistics")
def _add_statistics(db: Database) -> None:
    _execute_all(db, _STATISTICS)


@_steps(name="0009_region_hashes")
def _add_region_hashes(db: Database) -> None:
    _execute_all(db, _REGION_HASHES)


def migrate(connection: sqlite3.Connection) -> None:
    """Apply every missing migration to the catalog behind `connection`, each in a transaction of its own."""
    if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'models'").fetchone():
        connection.execute(_GRAPHS.replace("TABLE", "TABLE IF NOT EXISTS"))  # the first catalogs of step 1 have none
    _steps.apply(Database(connection))


def count_steps() -> int:
    """The number of migrations: the `user_version` of an up-to-date catalog."""
    return len(_steps.pending(Database(memory=True)))


def _execute_all(db: Database, statements: Sequence[str]) -> None:
    for statement in statements:
        db.execute(statement)
