"""Queries against a database of images under one model and one method, block by block: no n x n is ever held.

Projection and blending are of the originals; augmented views are projected, and an image is as similar as its best
view. A query that is in the database is taken out of it in earnest: not only out of its answers, but out of what its
neighbours were blended with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from simsearch.evaluation.embedding import Embedded, Vectors
from simsearch.evaluation.metrics import ranked
from simsearch.evaluation.protocol import Positions
from simsearch.index import AnnIndex
from simsearch.rerank.database_augmentation import Corrected, LeaveOneOut, blend
from simsearch.rerank.k_reciprocal import Reciprocal, Settings
from simsearch.rerank.method import Method
from simsearch.rerank.neighbors import Database
from simsearch.rerank.patched_database import Amended
from simsearch.rerank.projection import Projection
from simsearch.rerank.query_expansion import expand

_BLOCK_CELLS = 2_000_000
"""Queries times images in a block: 50 MB in all that is held of it."""

_N_CANDIDATES = 100
"""How many first answers k-reciprocal re-ranking puts in order."""

_N_MARGIN = 16
"""So many more than wanted are put in order, so that those that are as similar as the last are among them."""

_ROUNDING = 1e-5


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """The rankings of some queries: `order` (q, n) are positions, `similarities` (q, n) are by position."""

    queries: slice
    order: Positions
    similarities: Vectors


class Ranker:
    """A database made ready under a method."""

    def __init__(self, embedded: Embedded, method: Method) -> None:
        self._method = method
        self._projection = _projection(embedded.originals, method)
        self._rows = self._projected(embedded.originals)
        self._views = [self._projected(embedded.augmented[:, at]) for at in range(embedded.augmented.shape[1])]
        self._leave_one_out: LeaveOneOut | None = None
        if method.dba is not None:
            plain = Database.of(self._rows, method.dba + 1)
            neighbours = plain.lists_of(np.arange(len(self._rows)), method.dba + 1)
            self._leave_one_out = LeaveOneOut(self._rows, neighbours, method.dba)
            self._rows = blend(self._rows, neighbours, method.dba)
        if method.k_reciprocal is not None:
            self._settings = Settings(k1=method.k_reciprocal)
            self._database = Database.of(self._rows, 2 * method.k_reciprocal)  # deep enough to lose some rows
            self._shared = Reciprocal(self._database, self._settings)

    @property
    def width(self) -> int:
        """The length of the vectors that are searched."""
        return int(self._rows.shape[1])

    @cached_property
    def _index(self) -> AnnIndex:
        """All rows, originals and views, as a query searches them."""
        index = AnnIndex.empty(self.width)
        rows = [self._rows, *self._views]
        index.reserve(sum(len(some) for some in rows))
        for number, some in enumerate(rows):
            index.add(np.arange(len(some)) + number * len(self._rows), some)
        return index

    def answer(self, vector: Vectors, k: int) -> Positions:
        """The k first images for one query (d,) from outside, through the index as `simsearch query` does it."""
        query = self._projected(vector[None])
        if self._method.aqe is not None:
            near, similarities = self._nearest(query, self._method.aqe)
            query = expand(query, self._rows[near][None], similarities[None])
        if self._method.k_reciprocal is None:
            return self._nearest(query, k)[0]
        images, similarities = self._nearest(query, max(k, _N_CANDIDATES))
        first = images[:_N_CANDIDATES]
        reciprocal, at = self._reciprocal(-1, query[0], None)
        images[: len(first)] = first[reciprocal.reorder(at, first, similarities[: len(first)]).order]
        return images[:k]

    def _nearest(self, query: Vectors, n: int) -> tuple[Positions, Vectors]:
        """The images (n,) nearest to a projected query (1, d) by their best views, and how similar those are."""
        similarities, ids = self._index.search(query, n * (1 + len(self._views)))
        _, first = np.unique(ids[0] % len(self._rows), return_index=True)
        first = np.sort(first)[:n]
        return ids[0, first] % len(self._rows), similarities[0, first]

    def rank(self, queries: Vectors, own: Positions, ignored: Sequence[Positions]) -> Iterator[Block]:
        """Rank all images for each of the queries (q, d), vectors of the model itself.

        `own` (q,) are their positions in the database, -1 for none; `ignored` are the positions that come last.
        """
        size = max(1, min(256, _BLOCK_CELLS // len(self._rows)))
        for start in range(0, len(queries), size):
            block = slice(start, start + size)
            yield self._ranked(block, self._projected(queries[block]), own[block], ignored[block])

    def _ranked(self, block: slice, vectors: Vectors, own: Positions, ignored: Sequence[Positions]) -> Block:
        corrections = [self._correction(at) for at in own.tolist()]
        similarities = self._similarities(vectors, corrections)
        if self._method.aqe is not None:
            vectors = self._expanded(vectors, similarities, own, corrections)
            similarities = self._similarities(vectors, corrections)
        if self._method.k_reciprocal is None:
            return Block(block, ranked(similarities, _mask(ignored, len(self._rows))), similarities)
        order = ranked(similarities, _mask(_themselves(own), len(self._rows)))
        for row, at in enumerate(own.tolist()):
            first = order[row, : min(_N_CANDIDATES, len(self._rows) - (at >= 0))]
            reciprocal, query = self._reciprocal(at, vectors[row], corrections[row])
            order[row, : len(first)] = first[reciprocal.reorder(query, first, similarities[row, first]).order]
        is_ignored = np.take_along_axis(_mask(ignored, len(self._rows)), order, 1)
        last = np.argsort(is_ignored, axis=1, kind="stable")
        return Block(block, np.take_along_axis(order, last, 1), similarities)

    def _similarities(self, vectors: Vectors, corrections: Sequence[Corrected | None]) -> Vectors:
        similarities: Vectors = vectors @ self._rows.T
        for row, correction in enumerate(corrections):
            if correction is not None:
                similarities[row, correction.positions] = correction.vectors @ vectors[row]
        for view in self._views:
            np.maximum(similarities, vectors @ view.T, out=similarities)
        return np.clip(similarities, -1, 1, out=similarities)

    def _correction(self, own: int) -> Corrected | None:
        """The rows that are other ones where the query was never in the database."""
        return None if self._leave_one_out is None or own < 0 else self._leave_one_out.corrected(own)

    def _expanded(
        self, vectors: Vectors, similarities: Vectors, own: Positions, corrections: Sequence[Corrected | None]
    ) -> Vectors:
        """The queries, each moved towards the originals of its first answers, itself not being one."""
        candidates = similarities.copy()
        inside = np.flatnonzero(own >= 0)
        candidates[inside, own[inside]] = -1  # weighs nothing, should all others be near
        near = _first(candidates, self._method.aqe or 0)
        neighbours = self._rows[near]
        for row, correction in enumerate(corrections):
            if correction is not None and len(correction.positions):
                is_other = near[row][:, None] == correction.positions
                at, slot = np.nonzero(is_other)
                neighbours[row, at] = correction.vectors[slot]
        return expand(vectors, neighbours, np.take_along_axis(candidates, near, 1))

    def _reciprocal(self, own: int, vector: Vectors, correction: Corrected | None) -> tuple[Reciprocal, int]:
        """What re-ranks for a query, and the query's position in it."""
        # A query by a part of its picture is not the row of the whole one.
        if own >= 0 and correction is None and np.allclose(vector, self._rows[own], atol=_ROUNDING):
            return self._shared, own
        query = own if own >= 0 else len(self._rows)
        positions, rows = np.array([query]), vector[None]
        if correction is not None:
            positions, rows = np.append(positions, correction.positions), np.vstack([rows, correction.vectors])
        return Reciprocal(Amended(self._database, positions, rows), self._settings), query

    def _projected(self, vectors: Vectors) -> Vectors:
        return vectors if self._projection is None else self._projection.apply(np.ascontiguousarray(vectors))


def _first(similarities: Vectors, n: int) -> Positions:
    """The n first positions of each row of similarities (q, m), in order; sorting all of each would take far longer."""
    n_most = min(n + _N_MARGIN, similarities.shape[1])
    shortlist = np.sort(np.argpartition(similarities, -n_most, axis=1)[:, -n_most:], axis=1)
    order = ranked(np.take_along_axis(similarities, shortlist, 1))[:, :n]
    return np.take_along_axis(shortlist, order, 1)


def _projection(vectors: Vectors, method: Method) -> Projection | None:
    return None if method.width is None else Projection.fit(vectors, method.width, method.whitening)


def _themselves(own: Positions) -> list[Positions]:
    """The positions of each query itself: one, or none."""
    return [np.array([at] if at >= 0 else [], np.int64) for at in own.tolist()]


def _mask(rows: Sequence[Positions], n_images: int) -> NDArray[np.bool_]:
    mask = np.zeros((len(rows), n_images), np.bool_)
    for row, positions in zip(mask, rows, strict=True):
        row[positions] = True
    return mask
