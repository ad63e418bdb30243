"""The translation of SQLite errors to `CollectionError`s, by their cause.

SQLite reports a failed system call without the reason: "disk I/O error" may be a full disk, a failing disk, or a limit.
The translation finds the reason out. Only an error that proves damage advises to restore the catalog.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from simsearch.errors import (
    CatalogChanged,
    CollectionBusy,
    CollectionDamaged,
    CollectionError,
    CollectionNotFound,
    CollectionNotReadable,
    CollectionNotWritable,
    DiskFull,
    StorageFailed,
)

CATALOG_NAME = "catalog.db"
LOG_NAME = f"{CATALOG_NAME}-wal"

_PROBE_BYTES = 128 << 10
"""More than the shared memory that SQLite allocates beside a catalog, whose failure is looked into."""

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DAMAGE = frozenset(
    {
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_FORMAT,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_TOOBIG,
        sqlite3.SQLITE_ERROR,  # a missing table or column: no statement of this package is wrong by itself
    }
)
_LOCK_ERRORS = frozenset(
    {
        sqlite3.SQLITE_IOERR_LOCK,
        sqlite3.SQLITE_IOERR_UNLOCK,
        sqlite3.SQLITE_IOERR_RDLOCK,
        sqlite3.SQLITE_IOERR_CHECKRESERVEDLOCK,
        sqlite3.SQLITE_IOERR_SHMLOCK,
    }
)
SQLITE_READONLY_CANTINIT = sqlite3.SQLITE_READONLY | 5 << 8
"""An error code of SQLite that Python does not name."""

_NEEDS_LOG = frozenset({sqlite3.SQLITE_READONLY_RECOVERY, sqlite3.SQLITE_READONLY_CANTLOCK, SQLITE_READONLY_CANTINIT})
"""A connection without permission to write cannot use the write-ahead log."""


@contextlib.contextmanager
def translate_errors(folder: Path) -> Iterator[None]:
    """Raise SQLite errors of the block as `CollectionError`s that name the collection's `folder`."""
    try:
        yield
    except sqlite3.Error as error:
        raise translate_error(folder, error) from error


def translate_error(folder: Path, error: sqlite3.Error) -> CollectionError:
    """Translate an SQLite error to a `CollectionError` that names the collection's `folder`."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return _translate_python_error(folder, error)
    primary = code & 0xFF
    if primary == sqlite3.SQLITE_FULL:
        return make_disk_full_error(folder)
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL):
        return make_busy_error(folder)
    if code in _NEEDS_LOG or primary == sqlite3.SQLITE_CANTOPEN:
        return _explain_failed_opening(folder, error)
    if primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return make_not_writable_error(folder, str(error))
    if primary == sqlite3.SQLITE_NOMEM or code == sqlite3.SQLITE_IOERR_NOMEM:
        advice = "close other programs, or use a machine with more memory"
        return CollectionError(str(folder), f"there is not enough memory to read the catalog of {folder}", advice)
    if code in _LOCK_ERRORS:
        return make_no_locks_error(folder, str(error))
    if primary == sqlite3.SQLITE_IOERR:
        return _explain_failed_io(folder, error)
    if primary in _DAMAGE and "transaction" not in str(error):
        return make_damaged_error(folder, str(error))
    return _make_misuse_error(folder, error)


def _translate_python_error(folder: Path, error: sqlite3.Error) -> CollectionError:
    """Translate an error that Python's module raised without asking SQLite."""
    if isinstance(error, (sqlite3.ProgrammingError, sqlite3.InterfaceError)):
        return _make_misuse_error(folder, error)
    return make_damaged_error(folder, str(error))  # text that is not UTF-8


def _make_misuse_error(folder: Path, error: sqlite3.Error) -> CollectionError:
    problem = f"the catalog of {folder} cannot be used ({error})"
    return CollectionError(str(folder), problem, "open the collection again; if that does not help, report a bug")


def _explain_failed_opening(folder: Path, error: sqlite3.Error) -> CollectionError:
    """Find out why the catalog, or a file that SQLite keeps beside it, cannot be opened."""
    file, log = folder / CATALOG_NAME, folder / LOG_NAME
    if not file.exists():
        return make_not_found_error(folder)
    if not can_access(file, os.R_OK):
        return CollectionNotReadable(str(folder), f"no permission to read {file}", "check the permissions of that file")
    if not can_access(folder, os.W_OK) and log.exists() and log.stat().st_size:
        return CollectionNotReadable(
            str(folder),
            f"{folder} cannot be read without permission to write: an interrupted run left the log {log.name}",
            f"run `simsearch info --in {folder}` once as a user who may write there, or read a copy of the folder",
        )
    return _explain_failed_io(folder, error, make_not_writable_error)


def _explain_failed_io(
    folder: Path, error: sqlite3.Error, otherwise: Callable[[Path, str], CollectionError] | None = None
) -> CollectionError:
    """Find out why a system call failed; `otherwise` makes the error where nothing points to the disk."""
    failure = _find_write_failure(folder)
    if failure is not None and failure.errno in _NO_SPACE:
        return make_disk_full_error(folder)
    if otherwise is not None:
        return otherwise(folder, (failure and failure.strerror) or str(error))
    name = getattr(error, "sqlite_errorname", "")
    return StorageFailed(
        str(folder),
        f"the disk of {folder} failed to read or write ({error}{', ' if name else ''}{name})",
        "check the disk, or the connection to the network share, and run the same command again; "
        "`simsearch verify` checks the collection",
    )


def _find_write_failure(folder: Path) -> OSError | None:
    """Try to write to `folder` and return the error of the system; None where writing works."""
    try:
        _check_size_limit(folder)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error
    return None


def _check_size_limit(folder: Path) -> None:
    """Raise `OSError` where a file of the catalog has about the largest size that `ulimit -f` allows."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    sizes = [file.stat().st_size for file in (folder / CATALOG_NAME, folder / LOG_NAME) if file.exists()]
    if limit != resource.RLIM_INFINITY and max(sizes, default=0) + _PROBE_BYTES > limit:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))


def can_access(path: Path, mode: int) -> bool:
    """Whether this process may use `path`: `os.access` with the rights that opening a file is checked with."""
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def make_damaged_error(folder: Path, cause: str) -> CollectionDamaged:
    """Build the error for a catalog that is proven to be damaged."""
    return CollectionDamaged(
        str(folder),
        f"the catalog of {folder} is damaged ({cause})",
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


def make_changed_error(folder: Path) -> CatalogChanged:
    """Build the error for a catalog that another process changed while it was read without locks."""
    return CatalogChanged(
        str(folder),
        f"the catalog of {folder} was changed while it was read without permission to write to its folder",
        "try again in a moment",
    )


def make_no_locks_error(folder: Path, cause: str) -> CollectionNotWritable:
    """Build the error for a file system that has no locks, without which two runs would overwrite each other."""
    return CollectionNotWritable(
        str(folder),
        f"the file system of {folder} does not support file locks ({cause})",
        "keep the collection on a local disk, or mount the share with locks",
    )


def make_not_writable_error(folder: Path, cause: str) -> CollectionNotWritable:
    """Build the error for a folder that cannot be written to."""
    return CollectionNotWritable(
        str(folder), f"{folder} cannot be written to ({cause})", "choose another folder with --into"
    )
