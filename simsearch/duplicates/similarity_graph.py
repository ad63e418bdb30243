"""Which images are alike at all: every pair is looked at in blocks, none is stored, components come out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from simsearch.index import AnnIndex

Floats = NDArray[np.float32]
Places = NDArray[np.intp]
"""Positions among the originals, (n,)."""

_BLOCK_ROWS, _BLOCK_COLUMNS = 1024, 4096


class Originals:
    """The vectors of images' original views, by rising view id; they stay where the index has them."""

    def __init__(self, image_ids: NDArray[np.int64], rows: Floats, at: Places) -> None:
        self.image_ids = image_ids
        self._rows = rows
        self._at = at

    @classmethod
    def of(cls, index: AnnIndex, view_ids: NDArray[np.int64], image_ids: NDArray[np.int64]) -> Self:
        """Those of the views (n,), of images (n,), that the index has; another process may have added some since."""
        is_there = np.isin(view_ids, index.ids)
        return cls(image_ids[is_there], index.rows, index.positions_of(view_ids[is_there]))

    def only(self, places: Places) -> Self:
        """Those at some places, in that order."""
        return type(self)(self.image_ids[places], self._rows, self._at[places])

    def __len__(self) -> int:
        return len(self.image_ids)

    def vectors(self, places: Places | slice) -> Floats:
        """The unit vectors (m, d) at those places."""
        return np.ascontiguousarray(self._rows[self._at[places]])

    def similarities(self, place: int, others: Places) -> Floats:
        """Of the image at a place to others (m,): cosines (m,), clipped to [-1, 1]."""
        one = self.vectors(np.array([place]))[0]
        starts = range(0, len(others), _BLOCK_COLUMNS)
        found = [self.vectors(others[start : start + _BLOCK_COLUMNS]) @ one for start in starts]
        return np.clip(np.concatenate(found), -1, 1) if found else np.empty(0, np.float32)

    def similarities_of_pairs(self, places: Places, others: Places) -> Floats:
        """Of the image at each place (p,) to that at the same position of `others` (p,): cosines (p,)."""
        starts = range(0, len(places), _BLOCK_ROWS)
        blocks = [slice(start, start + _BLOCK_ROWS) for start in starts]
        found = [(self.vectors(places[some]) * self.vectors(others[some])).sum(1) for some in blocks]
        return np.clip(np.concatenate(found), -1, 1) if found else np.empty(0, np.float32)

    def nearest(self, places: Places, n: int) -> tuple[Floats, Places]:
        """The n nearest others of the images at those places (m,): similarities and places (m, min(n, len - 1))."""
        n = min(n, len(self) - 1)
        queries = self.vectors(places)
        similarities = np.empty((len(places), 0), np.float32)
        found = np.empty((len(places), 0), np.intp)
        for start in range(0, len(self), _BLOCK_COLUMNS):
            columns = np.arange(start, min(start + _BLOCK_COLUMNS, len(self)))
            block = queries @ self.vectors(columns).T
            block[places[:, None] == columns] = -np.inf
            similarities = np.concatenate([similarities, block], axis=1)
            found = np.concatenate([found, np.broadcast_to(columns, block.shape)], axis=1)
            order = np.argsort(-similarities, axis=1, kind="stable")[:, :n]
            similarities, found = np.take_along_axis(similarities, order, 1), np.take_along_axis(found, order, 1)
        return np.clip(similarities, -1, 1), found


class Rejections:
    """Pairs of images that a person said are no duplicates, by place."""

    def __init__(self, originals: Originals, image_pairs: Iterable[tuple[int, int]]) -> None:
        order = np.argsort(originals.image_ids)
        ids = originals.image_ids[order]
        pairs = np.array(list(image_pairs), dtype=np.int64).reshape(-1, 2)
        pairs = pairs[np.isin(pairs, ids).all(1)]
        self._pairs: Places = np.sort(order[np.searchsorted(ids, pairs)], axis=1)
        self._of: dict[int, set[int]] = {}
        for a, b in self._pairs.tolist():
            self._of.setdefault(a, set()).add(b)
            self._of.setdefault(b, set()).add(a)

    def of(self, place: int) -> set[int]:
        """What the image at that place is not to be put together with."""
        return self._of.get(place, set())

    def within(self, rows: range, columns: range) -> Places:
        """The pairs (m, 2), rising, of which the first is among the rows and the second among the columns."""
        a, b = self._pairs.T
        inside = (a >= rows.start) & (a < rows.stop) & (b >= columns.start) & (b < columns.stop)
        found: Places = self._pairs[inside]
        return found


@dataclass(frozen=True, slots=True)
class Links:
    """What is alike: at least `least` similar.

    For each image (n,) the first of its component, and how many others it is alike to itself.
    """

    least: float
    component: Places
    n_alike: NDArray[np.int64]

    def components(self) -> Iterator[Places]:
        """The places of each component of at least two images, by its first."""
        order = np.argsort(self.component, kind="stable")
        edges = np.flatnonzero(np.diff(self.component[order])) + 1
        yield from (places for places in np.split(order, edges) if len(places) > 1)


def link(
    originals: Originals, least: float, rejections: Rejections, progress: Callable[[float], None] = lambda _: None
) -> Links:
    """Components of the graph of pairs at least as similar as `least`, without the rejected ones.

    Union-find over the rows of one block of similarities after the other: memory is that of a block, however many
    pairs there are. `progress` is told the share that is done.
    """
    n = len(originals)
    parent, n_alike = np.arange(n), np.zeros(n, np.int64)
    for start in range(0, n, _BLOCK_ROWS):
        rows = range(start, min(start + _BLOCK_ROWS, n))
        queries = originals.vectors(slice(rows.start, rows.stop))
        for left in range(start, n, _BLOCK_COLUMNS):
            columns = range(left, min(left + _BLOCK_COLUMNS, n))
            is_alike = queries @ originals.vectors(slice(columns.start, columns.stop)).T >= least
            is_alike &= np.arange(rows.start, rows.stop)[:, None] < np.arange(columns.start, columns.stop)
            rejected = rejections.within(rows, columns)
            is_alike[rejected[:, 0] - rows.start, rejected[:, 1] - columns.start] = False
            n_alike[rows.start : rows.stop] += is_alike.sum(1)
            n_alike[columns.start : columns.stop] += is_alike.sum(0)
            for row in np.flatnonzero(is_alike.any(1)).tolist():
                _unite(parent, rows.start + row, columns.start + np.flatnonzero(is_alike[row]))
        progress(1 - (1 - rows.stop / n) ** 2)
    return Links(least, _roots(parent, np.arange(n)), n_alike)


def _unite(parent: Places, place: int, others: Places) -> None:
    """Put all into one component; its root is its first image."""
    roots = _roots(parent, np.append(others, place))
    parent[roots] = roots.min()


def _roots(parent: Places, places: Places) -> Places:
    """The root of each place; the ways there are shortened."""
    roots = parent[places]
    while not np.array_equal(above := parent[roots], roots):
        roots = above
    parent[places] = roots
    return roots
