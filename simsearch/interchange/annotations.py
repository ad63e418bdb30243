"""Annotations: columns of the user's own, read from a table and stored with the images, for use in filters.

| file | content |
|---|---|
| `.csv` | a header, and one row per image |
| `.json` | a list of objects, one per image; or one object that maps paths to such objects |

The column `path`, or else `image_id`, names the image; all other columns are the user's own. In CSV, `20` and `2.5` are
numbers and `true` is 1; a number in another form, such as `007`, is text. Empty cells and `null` are ignored.
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

from simsearch.errors import ImageNotFound, SourceError, UsageError
from simsearch.filters.conditions import FIELD_KINDS
from simsearch.interchange.text_tables import TextTable
from simsearch.sources.addresses import canonicalize_path
from simsearch.sources.path_codec import is_valid_path
from simsearch.store.catalog import Catalog
from simsearch.store.writer import CatalogWriter
from simsearch.text import clean_text, replace_invalid_unicode

AnnotationValue = str | float
AnnotationKey = tuple[int, str]
"""The id of an image and the name of a column."""

_KEY_COLUMNS = ("path", "image_id")
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
_REAL = re.compile(r"-?(?:0|[1-9][0-9]{0,17})\.[0-9]+(?:[eE][+-]?[0-9]{1,2})?")
_BOOLEANS = {"true": 1, "false": 0}
_INTEGER_LIMIT = 2**63


@dataclass(frozen=True, slots=True)
class AnnotationReport:
    """The result of an annotation: numbers of values and images, the columns, and the names of unknown images."""

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
    """The values of one row, with the path or the id of its image."""

    name: str | int
    values: Mapping[str, AnnotationValue]


def annotate(writer: CatalogWriter, file: Path) -> AnnotationReport:
    """Store the columns of a table with the images of a collection; existing values are replaced.

    A path is relative to the current folder or, if the collection has no such image, to the folder of the table. Raises
    `SourceError` if the table cannot be read or none of its images is in the collection.
    """
    rows = list(_read_rows(file))
    images = _ImageLookup(writer, file)
    values: dict[tuple[int, str], AnnotationValue] = {}
    unknown = []
    for row in rows:
        image_id = images.find_image_id(row.name)
        if image_id is None:
            unknown.append(str(row.name))
        else:
            values |= {(image_id, name): value for name, value in row.values.items()}
    if unknown and len(unknown) == len(rows):
        problem = f"{writer.folder} has none of the {len(rows)} images in {file}, such as {unknown[0]}"
        raise _build_error(file, problem, "write the paths as `simsearch query` shows them")
    with writer.transaction():
        writer.annotate((*key, value) for key, value in values.items())
    columns = dict.fromkeys(name for _, name in values)
    return AnnotationReport(len(values), len({image_id for image_id, _ in values}), tuple(columns), tuple(unknown))


def set_values(
    writer: CatalogWriter, values: Mapping[AnnotationKey, AnnotationValue | None]
) -> dict[AnnotationKey, AnnotationValue | None]:
    """Set values of columns, or delete those that are None, and return the values before in the same form.

    Raises `UsageError` on an invalid name or text, `ImageNotFound` where an image is not in the collection.
    """
    for _, name in values:
        if (clash := _describe_clash(name)) is not None:
            raise UsageError(*clash)
        if name in _KEY_COLUMNS or not name.strip() or clean_text(name) != name:
            raise UsageError(f"{clean_text(name)!r} is no name of a column", "use letters, digits and blanks")
    texts = (value for value in values.values() if isinstance(value, str))
    if any(replace_invalid_unicode(text) != text or "\0" in text for text in texts):
        raise UsageError("a value is not valid Unicode text", "correct the value")
    image_ids = list(dict.fromkeys(image_id for image_id, _ in values))
    with writer.transaction():
        known = writer.read_values(image_ids)
        if missing := [image_id for image_id in image_ids if image_id not in known]:
            problem = f"there is no image {missing[0]}"
            raise ImageNotFound(str(writer.folder), problem, "use an image id from the search results")
        before = {key: known[key[0]].get(key[1]) for key in values}
        writer.annotate((*key, value) for key, value in values.items() if value is not None and value != "")
        writer.delete_values(key for key, value in values.items() if value is None or value == "")
    return before


def clear_columns(writer: CatalogWriter, columns: Sequence[str]) -> int:
    """Delete columns of the user's own, and return the number of deleted values.

    Raises `UsageError` if there is no such column.
    """
    existing = writer.count_columns()
    for name in columns:
        if name not in existing:
            advice = f"its columns are {', '.join(existing)}" if existing else "it has no columns of yours"
            raise UsageError(f"{writer.folder} has no column {name!r} of yours", advice)
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
            if (image_id := self._by_path.get(canonicalize_path(path))) is not None:
                return image_id
        return None


def _read_rows(file: Path) -> Iterator[_AnnotationRow]:
    readers = {".csv": _read_csv_rows, ".tsv": _read_csv_rows, ".json": _read_json_rows}
    if (read := readers.get(file.suffix.lower())) is None:
        raise _build_error(file, f"{file} has an unsupported format", "use a .csv, .tsv or .json file")
    try:
        # Programs write a path that is not UTF-8 into a CSV as its bytes.
        with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            yield from read(file, stream)
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        is_nested = isinstance(error, RecursionError)
        cause = "its JSON is nested too deeply" if is_nested else getattr(error, "strerror", None) or str(error)
        raise _build_error(file, f"{file} cannot be read ({cause})", "see `simsearch annotate --help`") from error


def _read_csv_rows(file: Path, stream: Iterable[str]) -> Iterator[_AnnotationRow]:
    reader = TextTable(stream, _KEY_COLUMNS)
    _check_columns(file, reader.columns)
    for row in reader:
        if row.pop(None, None) is not None:  # where csv puts cells beyond the header
            raise ValueError(f"line {reader.line_number} has more cells than the header")
        if any(row.values()):
            values = {name: parse_cell(cell) for name, cell in row.items() if cell}
            yield _parse_row(file, values, f"line {reader.line_number}")


def _read_json_rows(file: Path, stream: Any) -> Iterator[_AnnotationRow]:
    whole = json.load(stream)
    if isinstance(whole, dict):
        whole = [{**row, "path": path} if isinstance(row, dict) else row for path, row in whole.items()]
    if not isinstance(whole, list):
        raise ValueError("the JSON is neither a list nor an object")
    for number, row in enumerate(whole, start=1):
        if not isinstance(row, dict):
            raise ValueError(f"entry {number} is not an object")
        _check_names(file, row)
        cells = {name: _convert_json_value(value, number) for name, value in row.items() if value not in (None, "")}
        yield _parse_row(file, cells, f"entry {number}")


def _check_columns(file: Path, names: Sequence[str]) -> None:
    if not set(_KEY_COLUMNS) & set(names):
        raise _build_error(file, f"{file} has no column path or image_id", "add one that names the image of each row")
    _check_names(file, names)
    if len(set(names)) < len(names) or not all(names):
        raise _build_error(file, f"{file} has a column without a name or a repeated name", "give each its own name")


def _describe_clash(name: str) -> tuple[str, str] | None:
    """The problem and the advice where a column has the name of a field that every image has; None where it has not."""
    if name in _KEY_COLUMNS or name.lower() not in FIELD_KINDS:
        return None
    shown = clean_text(name)
    return f"the column {shown} has the name of a field that every image has", f"rename it, such as my_{shown}"


def _check_names(file: Path, names: Iterable[str]) -> None:
    """Raise `SourceError` where a column of a table has the name of a built-in field: `width` is a fact."""
    for name in names:
        if (clash := _describe_clash(name)) is not None:
            raise _build_error(file, f"{file}: {clash[0]}", clash[1])


def _parse_row(file: Path, cells: dict[str, AnnotationValue], where: str) -> _AnnotationRow:
    if not all(cells):
        raise _build_error(file, f"{file}, {where}: a column without a name", "give each its own name")
    name: Any = next((cells[key] for key in _KEY_COLUMNS if key in cells), None)
    for text in (*cells, *(value for key, value in cells.items() if key not in _KEY_COLUMNS)):
        if isinstance(text, str) and replace_invalid_unicode(text) != text:
            raise _build_error(file, f"{file}, {where}: {text!r} is not valid Unicode text", "save the file as UTF-8")
    if isinstance(name, str) and not is_valid_path(name):
        raise _build_error(file, f"{file}, {where}: {name!r} cannot be the path of a file", "correct the path")
    if name is None:
        raise _build_error(file, f"{file}, {where}: no path or image_id", "add one that names the image")
    is_id = "path" not in cells
    if is_id and not isinstance(name, int):
        raise _build_error(file, f"{file}, {where}: {name!r} is not an image_id", "the results of a query show the ids")
    return _AnnotationRow(
        name if is_id else str(name), {key: value for key, value in cells.items() if key not in _KEY_COLUMNS}
    )


def parse_cell(cell: str) -> AnnotationValue:
    """Parse a cell of a CSV file: a number, a boolean as 1 or 0, else the text."""
    if _INTEGER.fullmatch(cell):
        return int(cell)
    if _REAL.fullmatch(cell):
        return float(cell)
    return _BOOLEANS.get(cell.lower(), cell)


def _convert_json_value(value: Any, number: int) -> AnnotationValue:
    """Convert a JSON value to a type of SQLite."""
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
    raise ValueError(f"entry {number} has a value that is not text or a finite number")


def _build_error(file: Path, problem: str, advice: str) -> SourceError:
    return SourceError(str(file), problem, advice)
