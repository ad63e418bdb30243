"""A model's vectors in Milvus, as an index that is searched, and the parts of it that filters leave."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from simsearch.filters import Condition, compile
from simsearch.filters.sql import Sql
from simsearch.index import Ids, Searchable, Vectors
from simsearch.index.milvus.client import MOST_HITS, Table
from simsearch.index.milvus.filter import expression
from simsearch.index.milvus.schema import COMPLETE, KEY, N_FILES
from simsearch.store.catalog import Catalog, StoredModel

_IDS_AT_ONCE = 10_000
"""So many ids go into one expression."""

_MOST_NAMED = 100_000
"""Up to so many rows are named one by one beside an expression."""

_SHARED = f"{N_FILES} > 1"
_ODD = f"{COMPLETE} == false and {N_FILES} == 1"


class MilvusPart:
    """The rows of which one of some expressions is true, no row of more than one; an empty expression is all rows."""

    def __init__(self, table: Table, expressions: Sequence[str], last_view: int) -> None:
        self._table = table
        self._expressions = tuple(expressions)
        self._last_view = last_view
        self._counts: dict[str, int] = {}

    def __len__(self) -> int:
        return sum(map(self._count, self._expressions))

    def search(self, queries: Vectors, n: int) -> tuple[Vectors, Ids]:
        """As `Searchable` says. Where fewer than n are found of a query, its row ends in ids of -1."""
        found = [self._nearest(query, n) for query in queries]
        width = max((len(ids) for _, ids in found), default=0)
        similarities = np.full((len(queries), width), -1, np.float32)
        keys = np.full((len(queries), width), -1, np.int64)
        for row, (some, ids) in enumerate(found):
            similarities[row, : len(ids)], keys[row, : len(ids)] = some, ids
        return similarities, keys

    def within(self, query: Vectors, least: float) -> tuple[Vectors, Ids]:
        """As `Searchable` says."""
        return _joined([self._all_within(query, expression, least) for expression in self._expressions])

    def _nearest(self, query: Vectors, n: int) -> tuple[Vectors, Ids]:
        if n <= 0:
            return _joined([])
        similarities, ids = _joined([self._nearest_of(query, expression, n) for expression in self._expressions])
        order = np.lexsort((ids, -similarities))[:n]
        return similarities[order], ids[order]

    def _nearest_of(self, query: Vectors, expression: str, n: int) -> tuple[Vectors, Ids]:
        """At once where that is possible; a graph may then miss some of few, which are looked for one range by one."""
        found = self._table.search(query[None], min(n, MOST_HITS), expression)[0]
        if len(found[1]) == n or len(found[1]) >= self._count(expression):
            return found
        return self._range_by_range(query, expression)

    def _all_within(self, query: Vectors, expression: str, least: float) -> tuple[Vectors, Ids]:
        found = self._table.search(query[None], MOST_HITS, expression, least)[0]
        return found if len(found[1]) < MOST_HITS else self._range_by_range(query, expression, least)

    def _range_by_range(self, query: Vectors, expression: str, least: float | None = None) -> tuple[Vectors, Ids]:
        """All rows, in ranges of keys of which Milvus can give every one at once."""
        found = []
        for above in range(0, self._last_view, MOST_HITS):
            limits = f"{KEY} > {above} and {KEY} <= {above + MOST_HITS}"
            where = f"{limits} and ({expression})" if expression else limits
            found.append(self._table.search(query[None], MOST_HITS, where, least)[0])
        return _joined(found)

    def _count(self, expression: str) -> int:
        if expression not in self._counts:
            self._counts[expression] = self._table.count(expression)
        return self._counts[expression]


class MilvusIndex(MilvusPart):
    """All vectors of a model that Milvus has. `is_current`: whether it is in step with the catalog."""

    def __init__(
        self, table: Table, catalog: Catalog, stored: StoredModel, *, is_current: bool, notes: tuple[str, ...] = ()
    ) -> None:
        self._catalog = catalog
        self._stored = stored
        self._is_current = is_current
        self.notes = notes
        self._doubts: tuple[bool, tuple[int, ...]] | None = None
        super().__init__(table, ("",), catalog.last_view_id(stored.id))

    def matching(self, condition: Condition, ids: Callable[[], Ids]) -> Searchable:
        """The part of which a condition holds: as an expression where one says the same, else by the ids.

        Of images with several files, and others that Milvus cannot tell about, the catalog says whether they match.
        It is asked about all where Milvus is not in step with it, so that no answer is from old metadata.
        """
        said = expression(condition) if self._is_current else None
        others = None if said is None else self._others(condition)
        if said is None or others is None or len(others) > _MOST_NAMED:
            return self._part(_named(ids()))
        return self._part([said, *_named(others)])

    def vectors_of(self, ids: Ids) -> Vectors:
        """The vectors (m, d) of those views, from the catalog."""
        wanted = np.asarray(ids, np.int64)
        rows = np.empty((len(wanted), self._stored.width), np.float32)
        order = np.argsort(wanted, kind="stable")
        for some, vectors in self._catalog.vectors(self._stored, np.unique(wanted)):
            for view_id, vector in zip(some.tolist(), vectors, strict=True):
                low, high = np.searchsorted(wanted[order], [view_id, view_id + 1])
                rows[order[low:high]] = vector
        return rows

    def _others(self, condition: Condition) -> Ids | None:
        """The views that match and of which Milvus cannot tell it; None where they are too many."""
        if self._doubts is None:
            self._doubts = self._table.count(_SHARED) > 0, tuple(self._table.images(_ODD).values())
        is_any_shared, odd = self._doubts
        if len(odd) >= MOST_HITS:
            return None
        if not is_any_shared and not odd:
            return np.empty(0, np.int64)
        sql = compile(condition, self._catalog.columns())
        listed = ", ".join(map(str, set(odd)))
        shared = f"SELECT image_id FROM files GROUP BY image_id HAVING count(*) > 1 OR image_id IN ({listed})"
        doubtful = f"images.id IN ({shared})"
        return self._catalog.matching_ids(self._stored.id, Sql(f"({sql.text}) AND {doubtful}", sql.parameters))

    def _part(self, expressions: Sequence[str]) -> MilvusPart:
        return MilvusPart(self._table, expressions, self._last_view)


def _named(ids: Ids) -> list[str]:
    starts = range(0, len(ids), _IDS_AT_ONCE)
    return [f"{KEY} in {ids[start : start + _IDS_AT_ONCE].tolist()}" for start in starts]


def _joined(found: Sequence[tuple[Vectors, Ids]]) -> tuple[Vectors, Ids]:
    if not found:
        return np.empty(0, np.float32), np.empty(0, np.int64)
    similarities, ids = zip(*found, strict=True)
    return np.concatenate(similarities), np.concatenate(ids)
