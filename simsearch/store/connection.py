"""SQLite connections to a catalog, to read and to write. They raise SQLite's own errors: see `sqlite_errors`."""

from __future__ import annotations

import os
import sqlite3
import time
import urllib.parse
from pathlib import Path

from simsearch.errors import CollectionDamaged, CollectionTooNew
from simsearch.store.lock import acquire_lock
from simsearch.store.sqlite_errors import CATALOG_NAME, SQLITE_READONLY_CANTINIT, can_access, make_not_found_error

SHARDS_NAME = "shards"
"""The folder beside the catalog for results of remote workers that are not in the catalog yet."""

SCHEMA_VERSION = 9
TOKENS_VERSION = 6
"""The first schema with random change tokens."""

_OLDEST_READABLE_VERSION = 5
"""Catalogs from this schema on are read without an upgrade where their folder is read-only."""

_APPLICATION_ID = 1936289139
BUSY_TIMEOUT_MS = 20_000
"""How long a statement waits for the locks of other processes."""

_MAX_ATTEMPTS = 5
_RETRY_S = 0.02
_NO_SHARED_MEMORY = frozenset(
    {
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_READONLY_CANTLOCK,
        SQLITE_READONLY_CANTINIT,
        sqlite3.SQLITE_IOERR_SHMOPEN,
        sqlite3.SQLITE_IOERR_SHMSIZE,
        sqlite3.SQLITE_IOERR_SHMMAP,
    }
)
"""SQLite cannot make or map the files that it keeps beside a catalog, or there is another reason not to open it."""

_FileState = tuple[int, int, int, int]


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


class UnlockedConnection(sqlite3.Connection):
    """A connection to a catalog that is read without locks, in the state that the file has when it is opened.

    Where the folder cannot be written to, or its disk is full, SQLite cannot make the files by which it sees changes of
    other processes. The state of the file shows them: a caller reads again what it read while the file was changed.
    """

    file: Path
    state: _FileState

    def is_current(self) -> bool:
        """Whether a new connection would read the same: the file has not changed, and no write-ahead log is in use."""
        return not self.has_changed() and not _has_log(self.file)

    def has_changed(self) -> bool:
        """Whether the file has changed since it was opened, so that what was read may be a mixture of two states."""
        return _read_state(self.file) != self.state


def has_changed(connection: sqlite3.Connection) -> bool:
    """Whether what was read through a connection may be a mixture of two states."""
    return isinstance(connection, UnlockedConnection) and connection.has_changed()


def connect_to_read(file: Path) -> sqlite3.Connection:
    """Open a connection that changes no data.

    To read beside a writer, SQLite needs its log and shared memory next to the file, and only a connection with the
    right to write removes them afterwards. Where they cannot be made, the file is read without locks.
    """
    can_write = can_access(file.parent, os.W_OK)
    for _ in range(_MAX_ATTEMPTS):
        if not can_write and not _has_log(file):
            return _connect_unlocked(file)
        connection = _connect(file, "mode=rw" if can_write else "mode=ro")
        try:
            connection.execute("PRAGMA query_only = ON")
            connection.execute("PRAGMA schema_version").fetchone()
        except sqlite3.OperationalError as error:
            connection.close()
            if error.sqlite_errorcode not in _NO_SHARED_MEMORY:
                raise
            if can_write and not _has_log(file):
                return _connect_unlocked(file)
            failure = error  # the log may have been folded into the catalog, or its shared memory just been made
            time.sleep(_RETRY_S)
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise failure


def _connect_unlocked(file: Path) -> UnlockedConnection:
    state = _read_state(file)
    connection = _connect(file, "mode=ro&immutable=1", UnlockedConnection)
    assert isinstance(connection, UnlockedConnection)  # the factory makes it
    connection.file, connection.state = file, state
    return connection


def _has_log(file: Path) -> bool:
    """Whether a write-ahead log with content lies beside a catalog."""
    try:
        return file.with_name(f"{file.name}-wal").stat().st_size > 0
    except OSError:
        return False


def _read_state(file: Path) -> _FileState:
    """Read what changes with the content of a catalog; zeros where there is none."""
    try:
        status = os.stat(file)
    except OSError:
        return (0, 0, 0, 0)
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


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
    can_stay = version >= _OLDEST_READABLE_VERSION and not can_access(folder, os.W_OK)
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


def _connect(file: Path, mode: str, kind: type[sqlite3.Connection] = sqlite3.Connection) -> sqlite3.Connection:
    """Open a connection to `file`; `mode` holds SQLite's URI parameters."""
    uri = f"file:{urllib.parse.quote(os.fsencode(file.absolute()))}?{mode}"
    # The callers begin transactions. A catalog opened in one thread may be used in another, one thread at a time.
    connection: sqlite3.Connection = sqlite3.connect(
        uri, uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT_MS / 1000, factory=kind
    )
    return connection
