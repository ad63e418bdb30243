"""Ten million vectors of 256 d: vectors written, index built, opened, searched, changed, opened again.

`python -m bench.ten_million` (some hours on two cores; 45 GB of disk in build/ann/). Every step is run in a process of
its own and stored as build/ann/ten-million-N-STEP.json, so that an interrupted run resumes; the catalog is continued
where it stopped. `processor_s` counts all threads: it tells the cost of a step beside other work. Delete a step's file
to measure it again. A number as argument measures fewer vectors.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.ann import (
    CACHE_FOLDER,
    N_QUERIES,
    WIDTH,
    load_truth,
    load_vectors,
    measure_hits,
    measure_resident_bytes,
    time_each_ms,
)
from bench.growth import make_entry
from bench.setup import format_table, measure_seconds, read_memory_mb, run_child
from simsearch import Collection, ModelChoice
from simsearch.index.cache import IndexCache
from simsearch.index.kinds import IndexKindChoice, write_kind_choice
from simsearch.models.choice import resolve_model
from simsearch.search import RankingLimits, rank_hits
from simsearch.store.writer import CatalogWriter

N = 10_000_000
STEPS = ("vectors", "catalog", "build", "open", "add", "remove", "reopen")
_BATCH = 5_000
_N_CHANGED = 1_000


def measure(n: int = N) -> str:
    """Measure the steps that have no result yet, and format the section of the report."""
    results = {step: _load_or_measure(step, n) for step in STEPS}
    rows = [[step, ", ".join(f"{key} {value:,.4g}" for key, value in found.items())] for step, found in results.items()]
    return f"## {n:,} x {WIDTH} d\n\n{format_table(['step', 'result'], rows)}"


def _load_or_measure(step: str, n: int) -> dict[str, float]:
    file = CACHE_FOLDER / f"ten-million-{n}-{step}.json"
    if not file.exists():
        CACHE_FOLDER.mkdir(parents=True, exist_ok=True)
        text = run_child("bench.ten_million", step, str(n))
        print(step, text, f"load {os.getloadavg()[0]:.1f}", flush=True)
        file.write_text(text)
    return dict(json.loads(file.read_text()))


def _folder(n: int) -> Path:
    return CACHE_FOLDER / f"ten-million-{n}"


def make_vectors(n: int) -> dict[str, float]:
    """Make the vectors, and the true neighbors of 500 queries that are not among them."""
    return {
        "vectors_s": measure_seconds(lambda: load_vectors("real", n)),
        "truth_s": measure_seconds(lambda: load_truth("real", n)),
    }


def write_catalog(n: int) -> dict[str, float]:
    """Record an image for every vector; continues a catalog that was not finished."""
    rows, model = load_vectors("real", n)[N_QUERIES:], resolve_model(ModelChoice(backbone="histogram"))
    with CatalogWriter.open_or_create(_folder(n)) as writer:
        with writer.transaction():
            model_id = writer.add_model(model, WIDTH, model.fingerprint).id
        first, started = writer.count_vectors(model_id), time.perf_counter()
        for start in range(first, n, _BATCH):
            with writer.transaction():
                entries = (make_entry(start + at, row) for at, row in enumerate(rows[start : start + _BATCH]))
                writer.record_files(entries, model_id)
            if start % 500_000 == 0:
                print(f"{start:,} of {n:,}", file=sys.stderr, flush=True)
        elapsed_s = time.perf_counter() - started
    size = (_folder(n) / "catalog.db").stat().st_size
    rate = (n - first) / max(elapsed_s, 1e-9)
    return {"images_per_second": rate, "processor_s": time.process_time(), "catalog_bytes": size}


def build(n: int) -> dict[str, float]:
    """Build the index that `auto` takes."""
    with CatalogWriter.open_or_create(_folder(n)) as writer:
        write_kind_choice(writer, IndexKindChoice())
        cache, fingerprint = IndexCache(writer), writer.list_models()[0].fingerprint
        cache.discard()
        build_s = measure_seconds(lambda: cache.refresh(fingerprint))
        facts = cache.describe(writer.list_models()[0])
        print(facts.summary, file=sys.stderr, flush=True)
    sizes = {
        f"{suffix}_bytes": sum(file.stat().st_size for file in _folder(n).glob(f"*.{suffix}"))
        for suffix in ("faiss", "vectors")
    }
    return {"build_s": build_s, "processor_s": time.process_time(), "peak_mb": read_memory_mb("VmHWM"), **sizes}


def open_and_search(n: int) -> dict[str, float]:
    """Open the index in this new process and search it with 500 queries, one at a time in one thread."""
    queries, truth = np.array(load_vectors("real", n)[:N_QUERIES]), load_truth("real", n)
    started = time.perf_counter()
    with Collection.open(_folder(n)) as collection:
        index = IndexCache(collection.catalog).open_index(collection.model().fingerprint)
        open_s = time.perf_counter() - started
        limits = RankingLimits(10)
        first = time_each_ms(lambda query: rank_hits(query, index, collection.catalog, limits), queries[:100])
        found: list[np.ndarray] = []
        times = sorted(time_each_ms(lambda query: found.append(index.search(query[None], 10)[1][0] - 1), queries))
        whole = sorted(time_each_ms(lambda query: rank_hits(query, index, collection.catalog, limits), queries))
    files = sorted(_folder(n).glob("*.vectors"))
    return {
        "open_s": open_s, "first_ms": first[0], "first_100_p50_ms": statistics.median(first),
        "p50_ms": statistics.median(times), "p99_ms": times[int(0.99 * len(times))],
        "answer_p50_ms": statistics.median(whole), "answer_p99_ms": whole[int(0.99 * len(whole))],
        "recall": measure_hits(found, truth), "rss_mb": read_memory_mb("VmRSS"),
        "vectors_in_page_cache_mb": sum(map(measure_resident_bytes, files)) / 1e6,
    }  # fmt: skip


def add_images(n: int) -> dict[str, float]:
    """Add 1,000 images, and bring the index up to date."""
    rows = np.array(load_vectors("real", n)[:_N_CHANGED])
    with CatalogWriter.open_or_create(_folder(n)) as writer:
        model = writer.list_models()[0]

        def write() -> None:
            with writer.transaction():
                writer.record_files((make_entry(2 * n + at, row) for at, row in enumerate(rows)), model.id)

        write_s = measure_seconds(write)
        refresh_s = measure_seconds(lambda: IndexCache(writer).refresh(model.fingerprint))
    return {"write_s": write_s, "refresh_s": refresh_s, "searchable_after_s": write_s + refresh_s}


def remove_images(n: int) -> dict[str, float]:
    """Remove the images that were added and 1,000 others, and bring the index up to date."""
    numbers = [*range(2 * n, 2 * n + _N_CHANGED), *range(0, n, n // _N_CHANGED)]
    with CatalogWriter.open_or_create(_folder(n)) as writer:
        fingerprint = writer.list_models()[0].fingerprint

        def write() -> None:
            with writer.transaction():
                writer.forget_files([f"/pictures/{number:07}.jpg" for number in numbers])
                writer.forget_orphans()

        write_s = measure_seconds(write)
        refresh_s = measure_seconds(lambda: IndexCache(writer).refresh(fingerprint))
    return {"write_s": write_s, "refresh_s": refresh_s}


def main() -> None:
    """Run all steps, or one step in this process and print its result as JSON."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0].isdigit():
        print(measure(*map(int, arguments)))
        return
    step, n = arguments[0], int(arguments[1])
    result: dict[str, Any] = {
        "vectors": make_vectors, "catalog": write_catalog, "build": build, "open": open_and_search,
        "add": add_images, "remove": remove_images, "reopen": open_and_search,
    }[step](n)  # fmt: skip
    print(json.dumps(result))


if __name__ == "__main__":
    main()
