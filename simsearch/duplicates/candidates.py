"""Candidate pairs: the nearest neighbors of images under a model, united with images of close perceptual hashes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simsearch.duplicates.similarity_graph import OriginalVectors, Positions
from simsearch.index.protocol import Searchable

N_NEIGHBORS = 15
"""The neighbors of an image that are candidates, by the model and again by the hash."""

MAX_HASH_DISTANCE = 8
"""The most bits, of 64, by which the hashes of candidates differ."""

_BLOCK_ROWS, _BLOCK_PAIRS = 1024, 8_000_000
_MAX_EXHAUSTIVE = 50_000
_QUARTERS = (0, 16, 32, 48)
_MAX_BUCKET = 64


@dataclass(frozen=True, slots=True)
class Candidates:
    """Candidate pairs (p,): positions of images, the smaller first, and the best rank of one among those of the other.

    Ranks are those among the neighbors by the model or by the hash, from 0. Pairs are sorted by rank; each occurs once.
    """

    first: Positions
    second: Positions
    ranks: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.first)

    @classmethod
    def collect(cls, first: Positions, second: Positions, ranks: NDArray[np.int64]) -> Candidates:
        """Sort pairs in any order, keep the best rank of each, and leave out pairs of an image with itself."""
        low, high = np.minimum(first, second), np.maximum(first, second)
        order = np.lexsort((ranks, high, low))
        low, high, ranks = low[order], high[order], ranks[order]
        is_first = np.ones(len(low), np.bool_)
        is_first[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
        is_first &= low != high
        low, high, ranks = low[is_first], high[is_first], ranks[is_first]
        by_rank = np.argsort(ranks, kind="stable")
        return cls(low[by_rank], high[by_rank], ranks[by_rank])


@dataclass(frozen=True, slots=True)
class NeighborSearch:
    """How neighbors are searched: the index of all views, and the image of each view.

    `view_ids` (v,) ascending and `positions` (v,) tell the position of a view's image; `n_views` views per image are
    in the index, at most.
    """

    index: Searchable
    view_ids: NDArray[np.int64]
    positions: Positions
    n_views: int

    def find_neighbors(self, originals: OriginalVectors, rows: Positions) -> tuple[Positions, Positions]:
        """Find the positions (m, k) of the images nearest to images (m,), and ranks; -1 where there are fewer."""
        n = min(len(self.index), (N_NEIGHBORS + 1) * self.n_views)
        _, ids = self.index.search(originals.read_vectors(rows), n)
        at = np.clip(np.searchsorted(self.view_ids, ids), 0, len(self.view_ids) - 1)
        found = np.where(self.view_ids[at] == ids, self.positions[at], -1)
        ranks = np.cumsum((found >= 0) & (found != rows[:, None]), axis=1) - 1
        return np.where((found == rows[:, None]) | (ranks >= N_NEIGHBORS), -1, found), ranks


def find_candidates(
    originals: OriginalVectors,
    search: NeighborSearch,
    hashes: HashSearch,
    rows: Positions,
    progress: Callable[[float], None] = lambda _: None,
    others: Sequence[NDArray[np.int64]] = (),
) -> Candidates:
    """Find the candidates of the images at positions `rows` (m,) among all images, block by block.

    `others` are further candidates: positions a and b, and ranks, (3, p) each.
    """
    parts = [np.empty((3, 0), np.int64), *others]
    for start in range(0, len(rows), _BLOCK_ROWS):
        some = rows[start : start + _BLOCK_ROWS]
        found, ranks = search.find_neighbors(originals, some)
        at = np.nonzero(found >= 0)
        parts.append(np.stack([some[at[0]], found[at], ranks[at]]))
        progress((start + len(some)) / len(rows))
    for a, b, ranks in hashes.find_pairs(rows):
        parts.append(np.stack([a, b, ranks]))
    return Candidates.collect(*np.concatenate(parts, axis=1))


def measure_hash_distances(hashes: NDArray[np.uint64], a: Positions, b: Positions) -> NDArray[np.int64]:
    """Count the different bits (p,) of the hashes of pairs, upright or mirrored, whichever are fewer."""
    distances = np.bitwise_count(hashes[a] ^ hashes[b, :1])
    smallest: NDArray[np.int64] = distances.min(1).astype(np.int64)
    return smallest


class HashSearch:
    """Finds images with close hashes. `hashes` (n, 2) are those of each image and of its mirror image.

    Up to 50,000 images all pairs are compared. In larger collections only images are compared that have one of the four
    quarters of the hash in common, as hashes with up to three different bits always have; quarters that more than 64
    images share, such as those of uniform pictures, are left out.
    """

    def __init__(self, hashes: NDArray[np.uint64]) -> None:
        self.hashes = hashes
        self._is_exhaustive = len(hashes) <= _MAX_EXHAUSTIVE
        quarters = [] if self._is_exhaustive else [_take_quarter(hashes[:, 0], shift) for shift in _QUARTERS]
        self._orders = [np.argsort(keys, kind="stable") for keys in quarters]
        self._keys = [keys[order] for keys, order in zip(quarters, self._orders, strict=True)]

    def find_pairs(self, rows: Positions) -> Iterator[tuple[Positions, Positions, NDArray[np.int64]]]:
        """Yield pairs of positions with close hashes and their ranks, at most `N_NEIGHBORS` for each of `rows`."""
        n_rows = max(1, _BLOCK_PAIRS // max(1, len(self.hashes))) if self._is_exhaustive else _BLOCK_ROWS
        for start in range(0, len(rows), n_rows):
            some = rows[start : start + n_rows]
            for side in (0, 1):
                if self._is_exhaustive:
                    distances = np.bitwise_count(self.hashes[some, side, None] ^ self.hashes[None, :, 0])
                    yield _select_closest(distances, some)
                else:
                    yield self._find_equal_quarters(some, side)

    def _find_equal_quarters(self, rows: Positions, side: int) -> tuple[Positions, Positions, NDArray[np.int64]]:
        first, second = [np.empty(0, np.intp)], [np.empty(0, np.intp)]
        for shift, order, keys in zip(_QUARTERS, self._orders, self._keys, strict=True):
            wanted = _take_quarter(self.hashes[rows, side], shift)
            begin = np.searchsorted(keys, wanted, "left")
            counts = np.searchsorted(keys, wanted, "right") - begin
            counts[counts > _MAX_BUCKET] = 0
            starts = np.repeat(np.cumsum(counts) - counts, counts)
            first.append(np.repeat(rows, counts))
            second.append(order[np.repeat(begin, counts) + np.arange(len(starts)) - starts])
        a, b = np.concatenate(first), np.concatenate(second)
        a, b = np.unique(np.stack([a, b]), axis=1)
        distances = np.bitwise_count(self.hashes[a, side] ^ self.hashes[b, 0])
        is_close = (distances <= MAX_HASH_DISTANCE) & (a != b)
        return _rank_closest(a[is_close], b[is_close], distances[is_close])


def _take_quarter(hashes: NDArray[np.uint64], shift: int) -> NDArray[np.uint16]:
    """16 of the 64 bits of hashes (n,)."""
    return (hashes >> np.uint64(shift)).astype(np.uint16)


def _select_closest(distances: NDArray[np.uint8], rows: Positions) -> tuple[Positions, Positions, NDArray[np.int64]]:
    """Select the closest images of each row of distances (m, n), as pairs of positions with ranks."""
    distances[np.arange(len(rows)), rows] = 255
    at, others = np.nonzero(distances <= MAX_HASH_DISTANCE)
    return _rank_closest(rows[at], others, distances[at, others])


def _rank_closest(
    a: Positions, b: Positions, distances: NDArray[np.uint8]
) -> tuple[Positions, Positions, NDArray[np.int64]]:
    """Rank the pairs of each `a` by their distance, and keep the first `N_NEIGHBORS`."""
    order = np.lexsort((distances, a))
    a, b = a[order], b[order]
    ranks = np.arange(len(a)) - np.searchsorted(a, a)
    is_kept = ranks < N_NEIGHBORS
    return a[is_kept], b[is_kept], ranks[is_kept]
