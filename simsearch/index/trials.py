"""Choosing among kinds of index by measured time: each is built and searched on a sample of the vectors."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from simsearch.index.build import VectorSource, build_index
from simsearch.index.kinds import IndexKind
from simsearch.index.protocol import Ids, Vectors

SAMPLE_SIZES = (5_000, 20_000)
"""Numbers of vectors of the two samples: from the times at both the time at full size is estimated. They take about ten
seconds of one core at 256 dimensions."""

MAX_BUILD_S = 300.0
"""A kind whose building is estimated to take longer is chosen only if every other one takes longer still."""

_BUILD_EXPONENTS = {"flat": (1.0, 1.0), "ivf": (1.0, 1.3), "hnsw": (1.2, 1.4)}
"""The range of the exponent with which the time to build a family grows. A small sample of a graph fits into the cache
of the processor, so that the time at two small sizes grows more slowly than it does later. With 1.2 the graph of a
million vectors of 256 d was estimated at 130 to 149 s, and building one took 100 s (bench/RESULTS.md)."""

_N_QUERIES = 200
_N_RESULTS = 10


@dataclass(frozen=True, slots=True)
class KindTrial:
    """The estimates for one kind at full size: milliseconds of one query, seconds to build, and bytes."""

    kind: IndexKind
    query_ms: float
    build_s: float
    n_bytes: float


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
    mixed = np.random.default_rng(1).permutation(source.ids)
    for size in sizes:
        sample = _take_sample(source, np.sort(mixed[:size]))
        index = build_index(kind, sample, recall)
        build_s.append(index.details.build_s)
        n_bytes = index.measure_bytes()
        others = mixed[size : size + _N_QUERIES] if len(mixed) >= size + _N_QUERIES else mixed[:_N_QUERIES]
        times = []
        for query in source.readers.ranking(np.sort(others)):
            started = time.perf_counter()
            index.search(query[None], _N_RESULTS)
            times.append(1e3 * (time.perf_counter() - started))
        query_ms.append(statistics.median(times))
    n = len(source.ids)
    return KindTrial(
        kind,
        _extrapolate(sizes, query_ms, n, (0.0, 1.0)),
        _extrapolate(sizes, build_s, n, _BUILD_EXPONENTS[kind.family]),
        n_bytes * n / sizes[1],
    )


def _extrapolate(sizes: tuple[int, int], values: Sequence[float], n: int, exponents: tuple[float, float]) -> float:
    """Extrapolate a power law through two measured values to n; its exponent is kept within a range."""
    exponent = math.log(max(values[1], 1e-9) / max(values[0], 1e-9)) / math.log(sizes[1] / sizes[0])
    return float(values[1] * (n / sizes[1]) ** min(max(exponent, exponents[0]), exponents[1]))


def _take_sample(source: VectorSource, ids: Ids) -> VectorSource:
    def read_blocks() -> Iterator[tuple[Ids, Vectors]]:
        yield ids, source.readers.ranking(ids)

    return VectorSource(ids, source.width, read_blocks, source.readers)
