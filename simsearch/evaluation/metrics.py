"""How good rankings are: metrics as pure functions on arrays, and the ranking that they judge.

Every metric takes `Rankings`, made once from a block of q queries, and gives a (q,) float64 row of scores, one a
query (the two curves: one row a query). All relevance is yes or no. In the definitions R is how many relevant images
a query has in all, found or not; an image that is not ranked counts as never found. The best possible score is 1
unless a docstring says otherwise.

Where a metric is one of trec_eval's (the program of the TREC conferences, https://github.com/usnistgov/trec_eval), it
is computed as there, and its name there is given. The textbook is Manning, Raghavan & Schütze, "Introduction to
Information Retrieval" (2008), called IIR here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

_SIMILARITY_STEPS = 1_000_000
"""Similarities are compared in millionths, as `search.py` does: float32 cannot tell more."""

_MAX_COSINE = 1.0001
"""A cosine of float32 vectors leaves [-1, 1] by rounding, not by more than this."""

N_RECALL_LEVELS = 101
"""Recall 0, 0.01, ..., 1: where `interpolated_precision` looks."""


@dataclass(frozen=True, slots=True, eq=False)
class Rankings:
    """Where the relevant images of q queries stand, in one entry a relevant image found, m in all.

    `query` (m,) is the row of the query, rising; `rank` (m,) counts from 1 and rises within a query; `nth` (m,) says
    that this is the first, second, ... relevant one of its query; `n_relevant` (q,) is R. All int64.
    """

    query: NDArray[np.int64]
    rank: NDArray[np.int64]
    nth: NDArray[np.int64]
    n_relevant: NDArray[np.int64]

    @classmethod
    def from_relevance(cls, relevant: NDArray[np.bool_], n_relevant: NDArray[np.int64]) -> Self:
        """From `relevant` (q, n) bool in order of rank, and `n_relevant` (q,), the relevant images in all.

        What must not count, the query itself and junk, is no longer in between: it stands at the end of the row, as
        not relevant. Rankings may be shorter than the database. ValueError: other shapes or types, a query without
        any relevant image, more found than there are.
        """
        if relevant.ndim != 2 or relevant.dtype != np.bool_:
            raise ValueError(f"relevant must be (q, n) bool, not {relevant.shape} {relevant.dtype}")
        n_queries, n_ranked = relevant.shape
        if n_relevant.shape != (n_queries,) or n_relevant.dtype.kind not in "iu":
            raise ValueError(f"n_relevant must be ({n_queries},) int64, not {n_relevant.shape} {n_relevant.dtype}")
        if (n_relevant < 1).any():
            raise ValueError(f"query {int(np.argmax(n_relevant < 1))} has no relevant image: leave such queries out")
        query, column = np.divmod(np.flatnonzero(relevant), max(n_ranked, 1))
        n_found = np.bincount(query, minlength=n_queries)
        if (n_found > n_relevant).any():
            row = int(np.argmax(n_found > n_relevant))
            raise ValueError(f"query {row} found {n_found[row]} relevant images of {n_relevant[row]}")
        before = np.cumsum(n_found) - n_found
        nth = np.arange(1, len(query) + 1) - before[query]
        return cls(query, column + 1, nth, n_relevant.astype(np.int64))


def rank_positions(similarities: NDArray[np.floating], ignored: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """The order of a database: (q, n) similarities to (q, n) int64 positions, the closest first.

    By falling similarity, rounded to six decimals; equal ones by rising position. What is `ignored` (q, n), the query
    itself or junk, comes at the end, by rising position. ValueError: NaN or beyond ±1.0001, which is no cosine.
    """
    if similarities.ndim != 2:
        raise ValueError(f"similarities must be (q, n), not {similarities.shape}")
    if ignored is not None and (ignored.shape != similarities.shape or ignored.dtype != np.bool_):
        raise ValueError(f"ignored must be {similarities.shape} bool, not {ignored.shape} {ignored.dtype}")
    # NaN makes either comparison false.
    if similarities.size and not (similarities.min() >= -_MAX_COSINE and similarities.max() <= _MAX_COSINE):
        raise ValueError(f"similarities must be cosines, from {-_MAX_COSINE} to {_MAX_COSINE}")
    # One number holds both, the level above and the position below: sorting plain int64 is several times quicker
    # than argsort, and masking gives the position back from negative numbers too.
    levels = np.rint(np.multiply(similarities, -_SIMILARITY_STEPS, dtype=np.float64))
    if ignored is not None:
        np.putmask(levels, ignored, 2 * _SIMILARITY_STEPS)
    keys: NDArray[np.int64] = levels.astype(np.int64)
    n_ranked = similarities.shape[1]
    bits = n_ranked.bit_length()
    keys <<= bits
    keys |= np.arange(n_ranked)
    keys.sort(axis=1)
    keys &= (1 << bits) - 1
    return keys


def precision_at(rankings: Rankings, k: int) -> NDArray[np.float64]:
    """P@k: relevant among the first k / k, also where fewer than k are ranked. IIR 8.4; trec_eval's `P_k`.

    The best possible is min(R, k) / k.
    """
    return _count_found(rankings, k) / k


def recall_at(rankings: Rankings, k: int) -> NDArray[np.float64]:
    """R@k: relevant among the first k / R. IIR 8.3; trec_eval's `recall_k`. The best possible is min(R, k) / R.

    Papers on metric learning call `hit_at` by this name.
    """
    return _count_found(rankings, k) / rankings.n_relevant


def hit_at(rankings: Rankings, k: int) -> NDArray[np.float64]:
    """hit@k: 1 where a relevant image is among the first k, else 0. trec_eval's `success_k`."""
    return (_count_found(rankings, k) > 0).astype(np.float64)


def average_precision(rankings: Rankings) -> NDArray[np.float64]:
    """AP, whose mean over queries is mAP: the precision at the rank of every relevant image, summed / R.

    Over the whole ranking; those not found add 0. IIR 8.4; trec_eval's `map`.
    """
    return _sum_per_query(rankings, rankings.nth / rankings.rank) / rankings.n_relevant


def average_precision_at(rankings: Rankings, k: int) -> NDArray[np.float64]:
    """AP@k: the precision at the rank of every relevant image among the first k, summed / R.

    trec_eval's `map_cut_k`. The best possible is min(R, k) / R. Others divide by min(R, k), so that 1 can always be
    reached, among them Google Landmarks v2 (Weyand 2020): do not compare with theirs where R > k.
    """
    first = rankings.rank <= _check_cutoff(k)
    return _sum_per_query(rankings, np.where(first, rankings.nth / rankings.rank, 0.0)) / rankings.n_relevant


def average_precision_trapezoid(rankings: Rankings) -> NDArray[np.float64]:
    """AP as the benchmarks Oxford and Paris have it, first and revisited: the area under precision and recall.

    Trapezoids instead of steps: each relevant image adds (precision before it + precision at it) / 2 / R, where the
    precision before rank 1 is 1. From the program of Philbin 2007; Radenović 2018 kept it. Never more than
    `average_precision`, as the precision before a relevant image is never more than that at it.
    """
    before = np.where(rankings.rank > 1, (rankings.nth - 1) / np.maximum(rankings.rank - 1, 1), 1.0)
    at = rankings.nth / rankings.rank
    return _sum_per_query(rankings, (before + at) / 2) / rankings.n_relevant


def reciprocal_rank(rankings: Rankings) -> NDArray[np.float64]:
    """1 / the rank of the first relevant image, 0 where none is ranked; the mean is MRR.

    Voorhees 1999 (TREC-8 question answering); trec_eval's `recip_rank`.
    """
    return _sum_per_query(rankings, np.where(rankings.nth == 1, 1 / rankings.rank, 0.0))


def ndcg_at(rankings: Rankings, k: int) -> NDArray[np.float64]:
    """nDCG@k: relevant images among the first k add 1 / log2(rank + 1), summed / the same sum of an ideal ranking.

    The ideal has min(R, k) relevant images first, ranked or not here. Järvelin & Kekäläinen 2002 for the idea; they
    divide by log2(rank) from rank 2 on, while log2(rank + 1) is what became usual, and trec_eval's `ndcg_cut_k`.
    """
    first = rankings.rank <= _check_cutoff(k)
    found = _sum_per_query(rankings, np.where(first, 1 / np.log2(rankings.rank + 1), 0.0))
    n_ideal = np.minimum(rankings.n_relevant, k)
    ideal = np.cumsum(1 / np.log2(np.arange(1, n_ideal.max(initial=0) + 1) + 1))
    ndcg: NDArray[np.float64] = found / ideal[n_ideal - 1]
    return ndcg


def r_precision(rankings: Rankings) -> NDArray[np.float64]:
    """Relevant among the first R / R: where precision and recall are equal. IIR 8.4; trec_eval's `Rprec`."""
    return _count_per_query(rankings, rankings.rank <= rankings.n_relevant[rankings.query]) / rankings.n_relevant


def n_s_score(rankings: Rankings) -> NDArray[np.float64]:
    """N-S: how many of the first four show what the query shows, the query itself among them: 1 to 4.

    Nistér & Stewénius 2006, on ukbench's groups of four. The query was taken out of the rankings; as nothing is closer
    to it than itself, it is counted as the first, with the first three that are ranked.
    """
    return (1 + _count_found(rankings, 3)).astype(np.float64)


def interpolated_precision(rankings: Rankings) -> NDArray[np.float64]:
    """The curve of precision against recall: (q, 101), at recall 0, 0.01, ..., 1.

    At recall r it is the highest precision at any rank where recall is r or more, 0 where r is never reached.
    IIR 8.4; trec_eval's `iprec_at_recall`, which takes tenths and computes "r or more" in floating point (with three
    relevant images it finds 2/3 to be 0.7); here it is exact.
    """
    n_queries = len(rankings.n_relevant)
    # One column more than anything was found in: what every recall that is never reached points to.
    n_columns = rankings.nth.max(initial=0) + 1
    highest = np.zeros((n_queries, n_columns))
    highest[rankings.query, rankings.nth - 1] = rankings.nth / rankings.rank
    from_here_on = np.maximum.accumulate(highest[:, ::-1], axis=1)[:, ::-1]
    percent = np.arange(N_RECALL_LEVELS)
    n_needed = -(-percent * rankings.n_relevant[:, None] // 100)
    curve: NDArray[np.float64] = np.take_along_axis(from_here_on, np.clip(n_needed, 1, n_columns) - 1, axis=1)
    return curve


def precision_curve(rankings: Rankings, k: int) -> NDArray[np.float64]:
    """P@1, P@2, ..., P@k: (q, k), each as `precision_at`."""
    first = rankings.rank <= _check_cutoff(k)
    cell = rankings.query[first] * k + rankings.rank[first] - 1
    n_found = np.bincount(cell, minlength=len(rankings.n_relevant) * k).reshape(-1, k)
    return np.cumsum(n_found, axis=1) / np.arange(1, k + 1)


def _count_found(rankings: Rankings, k: int) -> NDArray[np.int64]:
    return _count_per_query(rankings, rankings.rank <= _check_cutoff(k))


def _count_per_query(rankings: Rankings, counted: NDArray[np.bool_]) -> NDArray[np.int64]:
    """How many of the relevant images found are `counted` (m,), for each query: (q,)."""
    return np.bincount(rankings.query[counted], minlength=len(rankings.n_relevant))


def _sum_per_query(rankings: Rankings, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The (m,) values of the relevant images found, summed for each query: (q,)."""
    sums = np.bincount(rankings.query, weights=values, minlength=len(rankings.n_relevant))
    return sums.astype(np.float64, copy=False)


def _check_cutoff(k: int) -> int:
    if k < 1:
        raise ValueError(f"k is {k}; it must be 1 or more")
    return k
