"""Kinds of index at 100,000 and 1,000,000 x 256 d against hnswlib and usearch: recall, speed, memory, build time.

`python -m bench ann` (more than half an hour). Every cell is measured in its own process and stored in build/ann/, so
that an interrupted run resumes; delete that folder to measure again. `python -m bench.ann in-turn real 1000000
ENGINE...` compares engines that are open at the same time; press Enter when the indexes are built.
"""

from __future__ import annotations

import ctypes
import json
import math
import mmap
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import PIPE
from typing import Any

import numpy as np

from bench.growth import make_entry
from bench.setup import (
    ROOT,
    SHARED,
    find_weights,
    format_table,
    ingest,
    measure_seconds,
    multiply,
    read_memory_mb,
    run_child,
)
from simsearch import Collection, ModelChoice
from simsearch.index.build import VectorSource, build_index
from simsearch.index.cache import IndexCache
from simsearch.index.files import IndexStamp
from simsearch.index.kinds import KINDS, IndexKindChoice, write_kind_choice
from simsearch.index.quantized import VectorReaders
from simsearch.index.vector_file import VectorFileWriter
from simsearch.models.choice import resolve_model
from simsearch.search import RankingLimits, rank_hits
from simsearch.store.catalog import Catalog
from simsearch.store.writer import CatalogWriter

CACHE_FOLDER = ROOT / "build" / "ann"
SIZES = (100_000, 1_000_000)
WIDTH, N_QUERIES, TARGET_RECALL = 256, 500, 0.97
N_ROUNDS = 3
OURS = (
    "flat",
    "flat-fp16",
    "flat-sq8",
    "ivf",
    "ivf-sq8",
    "ivf-pq",
    "ivf-rabitq",
    "hnsw",
    "hnsw-fp16",
    "hnsw-sq8",
    "auto",
)
OTHERS = ("hnswlib", "usearch f32", "usearch i8", "rabitqlib")
_BLOCK = 50_000
_MODEL = resolve_model(ModelChoice(backbone="histogram"))

Search = Callable[[np.ndarray], np.ndarray]
"""A search: from a query (256,) to the ids of the ten nearest rows."""


# Vectors


def load_vectors(data: str, n: int) -> np.ndarray:
    """Load unit rows (500 + n, 256) as a memory map: noisy `real` embeddings, or `random` ones; 500 queries first."""
    file = CACHE_FOLDER / f"{data}-{n}.npy"
    if not file.exists():
        CACHE_FOLDER.mkdir(parents=True, exist_ok=True)
        made = np.lib.format.open_memmap(file.with_suffix(".part"), "w+", np.float32, (n + N_QUERIES, WIDTH))
        for start, block in _generate_blocks(data, n + N_QUERIES):
            made[start : start + len(block)] = block
        made.flush()
        file.with_suffix(".part").rename(file)
    rows: np.ndarray = np.load(file, mmap_mode="r")
    return rows


def _generate_blocks(data: str, n: int) -> Iterator[tuple[int, np.ndarray]]:
    random = np.random.default_rng(n)
    real = None if data == "random" else _load_real()
    for start in range(0, n, _BLOCK):
        m = min(_BLOCK, n - start)
        rows = random.standard_normal((m, WIDTH)).astype(np.float32)
        if real is not None:
            rows *= real.std(axis=0)
            rows *= 0.5 / np.linalg.norm(rows, axis=1, keepdims=True)  # cosine 0.89 to the original row
            rows += real[random.integers(0, len(real), m)]
        yield start, rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _load_real() -> np.ndarray:
    """Load MobileNetV2 features of photographs: centered, first 256 principal components, unit rows."""
    file = CACHE_FOLDER / "real.npy"
    if not file.exists():
        with tempfile.TemporaryDirectory() as folder:
            if (SHARED / "pool.tar").is_file():
                with tarfile.open(SHARED / "pool.tar") as archive:
                    archive.extractall(folder, filter="data")
            else:
                multiply(5_000, Path(folder) / "pictures")
            choice = ModelChoice(backbone="mobilenet_v2", weights=find_weights("mobilenet_v2"))
            ingest(Path(folder) / "indexes", [folder], choice)
            with Catalog.open(Path(folder) / "indexes") as catalog:
                rows = IndexCache(catalog).open_exact_index(catalog.list_models()[0].fingerprint).vectors
        rows = rows - rows.mean(axis=0)
        some = np.random.default_rng(0).choice(len(rows), min(len(rows), 4 * rows.shape[1]), replace=False)
        axes = np.linalg.svd(rows[some], full_matrices=False)[2][:WIDTH]
        rows = rows @ axes.T
        np.save(file, (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32))
    rows = np.load(file)
    return np.asarray(rows)


def load_truth(data: str, n: int) -> np.ndarray:
    """Load the row numbers (q, 10) of the nearest rows of each query, found by brute force."""
    file = CACHE_FOLDER / f"{data}-{n}-truth.npy"
    if not file.exists():
        rows = load_vectors(data, n)
        best, at = np.full((N_QUERIES, 10), -2, np.float32), np.zeros((N_QUERIES, 10), np.int64)
        for start in range(N_QUERIES, n + N_QUERIES, _BLOCK):
            block = rows[start : start + _BLOCK]
            found = np.concatenate([best, rows[:N_QUERIES] @ block.T], axis=1)
            numbers = np.concatenate(
                [at, np.broadcast_to(np.arange(start, start + len(block)), (N_QUERIES, len(block)))], 1
            )
            order = np.argpartition(-found, 9, axis=1)[:, :10]
            best, at = np.take_along_axis(found, order, 1), np.take_along_axis(numbers, order, 1)
        np.save(file, at - N_QUERIES)
    return np.asarray(np.load(file))


# One cell


def measure_cell(data: str, n: int, engine: str) -> dict[str, Any]:
    """Measure one engine in this process: build time, size, recall@10, and the times of single queries."""
    rows = load_vectors(data, n)
    queries, rows = np.array(rows[:N_QUERIES]), rows[N_QUERIES:]
    return (
        _measure_ours(data, n, engine, queries, rows)
        if engine in OURS
        else _measure_theirs(data, n, engine, queries, rows)
    )


def _measure_search(search: Search, queries: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    for query in queries[:20]:
        search(query)
    found: list[np.ndarray] = []
    times = time_each_ms(lambda query: found.append(search(query)), queries)
    return {
        "recall": measure_hits(found, truth),
        "p50_ms": statistics.median(times),
        "per_second": 1e3 * len(times) / sum(times),
    }


def measure_hits(found: list[np.ndarray], truth: np.ndarray) -> float:
    """The share of the true neighbors (q, 10) that were found."""
    hits = [len(set(some.tolist()) & set(true.tolist())) for some, true in zip(found, truth, strict=True)]
    return sum(hits) / truth.size


def measure_resident_bytes(file: Path) -> int:
    """The size of the part of a file that is in the page cache."""
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        n_pages = -(-len(mapped) // mmap.PAGESIZE)
        resident = np.zeros(n_pages, np.uint8)
        view = np.frombuffer(mapped, np.uint8)
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
        failed = libc.mincore(view.ctypes.data, len(mapped), resident.ctypes.data)
        del view
    return 0 if failed else int((resident & 1).sum()) * mmap.PAGESIZE


def _drop_from_page_cache(file: Path) -> None:
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _build_kind(data: str, n: int, kind: str, rows: np.ndarray) -> tuple[Path, dict[str, Any]]:
    """Build an index of a kind for the collection of these vectors; its folder, and what is known of the index."""
    folder = CACHE_FOLDER / f"{data}-{n}"
    if not (folder / "catalog.db").exists():
        write_catalog(folder, rows)
    with CatalogWriter.open_or_create(folder) as writer:
        write_kind_choice(writer, IndexKindChoice(kind, TARGET_RECALL))
        cache = IndexCache(writer)
        cache.discard()
        build_s, rss_mb = measure_seconds(lambda: cache.refresh(_MODEL.fingerprint)), read_memory_mb("VmRSS")
        facts = cache.describe(writer.list_models()[0])
        size = cache.locate_file(_MODEL.fingerprint).stat().st_size
    return folder, {
        "kind": facts.kind, "bytes": size, "build_s": build_s, "rss_mb": rss_mb, "peak_mb": read_memory_mb("VmHWM"),
        "trials": facts.details.trials if facts.details else {},
        "estimated_recall": facts.details.recall_at_10 if facts.details else 1.0,
    }  # fmt: skip


def _measure_ours(data: str, n: int, kind: str, queries: np.ndarray, rows: np.ndarray) -> dict[str, Any]:
    folder, built = _build_kind(data, n, kind, rows)
    with Catalog.open(folder) as catalog:
        opened = IndexCache(catalog)
        open_s = measure_seconds(lambda: opened.open_index(_MODEL.fingerprint))
        index = opened.open_index(_MODEL.fingerprint)
        truth = load_truth(data, n)
        found = _measure_search(lambda query: index.search(query[None], 10)[1][0] - 1, queries, truth)
        limits = RankingLimits(10)
        whole = time_each_ms(lambda query: rank_hits(query, index, catalog, limits), queries)
    added_ms, vectors = _measure_search_by_id(folder, n), sorted(folder.glob("*.vectors"))
    for file in vectors:
        _drop_from_page_cache(file)
    with Catalog.open(folder) as catalog:
        index = IndexCache(catalog).open_index(_MODEL.fingerprint)
        for query in queries:
            index.search(query[None], 10)
    stored = {
        "search_added_p50_ms": added_ms,
        "vector_file_bytes": sum(file.stat().st_size for file in vectors),
        "vector_file_bytes_in_page_cache_after_500_queries": sum(map(measure_resident_bytes, vectors)),
        "open_s": open_s,
    }
    return built | stored | found | {"answer_p50_ms": statistics.median(whole)}


def _measure_search_by_id(folder: Path, n: int) -> float:
    """Milliseconds, p50, that a warm `Collection.search` by id takes beyond its search of the index."""
    ids = np.random.default_rng(0).integers(1, n, 500).tolist()
    with Collection.open(folder) as collection:
        index = IndexCache(collection.catalog).open_index(collection.model().fingerprint)
        rows = index.read_vectors(np.array(ids))
        for image_id in ids[:20]:
            collection.search(image_id)
            index.search(rows[:1], 10)
        added = []
        for image_id, row in zip(ids, rows, strict=True):
            alone = time_each_ms(lambda query: index.search(query[None], 10), row[None])[0]
            started = time.perf_counter()
            collection.search(image_id)
            added.append(1e3 * (time.perf_counter() - started) - alone)
    return statistics.median(added)


def write_catalog(folder: Path, rows: np.ndarray) -> None:
    """Write a catalog with an image for every row; image and view n + 1 is row n."""
    part = folder.with_suffix(".part")
    with CatalogWriter.open_or_create(part) as writer:
        with writer.transaction():
            model_id = writer.add_model(_MODEL, WIDTH, _MODEL.fingerprint).id
        for start in range(0, len(rows), 5_000):
            with writer.transaction():
                writer.record_files(
                    (make_entry(start + at, row) for at, row in enumerate(rows[start : start + 5_000])), model_id
                )
    part.rename(folder)


def _measure_theirs(data: str, n: int, engine: str, queries: np.ndarray, rows: np.ndarray) -> dict[str, Any]:
    """Measure another library, at the lowest search effort that reaches the target recall."""
    search, facts = _build_theirs(data, n, engine, queries, rows)
    return facts | {"peak_mb": read_memory_mb("VmHWM")} | _measure_search(search, queries, load_truth(data, n))


def _build_theirs(
    data: str, n: int, engine: str, queries: np.ndarray, rows: np.ndarray
) -> tuple[Search, dict[str, Any]]:
    """Build the index of another library, and choose the lowest search effort that reaches the target recall."""
    file, truth = CACHE_FOLDER / f"{data}-{n}.{engine.replace(' ', '-')}", load_truth(data, n)
    started = time.perf_counter()
    builders = {"hnswlib": _build_hnswlib, "rabitqlib": _build_rabitqlib}
    search_with, save = builders.get(engine, _build_usearch)(engine, rows)
    build_s = time.perf_counter() - started
    save(str(file))
    size = file.stat().st_size
    file.unlink()
    for effort in (16, 32, 64, 128, 256, 512, 1024):
        search = search_with(effort)
        if measure_hits([search(query) for query in queries], truth) >= TARGET_RECALL:
            break
    return search, {"bytes": size, "build_s": build_s, "effort": effort}


def _build_hnswlib(_: str, rows: np.ndarray) -> tuple[Callable[[int], Search], Callable[[str], object]]:
    import hnswlib

    index = hnswlib.Index("ip", WIDTH)
    index.init_index(len(rows), M=16, ef_construction=100)
    index.set_num_threads(os.cpu_count())
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        index.add_items(block, np.arange(start, start + len(block)))
    index.set_num_threads(1)

    def search_with(effort: int) -> Search:
        index.set_ef(effort)
        return lambda query: np.asarray(index.knn_query(query[None], 10)[0][0])

    return search_with, index.save_index


def _build_rabitqlib(_: str, rows: np.ndarray) -> tuple[Callable[[int], Search], Callable[[str], object]]:
    """SymphonyQG with 8 bits; for unit vectors the order by distance is that by inner product."""
    from rabitqlib import SymqgIndex

    index = SymqgIndex(WIDTH, 32, "l2", quantization_bits=8)
    index.build(np.array(rows), 100, num_threads=os.cpu_count() or 1)

    def search_with(effort: int) -> Search:
        def search(query: np.ndarray) -> np.ndarray:
            answer = index.search(query[None], 10, effort, 1)
            return np.asarray(
                next(part for part in answer if np.issubdtype(np.asarray(part).dtype, np.integer))
            ).ravel()

        return search

    return search_with, index.save


def _build_usearch(engine: str, rows: np.ndarray) -> tuple[Callable[[int], Search], Callable[[str], object]]:
    from usearch.index import Index

    index = Index(ndim=WIDTH, metric="ip", dtype=engine.split()[1], connectivity=16, expansion_add=100)
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        index.add(np.arange(start, start + len(block)), np.array(block), threads=os.cpu_count() or 1)

    def search_with(effort: int) -> Search:
        index.expansion_search = effort
        return lambda query: np.asarray(index.search(query, 10, threads=1).keys)

    return search_with, index.save


def time_each_ms(ask: Callable[[np.ndarray], object], queries: np.ndarray) -> list[float]:
    """Time each query in milliseconds, one after the other."""
    times = []
    for query in queries:
        started = time.perf_counter()
        ask(query)
        times.append(1e3 * (time.perf_counter() - started))
    return times


# Engines in turn


def measure_in_turn(data: str, n: int, engines: list[str]) -> dict[str, dict[str, Any]]:
    """Measure engines in turn, each in a process of its own that keeps its index open; medians of three rounds.

    All indexes are built first, one after the other. Then a line is read from standard input, so that the rounds, which
    take seconds, can be begun when the machine is idle.
    """
    children, results = {}, {}
    for engine in engines:
        command = [sys.executable, "-m", "bench.ann", "rounds", data, str(n), engine]
        children[engine] = child = subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True, cwd=ROOT)
        assert child.stdout is not None
        results[engine] = json.loads(child.stdout.readline())
        print(engine, results[engine], file=sys.stderr, flush=True)
    print("built; a line on standard input begins the rounds", file=sys.stderr, flush=True)
    sys.stdin.readline()
    rounds: dict[str, list[dict[str, float]]] = {engine: [] for engine in engines}
    for _ in range(N_ROUNDS):
        for engine, child in children.items():
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write("\n")
            child.stdin.flush()
            rounds[engine].append(json.loads(child.stdout.readline()))
    for engine, child in children.items():
        child.communicate()
        results[engine] |= {key: statistics.median(found[key] for found in rounds[engine]) for key in rounds[engine][0]}
        results[engine]["per_second_of_rounds"] = [found["per_second"] for found in rounds[engine]]
    return results


def serve_rounds(data: str, n: int, engine: str) -> None:
    """Build an index, print its facts as a line of JSON, and measure all queries once for every line of input."""
    rows, truth = load_vectors(data, n), load_truth(data, n)
    queries, rows = np.array(rows[:N_QUERIES]), rows[N_QUERIES:]
    build = _build_ours if engine in OURS else _build_theirs
    search, facts = build(data, n, engine, queries, rows)
    print(json.dumps(facts | {"peak_mb": read_memory_mb("VmHWM")}), flush=True)
    for _ in sys.stdin:
        print(json.dumps(_measure_search(search, queries, truth)), flush=True)


def _build_ours(data: str, n: int, kind: str, _queries: np.ndarray, rows: np.ndarray) -> tuple[Search, dict[str, Any]]:
    """Build an index of the collection of these vectors, and open it from its file."""
    folder, built = _build_kind(data, n, kind, rows)
    index = IndexCache(Catalog.open(folder)).open_index(_MODEL.fingerprint)
    return lambda query: index.search(query[None], 10)[1][0] - 1, built


# A large collection that grows


def measure_growth() -> dict[str, float]:
    """Measure a collection of a million images: opened in a new process, and 1,000 images added."""
    folder, model = CACHE_FOLDER / "real-1000000", _MODEL
    with CatalogWriter.open_or_create(folder) as writer:
        write_kind_choice(writer, IndexKindChoice())
        cache = IndexCache(writer)
        cache.discard()
        cache.refresh(model.fingerprint)
    opened = json.loads(run_child("bench.ann", "opening"))
    base = folder / f"{model.fingerprint}.faiss"
    inode, rows = base.stat().st_ino, np.array(load_vectors("real", 1_000_000)[:1_000])
    with CatalogWriter.open_or_create(folder) as writer:
        model_id = writer.list_models()[0].id

        def write() -> None:
            with writer.transaction():
                writer.record_files((make_entry(10_000_000 + at, row) for at, row in enumerate(rows)), model_id)

        write_s, refresh_s = (
            measure_seconds(write),
            measure_seconds(lambda: IndexCache(writer).refresh(model.fingerprint)),
        )
        recent = base.with_suffix(".recent").stat().st_size
        assert base.stat().st_ino == inode
        after = json.loads(run_child("bench.ann", "opening"))
        with writer.transaction():
            writer.forget_files([f"/pictures/{10_000_000 + at:07}.jpg" for at in range(len(rows))])
            writer.forget_orphans()
        IndexCache(writer).refresh(model.fingerprint)
    return {
        "open_s": opened["open_s"], "first_ms": opened["first_ms"], "p50_ms": opened["p50_ms"],
        "write_s": write_s, "refresh_s": refresh_s, "written_bytes": recent, "after_p50_ms": after["p50_ms"],
    }  # fmt: skip


def measure_side_by_side(n: int, kinds: list[str]) -> dict[str, dict[str, float]]:
    """Compare kinds with hnswlib in one process by processor time, asked in turn: for a machine that does other work.

    The times are medians of one query in milliseconds, the best of three rounds.
    """
    rows = np.array(load_vectors("real", n))
    queries, rows = rows[:N_QUERIES], rows[N_QUERIES:]
    ids, truth = np.arange(n, dtype=np.int64), load_truth("real", n)
    with tempfile.TemporaryDirectory() as place:
        writer = VectorFileWriter(Path(place) / "x.vectors", WIDTH)
        for start in range(0, n, _BLOCK):
            writer.add(ids[start : start + _BLOCK], rows[start : start + _BLOCK])
        vectors = writer.finish(IndexStamp("", "", 0, n))
        readers = VectorReaders.from_file(lambda some: rows[some], vectors)
        source = VectorSource(ids, WIDTH, vectors.iterate_blocks, readers)
        built = {kind: build_index(KINDS[kind], source, TARGET_RECALL) for kind in kinds}
        searches: dict[str, Search] = {
            kind: (lambda query, index=index: index.search(query[None], 10)[1][0])  # type: ignore[misc]
            for kind, index in built.items()
        }
        search_with, _ = _build_hnswlib("", rows)
        for effort in (32, 48, 64):
            searches[f"hnswlib {effort}"] = lambda query, effort=effort: search_with(effort)(query)  # type: ignore[misc]
        result: dict[str, dict[str, float]] = {}
        for _ in range(3):
            for name, search in searches.items():
                times, found = [], []
                for query in queries:
                    started = time.thread_time()
                    found.append(search(query))
                    times.append(1e3 * (time.thread_time() - started))
                best = min(statistics.median(times), result.get(name, {}).get("cpu_ms", math.inf))
                result[name] = {"cpu_ms": best, "recall": measure_hits(found, truth)}
    return result


def measure_changes(data: str, n: int, kind: str) -> dict[str, Any]:
    """Measure the recall of 500 new queries at the default setting: as built, with filters, after 10 % of changes."""
    folder, model = CACHE_FOLDER / f"{data}-{n}", _MODEL
    if not (folder / "catalog.db").exists():
        write_catalog(folder, load_vectors(data, n)[N_QUERIES:])
    rows = load_vectors(data, n)
    queries, rows = np.array(rows[:N_QUERIES]), rows[N_QUERIES:]
    random, result = np.random.default_rng(5), {}
    with tempfile.TemporaryDirectory(dir=CACHE_FOLDER) as place:
        copy = Path(place) / "ix"
        copy.mkdir()
        shutil.copy(folder / "catalog.db", copy)
        with CatalogWriter.open_or_create(copy) as writer:
            write_kind_choice(writer, IndexKindChoice(kind))
            IndexCache(writer).refresh(model.fingerprint)
        result["recall"], result["told"] = _measure_recall(copy, queries, rows, np.arange(n))
        for share in (0.5, 0.05, 0.005):
            among = np.sort(random.choice(n, int(share * n), replace=False))
            result[f"recall_filter_{share:g}"], _ = _measure_recall(copy, queries, rows, among, is_filter=True)
        added = np.array(rows[random.choice(n, n // 10, replace=False)])
        added += 0.03 * random.standard_normal(added.shape).astype(np.float32)
        added /= np.linalg.norm(added, axis=1, keepdims=True)
        with CatalogWriter.open_or_create(copy) as writer:
            model_id = writer.list_models()[0].id
            with writer.transaction():
                writer.record_files((make_entry(2 * n + at, row) for at, row in enumerate(added)), model_id)
            result["add_s"] = measure_seconds(lambda: IndexCache(writer).refresh(model.fingerprint))
        whole = np.concatenate([rows, added])
        result["recall_added"], result["told_added"] = _measure_recall(copy, queries, whole, np.arange(len(whole)))
        gone = np.sort(random.choice(n, n // 10, replace=False))
        with CatalogWriter.open_or_create(copy) as writer:
            with writer.transaction():
                writer.forget_files([f"/pictures/{number:07}.jpg" for number in gone.tolist()])
                writer.forget_orphans()
            result["remove_s"] = measure_seconds(lambda: IndexCache(writer).refresh(model.fingerprint))
        left = np.setdiff1d(np.arange(len(whole)), gone)
        result["recall_removed"], result["told_removed"] = _measure_recall(copy, queries, whole, left)
    return result


def _measure_recall(
    folder: Path, queries: np.ndarray, rows: np.ndarray, among: np.ndarray, *, is_filter: bool = False
) -> tuple[float, float]:
    """The recall@10 of queries among rows (view id - 1), against brute force, and the recall that the index states."""
    best = np.full((len(queries), 10), -2, np.float32)
    truth = np.zeros((len(queries), 10), np.int64)
    for start in range(0, len(among), _BLOCK):
        some = among[start : start + _BLOCK]
        found = np.concatenate([best, queries @ rows[some].T], axis=1)
        numbers = np.concatenate([truth, np.broadcast_to(some, (len(queries), len(some)))], axis=1)
        order = np.argpartition(-found, 9, axis=1)[:, :10]
        best, truth = np.take_along_axis(found, order, 1), np.take_along_axis(numbers, order, 1)
    with Catalog.open(folder) as catalog:
        cache, stored = IndexCache(catalog), catalog.list_models()[0]
        index = cache.open_index(stored.fingerprint)
        searched = index.select(among + 1) if is_filter else index  # type: ignore[attr-defined]
        found_ids = [searched.search(query[None], 10)[1][0] - 1 for query in queries]
        details = cache.describe(stored).details
    return measure_hits(found_ids, truth), details.recall_at_10 if details else 1.0


def measure_opening() -> dict[str, float]:
    """Measure, in a new process, opening the collection of a million images and searching it."""
    queries = np.array(load_vectors("real", 1_000_000)[:200])
    started = time.perf_counter()
    with Collection.open(CACHE_FOLDER / "real-1000000") as collection:
        index = IndexCache(collection.catalog).open_index(collection.model().fingerprint)
        open_s = time.perf_counter() - started
        limits = RankingLimits(10)
        times = time_each_ms(lambda query: rank_hits(query, index, collection.catalog, limits), queries)
    return {"open_s": open_s, "first_ms": times[0], "p50_ms": statistics.median(times)}


def measure_threads() -> dict[str, float]:
    """Measure exact search of one query among a million in one thread and in all; FAISS 1.15 splits the database."""
    import faiss

    rows = load_vectors("real", 1_000_000)
    index = faiss.IndexFlatIP(WIDTH)
    for start in range(N_QUERIES, len(rows), _BLOCK):
        index.add(np.ascontiguousarray(rows[start : start + _BLOCK]))
    found = {}
    for n_threads in (1, os.cpu_count() or 1):
        faiss.omp_set_num_threads(n_threads)
        times = time_each_ms(lambda query: index.search(query[None], 10), np.array(rows[:30]))
        found[f"threads_{n_threads}"] = statistics.median(times)
    return found


# The report


def measure() -> str:
    """Measure and format the section of the report."""
    sections = [
        "## Kinds of index",
        f"One query at a time in one thread, k = 10, {N_QUERIES} queries that are not in the index; every engine tuned "
        f"to recall@10 >= {TARGET_RECALL}. Ours rank the candidates by a vector file.",
    ]
    for data in ("real", "random"):
        for n in SIZES:
            cells = {engine: _load_cell(data, n, engine) for engine in (*OURS, *OTHERS)}
            name = "MobileNetV2 features, PCA, noise added" if data == "real" else "random"
            sections += [f"{n:,} x {WIDTH} d, {name}:", _format_cells(cells, n)]
    threads = ", ".join(
        f"{key.split('_')[1]} threads {value:.0f} ms" for key, value in _load_or_measure("threads").items()
    )
    sections.append(f"Exact search of one query among 1,000,000, p50: {threads}.")
    grown = _load_or_measure("growth")
    sections.append(
        f"The kind that `auto` picks for 1,000,000: opened in {grown['open_s']:.2f} s by a fresh process, first answer "
        f"{grown['first_ms']:.0f} ms, then p50 {grown['p50_ms']:.2f} ms with all that an answer needs. 1,000 images "
        f"more: recorded in {grown['write_s']:.2f} s, index in {grown['refresh_s']:.2f} s, "
        f"{grown['written_bytes'] / 1e6:.1f} MB written beside it; p50 {grown['after_p50_ms']:.2f} ms then."
    )
    sections.append(_extrapolate())
    return "\n\n".join(sections)


def _format_cells(cells: dict[str, dict[str, Any]], n: int) -> str:
    flat = 4 * WIDTH * n
    rows = [
        [
            engine, f"{cell['recall']:.3f}", f"{cell['p50_ms']:.2f}", f"{cell['per_second']:,.0f}",
            f"{cell['answer_p50_ms']:.2f}" if "answer_p50_ms" in cell else "", f"{cell['build_s']:.1f}",
            f"{cell['bytes'] / flat:.3f}", f"{cell['peak_mb']:,.0f}",
        ]
        for engine, cell in cells.items()
    ]  # fmt: skip
    headings = [
        "",
        "recall@10",
        "p50 ms",
        "queries/s",
        "complete answer p50 ms",
        "build s",
        "bytes / float32",
        "peak MB",
    ]
    return format_table(headings, rows)


def _extrapolate() -> str:
    """Extrapolate to ten million, with the slopes from 100,000 to 1,000,000."""
    rows = []
    for kind in ("flat", "ivf-sq8", "ivf-rabitq", "hnsw", "hnsw-fp16", "hnsw-sq8"):
        small, large = (_load_cell("real", n, kind) for n in SIZES)
        slopes = {key: large[key] * (large[key] / small[key]) for key in ("p50_ms", "build_s", "bytes")}
        rows.append(
            [kind, f"{slopes['p50_ms']:.1f} ms", f"{slopes['build_s'] / 60:.0f} min", f"{slopes['bytes'] / 1e9:.1f} GB"]
        )
    return "10,000,000 x 256 d, not measured: the slopes from 100,000 to 1,000,000 carried on.\n\n" + format_table(
        ["", "p50", "build", "index"], rows
    )


def _load_cell(data: str, n: int, engine: str) -> dict[str, Any]:
    return _load_or_measure(f"{data}-{n}-{engine.replace(' ', '_')}", "cell", data, str(n), engine)


def _load_or_measure(name: str, *arguments: str) -> dict[str, Any]:
    """Load the stored result of a measurement, or run it in a new process and store the result."""
    file = CACHE_FOLDER / f"{name}.json"
    if not file.exists():
        CACHE_FOLDER.mkdir(parents=True, exist_ok=True)
        text = run_child("bench.ann", *(arguments or (name,)))
        print(name, text, f"load {os.getloadavg()[0]:.1f}", flush=True)
        file.write_text(text)
    return dict(json.loads(file.read_text()))


def main() -> None:
    """Run one measurement in this process and print its result as JSON."""
    measurement, *rest = sys.argv[1:]
    if measurement == "rounds":
        serve_rounds(rest[0], int(rest[1]), rest[2])
        return
    if measurement == "in-turn":
        print(json.dumps(measure_in_turn(rest[0], int(rest[1]), rest[2:]), indent=1))
        return
    if measurement == "side-by-side":
        print(json.dumps(measure_side_by_side(int(rest[0]), rest[1:])))
        return
    if measurement in ("cell", "changes"):
        measure_one = measure_cell if measurement == "cell" else measure_changes
        result: dict[str, Any] = measure_one(rest[0], int(rest[1]), rest[2])
    else:
        result = {"growth": measure_growth, "opening": measure_opening, "threads": measure_threads}[measurement]()
    is_nan = {key for key, value in result.items() if isinstance(value, float) and not math.isfinite(value)}
    print(json.dumps(result | dict.fromkeys(is_nan)))


if __name__ == "__main__":
    main()
