"""Retrieval metrics as pure functions on arrays, each named as the metric, and the ranking that they evaluate.

Every metric takes `Rankings`, built once for a block of q queries, and returns (q,) float64 scores (the two curves: one
row for each query). Relevance is binary. In the definitions R is the number of relevant images of a query, found or
not; an image that is not ranked counts as not found. The maximum score is 1 unless a docstring says otherwise.

Where a metric is one of trec_eval's (the program of the TREC conferences, https://github.com/usnistgov/trec_eval), it
is computed in the same way, and its name there is given. IIR is Manning, Raghavan & Schütze, "Introduction to
Information Retrieval" (2008).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from simsearch.search.ranking import SIMILARITY_DECIMALS

_SIMILARITY_STEPS = 10**SIMILARITY_DECIMALS
"""Similarities are compared as in a search, as multiples of 1 / this."""

_MAX_COSINE = 1.0001
"""Rounding moves a cosine of float32 vectors out of [-1, 1] by at most 0.0001."""

N_RECALL_LEVELS = 101
"""The number of recall levels 0, 0.01, ..., 1 of `interpolated_precision`."""


@dataclass(frozen=True, slots=True, eq=False)
class Rankings:
    """The ranks of the relevant images of q queries: one entry for each relevant image found, m in all.

    `query` (m,) is the row of the query, ascending; `rank` (m,) counts from 1 and ascends within a query; `nth` (m,) is
    1 for the first relevant image of the query, 2 for the second, ...; `n_relevant` (q,) is R. All int64.
    """

    query: NDArray[np.int64]
    rank: NDArray[np.int64]
    nth: NDArray[np.int64]
    n_relevant: NDArray[np.int64]

    @classmethod
    def from_relevance(cls, relevant: NDArray[np.bool_], n_relevant: NDArray[np.int64]) -> Self:
        """Build rankings from `relevant` (q, n) bool in order of rank, and `n_relevant` (q,), the number of relevant
        images.

        Images that must not count, the query itself and junk, are at the end of the row, as not relevant. Rankings may
        be shorter than the database. ValueError: other shapes or types, a query without any relevant image, more
        relevant images found than exist.
        """
        if relevant.ndim != 2 or relevant.dtype != np.bool_:
            raise ValueError(f"relevant must be (q, n) bool, not {relevant.shape} {relevant.dtype}")
        n_queries, n_ranked = relevant.shape
        if n_relevant.shape != (n_queries,) or n_relevant.dtype.kind not in "iu":
            raise ValueError(f"n_relevant must be ({n_queries},) int64, not {n_relevant.shape} {n_relevant.dtype}")
        if (n_relevant < 1).any():
            raise ValueError(f"query {int(np.argmax(n_relevant < 1))} has no relevant image; leave such queries out")
        query, column = np.divmod(np.flatnonzero(relevant), max(n_ranked, 1))
        n_found = np.bincount(query, minlength=n_queries)
        if (n_found > n_relevant).any():
            row = int(np.argmax(n_found > n_relevant))
            raise ValueError(f"query {row} found {n_found[row]} relevant images of {n_relevant[row]}")
        before = np.cumsum(n_found) - n_found
        nth = np.arange(1, len(query) + 1) - before[query]
        return cls(query, column + 1, nth, n_relevant.astype(np.int64))


def rank_positions(similarities: NDArray[np.floating], ignored: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """Rank the images of a database: (q, n) similarities to (q, n) int64 positions, the most similar first.

    The order is by descending similarity, rounded to six decimals; equal ones by ascending position. `ignored` (q, n)
    images, the query itself or junk, come last, by ascending position. ValueError: NaN, or a value beyond ±1.0001,
    which is not a cosine.
    """
    if similarities.ndim != 2:
        raise ValueError(f"similarities must be (q, n), not {similarities.shape}")
    if ignored is not None and (ignored.shape != similarities.shape or ignored.dtype != np.bool_):
        raise ValueError(f"ignored must be {similarities.shape} bool, not {ignored.shape} {ignored.dtype}")
    # A NaN makes both comparisons false.
    if similarities.size and not (similarities.min() >= -_MAX_COSINE and similarities.max() <= _MAX_COSINE):
        raise ValueError(f"similarities must be cosines, from {-_MAX_COSINE} to {_MAX_COSINE}")
    # One int64 contains the rounded similarity in its high bits and the position in its low bits: sorting these is
    # several times faster than argsort, and a mask extracts the position from negative numbers too.
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
    """P@k: relevant images among the first k / k, also where fewer than k are ranked. IIR 8.4; trec_eval's `P_k`.

    The maximum is min(R, k) / k.
    """
    return _count_found(rankings, k) / k


def recall_at(rankings: Rankings, k: int) -> NDArray[np.float64]:
    """R@k: relevant images among the first k / R. IIR 8.3; trec_eval's `recall_k`. The maximum is min(R, k) / R.

    Papers on metric learning (SOP, CUB-200, In-Shop) use the name R@k for `hit_at`.
    """
    return _count_found(rankings, k) / rankings.n_relevant


def hit_at(rankings: Rankings, k: int) -> NDArray[np.float64]:
    """hit@k: 1 where a relevant image is among the first k, else 0. trec_eval's `success_k`.

    Also known as CMC@k, as hit rate, and in metric learning as R@k (Recall@k).
    """
    return (_count_found(rankings, k) > 0).astype(np.float64)


def average_precision(rankings: Rankings) -> NDArray[np.float64]:
    """AP, whose mean over queries is mAP: the precision at the rank of every relevant image, summed / R.

    Over the whole ranking; images that are not found add 0. IIR 8.4; trec_eval's `map`.
    """
    return _sum_per_query(rankings, rankings.nth / rankings.rank) / rankings.n_relevant


def average_precision_at(rankings: Rankings, k: int) -> NDArray[np.float64]:
    """AP@k: the precision at the rank of every relevant image among the first k, summed / R.

    trec_eval's `map_cut_k`. The maximum is min(R, k) / R; `average_precision_min_at` divides by min(R, k) instead.
    """
    return _sum_precisions(rankings, rankings.rank <= _check_cutoff(k)) / rankings.n_relevant


def average_precision_min_at(rankings: Rankings, k: int) -> NDArray[np.float64]:
    """AP@k / min(R, k): the precision at the rank of every relevant image among the first k, summed / min(R, k).

    The mAP@100 of Google Landmarks v2 (Weyand 2020) and the mAP@1k of ILIAS (Kordopatis-Zilos 2025). Not comparable
    with `average_precision_at` where R > k.
    """
    found = _sum_precisions(rankings, rankings.rank <= _check_cutoff(k))
    return found / np.minimum(rankings.n_relevant, k)


def average_precision_at_r(rankings: Rankings) -> NDArray[np.float64]:
    """MAP@R: the precision at the rank of every relevant image among the first R, summed / R.

    Musgrave, Belongie & Lim 2020 ("A Metric Learning Reality Check"). Never more than `r_precision`.
    """
    first = rankings.rank <= rankings.n_relevant[rankings.query]
    return _sum_precisions(rankings, first) / rankings.n_relevant


def average_precision_trapezoid(rankings: Rankings) -> NDArray[np.float64]:
    """AP of the Oxford and Paris benchmarks, original and revisited: the area under the precision-recall curve.

    Trapezoids instead of steps: each relevant image adds (precision before it + precision at it) / 2 / R, where the
    precision before rank 1 is 1. From the program of Philbin 2007, kept by Radenović 2018. Never more than
    `average_precision`, as the precision before a relevant image is never more than the precision at it.
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
    """nDCG@k: the sum of 1 / log2(rank + 1) over relevant images among the first k / the sum of an ideal ranking.

    The ideal ranking has min(R, k) relevant images first, ranked or not here. Idea of Järvelin & Kekäläinen 2002, who
    divide by log2(rank) from rank 2 on; log2(rank + 1) became usual, and is trec_eval's `ndcg_cut_k`.
    """
    first = rankings.rank <= _check_cutoff(k)
    found = _sum_per_query(rankings, np.where(first, 1 / np.log2(rankings.rank + 1), 0.0))
    n_ideal = np.minimum(rankings.n_relevant, k)
    ideal = np.cumsum(1 / np.log2(np.arange(1, n_ideal.max(initial=0) + 1) + 1))
    ndcg: NDArray[np.float64] = found / ideal[n_ideal - 1]
    return ndcg


def r_precision(rankings: Rankings) -> NDArray[np.float64]:
    """Relevant images among the first R / R, where precision equals recall. IIR 8.4; trec_eval's `Rprec`."""
    return _count_per_query(rankings, rankings.rank <= rankings.n_relevant[rankings.query]) / rankings.n_relevant


def n_s_score(rankings: Rankings) -> NDArray[np.float64]:
    """N-S score: the number of relevant images among the first four, including the query itself: 1 to 4.

    Nistér & Stewénius 2006, for the groups of four of UKBench. The rankings do not contain the query; as no image is
    more similar to it than itself, it counts as the first, before the first three ranked images.
    """
    return (1 + _count_found(rankings, 3)).astype(np.float64)


def interpolated_precision(rankings: Rankings) -> NDArray[np.float64]:
    """Interpolated precision at recall 0, 0.01, ..., 1: (q, 101).

    At recall r it is the highest precision at any rank where recall is r or more, 0 where r is never reached. IIR 8.4;
    trec_eval's `iprec_at_recall`, which uses tenths and compares recall with r in floating point (with three relevant
    images it takes 2/3 for 0.7); here the comparison is exact.
    """
    n_queries = len(rankings.n_relevant)
    # The last column stays zero: it is the precision at every recall level that is never reached.
    n_columns = rankings.nth.max(initial=0) + 1
    highest = np.zeros((n_queries, n_columns))
    highest[rankings.query, rankings.nth - 1] = rankings.nth / rankings.rank
    from_here_on = np.maximum.accumulate(highest[:, ::-1], axis=1)[:, ::-1]
    percent = np.arange(N_RECALL_LEVELS)
    n_needed = -(-percent * rankings.n_relevant[:, None] // 100)
    curve: NDArray[np.float64] = np.take_along_axis(from_here_on, np.clip(n_needed, 1, n_columns) - 1, axis=1)
    return curve


def precision_curve(rankings: Rankings, k: int) -> NDArray[np.float64]:
    """Precision at ranks 1, 2, ..., k: (q, k), each as `precision_at`."""
    first = rankings.rank <= _check_cutoff(k)
    cell = rankings.query[first] * k + rankings.rank[first] - 1
    n_found = np.bincount(cell, minlength=len(rankings.n_relevant) * k).reshape(-1, k)
    return np.cumsum(n_found, axis=1) / np.arange(1, k + 1)


def _count_found(rankings: Rankings, k: int) -> NDArray[np.int64]:
    return _count_per_query(rankings, rankings.rank <= _check_cutoff(k))


def _count_per_query(rankings: Rankings, counted: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Count the relevant images found that are `counted` (m,), for each query: (q,)."""
    return np.bincount(rankings.query[counted], minlength=len(rankings.n_relevant))


def _sum_precisions(rankings: Rankings, counted: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Sum the precisions at the ranks of the relevant images found that are `counted` (m,), for each query: (q,)."""
    return _sum_per_query(rankings, np.where(counted, rankings.nth / rankings.rank, 0.0))


def _sum_per_query(rankings: Rankings, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum the (m,) values of the relevant images found, for each query: (q,)."""
    sums = np.bincount(rankings.query, weights=values, minlength=len(rankings.n_relevant))
    return sums.astype(np.float64, copy=False)


def _check_cutoff(k: int) -> int:
    if k < 1:
        raise ValueError(f"k is {k}; it must be 1 or more")
    return k
