"""Confidence intervals and significance tests for means over queries."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

SIGNIFICANCE_LEVEL = 0.05
"""A difference counts as significant when its corrected p-value is below this."""

_BLOCK_BYTES = 8 << 20
"""Resamples are drawn in blocks of about this size, since all resamples times all queries may not fit in memory."""


def bootstrap_interval(
    values: NDArray[np.float64], *, seed: int, confidence: float = 0.95, n_resamples: int = 2000
) -> tuple[float, float]:
    """Estimate a confidence interval of the mean of (q,) values over other queries of the same kind: (low, high).

    The percentile bootstrap (Efron 1979; Efron & Tibshirani 1993, chapter 13): q queries are drawn with replacement,
    `n_resamples` times; the middle `confidence` of their means is the interval. The same seed and q draw the same
    queries, whatever the values. One value gives an interval of zero width. ValueError: no values, values that are not
    finite, a confidence that is not between 0 and 1.
    """
    _check(values, n_resamples)
    ((low, high),) = bootstrap_intervals(values[:, None], seed=seed, confidence=confidence, n_resamples=n_resamples)
    return low, high


def bootstrap_intervals(
    values: NDArray[np.float64], *, seed: int, confidence: float = 0.95, n_resamples: int = 2000
) -> list[tuple[float, float]]:
    """Estimate the intervals of m metrics of the same queries, (q, m), as `bootstrap_interval` does for each alone."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; it must be between 0 and 1")
    for column in values.T:
        _check(column, n_resamples)
    random = np.random.default_rng(seed)
    n_queries = len(values)
    means = []
    for block in _split_rows(n_resamples, row_bytes=2 * n_queries * values.itemsize):
        drawn = random.integers(n_queries, size=(len(block), n_queries), dtype=np.uint32)
        cells = drawn + np.arange(len(block))[:, None] * n_queries
        counts = np.bincount(cells.ravel(), minlength=len(block) * n_queries).reshape(-1, n_queries)
        means.append(counts @ values / n_queries)
    low, high = np.quantile(np.concatenate(means), [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return list(zip(low.tolist(), high.tolist(), strict=True))


def compute_paired_p_value(
    a: NDArray[np.float64], b: NDArray[np.float64], *, seed: int, n_resamples: int = 10_000
) -> float:
    """Compute the p-value of a paired randomization test: two systems, (q,) scores of the same queries.

    Two-sided (Fisher; for retrieval Smucker, Allan & Carterette 2007): the two scores of each query are swapped or not
    with probability 1/2, which changes the sign of the query's difference. Of `n_resamples` such draws, p is
    (1 + number with a difference of means at least as large) / (1 + n_resamples). Where there are no more than
    `n_resamples` patterns of signs, each pattern is evaluated once and p is exact. Queries with equal scores are left
    out, as they change nothing; equal inputs give 1. ValueError: different shapes, no values, values that are not
    finite.
    """
    if a.shape != b.shape:
        raise ValueError(f"both systems need scores of the same queries; the shapes are {a.shape} and {b.shape}")
    _check(a, n_resamples)
    _check(b, n_resamples)
    differences = (a - b)[a != b]
    total = differences.sum()
    # Sums that differ only by the order of addition count as equal.
    threshold = abs(total) - 1e-12 * np.abs(differences).sum()
    n_patterns = 2 ** len(differences)
    is_exact = n_patterns <= n_resamples
    swaps = _enumerate_swaps(len(differences)) if is_exact else _draw_swaps(len(differences), n_resamples, seed)
    n_extreme = sum(int(np.count_nonzero(np.abs(total - 2 * (block @ differences)) >= threshold)) for block in swaps)
    return n_extreme / n_patterns if is_exact else (1 + n_extreme) / (1 + n_resamples)


def adjust_p_values(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Correct the (m,) p-values of m tests for multiple testing by Holm's method; same order, in [0, 1].

    Holm 1979: the smallest is multiplied by m, the next by m - 1, ..., and none may be less than the one before it.
    Calling every value below alpha a difference is then wrong anywhere in the family with probability alpha at most,
    whatever the dependence between the tests. ValueError: shape other than (m,), or values outside [0, 1].
    """
    if p_values.ndim != 1 or not ((p_values >= 0) & (p_values <= 1)).all():
        raise ValueError(f"p-values must have shape (m,) and be numbers from 0 to 1, not {p_values}")
    order = np.argsort(p_values, kind="stable")
    multiplied = p_values[order] * np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(multiplied), 1.0)
    return corrected


def _check(values: NDArray[np.float64], n_resamples: int) -> None:
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise ValueError(f"values must be (q,), at least one and all finite; got {values.shape}: {values}")
    if n_resamples < 1:
        raise ValueError(f"n_resamples is {n_resamples}; it must be 1 or more")


def _split_rows(n_rows: int, *, row_bytes: int) -> Iterator[range]:
    """Split the rows of a table into blocks of at most `_BLOCK_BYTES`."""
    size = max(1, _BLOCK_BYTES // max(row_bytes, 1))
    for start in range(0, n_rows, size):
        yield range(start, min(start + size, n_rows))


def _enumerate_swaps(n: int) -> Iterator[NDArray[np.float64]]:
    """Every pattern of n swaps, (2^n, n) in blocks; 1 is a swap."""
    for block in _split_rows(2**n, row_bytes=n * 8):
        yield (np.arange(block.start, block.stop)[:, None] >> np.arange(n) & 1).astype(np.float64)


def _draw_swaps(n: int, n_draws: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Random patterns of n swaps, (`n_draws`, n) in blocks; 1 is a swap, with probability 1/2."""
    random = np.random.default_rng(seed)
    for block in _split_rows(n_draws, row_bytes=n * 8):
        coins = random.integers(256, size=(len(block), -(-n // 8)), dtype=np.uint8)
        yield np.unpackbits(coins, axis=1, count=n).astype(np.float64)
