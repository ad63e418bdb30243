"""A database with a few rows changed for one query: exact neighbor lists without a new search for every row."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simsearch.rerank.neighbors import NeighborDatabase, NeighborLists, Positions, Vectors, sort_lists

_OUT = np.float32(-np.inf)


class PatchedDatabase:
    """A database of n rows with some rows replaced and others appended.

    A query picture that is not in the database is appended at position n. In leave-one-out evaluation with an
    augmented database or an expanded query, the query replaces its own row, and corrected rows replace theirs.
    """

    def __init__(self, database: NeighborDatabase, positions: Positions, vectors: Vectors) -> None:
        """Put `vectors` (a, d) at `positions` (a,), each position once: a row below n is replaced, others are new.

        Memory holds the similarities of the changed rows to all rows, a x n.
        """
        n_replaced = int(np.count_nonzero(positions < len(database)))
        self._database = database
        self._changed, self._rows, self._n_replaced = positions, vectors, n_replaced
        self._slots = np.full(len(database) + len(positions) - n_replaced, -1)
        self._slots[positions] = np.arange(len(positions))
        self._similarities = np.empty((len(positions), len(self)), np.float32)
        self._similarities[:, : len(database)] = database.compute_similarities(vectors)
        self._similarities[:, positions] = np.clip(vectors @ vectors.T, -1, 1)
        self._similarities[np.arange(len(positions)), positions] = _OUT  # no row is in its own list
        self._changed_lists: dict[int, tuple[Positions, NDArray[np.float32]]] = {}

    def __len__(self) -> int:
        return len(self._slots)

    def read_vectors(self, positions: Positions) -> Vectors:
        """Read the rows (q, d) at positions (q,)."""
        slots = self._slots[positions]
        rows = self._database.read_vectors(np.where(slots < 0, positions, 0))
        rows[slots >= 0] = self._rows[slots[slots >= 0]]
        return rows

    def find_neighbors(self, positions: Positions, depth: int) -> NeighborLists:
        """Find the nearest other rows of the rows at positions (q,): min(depth, all others) each."""
        depth = min(depth, len(self) - 1)
        slots = self._slots[positions]
        is_kept = slots < 0
        lists = NeighborLists(
            np.empty((len(positions), depth), np.int64), np.empty((len(positions), depth), np.float32)
        )
        found = self._list_kept_rows(positions[is_kept], depth)
        lists.positions[is_kept], lists.similarities[is_kept] = found.positions, found.similarities
        for row in np.flatnonzero(~is_kept):
            lists.positions[row], lists.similarities[row] = self._list_changed_row(int(slots[row]), depth)
        return lists

    def _list_changed_row(self, slot: int, depth: int) -> tuple[Positions, NDArray[np.float32]]:
        if slot not in self._changed_lists or len(self._changed_lists[slot][0]) < depth:
            similarities = self._similarities[slot]
            n_left = len(similarities) - min(max(depth, self._database.depth), len(similarities) - 1)
            nearest = np.argpartition(similarities, n_left)[n_left:]
            nearest = nearest[np.lexsort((nearest, -similarities[nearest]))]
            self._changed_lists[slot] = nearest, similarities[nearest]
        nearest, similarities = self._changed_lists[slot]
        return nearest[:depth], similarities[:depth]

    def _list_kept_rows(self, positions: Positions, depth: int) -> NeighborLists:
        """List the neighbors of unchanged rows. Most of these lists are unchanged too and are not merged."""
        lists = self._database.find_neighbors(positions, depth)
        if lists.depth < depth:
            return self._merge_lists(positions, depth)
        loses = (self._slots[lists.positions] >= 0).any(axis=1)
        gains = self._similarities[:, positions].max(axis=0) >= lists.similarities[:, -1]
        touched = np.flatnonzero(loses | gains)
        merged = self._merge_lists(positions[touched], depth)
        lists.positions[touched], lists.similarities[touched] = merged.positions, merged.similarities
        return lists

    def _merge_lists(self, positions: Positions, depth: int) -> NeighborLists:
        """Remove the changed rows from the lists and insert them again at their new similarity."""
        lists = self._database.find_neighbors(positions, max(depth, self._database.depth))
        n_needed = min(depth, len(self._database) - self._n_replaced - 1)
        if (np.count_nonzero(self._slots[lists.positions] < 0, axis=1) < n_needed).any():
            lists = self._database.find_neighbors(positions, depth + self._n_replaced)
        left = np.where(self._slots[lists.positions] < 0, lists.similarities, _OUT)
        changed = np.broadcast_to(self._changed, (len(positions), len(self._changed)))
        return sort_lists(
            np.hstack([lists.positions, changed]), np.hstack([left, self._similarities[:, positions].T])
        ).truncate(depth)
