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
from simsearch.sources.addresses import canonicalize_path
from simsearch.store.catalog import Catalog
from simsearch.store.writer import CatalogWriter

AnnotationValue = str | float

_KEY_COLUMNS = ("path", "image_id")
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
_REAL = re.compile(r"-?(?:0|[1-9][0-9]{0,17})\.[0-9]+(?:[eE][+-]?[0-9]{1,2})?")
_BOOLEANS = {"true": 1, "false": 0}
_INTEGER_LIMIT = 2**63


@dataclass(frozen=True, slots=True)
class AnnotationReport:
    """What a table brought: values, of how many images, in which columns; and rows whose image is not there."""

    n_values: int
    n_images: int
    columns: tuple[str, ...]
    unknown: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The report as `annotate --json` prints it, below the collection."""
        return {
            "values": self.n_values,
            "images": self.n_images,
            "columns": list(self.columns),
            "unknown": list(self.unknown),
        }


@dataclass(frozen=True, slots=True)
class _AnnotationRow:
    """What a row says of an image, which it names by path or by id."""

    name: str | int
    values: Mapping[str, AnnotationValue]


def annotate(writer: CatalogWriter, file: Path) -> AnnotationReport:
    """Note what is in a table beside the images of a collection; a value that was there before is replaced.

    A path is relative to the current folder or, if it is not known there, to that of the table. Raises `SourceError`
    when the table cannot be read or none of its images is in the collection, and what opening one to write raises.
    """
    rows = list(_read_rows(file))
    known = _ImageLookup(writer, file)
    values: dict[tuple[int, str], AnnotationValue] = {}
    unknown = []
    for row in rows:
        image_id = known.find_image_id(row.name)
        if image_id is None:
            unknown.append(str(row.name))
        else:
            values |= {(image_id, name): value for name, value in row.values.items()}
    if unknown and len(unknown) == len(rows):
        raise _build_error(file, f"{file}: {writer.folder} has none of its {len(rows)} images, such as {unknown[0]}",
                     "name them as `simsearch query` shows them")  # fmt: skip
    with writer.transaction():
        writer.annotate((*key, value) for key, value in values.items())
    images, columns = {image_id for image_id, _ in values}, dict.fromkeys(name for _, name in values)
    return AnnotationReport(len(values), len(images), tuple(columns), tuple(unknown))


def clear_columns(writer: CatalogWriter, columns: Sequence[str]) -> int:
    """Delete columns of the user's own; how many values went.

    Raises `UsageError` when there is no such column.
    """
    there = writer.count_columns()
    for name in columns:
        if name not in there:
            listed = f"there are {', '.join(there)}" if there else "there are none"
            raise UsageError(f"{writer.folder} has no column {name!r} of yours", listed)
    with writer.transaction():
        return sum(writer.delete_column(name) for name in columns)


class _ImageLookup:
    """The images of a collection by path and by id."""

    def __init__(self, catalog: Catalog, file: Path) -> None:
        contents = list(catalog.iterate_contents())
        self._by_path = {path: image_id for path, image_id, _ in contents}
        self._ids = {image_id for _, image_id, _ in contents}
        self._table_folder = os.path.dirname(os.path.abspath(file))

    def find_image_id(self, name: str | int) -> int | None:
        if isinstance(name, int):
            return name if name in self._ids else None
        for path in (name, os.path.join(self._table_folder, name)):
            place = canonicalize_path(path)
            if (image_id := self._by_path.get(place)) is not None:
                return image_id
        return None


def _read_rows(file: Path) -> Iterator[_AnnotationRow]:
    readers = {".csv": _read_csv_rows, ".json": _read_json_rows}
    if (read := readers.get(file.suffix.lower())) is None:
        raise _build_error(file, f"{file} is no table that is read", "name a .csv or a .json file")
    try:
        # A path that is no UTF-8 comes as its bytes, such as programs write it into a CSV.
        with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            yield from read(file, stream)
    except (OSError, ValueError, csv.Error) as error:
        cause = getattr(error, "strerror", None) or str(error)
        raise _build_error(file, f"{file} cannot be read ({cause})", "see `simsearch annotate --help`") from error


def _read_csv_rows(file: Path, stream: Iterable[str]) -> Iterator[_AnnotationRow]:
    reader = csv.DictReader(stream)
    _check_columns(file, reader.fieldnames or ())
    for row in reader:
        if row.pop(None, None) is not None:  # where csv puts cells beyond the header
            raise ValueError(f"line {reader.line_num} has more cells than the header")
        if any(row.values()):
            yield _parse_row(
                file, {name: _parse_cell(cell) for name, cell in row.items() if cell}, f"line {reader.line_num}"
            )


def _read_json_rows(file: Path, stream: Any) -> Iterator[_AnnotationRow]:
    whole = json.load(stream)
    if isinstance(whole, dict):
        whole = [{**row, "path": path} if isinstance(row, dict) else row for path, row in whole.items()]
    if not isinstance(whole, list):
        raise ValueError("it is neither a list nor an object")
    for number, row in enumerate(whole, start=1):
        if not isinstance(row, dict):
            raise ValueError(f"entry {number} is no object")
        said = {name: _convert_json_value(value, number) for name, value in row.items() if value not in (None, "")}
        yield _parse_row(file, said, f"entry {number}")


def _check_columns(file: Path, names: Sequence[str]) -> None:
    if not set(_KEY_COLUMNS) & set(names):
        raise _build_error(
            file, f"{file} has no column path and no image_id", "one of them says which image a row is of"
        )
    if len(set(names)) < len(names) or not all(names):
        raise _build_error(file, f"{file} has a column without a name, or two of one name", "give each its own")


def _parse_row(file: Path, cells: dict[str, AnnotationValue], where: str) -> _AnnotationRow:
    name: Any = next((cells[key] for key in _KEY_COLUMNS if key in cells), None)
    if name is None:
        raise _build_error(file, f"{file}, {where}: no path and no image_id", "one of them says which image it is of")
    is_id = "path" not in cells
    if is_id and not isinstance(name, int):
        raise _build_error(file, f"{file}, {where}: {name!r} is no image_id", "answers show the ids")
    return _AnnotationRow(
        name if is_id else str(name), {key: value for key, value in cells.items() if key not in _KEY_COLUMNS}
    )


def _parse_cell(cell: str) -> AnnotationValue:
    if _INTEGER.fullmatch(cell):
        return int(cell)
    if _REAL.fullmatch(cell):
        return float(cell)
    return _BOOLEANS.get(cell.lower(), cell)


def _convert_json_value(value: Any, number: int) -> AnnotationValue:
    """A value of JSON as SQLite can hold it."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int) and not -_INTEGER_LIMIT <= value < _INTEGER_LIMIT:
        return float(value)
    if (
        isinstance(value, str | int | float)
        and value == value
        and abs(value if isinstance(value, float) else 0) < 1e308
    ):
        return value
    raise ValueError(f"entry {number} has a value that is neither text nor a finite number")


def _build_error(file: Path, problem: str, advice: str) -> SourceError:
    return SourceError(str(file), problem, advice)
