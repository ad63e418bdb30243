"""The graph of similar images: all pairs are compared in blocks, none is stored, and components are the result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from simsearch.index.exact import ExactIndex

Floats = NDArray[np.float32]
Positions = NDArray[np.intp]
"""Positions of images in `OriginalVectors`, (n,)."""

_BLOCK_ROWS, _BLOCK_COLUMNS = 1024, 4096


class OriginalVectors:
    """The vectors of the original views of images, by rising view id. The vectors are not copied from the index."""

    def __init__(self, image_ids: NDArray[np.int64], rows: Floats, row_positions: Positions) -> None:
        self.image_ids = image_ids
        self._rows = rows
        self._row_positions = row_positions

    @classmethod
    def from_index(cls, index: ExactIndex, view_ids: NDArray[np.int64], image_ids: NDArray[np.int64]) -> Self:
        """Select the views (n,) of images (n,) that are in the index; another process may have added others since."""
        is_indexed = np.isin(view_ids, index.ids)
        return cls(image_ids[is_indexed], index.rows, index.find_positions(view_ids[is_indexed]))

    def select(self, positions: Positions) -> Self:
        """Select the images at some positions, in that order."""
        return type(self)(self.image_ids[positions], self._rows, self._row_positions[positions])

    def __len__(self) -> int:
        return len(self.image_ids)

    def read_vectors(self, positions: Positions | slice) -> Floats:
        """Read the unit vectors (m, d) at positions (m,)."""
        return np.ascontiguousarray(self._rows[self._row_positions[positions]])

    def compute_similarities(self, position: int, others: Positions) -> Floats:
        """Compute the cosines (m,) of one image to others (m,), clipped to [-1, 1]."""
        one = self.read_vectors(np.array([position]))[0]
        starts = range(0, len(others), _BLOCK_COLUMNS)
        found = [self.read_vectors(others[start : start + _BLOCK_COLUMNS]) @ one for start in starts]
        return np.clip(np.concatenate(found), -1, 1) if found else np.empty(0, np.float32)

    def compute_pair_similarities(self, positions: Positions, others: Positions) -> Floats:
        """Compute the cosines (p,) of pairs: the images at `positions` (p,) and at `others` (p,)."""
        starts = range(0, len(positions), _BLOCK_ROWS)
        blocks = [slice(start, start + _BLOCK_ROWS) for start in starts]
        found = [(self.read_vectors(positions[block]) * self.read_vectors(others[block])).sum(1) for block in blocks]
        return np.clip(np.concatenate(found), -1, 1) if found else np.empty(0, np.float32)

    def find_nearest(self, positions: Positions, n: int) -> tuple[Floats, Positions]:
        """Find the n nearest others of images (m,): similarities and positions, (m, min(n, len - 1)) each."""
        n = min(n, len(self) - 1)
        queries = self.read_vectors(positions)
        similarities = np.empty((len(positions), 0), np.float32)
        found = np.empty((len(positions), 0), np.intp)
        for start in range(0, len(self), _BLOCK_COLUMNS):
            columns = np.arange(start, min(start + _BLOCK_COLUMNS, len(self)))
            block = queries @ self.read_vectors(columns).T
            block[positions[:, None] == columns] = -np.inf
            similarities = np.concatenate([similarities, block], axis=1)
            found = np.concatenate([found, np.broadcast_to(columns, block.shape)], axis=1)
            order = np.argsort(-similarities, axis=1, kind="stable")[:, :n]
            similarities, found = np.take_along_axis(similarities, order, 1), np.take_along_axis(found, order, 1)
        return np.clip(similarities, -1, 1), found


class RejectedPairs:
    """Pairs of images that the user marked as different, by position."""

    def __init__(self, originals: OriginalVectors, image_pairs: Iterable[tuple[int, int]]) -> None:
        order = np.argsort(originals.image_ids)
        ids = originals.image_ids[order]
        pairs = np.array(list(image_pairs), dtype=np.int64).reshape(-1, 2)
        pairs = pairs[np.isin(pairs, ids).all(1)]
        self._pairs: Positions = np.sort(order[np.searchsorted(ids, pairs)], axis=1)
        self._partners: dict[int, set[int]] = {}
        for a, b in self._pairs.tolist():
            self._partners.setdefault(a, set()).add(b)
            self._partners.setdefault(b, set()).add(a)

    def list_partners(self, position: int) -> set[int]:
        """List the positions of the images that are rejected as duplicates of this image."""
        return self._partners.get(position, set())

    def select_block(self, rows: range, columns: range) -> Positions:
        """Select the pairs (m, 2), rising, with the first position in `rows` and the second in `columns`."""
        a, b = self._pairs.T
        inside = (a >= rows.start) & (a < rows.stop) & (b >= columns.start) & (b < columns.stop)
        found: Positions = self._pairs[inside]
        return found


@dataclass(frozen=True, slots=True)
class SimilarityGraph:
    """The graph of images linked by a similarity of at least `min_similarity`.

    `component` (n,) is the first position of the component of each image, `degrees` (n,) the number of its links.
    """

    min_similarity: float
    component: Positions
    degrees: NDArray[np.int64]

    def iterate_components(self) -> Iterator[Positions]:
        """Iterate over the positions of each component of at least two images, by its first position."""
        order = np.argsort(self.component, kind="stable")
        edges = np.flatnonzero(np.diff(self.component[order])) + 1
        yield from (positions for positions in np.split(order, edges) if len(positions) > 1)


def build_similarity_graph(
    originals: OriginalVectors,
    min_similarity: float,
    rejections: RejectedPairs,
    progress: Callable[[float], None] = lambda _: None,
) -> SimilarityGraph:
    """Build the graph of all pairs with a similarity of at least `min_similarity`, without the rejected pairs.

    Union-find over the rows of one block of similarities after the other: memory holds one block, whatever the number
    of pairs. `progress` is called with the finished share.
    """
    n = len(originals)
    parent, degrees = np.arange(n), np.zeros(n, np.int64)
    for start in range(0, n, _BLOCK_ROWS):
        rows = range(start, min(start + _BLOCK_ROWS, n))
        queries = originals.read_vectors(slice(rows.start, rows.stop))
        for left in range(start, n, _BLOCK_COLUMNS):
            columns = range(left, min(left + _BLOCK_COLUMNS, n))
            is_linked = queries @ originals.read_vectors(slice(columns.start, columns.stop)).T >= min_similarity
            is_linked &= np.arange(rows.start, rows.stop)[:, None] < np.arange(columns.start, columns.stop)
            rejected = rejections.select_block(rows, columns)
            is_linked[rejected[:, 0] - rows.start, rejected[:, 1] - columns.start] = False
            degrees[rows.start : rows.stop] += is_linked.sum(1)
            degrees[columns.start : columns.stop] += is_linked.sum(0)
            for row in np.flatnonzero(is_linked.any(1)).tolist():
                _unite(parent, rows.start + row, columns.start + np.flatnonzero(is_linked[row]))
        progress(1 - (1 - rows.stop / n) ** 2)
    return SimilarityGraph(min_similarity, _find_roots(parent, np.arange(n)), degrees)


def _unite(parent: Positions, position: int, others: Positions) -> None:
    """Join all positions into one component, whose root is its first position."""
    roots = _find_roots(parent, np.append(others, position))
    parent[roots] = roots.min()


def _find_roots(parent: Positions, positions: Positions) -> Positions:
    """Find the root of each position, and compress the paths to the roots."""
    roots = parent[positions]
    while not np.array_equal(above := parent[roots], roots):
        roots = above
    parent[positions] = roots
    return roots
