"""Which images are alike at all: every pair is looked at in blocks, none is stored, components come out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from simsearch.index import ExactIndex

Floats = NDArray[np.float32]
Positions = NDArray[np.intp]
"""Positions among the originals, (n,)."""

_BLOCK_ROWS, _BLOCK_COLUMNS = 1024, 4096


class OriginalVectors:
    """The vectors of images' original views, by rising view id; they stay where the index has them."""

    def __init__(self, image_ids: NDArray[np.int64], rows: Floats, at: Positions) -> None:
        self.image_ids = image_ids
        self._rows = rows
        self._row_positions = at

    @classmethod
    def from_index(cls, index: ExactIndex, view_ids: NDArray[np.int64], image_ids: NDArray[np.int64]) -> Self:
        """Those of the views (n,), of images (n,), that the index has; another process may have added some since."""
        is_there = np.isin(view_ids, index.ids)
        return cls(image_ids[is_there], index.rows, index.find_positions(view_ids[is_there]))

    def select(self, places: Positions) -> Self:
        """Those at some places, in that order."""
        return type(self)(self.image_ids[places], self._rows, self._row_positions[places])

    def __len__(self) -> int:
        return len(self.image_ids)

    def read_vectors(self, places: Positions | slice) -> Floats:
        """The unit vectors (m, d) at those places."""
        return np.ascontiguousarray(self._rows[self._row_positions[places]])

    def compute_similarities(self, place: int, others: Positions) -> Floats:
        """Of the image at a place to others (m,): cosines (m,), clipped to [-1, 1]."""
        one = self.read_vectors(np.array([place]))[0]
        starts = range(0, len(others), _BLOCK_COLUMNS)
        found = [self.read_vectors(others[start : start + _BLOCK_COLUMNS]) @ one for start in starts]
        return np.clip(np.concatenate(found), -1, 1) if found else np.empty(0, np.float32)

    def compute_pair_similarities(self, places: Positions, others: Positions) -> Floats:
        """Of the image at each place (p,) to that at the same position of `others` (p,): cosines (p,)."""
        starts = range(0, len(places), _BLOCK_ROWS)
        blocks = [slice(start, start + _BLOCK_ROWS) for start in starts]
        found = [(self.read_vectors(places[some]) * self.read_vectors(others[some])).sum(1) for some in blocks]
        return np.clip(np.concatenate(found), -1, 1) if found else np.empty(0, np.float32)

    def find_nearest(self, places: Positions, n: int) -> tuple[Floats, Positions]:
        """The n nearest others of the images at those places (m,): similarities and places (m, min(n, len - 1))."""
        n = min(n, len(self) - 1)
        queries = self.read_vectors(places)
        similarities = np.empty((len(places), 0), np.float32)
        found = np.empty((len(places), 0), np.intp)
        for start in range(0, len(self), _BLOCK_COLUMNS):
            columns = np.arange(start, min(start + _BLOCK_COLUMNS, len(self)))
            block = queries @ self.read_vectors(columns).T
            block[places[:, None] == columns] = -np.inf
            similarities = np.concatenate([similarities, block], axis=1)
            found = np.concatenate([found, np.broadcast_to(columns, block.shape)], axis=1)
            order = np.argsort(-similarities, axis=1, kind="stable")[:, :n]
            similarities, found = np.take_along_axis(similarities, order, 1), np.take_along_axis(found, order, 1)
        return np.clip(similarities, -1, 1), found


class RejectedPairs:
    """Pairs of images that a person said are no duplicates, by place."""

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

    def list_partners(self, place: int) -> set[int]:
        """What the image at that place is not to be put together with."""
        return self._partners.get(place, set())

    def select_block(self, rows: range, columns: range) -> Positions:
        """The pairs (m, 2), rising, of which the first is among the rows and the second among the columns."""
        a, b = self._pairs.T
        inside = (a >= rows.start) & (a < rows.stop) & (b >= columns.start) & (b < columns.stop)
        found: Positions = self._pairs[inside]
        return found


@dataclass(frozen=True, slots=True)
class SimilarityGraph:
    """What is alike: at least `least` similar.

    For each image (n,) the first of its component, and how many others it is alike to itself.
    """

    min_similarity: float
    component: Positions
    degrees: NDArray[np.int64]

    def iterate_components(self) -> Iterator[Positions]:
        """The places of each component of at least two images, by its first."""
        order = np.argsort(self.component, kind="stable")
        edges = np.flatnonzero(np.diff(self.component[order])) + 1
        yield from (places for places in np.split(order, edges) if len(places) > 1)


def build_similarity_graph(
    originals: OriginalVectors,
    least: float,
    rejections: RejectedPairs,
    progress: Callable[[float], None] = lambda _: None,
) -> SimilarityGraph:
    """Components of the graph of pairs at least as similar as `least`, without the rejected ones.

    Union-find over the rows of one block of similarities after the other: memory is that of a block, however many
    pairs there are. `progress` is told the share that is done.
    """
    n = len(originals)
    parent, n_alike = np.arange(n), np.zeros(n, np.int64)
    for start in range(0, n, _BLOCK_ROWS):
        rows = range(start, min(start + _BLOCK_ROWS, n))
        queries = originals.read_vectors(slice(rows.start, rows.stop))
        for left in range(start, n, _BLOCK_COLUMNS):
            columns = range(left, min(left + _BLOCK_COLUMNS, n))
            is_alike = queries @ originals.read_vectors(slice(columns.start, columns.stop)).T >= least
            is_alike &= np.arange(rows.start, rows.stop)[:, None] < np.arange(columns.start, columns.stop)
            rejected = rejections.select_block(rows, columns)
            is_alike[rejected[:, 0] - rows.start, rejected[:, 1] - columns.start] = False
            n_alike[rows.start : rows.stop] += is_alike.sum(1)
            n_alike[columns.start : columns.stop] += is_alike.sum(0)
            for row in np.flatnonzero(is_alike.any(1)).tolist():
                _unite(parent, rows.start + row, columns.start + np.flatnonzero(is_alike[row]))
        progress(1 - (1 - rows.stop / n) ** 2)
    return SimilarityGraph(least, _find_roots(parent, np.arange(n)), n_alike)


def _unite(parent: Positions, place: int, others: Positions) -> None:
    """Put all into one component; its root is its first image."""
    roots = _find_roots(parent, np.append(others, place))
    parent[roots] = roots.min()


def _find_roots(parent: Positions, places: Positions) -> Positions:
    """The root of each place; the ways there are shortened."""
    roots = parent[places]
    while not np.array_equal(above := parent[roots], roots):
        roots = above
    parent[places] = roots
    return roots
