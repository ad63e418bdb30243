"""SQLite connections to a catalog, the lock for writing, and the translation of SQLite errors.

Every SQLite error of a statement that reads or writes a catalog is translated to a `CollectionError`.
"""

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
    CollectionTooNew,
    DiskFull,
)

CATALOG_NAME = "catalog.db"
LOCK_NAME = "catalog.lock"
SHARDS_NAME = "shards"
"""The folder beside the catalog for results of remote workers that are not in the catalog yet."""

SCHEMA_VERSION = 6
TOKENS_VERSION = 6
"""The first schema with random change tokens."""

_OLDEST_READABLE_VERSION = 5
"""Catalogs from this schema on are read without an upgrade where their folder is read-only."""

_APPLICATION_ID = 1936289139
_MAX_LOCK_ATTEMPTS = 5


def acquire_lock(folder: Path) -> filelock.BaseFileLock:
    """Acquire the lock for writing to the collection in `folder`; the caller releases it.

    A run that creates a collection and reads no picture deletes the lock file, too. A lock on a deleted file excludes
    no process: it is released, and acquired again on the current file.

    Raises `CollectionBusy` when another process holds it, `CollectionNotWritable`.
    """
    file = folder / LOCK_NAME
    lock = filelock.FileLock(file)
    for _ in range(_MAX_LOCK_ATTEMPTS):
        try:
            with _hold_file(file) as before:
                with contextlib.suppress(filelock.Timeout):
                    lock.acquire(timeout=0)
                with _hold_file(file) as after:
                    is_same = before is not None and before == after
        except OSError as error:
            lock.release()
            raise make_not_writable_error(folder, error.strerror or str(error)) from error
        if is_same and lock.is_locked:
            return lock
        lock.release()
        if is_same:
            break
    raise make_busy_error(folder)


@contextlib.contextmanager
def _hold_file(file: Path) -> Iterator[tuple[int, int] | None]:
    """Yield device and inode of a file, which no other file gets within the block; None where there is none."""
    try:
        descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        yield None
        return
    try:
        state = os.fstat(descriptor)
        yield state.st_dev, state.st_ino
    finally:
        os.close(descriptor)


def upgrade_schema(folder: Path) -> None:
    """Apply the missing migrations to the catalog of an older simsearch.

    Raises `CollectionBusy`, `CollectionNotWritable`.
    """
    lock = acquire_lock(folder)
    try:
        connect_to_write(folder, create=False)[0].close()
    finally:
        lock.release()


def connect_to_write(folder: Path, *, create: bool) -> tuple[sqlite3.Connection, bool]:
    """Open a connection for writing and bring the schema up to date; `create` a missing catalog.

    Returns the connection, and whether the catalog was created. A database that is not a catalog of this or an older
    version is left unchanged. Raises what `check_schema` raises.
    """
    connection = _connect(folder / CATALOG_NAME, "mode=rwc" if create else "mode=rw")
    try:
        is_new = create and _is_blank(connection)
        if not is_new:
            check_schema(connection, folder)
        connection.execute("PRAGMA foreign_keys = ON")
        if read_version(connection) < SCHEMA_VERSION:
            from simsearch.store.migrations import migrate  # takes 0.2 s to import; only a first run needs it

            migrate(connection)
        # With a write-ahead log, readers continue during a write, and a commit survives a killed process.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        connection.close()
        raise
    return connection, is_new


def connect_to_read(file: Path) -> sqlite3.Connection:
    """Open a connection that changes no data.

    To read beside a writer, SQLite needs its log and shared memory next to the file, and only a connection with the
    right to write removes them afterwards. In a read-only folder the file is read without them.
    """
    if not os.access(file.parent, os.W_OK):
        has_log = file.with_name(f"{file.name}-wal").exists()
        return _connect(file, "mode=ro" if has_log else "mode=ro&immutable=1")
    connection = _connect(file, "mode=rw")
    connection.execute("PRAGMA query_only = ON")
    return connection


def check_schema(connection: sqlite3.Connection, folder: Path) -> None:
    """Check that the database is a catalog that this version can read.

    Raises `CollectionNotFound` for an empty database (an interrupted creation), `CollectionDamaged` for a foreign one,
    `CollectionTooNew` for the catalog of a newer simsearch.
    """
    if not _is_catalog(connection):
        if _is_blank(connection):
            raise make_not_found_error(folder)
        raise CollectionDamaged(
            str(folder),
            f"{folder / CATALOG_NAME} is not a simsearch catalog",
            "move it to another folder, then run `simsearch index` again",
        )
    version = read_version(connection)
    if version > SCHEMA_VERSION:
        raise CollectionTooNew(
            str(folder),
            f"{folder} was written by a newer simsearch (schema {version}; this version reads up to {SCHEMA_VERSION})",
            "upgrade with `pip install -U simsearch`",
        )


def must_upgrade(connection: sqlite3.Connection, folder: Path) -> bool:
    """Whether an older simsearch wrote the catalog, and it is to be upgraded before it is read."""
    version = read_version(connection)
    can_stay = version >= _OLDEST_READABLE_VERSION and not os.access(folder, os.W_OK)
    return version < SCHEMA_VERSION and not can_stay and _is_catalog(connection)


def _is_catalog(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("PRAGMA application_id").fetchone()[0] == _APPLICATION_ID)


def _is_blank(connection: sqlite3.Connection) -> bool:
    """Whether there are no tables except SQLite's and sqlite-utils' own: a new file, or an interrupted creation."""
    query = r"SELECT count(*) FROM sqlite_schema WHERE name NOT LIKE '%sqlite\_%' ESCAPE '\'"
    return bool(connection.execute(query).fetchone()[0] == 0)


def read_version(connection: sqlite3.Connection) -> int:
    """Read the version of the schema."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _connect(file: Path, mode: str) -> sqlite3.Connection:
    """Open a connection to `file`; `mode` holds SQLite's URI parameters."""
    uri = f"file:{urllib.parse.quote(os.fsencode(file.absolute()))}?{mode}"
    # The callers begin transactions. A catalog opened in one thread may be used in another, one thread at a time.
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=20)


@contextlib.contextmanager
def translate_errors(folder: Path) -> Iterator[None]:
    """Raise SQLite errors of the block as `CollectionError`s that name the collection's `folder`."""
    try:
        yield
    except sqlite3.Error as error:
        raise translate_error(folder, error) from error


def translate_error(folder: Path, error: sqlite3.Error) -> CollectionError:
    """Translate an SQLite error to a `CollectionError` that names the collection's `folder`."""
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
        "restore catalog.db from a backup, or delete it and index again",
    )


def make_disk_full_error(folder: Path) -> DiskFull:
    """Build the error for a full disk under `folder`."""
    return DiskFull(
        str(folder),
        f"no disk space left to write to {folder}",
        "free some space and run the same command again; it continues where it stopped",
    )


def make_not_found_error(folder: Path) -> CollectionNotFound:
    """Build the error for a folder without a collection."""
    return CollectionNotFound(
        str(folder),
        f"there is no collection at {folder}",
        "create one with `simsearch index SOURCE --into DIR`",
    )


def make_busy_error(folder: Path) -> CollectionBusy:
    """Build the error for a collection that another process writes to."""
    return CollectionBusy(
        str(folder),
        f"another run is writing to {folder}",
        "wait until that run ends, or use another collection (--into)",
    )


def make_not_writable_error(folder: Path, cause: str) -> CollectionNotWritable:
    """Build the error for a folder that cannot be written to."""
    return CollectionNotWritable(
        str(folder), f"{folder} cannot be written to ({cause})", "choose another folder with --into"
    )
