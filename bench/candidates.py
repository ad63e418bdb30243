"""The candidate stage of `duplicates` at a million images: neighbors through an index, close hashes, equal regions.

`python -m bench candidates` (about ten minutes and 4 GB of memory on two cores). The vectors are those of bench/ann.py;
hashes and regions are random, which is the hardest case for the look-ups: nothing can be left out.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np

from bench.ann import N_QUERIES, TARGET_RECALL, WIDTH, load_vectors
from bench.setup import format_table, read_memory_mb, run_child
from simsearch.duplicates.candidates import N_NEIGHBORS, HashSearch, NeighborSearch
from simsearch.duplicates.region_search import RegionSearch
from simsearch.duplicates.search_order import order_by_likeness
from simsearch.duplicates.similarity_graph import OriginalVectors
from simsearch.index.build import VectorSource, build_index
from simsearch.index.kinds import KINDS
from simsearch.index.quantized import VectorReaders
from simsearch.matching.region_hashes import N_REGIONS

SIZES = (100_000, 1_000_000)
KIND = "hnsw-sq8"
N_SEARCHED = 20_000
"""The images whose candidates are found; all others are only searched."""

_BLOCK = 50_000
_N_VALUES = 1 << 24
_N_TOGETHER = 2048
_N_CHECKED = 100

T = TypeVar("T")


def measure() -> str:
    """Measure each size in a process of its own, and format the section of the report."""
    results = {n: json.loads(run_child("bench.candidates", str(n))) for n in SIZES}
    names = list(results[SIZES[0]])
    rows = [[name, *(f"{results[n][name]:,.4g}" for n in SIZES)] for name in names]
    about = (
        f"Images of {WIDTH} d, index {KIND}; {N_SEARCHED:,} of them are searched for {N_NEIGHBORS} neighbors, close "
        "hashes and equal regions. Times are processor seconds of all threads, for these images, or for all where it "
        "says so."
    )
    return f"## Candidates of copies\n\n{about}\n\n{format_table(['', *(f'{n:,} images' for n in SIZES)], rows)}"


def measure_stage(n: int) -> dict[str, float]:
    """Measure the candidate stage among n images."""
    rows = np.array(load_vectors("real", n)[N_QUERIES:])
    ids = np.arange(n, dtype=np.int64)
    result: dict[str, float] = {}

    def read_blocks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, n, _BLOCK):
            yield ids[start : start + _BLOCK], rows[start : start + _BLOCK]

    source = VectorSource(ids, WIDTH, read_blocks, VectorReaders.from_file(lambda some: rows[some], None))
    index = _time(result, "index built, all (s)", lambda: build_index(KINDS[KIND], source, TARGET_RECALL))
    originals = OriginalVectors(ids, rows, ids)
    order = _time(result, "order of the images, all (s)", lambda: order_by_likeness(originals, ids))
    searched = order[:N_SEARCHED]
    random = np.random.default_rng(0)
    codes = random.integers(0, 2**64, (n, 2), dtype=np.uint64)
    hashes = _time(result, "tables of hashes, all (s)", lambda: HashSearch(codes))
    neighbors = NeighborSearch(index, ids, ids, 1)
    started = time.perf_counter()
    _time(result, "neighbors (s)", lambda: _find_neighbors(originals, neighbors, searched))
    result["neighbors, elapsed (s)"] = time.perf_counter() - started
    result["recall of neighbors"] = _measure_recall(rows, originals, neighbors, searched[:_N_CHECKED])
    _time(result, "close hashes (s)", lambda: sum(len(a) for a, _, _ in hashes.find_pairs(searched)))
    before_mb = read_memory_mb("VmRSS")
    regions = RegionSearch(n)
    _time(result, "tables of regions, all (s)", lambda: _add_regions(regions, n))
    result["tables of regions (MB)"] = read_memory_mb("VmRSS") - before_mb
    _time(result, "equal regions (s)", lambda: _find_regions(regions, searched))
    parts = [result[name] for name in ("neighbors (s)", "close hashes (s)", "equal regions (s)")]
    result["an image (ms)"] = 1e3 * sum(parts) / N_SEARCHED
    result["memory at peak (MB)"] = read_memory_mb()
    return result


def _find_neighbors(originals: OriginalVectors, search: NeighborSearch, positions: np.ndarray) -> None:
    for start in range(0, len(positions), _N_TOGETHER):
        search.find_neighbors(originals, positions[start : start + _N_TOGETHER])


def _measure_recall(rows: np.ndarray, originals: OriginalVectors, neighbors: NeighborSearch, some: np.ndarray) -> float:
    """The share of the true neighbors, by brute force, that the index finds."""
    found, _ = neighbors.find_neighbors(originals, some)
    n_right = 0
    for row, others in zip(some, found, strict=True):
        similarities = rows @ rows[row]
        similarities[row] = -np.inf
        true = np.argpartition(-similarities, N_NEIGHBORS)[:N_NEIGHBORS]
        n_right += len(np.intersect1d(true, others))
    return n_right / (len(some) * N_NEIGHBORS)


def _find_regions(search: RegionSearch, positions: np.ndarray) -> None:
    random = np.random.default_rng(2)
    for start in range(0, len(positions), _N_TOGETHER):
        some = positions[start : start + _N_TOGETHER]
        search.find_pairs(some, random.integers(1, _N_VALUES, (len(some), N_REGIONS), dtype=np.uint32), N_NEIGHBORS)


def _add_regions(search: RegionSearch, n: int) -> None:
    random = np.random.default_rng(1)
    for start in range(0, n, _BLOCK):
        m = min(_BLOCK, n - start)
        search.add(np.arange(start, start + m), random.integers(1, _N_VALUES, (m, N_REGIONS), dtype=np.uint32))


def _time(result: dict[str, float], name: str, work: Callable[[], T]) -> T:
    """Note the processor seconds of a call under a name."""
    before = _read_processor_s()
    made = work()
    result[name] = _read_processor_s() - before
    return made


def _read_processor_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    print(json.dumps(measure_stage(int(sys.argv[1]))))
