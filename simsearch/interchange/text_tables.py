"""Tables of text with commas, semicolons or tabs between cells: the one reader of CSV files."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any

_DELIMITERS = (",", ";", "\t")
_DECIMAL_COMMA = re.compile(r"-?[0-9]+,[0-9]+")
_MAX_FIELD_CHARS = 1 << 24

csv.field_size_limit(_MAX_FIELD_CHARS)  # Python's own limit is less than 10,000 numbers of a vector


class TextTable:
    """An iterator over the rows of a table, as dicts of texts; `None` is the key of a list of cells beyond the header.

    Cells are separated by the first of comma, semicolon and tab that separates one of `key_columns` in the header,
    in any case. In tables with semicolons numbers have decimal commas, as spreadsheets of many countries write both:
    they are read with decimal points, except in the key columns.
    """

    def __init__(self, lines: Iterable[str], key_columns: Collection[str]) -> None:
        self._keys = frozenset(name.lower() for name in key_columns)
        rest = iter(lines)
        header = next(rest, "")
        headers = {one: next(csv.reader([header], delimiter=one), []) for one in _DELIMITERS}
        self._delimiter = next((one for one, names in headers.items() if any(map(self._is_key, names))), ",")
        self._reader = csv.DictReader(itertools.chain([header], rest), delimiter=self._delimiter)
        self.columns: tuple[str, ...] = tuple(self._reader.fieldnames or ())

    @property
    def line_number(self) -> int:
        """The number of the lines that have been read."""
        return self._reader.line_num

    def __iter__(self) -> Iterator[dict[Any, Any]]:
        return self

    def __next__(self) -> dict[Any, Any]:
        row: dict[Any, Any] = next(self._reader)
        if self._delimiter != ";":
            return row
        return {name: cell if self._is_key(name) else _write_point(cell) for name, cell in row.items()}

    def _is_key(self, name: str | None) -> bool:
        return name is not None and name.strip().lower() in self._keys


def _write_point(cell: Any) -> Any:
    """A number with a decimal point instead of a decimal comma; another text, or what is no text, as it is."""
    return cell.replace(",", ".") if isinstance(cell, str) and _DECIMAL_COMMA.fullmatch(cell) else cell
