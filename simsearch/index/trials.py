"""Choosing among kinds of index by measured time: on samples of the vectors first, then on all of them."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from simsearch.index.build import ReportShare, VectorSource, build_index
from simsearch.index.kinds import IndexKind
from simsearch.index.protocol import Ids, Vectors
from simsearch.index.quantized import QuantizedIndex

SAMPLE_SIZES = (5_000, 20_000)
"""Numbers of vectors of the two samples: from the times at both the time at full size is estimated. They take about ten
seconds of one core at 256 dimensions."""

MAX_BUILD_S = 300.0
"""A kind whose building is estimated to take longer is chosen only if every other one takes longer still."""

_BUILD_EXPONENTS = {"flat": (1.0, 1.0), "ivf": (1.0, 1.3), "hnsw": (1.2, 1.4)}
"""The range of the exponent with which the time to build a family grows. A small sample of a graph fits into the cache
of the processor, so that the time at two small sizes grows more slowly than it does later. With 1.2 the graph of a
million vectors of 256 d was estimated at 130 to 149 s, and building one took 100 s (bench/RESULTS.md)."""

_QUERY_EXPONENTS = {"flat": (1.0, 1.0), "ivf": (0.0, 0.5), "hnsw": (0.0, 0.5)}
"""The same of the time of a query: the number of lists and their length grow with the square root."""

_MIN_GAIN = 0.8
"""Another kind is built where it is estimated to take less than this share of the time measured with the one before."""

_N_QUERIES = 200
_N_RESULTS = 10


@dataclass(frozen=True, slots=True)
class KindTrial:
    """One kind at full size: milliseconds of one query, seconds to build, and bytes.

    They are estimated from samples of up to `n_timed` vectors, or measured with all of them.
    """

    kind: IndexKind
    query_ms: float
    build_s: float
    n_bytes: float
    n_timed: int


def build_quickest(
    kinds: Sequence[IndexKind],
    source: VectorSource,
    recall: float,
    max_bytes: float,
    sizes: tuple[int, int] = SAMPLE_SIZES,
    report: ReportShare = lambda _: None,
) -> tuple[QuantizedIndex | None, list[KindTrial]]:
    """Build the kind that answers in the least time at this recall@10, and return what is known of each kind.

    The kind with the best estimate is built and timed. A sample does not have the near copies that all vectors have, so
    that an estimate may be wrong: while that of another kind is clearly below the measured time, it is built, too. The
    index is None where no kind reaches the recall.
    """
    trials = try_kinds(kinds, source, recall, max_bytes, sizes)
    best, best_ms = None, math.inf
    for at, trial in enumerate(trials):
        is_allowed = trial.n_bytes <= max_bytes and trial.build_s <= MAX_BUILD_S
        if best is not None and (not is_allowed or trial.query_ms >= _MIN_GAIN * best_ms):
            continue
        index = build_index(trial.kind, source, recall, report)
        query_ms = _time_queries(index, source, np.sort(_mix(source.ids)[:_N_QUERIES]))
        n = len(source.ids)
        trials[at] = KindTrial(trial.kind, query_ms, index.details.build_s, trial.n_bytes, n)
        if index.details.has_wanted_recall and query_ms < best_ms:
            best, best_ms = index, query_ms
    return best, trials


def try_kinds(
    kinds: Sequence[IndexKind], source: VectorSource, recall: float, max_bytes: float, sizes: tuple[int, int]
) -> list[KindTrial]:
    """Estimate each kind for all vectors of the source, at this recall@10; the best kind first.

    Kinds that would be larger than `max_bytes`, or take long to build, come after the others.
    """
    trials = [_try_kind(kind, source, recall, sizes) for kind in kinds]
    return sorted(
        trials,
        key=lambda one: (one.n_bytes > max_bytes, max(one.build_s, MAX_BUILD_S), one.query_ms),
    )


def _try_kind(kind: IndexKind, source: VectorSource, recall: float, sizes: tuple[int, int]) -> KindTrial:
    query_ms, build_s, n_bytes = [], [], 0
    mixed = _mix(source.ids)
    for size in sizes:
        index = build_index(kind, _take_sample(source, np.sort(mixed[:size])), recall)
        build_s.append(index.details.build_s)
        n_bytes = index.measure_bytes()
        others = mixed[size : size + _N_QUERIES] if len(mixed) >= size + _N_QUERIES else mixed[:_N_QUERIES]
        query_ms.append(_time_queries(index, source, np.sort(others)))
    n = len(source.ids)
    return KindTrial(
        kind,
        _extrapolate(sizes, query_ms, n, _QUERY_EXPONENTS[kind.family]),
        _extrapolate(sizes, build_s, n, _BUILD_EXPONENTS[kind.family]),
        n_bytes * n / sizes[1],
        sizes[1],
    )


def _mix(ids: Ids) -> Ids:
    return np.random.default_rng(1).permutation(ids)


def _time_queries(index: QuantizedIndex, source: VectorSource, ids: Ids) -> float:
    """The median time in milliseconds of searches by the vectors of ids (m,), one at a time."""
    times = []
    for query in source.readers.ranking(ids):
        started = time.perf_counter()
        index.search(query[None], _N_RESULTS)
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times)


def _extrapolate(sizes: tuple[int, int], values: Sequence[float], n: int, exponents: tuple[float, float]) -> float:
    """Extrapolate a power law through two measured values to n; its exponent is kept within a range."""
    exponent = math.log(max(values[1], 1e-9) / max(values[0], 1e-9)) / math.log(sizes[1] / sizes[0])
    return float(values[1] * (n / sizes[1]) ** min(max(exponent, exponents[0]), exponents[1]))


def _take_sample(source: VectorSource, ids: Ids) -> VectorSource:
    def read_blocks() -> Iterator[tuple[Ids, Vectors]]:
        yield ids, source.readers.ranking(ids)

    return VectorSource(ids, source.width, read_blocks, source.readers)
