"""Exact nearest neighbors of the rows of a database among themselves, one block at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from simsearch.index.exact import ExactIndex

Vectors = NDArray[np.float32]
Positions = NDArray[np.int64]

_BLOCK_ROWS = 1024


@dataclass(frozen=True, slots=True, eq=False)
class NeighborLists:
    """Lists of neighbors: positions (q, k) and similarities (q, k), by falling similarity, then rising position.

    If several rows are exactly as similar as the last of a list, FAISS chooses which of them the list contains.
    """

    positions: Positions
    similarities: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def depth(self) -> int:
        """The number of neighbors in each list."""
        return int(self.positions.shape[1])

    def truncate(self, depth: int) -> NeighborLists:
        """Cut the lists to the nearest `depth`."""
        return NeighborLists(self.positions[:, :depth], self.similarities[:, :depth])


class PointSet(Protocol):
    """Unit rows, addressed by position, with their nearest neighbors among themselves."""

    def __len__(self) -> int: ...

    def read_vectors(self, positions: Positions) -> Vectors:
        """Read the rows (q, d) at positions (q,)."""
        ...

    def find_neighbors(self, positions: Positions, depth: int) -> NeighborLists:
        """Find the nearest other rows of the rows at positions (q,): min(depth, all others) each."""
        ...


class NeighborDatabase:
    """The rows of an index, (n, d) in the order of its ids, with neighbor lists that are searched on first use.

    Lists of `depth` neighbors are kept: memory holds n x depth numbers, never n x n.
    """

    def __init__(self, index: ExactIndex, vectors: Vectors, depth: int) -> None:
        self._index = index
        self._vectors = vectors
        self._by_id = np.argsort(index.ids)
        self._sorted_ids = index.ids[self._by_id]
        shape = (len(vectors), min(depth, max(0, len(vectors) - 1)))
        self._positions = np.empty(shape, np.int64)
        self._similarities = np.empty(shape, np.float32)
        self._is_known = np.zeros(len(vectors), bool)

    @classmethod
    def from_vectors(cls, vectors: Vectors, depth: int) -> NeighborDatabase:
        """Build an index over rows (n, d)."""
        index = ExactIndex.create_empty(vectors.shape[1])
        index.reserve(len(vectors))
        index.add(np.arange(len(vectors)), vectors)
        return cls(index, vectors, depth)

    def __len__(self) -> int:
        return len(self._vectors)

    @property
    def depth(self) -> int:
        """The number of neighbors in the lists that are kept."""
        return int(self._positions.shape[1])

    def read_vectors(self, positions: Positions) -> Vectors:
        """Read the rows (q, d) at positions (q,)."""
        return self._vectors[positions]

    def compute_similarities(self, vectors: Vectors) -> NDArray[np.float32]:
        """Compute the cosine similarities (a, n) of a few unit vectors (a, d) to all rows."""
        similarities: NDArray[np.float32] = (vectors @ self._vectors.T).clip(-1, 1)
        return similarities

    def find_neighbors(self, positions: Positions, depth: int) -> NeighborLists:
        """Find the nearest other rows of the rows at positions (q,): min(depth, n - 1) each."""
        if min(depth, len(self) - 1) > self.depth:
            return remove_self(self.search(self._vectors[positions], depth + 1), positions)
        unknown = np.unique(positions[~self._is_known[positions]])
        for start in range(0, len(unknown), _BLOCK_ROWS):
            block = unknown[start : start + _BLOCK_ROWS]
            found = remove_self(self.search(self._vectors[block], self.depth + 1), block)
            self._positions[block], self._similarities[block] = found.positions, found.similarities
        self._is_known[unknown] = True
        return NeighborLists(self._positions[positions, :depth], self._similarities[positions, :depth])

    def search(self, queries: Vectors, depth: int) -> NeighborLists:
        """Find the nearest rows of any unit vectors (q, d): min(depth, n) each."""
        similarities, ids = self._index.search(queries, depth)
        return sort_lists(self._by_id[np.searchsorted(self._sorted_ids, ids)], similarities)


def find_nearest_others(vectors: Vectors, depth: int) -> NeighborLists:
    """Find the nearest other rows of each of the rows (n, d): (n, min(depth, n - 1))."""
    return NeighborDatabase.from_vectors(vectors, depth).find_neighbors(np.arange(len(vectors)), depth)


def sort_lists(positions: Positions, similarities: NDArray[np.float32]) -> NeighborLists:
    """Sort lists (q, k) by falling similarity, then rising position."""
    order = np.lexsort((positions, -similarities), axis=-1)
    return NeighborLists(np.take_along_axis(positions, order, 1), np.take_along_axis(similarities, order, 1))


def remove_self(found: NeighborLists, positions: Positions) -> NeighborLists:
    """Remove from each list (q, k) the row at `positions` (q,) that the list belongs to: (q, k - 1)."""
    is_self = found.positions == positions[:, None]
    similarities = np.where(is_self, np.float32(-np.inf), found.similarities)
    return sort_lists(found.positions, similarities).truncate(found.depth - 1)
