"""Ranking a database of images for queries under one model and one method, in blocks: never an n x n matrix.

The projection and the database augmentation use the original views; augmented views are projected, and the similarity
of an image is that of its best view. A query that is in the database is removed from it completely: from its answers,
and from the vectors of its neighbors that database augmentation mixed with it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from simsearch.errors import UsageError
from simsearch.evaluation.embedding import TaskVectors, Vectors
from simsearch.evaluation.metrics import rank_positions
from simsearch.evaluation.protocol import Positions, build_mask
from simsearch.index.exact import ExactIndex
from simsearch.models.projection import Projection
from simsearch.rerank.database_augmentation import CorrectedRows, LeaveOneOut, blend
from simsearch.rerank.k_reciprocal import N_CANDIDATES, KReciprocalReranker, KReciprocalSettings
from simsearch.rerank.method import RerankMethod
from simsearch.rerank.neighbors import NeighborDatabase
from simsearch.rerank.patched_database import PatchedDatabase
from simsearch.rerank.query_expansion import expand

_BLOCK_CELLS = 2_000_000
"""The number of queries times images in a block; its arrays take 50 MB in all."""

_N_MARGIN = 16
"""The number of further images to sort, so that images with the same similarity as the last one are included."""

_TOLERANCE = 1e-5

_N_TIMED = 30
_N_ANSWERS = 10


def check_ranks_vectors(methods: Sequence[RerankMethod]) -> None:
    """Check that methods rank by vectors alone. Raises `UsageError` for `geometric` and `feedback`."""
    for method in methods:
        if method.geometric is not None or method.feedback is not None:
            problem = f"{method} needs pixels or examples; only methods that rank by one vector can be measured"
            raise UsageError(problem, "leave out the steps geometric and feedback")


@dataclass(frozen=True, slots=True, eq=False)
class RankingBlock:
    """The rankings of some queries: `order` (q, n) are positions, `similarities` (q, n) are by position."""

    queries: slice
    order: Positions
    similarities: Vectors


class Ranker:
    """A database prepared for a method."""

    def __init__(self, embedded: TaskVectors, method: RerankMethod) -> None:
        self._method = method
        self._projection = _fit_projection(embedded.originals, method)
        self._rows = self._project(embedded.originals)
        self._views = [self._project(embedded.augmented[:, at]) for at in range(embedded.augmented.shape[1])]
        self._leave_one_out: LeaveOneOut | None = None
        if method.dba is not None:
            plain = NeighborDatabase.from_vectors(self._rows, method.dba + 1)
            neighbors = plain.find_neighbors(np.arange(len(self._rows)), method.dba + 1)
            self._leave_one_out = LeaveOneOut(self._rows, neighbors, method.dba)
            self._rows = blend(self._rows, neighbors, method.dba)
        if method.k_reciprocal is not None:
            self._settings = KReciprocalSettings(k1=method.k_reciprocal)
            self._database = NeighborDatabase.from_vectors(
                self._rows, 2 * method.k_reciprocal
            )  # deep enough when some rows are removed
            self._shared = KReciprocalReranker(self._database, self._settings)

    @property
    def width(self) -> int:
        """The dimension of the vectors that are searched."""
        return int(self._rows.shape[1])

    @cached_property
    def _index(self) -> ExactIndex:
        """An index of all rows, originals and augmented views, as for a query."""
        index = ExactIndex.create_empty(self.width)
        parts = [self._rows, *self._views]
        index.reserve(sum(len(part) for part in parts))
        for number, part in enumerate(parts):
            index.add(np.arange(len(part)) + number * len(self._rows), part)
        return index

    def search(self, vector: Vectors, k: int) -> Positions:
        """Search for the k best images of a query (d,) that is not in the database, as `simsearch query` does."""
        query = self._project(vector[None])
        if self._method.aqe is not None:
            near, similarities = self._search_index(query, self._method.aqe)
            query = expand(query, self._rows[near][None], similarities[None])
        if self._method.k_reciprocal is None:
            return self._search_index(query, k)[0]
        images, similarities = self._search_index(query, max(k, N_CANDIDATES))
        first = images[:N_CANDIDATES]
        reciprocal, at = self._build_reciprocal(-1, query[0], None)
        images[: len(first)] = first[reciprocal.reorder(at, first, similarities[: len(first)]).order]
        return images[:k]

    def _search_index(self, query: Vectors, n: int) -> tuple[Positions, Vectors]:
        """The images (n,) most similar to a projected query (1, d) by their best views, and their similarities."""
        similarities, ids = self._index.search(query, n * (1 + len(self._views)))
        _, first = np.unique(ids[0] % len(self._rows), return_index=True)
        first = np.sort(first)[:n]
        return ids[0, first] % len(self._rows), similarities[0, first]

    def rank(self, queries: Vectors, own: Positions, ignored: Sequence[Positions]) -> Iterator[RankingBlock]:
        """Rank all images for each of the queries (q, d), which are vectors of the model without projection.

        `own` (q,) are their positions in the database, -1 for none; the images at the positions `ignored` come last.
        """
        size = max(1, min(256, _BLOCK_CELLS // len(self._rows)))
        for start in range(0, len(queries), size):
            block = slice(start, start + size)
            yield self._rank_block(block, self._project(queries[block]), own[block], ignored[block])

    def _rank_block(self, block: slice, vectors: Vectors, own: Positions, ignored: Sequence[Positions]) -> RankingBlock:
        corrections = [self._find_correction(at) for at in own.tolist()]
        similarities = self._compute_similarities(vectors, corrections)
        if self._method.aqe is not None:
            vectors = self._expand_queries(vectors, similarities, own, corrections)
            similarities = self._compute_similarities(vectors, corrections)
        if self._method.k_reciprocal is None:
            return RankingBlock(block, rank_positions(similarities, build_mask(ignored, len(self._rows))), similarities)
        order = rank_positions(similarities, build_mask(_list_own_positions(own), len(self._rows)))
        for row, at in enumerate(own.tolist()):
            first = order[row, : min(N_CANDIDATES, len(self._rows) - (at >= 0))]
            reciprocal, query = self._build_reciprocal(at, vectors[row], corrections[row])
            order[row, : len(first)] = first[reciprocal.reorder(query, first, similarities[row, first]).order]
        is_ignored = np.take_along_axis(build_mask(ignored, len(self._rows)), order, 1)
        last = np.argsort(is_ignored, axis=1, kind="stable")
        return RankingBlock(block, np.take_along_axis(order, last, 1), similarities)

    def _compute_similarities(self, vectors: Vectors, corrections: Sequence[CorrectedRows | None]) -> Vectors:
        similarities: Vectors = vectors @ self._rows.T
        for row, correction in enumerate(corrections):
            if correction is not None:
                similarities[row, correction.positions] = correction.vectors @ vectors[row]
        for view in self._views:
            np.maximum(similarities, vectors @ view.T, out=similarities)
        return np.clip(similarities, -1, 1, out=similarities)

    def _find_correction(self, own: int) -> CorrectedRows | None:
        """The rows that change when the query is removed from the database."""
        return None if self._leave_one_out is None or own < 0 else self._leave_one_out.correct_rows(own)

    def _expand_queries(
        self, vectors: Vectors, similarities: Vectors, own: Positions, corrections: Sequence[CorrectedRows | None]
    ) -> Vectors:
        """Expand each query with the originals of its first answers, without the query itself."""
        candidates = similarities.copy()
        inside = np.flatnonzero(own >= 0)
        candidates[inside, own[inside]] = -1  # its weight is 0, should it be selected all the same
        near = _find_first(candidates, self._method.aqe or 0)
        neighbors = self._rows[near]
        for row, correction in enumerate(corrections):
            if correction is not None and len(correction.positions):
                is_other = near[row][:, None] == correction.positions
                at, slot = np.nonzero(is_other)
                neighbors[row, at] = correction.vectors[slot]
        return expand(vectors, neighbors, np.take_along_axis(candidates, near, 1))

    def _build_reciprocal(
        self, own: int, vector: Vectors, correction: CorrectedRows | None
    ) -> tuple[KReciprocalReranker, int]:
        """The re-ranker for a query, and the position of the query in its database."""
        # The vector of a query region differs from the row of the whole image.
        if own >= 0 and correction is None and np.allclose(vector, self._rows[own], atol=_TOLERANCE):
            return self._shared, own
        query = own if own >= 0 else len(self._rows)
        positions, rows = np.array([query]), vector[None]
        if correction is not None:
            positions, rows = np.append(positions, correction.positions), np.vstack([rows, correction.vectors])
        return KReciprocalReranker(PatchedDatabase(self._database, positions, rows), self._settings), query

    def _project(self, vectors: Vectors) -> Vectors:
        return vectors if self._projection is None else self._projection.apply(np.ascontiguousarray(vectors))


def _find_first(similarities: Vectors, n: int) -> Positions:
    """The first n positions of each row of similarities (q, m), in order; much faster than sorting whole rows."""
    n_most = min(n + _N_MARGIN, similarities.shape[1])
    shortlist = np.sort(np.argpartition(similarities, -n_most, axis=1)[:, -n_most:], axis=1)
    order = rank_positions(np.take_along_axis(similarities, shortlist, 1))[:, :n]
    return np.take_along_axis(shortlist, order, 1)


def _fit_projection(vectors: Vectors, method: RerankMethod) -> Projection | None:
    return None if method.width is None else Projection.fit(vectors, method.width, method.whitening)


def _list_own_positions(own: Positions) -> list[Positions]:
    """The position of each query itself: one, or none."""
    return [np.array([at] if at >= 0 else [], np.int64) for at in own.tolist()]


def measure_answer_ms(ranker: Ranker, queries: Vectors) -> float:
    """Measure the median time of an answer; the first query, which builds the index, is not counted."""
    seconds = []
    for vector in queries[: _N_TIMED + 1]:
        started = time.perf_counter()
        ranker.search(vector, _N_ANSWERS)
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds[1:] or seconds) * 1e3)
