"""k-reciprocal re-ranking: results that share their neighbors with the query move to the front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simsearch.rerank.neighbors import PointSet, Positions

N_CANDIDATES = 100
"""The number of first results that a search and the benchmark re-rank."""

_BLOCK_ENTRIES = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True)
class KReciprocalSettings:
    """The parameters of the paper, with its values.

    Among `k1` neighbors the mutual ones count, an encoding is the mean over `k2` points, and `original_weight`
    (lambda) is the weight of the original distance in the final distance.
    """

    k1: int = 20
    k2: int = 6
    original_weight: float = 0.3


_PAPER_SETTINGS = KReciprocalSettings()


@dataclass(frozen=True, slots=True, eq=False)
class Reordering:
    """A new order of candidates: the old index of each (m,), and their final distances (m,), rising, float64."""

    order: NDArray[np.intp]
    values: NDArray[np.float64]


Encoding = tuple[Positions, NDArray[np.float64]]
"""A sparse row that sums to 1: rising positions (e,) and their weights (e,)."""


class KReciprocalReranker:
    """Re-ranking by k-reciprocal encodings of points, computed on first use and kept.

    Zhong, Zheng, Cao & Li, "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017. The distance
    is 1 - cosine, which is half the squared Euclidean distance of unit rows. As in the authors' program, every point
    is the first of its own list N(p, k), followed by k others (k - 1 in the query expansion), and an encoding is
    divided by its sum; k1 / 2 is rounded to even. Only the lists of the candidates, of their neighbors and of the
    neighbors of these are searched.
    """

    def __init__(self, points: PointSet, settings: KReciprocalSettings = _PAPER_SETTINGS) -> None:
        self._points = points
        self._settings = settings
        self._plain: dict[int, Encoding] = {}
        self._expanded: dict[int, Encoding] = {}

    def reorder(self, query: int, candidates: Positions, similarities: NDArray[np.float32]) -> Reordering:
        """Re-rank the first results (m,) for the point at position `query`, given their similarities (m,) to it.

        The sort key is the paper's final distance: `original_weight` times the original distance plus the rest times
        the Jaccard distance of the encodings. Candidates with equal keys keep their order.
        """
        if len(candidates) == 0:
            return Reordering(np.empty(0, np.intp), np.empty(0))
        self._make_expanded(np.append(candidates, query))
        common = _compute_overlaps(
            self._expanded[query], [self._expanded[position] for position in candidates.tolist()]
        )
        jaccard = 1 - common / (2 - common)  # both encodings sum to 1, so the maxima sum to 2 - the sum of the minima
        weight = self._settings.original_weight
        values = (1 - weight) * jaccard + weight * (1 - similarities.astype(np.float64))
        order = np.argsort(values, kind="stable")
        return Reordering(order, values[order])

    def _make_expanded(self, wanted: Positions) -> None:
        """Average the encodings of each point and its nearest others: the paper's local query expansion."""
        missing = _find_missing(wanted, self._expanded)
        if len(missing) == 0:
            return
        near = self._list_neighbors(missing, self._settings.k2 - 1)
        self._make_plain(near)
        parts = [self._plain[position] for position in near.ravel().tolist()]
        rows = np.repeat(np.arange(near.size) // near.shape[1], [len(positions) for positions, _ in parts])
        positions = np.concatenate([positions for positions, _ in parts])
        weights = np.concatenate([weights for _, weights in parts]) / near.shape[1]
        keys, entries = np.unique(rows * len(self._points) + positions, return_inverse=True)
        self._store_encodings(self._expanded, missing, keys, np.bincount(entries, weights).astype(np.float64))

    def _make_plain(self, wanted: Positions) -> None:
        """Encode points before the expansion: e^-distance to each point of R*(p, k1)."""
        missing = _find_missing(wanted, self._plain)
        n_rows = max(1, _BLOCK_ENTRIES // (self._settings.k1 + 1) ** 2)
        for start in range(0, len(missing), n_rows):
            block = missing[start : start + n_rows]
            keys = self._find_reciprocal(block)
            rows, positions = np.divmod(keys, len(self._points))
            vectors, others = self._points.read_vectors(block)[rows], self._points.read_vectors(positions)
            similarities = np.einsum("ed,ed->e", vectors, others).clip(-1, 1).astype(np.float64)
            weights = np.exp(similarities - 1)
            sums = np.bincount(rows, weights)
            self._store_encodings(self._plain, block, keys, weights / sums[rows])

    def _find_reciprocal(self, points: Positions) -> Positions:
        """Find R*(p, k1) of each point, as rising keys: row in `points` x number of points + position.

        R* holds the mutual neighbors of a point, and the mutual k1 / 2 neighbors of each of them that has two thirds of
        these in common with the point.
        """
        near = self._list_neighbors(points, self._settings.k1)
        known, slots = self._find_distinct(near)
        lists = self._list_neighbors(known, self._settings.k1)
        half = lists[:, : round(self._settings.k1 / 2) + 1]
        beyond, half_slots = self._find_distinct(half)
        is_mutual_half = _has_point(self._list_neighbors(beyond, half.shape[1] - 1)[half_slots], known)
        is_mutual = _has_point(lists[slots], points)
        theirs, is_theirs = half[slots], is_mutual_half[slots]
        is_common = is_theirs & _is_in(theirs, np.where(is_mutual, near, -1))
        joins = is_mutual & (3 * is_common.sum(axis=2) >= 2 * is_theirs.sum(axis=2))
        first = np.arange(len(points)) * len(self._points)
        own = (first[:, None] + near)[is_mutual]
        joined = (first[:, None, None] + theirs)[joins[..., None] & is_theirs & ~is_common]
        return np.unique(np.concatenate([own, joined]))

    def _find_distinct(self, positions: Positions) -> tuple[Positions, Positions]:
        """Find the distinct points, rising, and the index of each given position among them."""
        is_present = np.zeros(len(self._points), bool)
        is_present[positions] = True
        distinct = np.flatnonzero(is_present)
        slots = np.empty(len(self._points), np.int64)
        slots[distinct] = np.arange(len(distinct))
        return distinct, slots[positions]

    def _list_neighbors(self, points: Positions, depth: int) -> Positions:
        """List N(p, k): each point, then its nearest others, (q, depth + 1)."""
        others = self._points.find_neighbors(points, depth).positions if depth else np.empty((len(points), 0), np.int64)
        return np.hstack([points[:, None], others])

    def _store_encodings(
        self, kept: dict[int, Encoding], points: Positions, keys: Positions, weights: NDArray[np.float64]
    ) -> None:
        rows, positions = np.divmod(keys, len(self._points))
        ends = np.searchsorted(rows, np.arange(len(points) + 1)).tolist()
        for point, start, end in zip(points.tolist(), ends[:-1], ends[1:], strict=True):
            kept[point] = positions[start:end], weights[start:end]


def _find_missing(wanted: Positions, kept: dict[int, Encoding]) -> Positions:
    return np.array(sorted(set(wanted.ravel().tolist()) - kept.keys()), np.int64)


def _compute_overlaps(own: Encoding, others: Sequence[Encoding]) -> NDArray[np.float64]:
    """Sum the minimum of an encoding and each of the others (m) over all positions: (m,)."""
    positions, weights = own
    theirs = np.concatenate([other for other, _ in others])
    slots = np.minimum(np.searchsorted(positions, theirs), len(positions) - 1)
    shared = np.where(positions[slots] == theirs, weights[slots], 0)
    smaller = np.minimum(shared, np.concatenate([weight for _, weight in others]))
    starts = np.cumsum([0, *(len(other) for other, _ in others[:-1])])
    sums: NDArray[np.float64] = np.add.reduceat(smaller, starts)
    return sums


def _has_point(lists: Positions, points: Positions) -> NDArray[np.bool_]:
    """Whether each of the lists (p, l, k) of a point (p,) contains the point: (p, l)."""
    found: NDArray[np.bool_] = (lists == points[:, None, None]).any(axis=2)
    return found


def _is_in(values: Positions, sets: Positions) -> NDArray[np.bool_]:
    """Whether each of the values (p, l, h) is in the set (p, k) of its row; by column, so memory holds p x l x h."""
    found = np.zeros(values.shape, bool)
    for column in sets.T:
        found |= values == column[:, None, None]
    return found
