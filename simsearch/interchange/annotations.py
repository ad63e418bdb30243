"""Columns of the user's own, read from a table and noted beside images, for filters to ask about.

| file | what is read |
|---|---|
| `.csv` | a header, and a row an image |
| `.json` | a list of objects, an object an image; or one object, from paths to such objects |

Whose a row is, is in the column `path`, else `image_id`; all others are the user's own. In CSV `20` and `2.5` are
numbers and `true` is 1; what would not be written so again, such as `007`, is text. Empty cells and `null` say nothing.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simsearch.errors import SourceError, UsageError
from simsearch.sources.addresses import absolute
from simsearch.store.catalog import Catalog
from simsearch.store.writer import CatalogWriter

Value = str | float

_KEYS = ("path", "image_id")
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
_REAL = re.compile(r"-?(?:0|[1-9][0-9]{0,17})\.[0-9]+(?:[eE][+-]?[0-9]{1,2})?")
_BOOLEANS = {"true": 1, "false": 0}
_LARGEST = 2**63


@dataclass(frozen=True, slots=True)
class Noted:
    """What a table brought: values, of how many images, in which columns; and rows whose image is not there."""

    n_values: int
    n_images: int
    columns: tuple[str, ...]
    unknown: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Row:
    """What a row says of an image, which it names by path or by id."""

    name: str | int
    values: Mapping[str, Value]


def annotate(folder: Path, file: Path) -> Noted:
    """Note what is in a table beside the images of a collection; a value that was there before is replaced.

    A path is relative to the current folder or, if it is not known there, to that of the table. Raises `SourceError`
    when the table cannot be read or none of its images is in the collection, and what opening one to write raises.
    """
    rows = list(_rows(file))
    Catalog.open(folder).close()  # nothing is made where there is no collection
    with CatalogWriter.open_or_create(folder) as writer:
        known = _Known(writer, file)
        values: dict[tuple[int, str], Value] = {}
        unknown = []
        for row in rows:
            image_id = known.image_of(row.name)
            if image_id is None:
                unknown.append(str(row.name))
            else:
                values |= {(image_id, name): value for name, value in row.values.items()}
        if unknown and len(unknown) == len(rows):
            raise _wrong(file, f"{file}: {folder} has none of its {len(rows)} images, such as {unknown[0]}",
                         "name them as `simsearch query` shows them")  # fmt: skip
        with writer.transaction():
            writer.annotate((*key, value) for key, value in values.items())
    images, columns = {image_id for image_id, _ in values}, dict.fromkeys(name for _, name in values)
    return Noted(len(values), len(images), tuple(columns), tuple(unknown))


def clear(folder: Path, columns: Sequence[str]) -> int:
    """Delete columns of the user's own; how many values went.

    Raises `UsageError` when there is no such column.
    """
    Catalog.open(folder).close()
    with CatalogWriter.open_or_create(folder) as writer:
        there = writer.columns()
        for name in columns:
            if name not in there:
                listed = f"there are {', '.join(there)}" if there else "there are none"
                raise UsageError(f"{folder} has no column {name!r} of yours", listed)
        with writer.transaction():
            return sum(writer.clear_column(name) for name in columns)


class _Known:
    """The images of a collection by path and by id."""

    def __init__(self, catalog: Catalog, file: Path) -> None:
        contents = list(catalog.contents())
        self._by_path = {path: image_id for path, image_id, _ in contents}
        self._ids = {image_id for _, image_id, _ in contents}
        self._beside = os.path.dirname(os.path.abspath(file))

    def image_of(self, name: str | int) -> int | None:
        if isinstance(name, int):
            return name if name in self._ids else None
        for path in (name, os.path.join(self._beside, name)):
            place = absolute(path)
            if (image_id := self._by_path.get(place)) is not None:
                return image_id
        return None


def _rows(file: Path) -> Iterator[_Row]:
    readers = {".csv": _csv_rows, ".json": _json_rows}
    if (read := readers.get(file.suffix.lower())) is None:
        raise _wrong(file, f"{file} is no table that is read", "name a .csv or a .json file")
    try:
        # A path that is no UTF-8 comes as its bytes, such as programs write it into a CSV.
        with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            yield from read(file, stream)
    except (OSError, ValueError, csv.Error) as error:
        cause = getattr(error, "strerror", None) or str(error)
        raise _wrong(file, f"{file} cannot be read ({cause})", "see `simsearch annotate --help`") from error


def _csv_rows(file: Path, stream: Iterable[str]) -> Iterator[_Row]:
    reader = csv.DictReader(stream)
    _check_columns(file, reader.fieldnames or ())
    for row in reader:
        if row.pop(None, None) is not None:  # where csv puts cells beyond the header
            raise ValueError(f"line {reader.line_num} has more cells than the header")
        if any(row.values()):
            yield _row(file, {name: _typed(cell) for name, cell in row.items() if cell}, f"line {reader.line_num}")


def _json_rows(file: Path, stream: Any) -> Iterator[_Row]:
    whole = json.load(stream)
    if isinstance(whole, dict):
        whole = [{**row, "path": path} if isinstance(row, dict) else row for path, row in whole.items()]
    if not isinstance(whole, list):
        raise ValueError("it is neither a list nor an object")
    for number, row in enumerate(whole, start=1):
        if not isinstance(row, dict):
            raise ValueError(f"entry {number} is no object")
        said = {name: _plain(value, number) for name, value in row.items() if value not in (None, "")}
        yield _row(file, said, f"entry {number}")


def _check_columns(file: Path, names: Sequence[str]) -> None:
    if not set(_KEYS) & set(names):
        raise _wrong(file, f"{file} has no column path and no image_id", "one of them says which image a row is of")
    if len(set(names)) < len(names) or not all(names):
        raise _wrong(file, f"{file} has a column without a name, or two of one name", "give each its own")


def _row(file: Path, cells: dict[str, Value], where: str) -> _Row:
    name: Any = next((cells[key] for key in _KEYS if key in cells), None)
    if name is None:
        raise _wrong(file, f"{file}, {where}: no path and no image_id", "one of them says which image it is of")
    is_id = "path" not in cells
    if is_id and not isinstance(name, int):
        raise _wrong(file, f"{file}, {where}: {name!r} is no image_id", "answers show the ids")
    return _Row(name if is_id else str(name), {key: value for key, value in cells.items() if key not in _KEYS})


def _typed(cell: str) -> Value:
    if _INTEGER.fullmatch(cell):
        return int(cell)
    if _REAL.fullmatch(cell):
        return float(cell)
    return _BOOLEANS.get(cell.lower(), cell)


def _plain(value: Any, number: int) -> Value:
    """A value of JSON as SQLite can hold it."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
        return float(value)
    if (
        isinstance(value, str | int | float)
        and value == value
        and abs(value if isinstance(value, float) else 0) < 1e308
    ):
        return value
    raise ValueError(f"entry {number} has a value that is neither text nor a finite number")


def _wrong(file: Path, problem: str, advice: str) -> SourceError:
    return SourceError(str(file), problem, advice)
