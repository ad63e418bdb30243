"""What a mean over queries is worth: how far it may be off, and whether two of them differ."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_BLOCK_BYTES = 8 << 20
"""Draws are made in blocks of about this size: their number times the queries may be far more."""


def bootstrap_interval(
    values: NDArray[np.float64], *, seed: int, confidence: float = 0.95, n_resamples: int = 2000
) -> tuple[float, float]:
    """Between what the mean of (q,) values lies, had other queries of the same kind been asked: (low, high).

    The percentile bootstrap (Efron 1979; Efron & Tibshirani 1993, chapter 13): q queries are drawn with
    replacement, `n_resamples` times over; the middle `confidence` of their means is the interval. The same seed and
    q draw the same queries, whatever the values. One value gives an interval of no width. ValueError: no values, not
    finite, a confidence that is not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; it must be between 0 and 1")
    _check(values, n_resamples)
    random = np.random.default_rng(seed)
    n_queries = len(values)
    means = [
        values[random.integers(n_queries, size=(len(block), n_queries), dtype=np.uint32)].mean(axis=1)
        for block in _split_rows(n_resamples, row_bytes=n_queries * values.itemsize)
    ]
    low, high = np.quantile(np.concatenate(means), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def compute_paired_p_value(
    a: NDArray[np.float64], b: NDArray[np.float64], *, seed: int, n_resamples: int = 10_000
) -> float:
    """How likely means of the same (q,) queries differ at least as much if it were chance which is whose: p.

    The two-sided paired randomisation test (Fisher; for retrieval Smucker, Allan & Carterette 2007): a query's two
    scores are swapped or not, by a coin, so its difference changes sign. Of `n_resamples` such draws, p is
    (1 + those that differ as much) / (1 + n_resamples). Where all patterns of signs are no more than that, each is
    looked at once and p is exact. Queries on which both are equal change nothing and are left out; equal inputs give
    1. ValueError: shapes that differ, no values, not finite.
    """
    if a.shape != b.shape:
        raise ValueError(f"scores of the same queries are compared, not {a.shape} with {b.shape}")
    _check(a, n_resamples)
    _check(b, n_resamples)
    differences = (a - b)[a != b]
    total = differences.sum()
    # Sums that are equal but for the order of adding count as equal.
    as_much = abs(total) - 1e-12 * np.abs(differences).sum()
    n_patterns = 2 ** len(differences)
    is_exact = n_patterns <= n_resamples
    swaps = _enumerate_swaps(len(differences)) if is_exact else _draw_swaps(len(differences), n_resamples, seed)
    n_as_much = sum(int(np.count_nonzero(np.abs(total - 2 * (block @ differences)) >= as_much)) for block in swaps)
    return n_as_much / n_patterns if is_exact else (1 + n_as_much) / (1 + n_resamples)


def adjust_p_values(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(m,) p-values of m tests, corrected for there being m of them, in the same order; from 0 to 1.

    Holm 1979: the smallest is multiplied by m, the next by m - 1, ..., none less than the one before. To call what
    is below alpha a difference then errs with a probability of alpha at most in the whole family, whatever depends on
    what. ValueError: not (m,), or outside of [0, 1].
    """
    if p_values.ndim != 1 or not ((p_values >= 0) & (p_values <= 1)).all():
        raise ValueError(f"p-values must be (m,) from 0 to 1, not {p_values}")
    order = np.argsort(p_values, kind="stable")
    multiplied = p_values[order] * np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(multiplied), 1.0)
    return corrected


def _check(values: NDArray[np.float64], n_resamples: int) -> None:
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise ValueError(f"values must be (q,), at least one, all finite; these are {values.shape}: {values}")
    if n_resamples < 1:
        raise ValueError(f"n_resamples is {n_resamples}; it must be 1 or more")


def _split_rows(n_rows: int, *, row_bytes: int) -> Iterator[range]:
    """The rows of a table, some at a time."""
    size = max(1, _BLOCK_BYTES // max(row_bytes, 1))
    for start in range(0, n_rows, size):
        yield range(start, min(start + size, n_rows))


def _enumerate_swaps(n: int) -> Iterator[NDArray[np.float64]]:
    """Every pattern of n swaps, (2^n, n) in blocks, 1 for a swap."""
    for block in _split_rows(2**n, row_bytes=n * 8):
        yield (np.arange(block.start, block.stop)[:, None] >> np.arange(n) & 1).astype(np.float64)


def _draw_swaps(n: int, n_draws: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Fair coins, (`n_draws`, n) in blocks, 1 for a swap."""
    random = np.random.default_rng(seed)
    for block in _split_rows(n_draws, row_bytes=n * 8):
        coins = random.integers(256, size=(len(block), -(-n // 8)), dtype=np.uint8)
        yield np.unpackbits(coins, axis=1, count=n).astype(np.float64)
