"""A million vectors in a standalone Milvus server: pushed, its index built, searched, compared with brute force.

`pip install --no-deps --target FOLDER milvus`, then `BENCH_MILVUS=FOLDER python -m bench.milvus [N]` (half an hour,
6 GB in build/ann/). That package holds a whole server, Milvus 2.3.5: its proxy, coordinators and nodes in one process.
The collection is that of `bench.ann`. Ends with a line of JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from pymilvus import MilvusClient

from bench.ann import CACHE_FOLDER, N_QUERIES, load_truth, load_vectors, measure_hits, time_each_ms, write_catalog
from bench.setup import read_memory_mb
from simsearch import Collection
from simsearch.index.milvus.cache import MilvusIndexCache
from simsearch.index.milvus.config import MilvusConfig, StoreChoice
from simsearch.index.milvus.schema import VECTOR
from simsearch.search import RankingLimits, rank_hits

N = 1_000_000
_SERVER_FOLDER = CACHE_FOLDER / "milvus-server"
_INDEX_WAIT_S = 3600
_SETTLE_S = 12
"""Soon after a change every search waits until the server has seen all writes."""


@contextmanager
def run_server(package: str) -> Iterator[tuple[str, int]]:
    """Run a Milvus server from an installed package; its URI and process id."""
    sys.path.append(package)
    shutil.rmtree(_SERVER_FOLDER, ignore_errors=True)
    server = importlib.import_module("milvus").MilvusServer()
    server.set_base_dir(str(_SERVER_FOLDER))
    server.start()
    try:
        yield f"http://127.0.0.1:{server.listen_port}", server.server_proc.pid
    finally:
        server.stop()
        shutil.rmtree(_SERVER_FOLDER, ignore_errors=True)


def measure(n: int = N) -> dict[str, Any]:
    """Measure a collection of n vectors."""
    rows = load_vectors("real", n)
    queries, folder = np.array(rows[:N_QUERIES]), CACHE_FOLDER / f"milvus-{n}"
    shutil.rmtree(folder, ignore_errors=True)
    write_catalog(folder, rows[N_QUERIES:])
    with run_server(os.environ["BENCH_MILVUS"]) as (uri, process):
        with Collection.open(folder) as collection:
            before, here = _read_processor_s(process), time.process_time()
            report = collection.push(StoreChoice(uri), progress=_show_progress)
        found: dict[str, Any] = {
            "push_s": report.elapsed_s,
            "rows_per_second": n / report.elapsed_s,
            "push_processor_s": time.process_time() - here,
            "push_server_processor_s": _read_processor_s(process) - before,
        }
        with Collection.open(folder) as collection, MilvusIndexCache(collection.catalog, MilvusConfig(uri)) as cache:
            index = cache.open_index(collection.model().fingerprint)
            found |= _wait_for_index(uri)
            time.sleep(_SETTLE_S)
            found |= _measure_search(lambda query: index.search(query[None], 10)[1][0] - 1, queries, n)
            limits = RankingLimits(10)
            whole = time_each_ms(lambda query: rank_hits(query, index, collection.catalog, limits), queries)
            found |= {"answer_p50_ms": statistics.median(whole), "server_mb": read_memory_mb("VmRSS", process)}
    shutil.rmtree(folder)
    return found


def _measure_search(search: Callable[[np.ndarray], np.ndarray], queries: np.ndarray, n: int) -> dict[str, float]:
    truth = load_truth("real", n)
    for query in queries[:20]:
        search(query)
    answers: list[np.ndarray] = []
    times = sorted(time_each_ms(lambda query: answers.append(search(query)), queries))
    equal = [set(some.tolist()) == set(true.tolist()) for some, true in zip(answers, truth, strict=True)]
    return {
        "recall": measure_hits(answers, truth),
        "equal_answers": sum(equal) / len(equal),
        "p50_ms": statistics.median(times),
        "p99_ms": times[int(0.99 * len(times))],
    }


def _wait_for_index(uri: str) -> dict[str, Any]:
    """Wait until the server has indexed the rows that it has sealed; it indexes segment by segment, beside searches."""
    client = MilvusClient(uri)
    (name,) = client.list_collections()
    started = time.perf_counter()
    while True:
        time.sleep(1)
        state = client.describe_index(name, VECTOR)
        if not int(state["pending_index_rows"]) or time.perf_counter() - started > _INDEX_WAIT_S:
            break
    client.close()
    return {
        "kind": state["index_type"],
        "indexed_after_s": time.perf_counter() - started,
        "indexed_rows": int(state["indexed_rows"]),
    }


def _show_progress(n_done: int, n_all: int) -> None:
    print(f"{n_done:,} of {n_all:,}", file=sys.stderr, flush=True)


def _read_processor_s(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]) if len(sys.argv) > 1 else N)))
