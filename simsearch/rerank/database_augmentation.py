"""Database-side augmentation (DBA): move every row towards its neighbors; also with the row of a query left out."""

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
    """Expand each of the rows (n, d) with its `n_neighbors` nearest other rows, weighted by similarity^alpha.

    `neighbors` are the lists of the rows before blending; deeper lists are cut. Arandjelović & Zisserman, "Three
    things everyone should know to improve object retrieval", CVPR 2012, with the weights of `expand`.
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
    """Rows that replace rows of a blended database: positions (m,), rising, and vectors (m, d)."""

    positions: NDArray[np.int64]
    vectors: Vectors


class LeaveOneOut:
    """A blended database as if the row of one query had never been in it.

    Leave-one-out removes the query's own row from the results. But that row was also blended into its near rows, which
    moves them towards the query; an outside query has no such effect. Only these rows are blended again, with their
    next neighbor in place of the query.
    """

    def __init__(self, vectors: Vectors, neighbors: NeighborLists, n_neighbors: int, alpha: float = ALPHA) -> None:
        """Prepare for rows (n, d) before blending, with lists at least one deeper than `n_neighbors`.

        Raises `ValueError` when the lists are too short although there are enough rows.
        """
        if neighbors.depth < min(n_neighbors + 1, len(vectors) - 1):
            raise ValueError(f"lists of depth {neighbors.depth} cannot replace one of {n_neighbors} neighbors")
        self._vectors = vectors
        self._neighbors = neighbors.truncate(n_neighbors + 1)
        self._alpha = alpha
        blended = neighbors.truncate(n_neighbors).positions
        by_neighbor = np.argsort(blended, axis=None, kind="stable")
        self._rows = by_neighbor // max(1, blended.shape[1])
        self._ends = np.cumsum(np.bincount(blended.ravel(), minlength=len(vectors)))

    def correct_rows(self, query: int) -> CorrectedRows:
        """Blend the rows that contain the row at position `query` again, without that row."""
        rows = self._rows[self._ends[query - 1] if query else 0 : self._ends[query]]
        positions, similarities = self._neighbors.positions[rows], self._neighbors.similarities[rows]
        weights = np.where(positions == query, 0, similarities)
        return CorrectedRows(rows, expand(self._vectors[rows], self._vectors[positions], weights, self._alpha))
