"""A large index that is not written anew for every change: the file, what came since, and what is no longer meant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from simsearch.index.exact import ExactIndex, is_in_sorted
from simsearch.index.protocol import Ids, Searchable, Vectors

if TYPE_CHECKING:
    from simsearch.filters import Condition


class BaseIndex(Searchable, Protocol):
    """What a layered index has most of its vectors in."""

    @property
    def ids(self) -> Ids:
        """The ids of the vectors."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """As `Index` says."""
        ...

    def select(self, ids: Ids) -> Searchable:
        """The part that is of those ids (m,), as far as they are here."""
        ...

    def exclude(self, ids: Ids) -> Searchable:
        """The part that is not of those ids (m,)."""
        ...

    def read_vectors(self, ids: Ids) -> Vectors:
        """The vectors (m, d) of ids (m,), all of which are here."""
        ...


class _CombinedIndex:
    """Several parts, of different ids, as one."""

    def __init__(self, parts: Sequence[Searchable]) -> None:
        self._parts = parts

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def search(self, queries: Vectors, n: int) -> tuple[Vectors, Ids]:
        found = [part.search(queries, n) for part in self._parts]
        similarities, ids = (np.concatenate(some, axis=1) for some in zip(*found, strict=True))
        order = np.argsort(-similarities, axis=1, kind="stable")[:, :n]
        return np.take_along_axis(similarities, order, 1), np.take_along_axis(ids, order, 1)

    def range_search(self, query: Vectors, least: float) -> tuple[Vectors, Ids]:
        found = [part.range_search(query, least) for part in self._parts]
        similarities, ids = (np.concatenate(some) for some in zip(*found, strict=True))
        return similarities, ids


class DeltaIndex(_CombinedIndex):
    """A base, recent vectors beside it, and ids of the base that have been removed."""

    def __init__(self, base: BaseIndex, recent: ExactIndex, removed: Ids) -> None:
        self.base, self.recent, self.removed = base, recent, removed
        super().__init__([base.exclude(removed), recent])

    @property
    def notes(self) -> tuple[str, ...]:
        """As `Index` says."""
        return self.base.notes

    def select_matching(self, _condition: Condition, ids: Callable[[], Ids]) -> Searchable:
        """As `Index` says."""
        return self.select(ids())

    def select(self, ids: Ids) -> Searchable:
        """The part that is of those ids (m,), as far as they are here."""
        return _CombinedIndex([self.base.select(np.setdiff1d(ids, self.removed)), self.recent.select(ids)])

    def read_vectors(self, ids: Ids) -> Vectors:
        """The vectors (m, d) of ids (m,), all of which are here."""
        is_recent = is_in_sorted(ids, np.sort(self.recent.ids))
        rows = np.empty((len(ids), self.recent.rows.shape[1]), np.float32)
        rows[is_recent] = self.recent.read_vectors(ids[is_recent])
        rows[~is_recent] = self.base.read_vectors(ids[~is_recent])
        return rows
