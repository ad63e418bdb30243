"""Browsing a collection: the images that match a filter, in an order, page by page, and counts of their properties."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from simsearch.errors import UsageError
from simsearch.filters import compile_sql, parse
from simsearch.filters.conditions import FORMATS, Field, MissingValue, OneOf
from simsearch.filters.timespan import Timespan
from simsearch.store.database import read_again
from simsearch.store.image_table import FacetColumn, ImageTable, SortKey
from simsearch.store.snapshot import Snapshot, open_snapshot
from simsearch.text import replace_invalid_unicode

Direction = Literal["ascending", "descending"]

_MAX_CACHED_ORDERS = 32
_FORMAT_BY_STORED = {stored: name for name, names in FORMATS.items() for stored in names}


@dataclass(frozen=True, slots=True)
class BrowseQuery:
    """Which images to list, and in which order. `where` is a filter; an empty one selects all images."""

    where: str = ""
    sort: SortKey = "id"
    direction: Direction = "ascending"

    @property
    def digest(self) -> str:
        """A short name of the query, for cursors."""
        text = json.dumps([self.where, self.sort, self.direction])
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


@dataclass(frozen=True, slots=True, eq=False)
class BrowsePage:
    """Image ids in the order of a query. `start` is the position of the first, `n_matches` the number of all.

    `cursor` continues after the last; None at the end.
    """

    image_ids: tuple[int, ...]
    start: int
    n_matches: int
    cursor: str | None


@dataclass(frozen=True, slots=True)
class FacetValue:
    """A value of a facet, the number of images that have it, and the filter that selects them.

    `value` is None for images without a value.
    """

    value: str | float | None
    n_images: int
    where: str


@dataclass(frozen=True, slots=True)
class Facet:
    """The most frequent values of a property; `n_values` is the number of all values."""

    name: str
    n_values: int
    values: tuple[FacetValue, ...] = field(repr=False)


class CollectionBrowser:
    """The table of a collection's images, read again when the collection has changed. Safe for several threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._table: ImageTable | None = None
        self._orders: LRUCache[tuple[int, BrowseQuery], NDArray[np.int32]] = LRUCache(_MAX_CACHED_ORDERS)

    def load_table(self) -> ImageTable:
        """The table of the current state of the collection."""
        return read_again(self._load_table)

    def list_page(self, query: BrowseQuery, limit: int, *, start: int = 0, cursor: str | None = None) -> BrowsePage:
        """List at most `limit` images from a position on, or after a cursor.

        Raises `UsageError` on an invalid filter or cursor.
        """
        table = self.load_table()
        rows = self._find_rows(table, query)
        if cursor is not None:
            start = _find_position(cursor, query, table, rows)
        chosen = rows[start : start + limit]
        ids = tuple(int(image_id) for image_id in table.ids[chosen])
        end = start + len(ids)
        further = _write_cursor(query, end, ids[-1]) if ids and end < len(rows) else None
        return BrowsePage(ids, start, len(rows), further)

    def list_own_columns(self) -> list[str]:
        """The names of the columns of the user's own."""
        return [column.name for column in self.load_table().facets if column.is_own]

    def list_values(self, column: str, limit: int) -> list[str]:
        """The most frequent values of a column of the user's own, the most frequent first."""
        for one in self.load_table().facets:
            if one.is_own and one.name == column:
                return [str(value) for value, _ in one.count(None) if value is not None][:limit]
        return []

    def find_position(self, query: BrowseQuery, image_id: int) -> int | None:
        """The position of an image in the order of a query; None where it does not match."""
        table = self.load_table()
        rows = self._find_rows(table, query)
        places = np.flatnonzero(table.ids[rows] == image_id)
        return int(places[0]) if len(places) else None

    def count_facets(self, where: str, limit: int) -> tuple[int, tuple[Facet, ...]]:
        """The number of images that match a filter, and their facets with at most `limit` values each.

        Raises `UsageError` on an invalid filter.
        """
        table = self.load_table()
        rows = self._find_rows(table, BrowseQuery(where=where))
        mask = None
        if where:
            mask = np.zeros(len(table), np.bool_)
            mask[rows] = True
        facets = tuple(_build_facet(column, mask, limit) for column in table.facets)
        return len(rows), tuple(facet for facet in facets if facet.values)

    def _load_table(self) -> ImageTable:
        with open_snapshot(self._folder) as snapshot:
            token = snapshot.catalog.change_token
            table = self._table
            if table is not None and table.change_token == token:
                return table
            with self._lock:
                if self._table is None or self._table.change_token != token:
                    self._table = ImageTable.load(snapshot, self._table)
                return self._table

    def _find_rows(self, table: ImageTable, query: BrowseQuery) -> NDArray[np.int32]:
        """The rows of the images that match a query, in its order."""
        key = (table.change_token, query)
        with self._lock:
            rows = self._orders.get(key)
        if rows is None:
            rows = table.orders[query.sort]
            if query.direction == "descending":
                rows = rows[::-1]
            if query.where.strip():
                rows = rows[self._find_mask(table, query.where)[rows]]
            with self._lock:
                self._orders[key] = rows
        return rows

    def _find_mask(self, table: ImageTable, where: str) -> NDArray[np.bool_]:
        condition = parse(where)

        def find(snapshot: Snapshot) -> NDArray[np.int64]:
            catalog = snapshot.catalog
            return catalog.find_matching_images(compile_sql(condition, catalog.count_columns()))

        def read() -> NDArray[np.int64]:
            with open_snapshot(self._folder) as snapshot:
                return find(snapshot)

        return table.make_mask(read_again(read))


def _build_facet(column: FacetColumn, mask: NDArray[np.bool_] | None, limit: int) -> Facet:
    is_format = column.name == "format" and not column.is_own
    counts = _merge_formats(column, mask) if is_format else column.count(mask)
    values = []
    for value, n_images in counts[:limit]:
        where = _write_condition(column, value)
        shown = replace_invalid_unicode(value) if isinstance(value, str) else value
        values.append(FacetValue(shown, n_images, where))
    return Facet(column.name, len(counts), tuple(values))


def _merge_formats(column: FacetColumn, mask: NDArray[np.bool_] | None) -> list[tuple[str | float | None, int]]:
    """Count the formats by their names in filters, which may stand for several of the catalog."""
    merged: dict[str | float | None, int] = {}
    for value, n in column.count(mask):
        name = _FORMAT_BY_STORED.get(str(value), str(value).lower())
        merged[name] = merged.get(name, 0) + n
    return sorted(merged.items(), key=lambda pair: -pair[1])


def _write_condition(column: FacetColumn, value: str | float | None) -> str:
    """The filter that selects the images with a value."""
    is_year = column.name == "year" and not column.is_own
    test_field = Field("taken" if is_year else column.name, is_user_column=column.is_own)
    if value is None:
        return str(MissingValue(test_field))
    if is_year:
        return f"taken = {value}" if _is_year(str(value)) else str(MissingValue(test_field))
    return str(OneOf(test_field, (value,)))


def _is_year(text: str) -> bool:
    try:
        Timespan.parse(text)
    except ValueError:
        return False
    return True


def _write_cursor(query: BrowseQuery, position: int, image_id: int) -> str:
    text = json.dumps([query.digest, position, image_id], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _find_position(cursor: str, query: BrowseQuery, table: ImageTable, rows: NDArray[np.int32]) -> int:
    """The position after the last image of the page before, although the collection may have changed since."""
    digest, position, image_id = _read_cursor(cursor)
    if digest != query.digest:
        raise UsageError("the cursor belongs to another list", "send it with the same where, sort and order")
    if 0 < position <= len(rows) and table.ids[rows[position - 1]] == image_id:
        return position
    places = np.flatnonzero(table.ids[rows] == image_id)
    return int(places[0]) + 1 if len(places) else min(position, len(rows))


def _read_cursor(cursor: str) -> tuple[str, int, int]:
    try:
        decoded: Any = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True))
        digest, position, image_id = decoded
        if not (isinstance(digest, str) and type(position) is int and type(image_id) is int and position >= 0):
            raise ValueError
        if max(position, abs(image_id)) >= 2**63:
            raise ValueError
    except (binascii.Error, ValueError, TypeError, RecursionError) as error:
        raise UsageError("the cursor is invalid", "send the `next` of the page before, or none") from error
    return digest, position, image_id
