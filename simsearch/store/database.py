"""The open database of a catalog: schema check, read transactions, queries with translated errors."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from simsearch.errors import CatalogChanged, CollectionNotFound, SimsearchError, UsageError
from simsearch.store.connection import (
    UnlockedConnection,
    check_schema,
    connect_to_read,
    has_changed,
    must_upgrade,
    upgrade_schema,
)
from simsearch.store.sqlite_errors import (
    CATALOG_NAME,
    make_changed_error,
    make_damaged_error,
    make_not_found_error,
    translate_error,
    translate_errors,
)
from simsearch.store.values import find_invalid_values

_Result = TypeVar("_Result")

_MAX_ROW_ID = 2**63 - 1
_MAX_READS = 20
"""How often is read again what another process changed meanwhile. It changes a catalog at most every few seconds."""

_MAX_VALUES = 500
"""How many values are bound to one statement."""


@contextlib.contextmanager
def translate_read_errors(folder: Path, connection: sqlite3.Connection) -> Iterator[None]:
    """Translate the SQLite errors of a block that reads through a connection.

    Raises `CatalogChanged`, whatever the block did, if another process changed the catalog meanwhile.
    """
    try:
        yield
    except SimsearchError as error:
        if has_changed(connection):
            raise make_changed_error(folder) from error
        raise
    except sqlite3.Error as error:
        raise make_changed_error(folder) if has_changed(connection) else translate_error(folder, error) from error
    except Exception as error:  # a mixture of two states, or a damaged value, can fail in any way
        if has_changed(connection):
            raise make_changed_error(folder) from error
        blame_values(folder, connection, error)
        raise
    if has_changed(connection):
        raise make_changed_error(folder)


def blame_values(folder: Path, connection: sqlite3.Connection, error: Exception) -> None:
    """Raise `CollectionDamaged` from an unexpected error where the catalog is proven to hold values that are not valid.

    Otherwise the error is one of this package, and the caller raises it.
    """
    with contextlib.suppress(sqlite3.ProgrammingError), translate_errors(folder):  # the connection may be closed
        if problems := find_invalid_values(connection):
            raise make_damaged_error(folder, problems[0]) from error


def read_again(read: Callable[[], _Result]) -> _Result:
    """Call a function that reads a catalog, and again if another process changed the catalog meanwhile.

    Raises what it raises; `CatalogChanged` only if the catalog changes all the time.
    """
    for _ in range(_MAX_READS - 1):
        with contextlib.suppress(CatalogChanged):
            return read()
    return read()


class CatalogDatabase:
    """A connection to the catalog in `folder`. Every SQLite error of a query is raised as a `CollectionError`.

    A catalog that is read without locks is opened again when it has changed.
    """

    def __init__(self, folder: Path, connection: sqlite3.Connection) -> None:
        self.folder = folder
        self._current_connection = connection
        with translate_errors(folder):
            check_schema(connection, folder)

    @property
    def _connection(self) -> sqlite3.Connection:
        connection = self._current_connection
        if isinstance(connection, UnlockedConnection) and not connection.in_transaction and not connection.is_current():
            self._current_connection = connection = connect_to_read(self.folder / CATALOG_NAME)
        return connection

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open the catalog in `folder`; the catalog of an older simsearch is upgraded first, which writes to it.

        In a read-only folder a catalog of the schema before this one is read as it is.

        Raises `CollectionNotFound`, `CollectionTooNew`, `CollectionDamaged`; for an upgrade also `CollectionBusy`,
        `CollectionNotWritable`.
        """
        file = folder / CATALOG_NAME
        if not file.is_file():
            raise make_not_found_error(folder)
        with translate_errors(folder):
            connection = connect_to_read(file)
            try:
                if must_upgrade(connection, folder):
                    connection.close()
                    upgrade_schema(folder)
                    connection = connect_to_read(file)
                return cls(folder, connection)
            except BaseException:
                connection.close()
                raise

    @classmethod
    def exists(cls, folder: Path) -> bool:
        """Whether `folder` holds a collection. An interrupted creation does not count.

        Raises what `open` raises for a collection that cannot be read.
        """
        try:
            cls.open(folder).close()
        except CollectionNotFound:
            return False
        return True

    def close(self) -> None:
        """Close the connection. The last connection to close folds SQLite's write-ahead log into the file."""
        self._current_connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def blame_damage(self, error: Exception) -> None:
        """As `blame_values` says."""
        blame_values(self.folder, self._current_connection, error)

    @contextlib.contextmanager
    def read_transaction(self) -> Iterator[None]:
        """Read one state of the catalog within the block, whatever another process writes.

        Raises `UsageError` if another thread reads one through this connection.
        """
        if self._current_connection.in_transaction:
            problem = f"the catalog of {self.folder} is in use by another thread"
            raise UsageError(problem, "call methods of `Collection`, which wait, or open one in each thread")
        with translate_errors(self.folder):
            connection = self._connection
        with translate_read_errors(self.folder, connection):
            connection.execute("BEGIN")
            try:
                yield
            finally:
                connection.execute("COMMIT")

    def find_damage(self) -> list[str]:
        """Run SQLite's integrity check, and check all values and references; one line for each problem."""
        problems = [row[0] for row in self._fetch_all("PRAGMA integrity_check")]
        return self._read(find_invalid_values) if problems == ["ok"] else problems

    def _read_version(self) -> int | None:
        """A number that changes when another connection changes the catalog; None where changes cannot be seen so."""
        connection = self._current_connection
        if isinstance(connection, UnlockedConnection):
            return None
        try:
            return int(connection.execute("PRAGMA data_version").fetchone()[0])
        except sqlite3.Error as error:
            raise translate_error(self.folder, error) from error

    def _execute(self, query: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        try:  # not `translate_errors`, which takes 6 us: recording a file takes five statements
            return self._connection.execute(query, values)
        except sqlite3.Error as error:
            raise translate_error(self.folder, error) from error

    def _execute_many(self, query: str, rows: Iterable[Sequence[Any]]) -> sqlite3.Cursor:
        with translate_errors(self.folder):
            return self._connection.executemany(query, rows)

    def _iterate_rows(self, query: str, values: Sequence[Any] = ()) -> Iterator[Any]:
        if isinstance(self._current_connection, UnlockedConnection):
            yield from self._fetch_all(query, values)
            return
        with translate_errors(self.folder):
            # An abandoned generator closes what it yields from: not the cursor, whose connection may be closed before.
            yield from iter(self._connection.execute(query, values).fetchone, None)

    def _fetch_all(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        return self._read(lambda connection: connection.execute(query, values).fetchall())

    def _fetch_one(self, query: str, values: Sequence[Any] = ()) -> Any:
        return self._read(lambda connection: connection.execute(query, values).fetchone())

    def _read(self, read: Callable[[sqlite3.Connection], _Result]) -> _Result:
        """Read with one statement; without locks again where the catalog was changed meanwhile."""
        connection = self._current_connection
        if isinstance(connection, UnlockedConnection) and not connection.in_transaction:
            return read_again(lambda: self._read_once(read))
        return self._read_once(read)

    def _read_once(self, read: Callable[[sqlite3.Connection], _Result]) -> _Result:
        try:
            connection = self._connection
            result = read(connection)
        except sqlite3.Error as error:
            if not has_changed(self._current_connection):
                raise translate_error(self.folder, error) from error
        else:
            if not has_changed(connection):
                return result
        raise make_changed_error(self.folder)


def is_row_id(number: int) -> bool:
    """Whether a number can be the id of a row; SQLite refuses larger ones with an `OverflowError`."""
    return 0 < number <= _MAX_ROW_ID


def split_chunks(values: Sequence[Any]) -> Iterator[tuple[Sequence[Any], str]]:
    """Split values into chunks for `IN (...)`, each with its placeholders."""
    for start in range(0, len(values), _MAX_VALUES):
        some = values[start : start + _MAX_VALUES]
        yield some, ", ".join("?" * len(some))
