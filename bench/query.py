"""Query times: a new process, a warm call, and the overhead of a search over FAISS alone."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import faiss
import numpy as np

from bench.setup import SIMSEARCH, find_weights, format_table, ingest, list_photographs, measure_seconds, multiply
from simsearch import Collection, ModelChoice
from simsearch.index.cache import IndexCache
from simsearch.search import RankingLimits, rank_hits
from simsearch.store.catalog import Catalog

N_IMAGES = 10_000


def measure() -> str:
    """Measure and format the section of the report."""
    with tempfile.TemporaryDirectory() as folder:
        collection, pictures = Path(folder) / "ix", multiply(N_IMAGES, Path(folder) / "pictures")
        choice = ModelChoice(backbone="mobilenet_v2", weights=find_weights("mobilenet_v2"), precision="bf16")
        ingest(collection, [pictures], choice)
        again_s = measure_seconds(lambda: ingest(collection, [pictures]))
        unknown = Path(folder) / "query.jpg"
        unknown.write_bytes(list_photographs()[7].read_bytes() + b"unknown")
        command = [str(SIMSEARCH), "query", str(unknown), "--in", str(collection), "--json"]
        cold = _time_runs(lambda: subprocess.run(command, check=True, capture_output=True), 7)
        tensorflow = [sys.executable, "-c", "import tensorflow"]
        quiet = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
        imports = _time_runs(lambda: subprocess.run(tensorflow, check=True, capture_output=True, env=quiet), 3)
        warm = _measure_warm_queries(collection, Path(folder))
        as_it_comes, bare, ours = _measure_search(collection)
    rows = [
        [f"`simsearch query` on {N_IMAGES:,} images, complete process (median of 7)", f"{cold[3]:.2f} s"],
        ["for comparison: `import tensorflow` alone, complete process (median of 3)", f"{imports[1]:.2f} s"],
        ["warm query by a new image: decode + embed + search, p50 / p99", f"{warm[0]:.1f} / {warm[1]:.1f} ms"],
        ["of these embed + search, p50", f"{warm[2]:.1f} ms"],
        [
            f"FAISS alone over {N_IMAGES:,} x 1280, k = 10, p50, by default ({os.cpu_count()} threads)",
            f"{as_it_comes:.2f} ms",
        ],
        ["the same in one thread, as in our search for one query", f"{bare:.2f} ms"],
        ["our search (ranking, files, ties), p50", f"{ours:.2f} ms"],
        [f"`index` of the unchanged folder of {N_IMAGES:,} files", f"{again_s:.2f} s"],
    ]
    return "## Query\n\nMobileNetV2 at bf16.\n\n" + format_table(["", ""], rows)


def _time_runs(work: object, n: int) -> list[float]:
    """Time n runs in seconds, sorted, after one run that fills the disk cache."""
    assert callable(work)
    work()
    return sorted(measure_seconds(work) for _ in range(n))


def _measure_warm_queries(collection: Path, folder: Path) -> tuple[float, float, float]:
    """Measure milliseconds of warm queries by new images: p50, p99, and p50 without decoding."""
    whole, without_decoding = [], []
    with Collection.open(collection) as opened:
        for number in range(220):
            file = folder / f"warm_{number}.jpg"
            file.write_bytes(
                list_photographs()[number % 1200 % len(list_photographs())].read_bytes() + b"warm%d" % number
            )
            started = time.perf_counter()
            answer = opened.search(file)
            whole.append(1e3 * (time.perf_counter() - started))
            without_decoding.append(answer.milliseconds["embed"] + answer.milliseconds["search"])
    whole, without_decoding = whole[20:], without_decoding[20:]
    return statistics.median(whole), float(np.percentile(whole, 99)), statistics.median(without_decoding)


def _measure_search(collection: Path) -> tuple[float, float, float]:
    """Measure p50 milliseconds of a search for ten: FAISS by default, in one thread, and ours with complete hits."""
    with Catalog.open(collection) as catalog:
        stored = catalog.list_models()[0]
        index = IndexCache(catalog).open_exact_index(stored.fingerprint)
        flat = faiss.IndexFlatIP(stored.width)
        flat.add(index.vectors)
        times: list[list[float]] = [[], [], []]
        for query in index.vectors[::37][:200]:  # alternating, so that all have the same load of the machine
            row = query[None]
            faiss.omp_set_num_threads(os.cpu_count())
            times[0].append(measure_seconds(lambda row=row: flat.search(row, 10)))  # type: ignore[misc]
            times[1].append(measure_seconds(lambda row=row: index.search(row, 10)))  # type: ignore[misc]
            times[2].append(measure_seconds(lambda query=query: rank_hits(query, index, catalog, RankingLimits(10))))  # type: ignore[misc]
    as_it_comes, bare, ours = (1e3 * statistics.median(some) for some in times)
    return as_it_comes, bare, ours
