"""The check of the values in a catalog: types, JSON, references, and what this package can parse.

SQLite accepts any value in any column, and its own check does not look at them. An unexpected error is called damage of
the catalog only where this check proves it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from simsearch.images.views import Augmentation
from simsearch.models.model import Model

_MAX_WIDTH = 1_000_000
_INTEGER, _TEXT, _BLOB = "typeof(@) = 'integer'", "typeof(@) = 'text'", "typeof(@) = 'blob'"
_PATH = "typeof(@) IN ('text', 'blob')"
_COUNT = "typeof(@) = 'integer' AND @ >= 0"
_SIZE = "typeof(@) = 'integer' AND @ > 0"
_OBJECT = "CASE WHEN typeof(@) = 'text' AND json_valid(@) THEN json_type(@) END = 'object'"
_ARRAY = "CASE WHEN typeof(@) = 'text' AND json_valid(@) THEN json_type(@) END = 'array'"


def _or_null(condition: str) -> str:
    return f"(@ IS NULL OR {condition})"


_CONDITIONS: dict[str, dict[str, str]] = {
    "collection": {"uuid": _TEXT, "created_at": _TEXT, "change_token": _INTEGER},
    "images": {
        "digest": _TEXT, "width": _COUNT, "height": _COUNT, "format": _TEXT, "size_bytes": _COUNT,
        "taken_at": _or_null(_TEXT), "camera": _or_null(_TEXT),
    },
    "files": {
        "path": _PATH, "size_bytes": _INTEGER, "mtime_ns": _INTEGER, "image_id": _INTEGER, "etag": _or_null(_TEXT)
    },
    "views": {"image_id": _INTEGER, "kind": "@ IN ('original', 'augmented')", "parameters": _OBJECT},
    "models": {
        "fingerprint": _TEXT, "backbone": _TEXT, "width": f"{_SIZE} AND @ <= {_MAX_WIDTH}", "details": _OBJECT,
        "generation": _INTEGER, "augmentation": _or_null(_OBJECT),
    },
    "vectors": {"model_id": _INTEGER, "view_id": _INTEGER, "vector": _BLOB},
    "graphs": {"definition": _BLOB, "weights": _BLOB},
    "runs": {
        "sources": _ARRAY, "process": _INTEGER, "started_at": _TEXT, "ended_at": _or_null(_TEXT),
        "embedded": _or_null(_INTEGER), "reused": _or_null(_INTEGER),
    },
    "skips": {"path": _PATH, "reason": _TEXT},
    "projections": {"method": _TEXT, "n_vectors": _INTEGER, "projection": _BLOB},
    "indexes": {"method": _TEXT, "kind": _TEXT, "details": _OBJECT},
    "settings": {"name": _TEXT, "value": _TEXT},
    "annotations": {"image_id": _INTEGER, "name": _TEXT, "value": "typeof(@) IN ('integer', 'real', 'text')"},
    "changes": {"image_id": _INTEGER, "number": _INTEGER},
}  # fmt: skip
"""The condition that every value (`@`) of a column meets, by table and column."""

_PARSERS: dict[tuple[str, str], Callable[[str], Any]] = {
    ("models", "details"): Model.from_json,
    ("models", "augmentation"): Augmentation.from_json,
}


def find_invalid_values(connection: sqlite3.Connection) -> list[str]:
    """Find values that no version of simsearch has written, one line for each column, and dangling references.

    Raises `sqlite3.Error` where the catalog cannot be read.
    """
    problems = []
    if connection.execute("SELECT count(*) FROM collection").fetchone()[0] != 1:
        problems.append("the table collection has not one row")
    for table, conditions in _CONDITIONS.items():
        present = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
        for column, condition in conditions.items():
            if column in present and (n_wrong := _count_wrong(connection, table, column, condition)):
                problems.append(f"{n_wrong} values of {table}.{column} are not valid")
    dangling = connection.execute("PRAGMA foreign_key_check").fetchall()
    problems += [f"table {row[0]}, row {row[1]} refers to a missing row of {row[2]}" for row in dangling]
    return problems or _find_unparsable_values(connection)


def _count_wrong(connection: sqlite3.Connection, table: str, column: str, condition: str) -> int:
    query = f"SELECT count(*) FROM {table} WHERE ({condition.replace('@', column)}) IS NOT 1"
    return int(connection.execute(query).fetchone()[0])


def _find_unparsable_values(connection: sqlite3.Connection) -> list[str]:
    """Find the values that are of the right type, and yet cannot be parsed."""
    problems = []
    for (table, column), parse in _PARSERS.items():
        for id_, text in connection.execute(f"SELECT rowid, {column} FROM {table} WHERE {column} IS NOT NULL"):
            try:
                parse(text)
            except Exception:  # whatever it is, the text is not what this package has written
                problems.append(f"{table}.{column} of row {id_} is not valid")
    return problems
