"""SQLite connections to a catalog, and SQLite's errors and path types as ours."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import filelock

from simsearch.errors import (
    CollectionBusy,
    CollectionDamaged,
    CollectionError,
    CollectionNotFound,
    CollectionNotWritable,
    DiskFull,
)

CATALOG_NAME = "catalog.db"
SHARDS_NAME = "shards"
"""The folder beside the catalog for what workers elsewhere embedded and is not in the catalog yet."""

SCHEMA_VERSION = 5
_APPLICATION_ID = 1936289139


def acquire_lock(folder: Path) -> filelock.BaseFileLock:
    """The right to write to the collection in `folder`, until it is released.

    Raises `CollectionBusy` when another process has it, `CollectionNotWritable`.
    """
    try:
        right = filelock.FileLock(folder / "catalog.lock")
        right.acquire(timeout=0)
    except filelock.Timeout as error:
        raise make_busy_error(folder) from error
    except OSError as error:
        raise make_not_writable_error(folder, error.strerror or str(error)) from error
    return right


def upgrade_schema(folder: Path) -> None:
    """Take the schema steps that the catalog of an older simsearch has not taken.

    Raises `CollectionBusy`, `CollectionNotWritable`.
    """
    right = acquire_lock(folder)
    try:
        connect_to_write(folder).close()
    finally:
        right.release()


def connect_to_write(folder: Path) -> sqlite3.Connection:
    """A connection for writing to a catalog of the current schema."""
    connection = connect(folder / CATALOG_NAME, "mode=rwc")
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        connection.execute("PRAGMA foreign_keys = ON")
        if version < SCHEMA_VERSION and (is_catalog(connection) or is_blank(connection)):
            from simsearch.store.migrations import migrate  # 0.2 s that only a first run needs

            migrate(connection)
        # Readers go on while we write; a commit survives a killed process.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        connection.close()
        raise
    return connection


def is_catalog(connection: sqlite3.Connection) -> bool:
    """Whether the database is a catalog of ours."""
    return bool(connection.execute("PRAGMA application_id").fetchone()[0] == _APPLICATION_ID)


def is_outdated(connection: sqlite3.Connection) -> bool:
    """Whether the catalog was written by an older simsearch."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return bool(version < SCHEMA_VERSION and is_catalog(connection))


def is_blank(connection: sqlite3.Connection) -> bool:
    """No tables but those that SQLite and sqlite-utils keep for themselves: a new file, or a killed creation."""
    query = r"SELECT count(*) FROM sqlite_schema WHERE name NOT LIKE '%sqlite\_%' ESCAPE '\'"
    return bool(connection.execute(query).fetchone()[0] == 0)


def connect(file: Path, mode: str) -> sqlite3.Connection:
    """A connection to `file`; `mode` is SQLite's URI parameter."""
    uri = f"file:{urllib.parse.quote(os.fsencode(file.absolute()))}?{mode}"
    # Transactions are ours to begin; a catalog opened by one thread may be used by another, one at a time.
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=20)


def connect_to_read(file: Path) -> sqlite3.Connection:
    """A connection that changes nothing.

    Reading beside a writer needs SQLite's log and shared memory next to the file; only a connection that may write
    tidies them up behind it. In a place that cannot be written to the file is taken as it is.
    """
    if not os.access(file.parent, os.W_OK):
        has_log = file.with_name(f"{file.name}-wal").exists()
        return connect(file, "mode=ro" if has_log else "mode=ro&immutable=1")
    connection = connect(file, "mode=rw")
    connection.execute("PRAGMA query_only = ON")
    return connection


@contextlib.contextmanager
def translate_errors(folder: Path) -> Iterator[None]:
    """SQLite's errors as ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise _make_collection_error(folder, error) from error


def _make_collection_error(folder: Path, error: sqlite3.Error) -> CollectionError:
    code = getattr(error, "sqlite_errorcode", 0)
    if code & 0xFF == sqlite3.SQLITE_FULL or code in (sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC):
        return make_disk_full_error(folder)
    if code & 0xFF in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return make_not_writable_error(folder, str(error))
    if code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return make_busy_error(folder)
    return CollectionDamaged(
        str(folder),
        f"the catalog of {folder} cannot be read ({error})",
        "restore catalog.db from a copy or index again",
    )


def make_disk_full_error(folder: Path) -> DiskFull:
    """The error for a full disk under `folder`."""
    return DiskFull(
        str(folder),
        f"no room left to write to {folder}",
        "free some space and run the same command again: it goes on where it stopped",
    )


def make_not_found_error(folder: Path) -> CollectionNotFound:
    """The error for a folder without a collection."""
    return CollectionNotFound(
        str(folder),
        f"there is no collection at {folder}",
        "make one with `simsearch index SOURCE --into DIR`",
    )


def make_busy_error(folder: Path) -> CollectionBusy:
    """The error for a collection that another process writes to."""
    return CollectionBusy(
        str(folder),
        f"another run is writing to {folder}",
        "wait until it ends, or use another collection (--into)",
    )


def make_not_writable_error(folder: Path, cause: str) -> CollectionNotWritable:
    """The error for a place that cannot be written to."""
    return CollectionNotWritable(
        str(folder), f"{folder} cannot be written to ({cause})", "choose another place with --into"
    )
