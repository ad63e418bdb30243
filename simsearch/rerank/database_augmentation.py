"""Database-side augmentation (DBA): every row moved towards its neighbours, and the same without a query's row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simsearch.rerank.method import ALPHA
from simsearch.rerank.neighbors import NeighborLists
from simsearch.rerank.query_expansion import expand

Vectors = NDArray[np.float32]

_BLOCK_NUMBERS = 1 << 22


def blend(vectors: Vectors, neighbors: NeighborLists, n_neighbors: int, alpha: float = ALPHA) -> Vectors:
    """The rows (n, d), each expanded with its n nearest others, weighted by similarity^alpha.

    `neighbours` are those of the rows as they are; deeper lists are cut. Arandjelović & Zisserman, "Three things
    everyone should know to improve object retrieval", CVPR 2012, with the weights of `expand`.
    """
    near = neighbors.truncate(n_neighbors)
    blended = np.empty_like(vectors)
    n_rows = max(1, _BLOCK_NUMBERS // max(1, near.depth * vectors.shape[1]))
    for start in range(0, len(vectors), n_rows):
        rows = slice(start, start + n_rows)
        blended[rows] = expand(vectors[rows], vectors[near.positions[rows]], near.similarities[rows], alpha)
    return blended


@dataclass(frozen=True, slots=True, eq=False)
class CorrectedRows:
    """Rows that replace those of a blended database: positions (m,), rising, and vectors (m, d)."""

    positions: NDArray[np.int64]
    vectors: Vectors


class LeaveOneOut:
    """What a blended database would be had a query's row never been in it.

    The query's own row is left out of the answers; but it is also in the blends of those that it is near to, which
    pulls them towards the query as no outside query could. Those, and only those, are blended anew here, with their
    next neighbour in its place.
    """

    def __init__(self, vectors: Vectors, neighbors: NeighborLists, n_neighbors: int, alpha: float = ALPHA) -> None:
        """Of rows (n, d) before blending, with lists one deeper than is blended.

        Raises `ValueError` when the lists are not that deep although there are rows enough.
        """
        if neighbors.depth < min(n_neighbors + 1, len(vectors) - 1):
            raise ValueError(f"lists of {neighbors.depth} cannot replace one of {n_neighbors} neighbours")
        self._vectors = vectors
        self._neighbors = neighbors.truncate(n_neighbors + 1)
        self._alpha = alpha
        blended = neighbors.truncate(n_neighbors).positions
        by_neighbour = np.argsort(blended, axis=None, kind="stable")
        self._rows = by_neighbour // max(1, blended.shape[1])
        self._ends = np.cumsum(np.bincount(blended.ravel(), minlength=len(vectors)))

    def correct_rows(self, query: int) -> CorrectedRows:
        """The rows that blended in the row at position `query`, blended without it."""
        rows = self._rows[self._ends[query - 1] if query else 0 : self._ends[query]]
        positions, similarities = self._neighbors.positions[rows], self._neighbors.similarities[rows]
        weighing = np.where(positions == query, 0, similarities)
        return CorrectedRows(rows, expand(self._vectors[rows], self._vectors[positions], weighing, self._alpha))
