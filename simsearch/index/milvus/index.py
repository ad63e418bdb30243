"""A model's vectors in Milvus as a searchable index, and its subsets under a filter."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from simsearch.filters import Condition, compile_sql
from simsearch.filters.sql import restrict_to_images
from simsearch.index.milvus.client import MAX_HITS, MilvusTable
from simsearch.index.milvus.filter import compile_filter
from simsearch.index.milvus.schema import COMPLETE, KEY, N_FILES
from simsearch.index.protocol import Ids, Searchable, Vectors
from simsearch.store.catalog import Catalog, StoredModel

_IDS_PER_FILTER = 10_000
"""The number of ids in one filter expression."""

_MAX_LISTED_IDS = 100_000
"""The number of rows that may be listed by id beside a filter expression."""

_MULTI_FILE = f"{N_FILES} > 1"
_INCOMPLETE = f"{COMPLETE} == false and {N_FILES} == 1"


class MilvusSubset:
    """The rows that match one of several filters. No row matches more than one; an empty filter matches all rows."""

    def __init__(self, table: MilvusTable, filters: Sequence[str], last_view_id: int) -> None:
        self._table = table
        self._filters = tuple(filters)
        self._last_view_id = last_view_id
        self._counts: dict[str, int] = {}

    def __len__(self) -> int:
        return sum(map(self._count, self._filters))

    def search(self, queries: Vectors, n: int) -> tuple[Vectors, Ids]:
        """Search as `Searchable` defines. If a query has fewer than n results, its row ends in ids of -1."""
        found = [self._search_one(query, n) for query in queries]
        width = max((len(ids) for _, ids in found), default=0)
        similarities = np.full((len(queries), width), -1, np.float32)
        keys = np.full((len(queries), width), -1, np.int64)
        for row, (some, ids) in enumerate(found):
            similarities[row, : len(ids)], keys[row, : len(ids)] = some, ids
        return similarities, keys

    def range_search(self, query: Vectors, least: float) -> tuple[Vectors, Ids]:
        """Search by radius as `Searchable` defines."""
        return _concatenate([self._search_radius(query, expression, least) for expression in self._filters])

    def _search_one(self, query: Vectors, n: int) -> tuple[Vectors, Ids]:
        if n <= 0:
            return _concatenate([])
        similarities, ids = _concatenate([self._search_filter(query, expression, n) for expression in self._filters])
        order = np.lexsort((ids, -similarities))[:n]
        return similarities[order], ids[order]

    def _search_filter(self, query: Vectors, expression: str, n: int) -> tuple[Vectors, Ids]:
        """Search at once; scan ranges of keys if an approximate index missed rows of a small subset."""
        found = self._table.search(query[None], min(n, MAX_HITS), expression)[0]
        if len(found[1]) == n or len(found[1]) >= self._count(expression):
            return found
        return self._scan_key_ranges(query, expression)

    def _search_radius(self, query: Vectors, expression: str, least: float) -> tuple[Vectors, Ids]:
        found = self._table.search(query[None], MAX_HITS, expression, least)[0]
        return found if len(found[1]) < MAX_HITS else self._scan_key_ranges(query, expression, least)

    def _scan_key_ranges(self, query: Vectors, expression: str, least: float | None = None) -> tuple[Vectors, Ids]:
        """Search all rows, in ranges of keys that are small enough for Milvus to return completely."""
        found = []
        for above in range(0, self._last_view_id, MAX_HITS):
            limits = f"{KEY} > {above} and {KEY} <= {above + MAX_HITS}"
            where = f"{limits} and ({expression})" if expression else limits
            found.append(self._table.search(query[None], MAX_HITS, where, least)[0])
        return _concatenate(found)

    def _count(self, expression: str) -> int:
        if expression not in self._counts:
            self._counts[expression] = self._table.count(expression)
        return self._counts[expression]


class MilvusIndex(MilvusSubset):
    """All vectors of a model in Milvus. `is_current`: whether they match the catalog."""

    def __init__(
        self,
        table: MilvusTable,
        catalog: Catalog,
        stored: StoredModel,
        *,
        is_current: bool,
        notes: tuple[str, ...] = (),
    ) -> None:
        self._catalog = catalog
        self._stored = stored
        self._is_current = is_current
        self.notes = notes
        self._uncertain_rows: tuple[bool, tuple[int, ...]] | None = None
        super().__init__(table, ("",), catalog.find_last_view_id(stored.id))

    def select_matching(self, condition: Condition, ids: Callable[[], Ids]) -> Searchable:
        """Select the rows that match a condition: by a filter if one has the same meaning, else by their ids.

        The catalog decides about images with several files and others that Milvus cannot represent. If Milvus does
        not match the catalog, the catalog decides about all images, so that no result is based on old metadata.
        """
        expression = compile_filter(condition) if self._is_current else None
        others = None if expression is None else self._find_uncertain_matches(condition)
        if expression is None or others is None or len(others) > _MAX_LISTED_IDS:
            return self._select(_format_id_filters(ids()))
        return self._select([expression, *_format_id_filters(others)])

    def read_vectors(self, ids: Ids) -> Vectors:
        """Read the vectors (m, d) of these views from the catalog."""
        wanted = np.asarray(ids, np.int64)
        rows = np.empty((len(wanted), self._stored.width), np.float32)
        order = np.argsort(wanted, kind="stable")
        for some, vectors in self._catalog.iterate_vectors(self._stored, np.unique(wanted)):
            for view_id, vector in zip(some.tolist(), vectors, strict=True):
                low, high = np.searchsorted(wanted[order], [view_id, view_id + 1])
                rows[order[low:high]] = vector
        return rows

    def _find_uncertain_matches(self, condition: Condition) -> Ids | None:
        """Find the matching views about which only the catalog can decide; None if they are too many."""
        if self._uncertain_rows is None:
            self._uncertain_rows = (
                self._table.count(_MULTI_FILE) > 0,
                tuple(self._table.read_image_ids(_INCOMPLETE).values()),
            )
        has_multi_file, incomplete = self._uncertain_rows
        if len(incomplete) >= MAX_HITS:
            return None
        if not has_multi_file and not incomplete:
            return np.empty(0, np.int64)
        sql = compile_sql(condition, self._catalog.count_columns())
        return self._catalog.find_matching_ids(self._stored.id, restrict_to_images(sql, set(incomplete)))

    def _select(self, filters: Sequence[str]) -> MilvusSubset:
        return MilvusSubset(self._table, filters, self._last_view_id)


def _format_id_filters(ids: Ids) -> list[str]:
    starts = range(0, len(ids), _IDS_PER_FILTER)
    return [f"{KEY} in {ids[start : start + _IDS_PER_FILTER].tolist()}" for start in starts]


def _concatenate(found: Sequence[tuple[Vectors, Ids]]) -> tuple[Vectors, Ids]:
    if not found:
        return np.empty(0, np.float32), np.empty(0, np.int64)
    similarities, ids = zip(*found, strict=True)
    return np.concatenate(similarities), np.concatenate(ids)
