"""A large index that is not rewritten for every change: a base index, added vectors, and ids removed from the base."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from simsearch.index.exact import ExactIndex, exclude_ids, is_in_sorted
from simsearch.index.protocol import Ids, Searchable, Vectors

if TYPE_CHECKING:
    from simsearch.filters import Condition


class BaseIndex(Searchable, Protocol):
    """The large index below a `DeltaIndex`."""

    @property
    def ids(self) -> Ids:
        """The ids of the vectors."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """As `Index` says."""
        ...

    @property
    def is_damaged(self) -> bool:
        """Whether the file of the index is known to be damaged."""
        ...

    def select(self, ids: Ids) -> Searchable:
        """Select the vectors with these ids (m,); ids that are not in the index are ignored."""
        ...

    def exclude(self, ids: Ids) -> Searchable:
        """Select the vectors without those of these ids (m,)."""
        ...

    def read_vectors(self, ids: Ids) -> Vectors:
        """Read the vectors (m, d) of ids (m,), all of which are in the index."""
        ...


class _CombinedIndex:
    """Several parts with distinct ids, searched as one."""

    def __init__(self, parts: Sequence[Searchable]) -> None:
        self._parts = parts

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def search(self, queries: Vectors, n: int) -> tuple[Vectors, Ids]:
        found = [part.search(queries, n) for part in self._parts]
        similarities, ids = (np.concatenate(some, axis=1) for some in zip(*found, strict=True))
        order = np.argsort(-similarities, axis=1, kind="stable")[:, :n]
        return np.take_along_axis(similarities, order, 1), np.take_along_axis(ids, order, 1)

    def range_search(self, query: Vectors, min_similarity: float) -> tuple[Vectors, Ids]:
        found = [part.range_search(query, min_similarity) for part in self._parts]
        similarities, ids = (np.concatenate(some) for some in zip(*found, strict=True))
        return similarities, ids


class DeltaIndex(_CombinedIndex):
    """A base index with changes: `added` vectors in an index of their own, and ids `removed` from the base."""

    def __init__(self, base: BaseIndex, added: ExactIndex, removed: Ids) -> None:
        self.base, self.added, self.removed = base, added, removed
        super().__init__([base.exclude(removed), added])

    @property
    def notes(self) -> tuple[str, ...]:
        """As `Index` says."""
        return self.base.notes

    @property
    def is_damaged(self) -> bool:
        """Whether the file of the base is known to be damaged."""
        return self.base.is_damaged

    def select_matching(self, _condition: Condition, find_ids: Callable[[], Ids]) -> Searchable:
        """As `Index` says."""
        return self.select(find_ids())

    def select(self, ids: Ids) -> Searchable:
        """Select the vectors with these ids (m,); ids that are not in the index are ignored."""
        return _CombinedIndex([self.base.select(exclude_ids(ids, self.removed)), self.added.select(ids)])

    def read_vectors(self, ids: Ids) -> Vectors:
        """Read the vectors (m, d) of ids (m,), all of which are in the index."""
        is_added = is_in_sorted(ids, np.sort(self.added.ids))
        rows = np.empty((len(ids), self.added.rows.shape[1]), np.float32)
        rows[is_added] = self.added.read_vectors(ids[is_added])
        rows[~is_added] = self.base.read_vectors(ids[~is_added])
        return rows
