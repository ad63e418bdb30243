"""A large index that is not written anew for every change: the file, what came since, and what is no longer meant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from simsearch.index.exact import AnnIndex, is_among
from simsearch.index.protocol import Ids, Searchable, Vectors

if TYPE_CHECKING:
    from simsearch.filters import Condition


class Base(Searchable, Protocol):
    """What a layered index has most of its vectors in."""

    @property
    def ids(self) -> Ids:
        """The ids of the vectors."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """As `Index` says."""
        ...

    def only(self, ids: Ids) -> Searchable:
        """The part that is of those ids (m,), as far as they are here."""
        ...

    def without(self, ids: Ids) -> Searchable:
        """The part that is not of those ids (m,)."""
        ...

    def vectors_of(self, ids: Ids) -> Vectors:
        """The vectors (m, d) of ids (m,), all of which are here."""
        ...


class _Union:
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

    def within(self, query: Vectors, least: float) -> tuple[Vectors, Ids]:
        found = [part.within(query, least) for part in self._parts]
        similarities, ids = (np.concatenate(some) for some in zip(*found, strict=True))
        return similarities, ids


class LayeredIndex(_Union):
    """A base, recent vectors beside it, and ids of the base that have been removed."""

    def __init__(self, base: Base, recent: AnnIndex, removed: Ids) -> None:
        self.base, self.recent, self.removed = base, recent, removed
        super().__init__([base.without(removed), recent])

    @property
    def notes(self) -> tuple[str, ...]:
        """As `Index` says."""
        return self.base.notes

    def matching(self, _condition: Condition, ids: Callable[[], Ids]) -> Searchable:
        """As `Index` says."""
        return self.only(ids())

    def only(self, ids: Ids) -> Searchable:
        """The part that is of those ids (m,), as far as they are here."""
        return _Union([self.base.only(np.setdiff1d(ids, self.removed)), self.recent.only(ids)])

    def vectors_of(self, ids: Ids) -> Vectors:
        """The vectors (m, d) of ids (m,), all of which are here."""
        is_recent = is_among(ids, np.sort(self.recent.ids))
        rows = np.empty((len(ids), self.recent.rows.shape[1]), np.float32)
        rows[is_recent] = self.recent.vectors_of(ids[is_recent])
        rows[~is_recent] = self.base.vectors_of(ids[~is_recent])
        return rows
