"""Memory of an ingest, and times to write, open and search as the collection grows."""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np

from bench.setup import find_weights, format_table, ingest, measure_seconds, multiply, read_memory_mb, run_child
from simsearch.index.cache import IndexCache
from simsearch.models.choice import ModelChoice, resolve_model
from simsearch.search import RankingLimits, rank_hits
from simsearch.sources.scan import FoundFile
from simsearch.store.catalog import Catalog, EmbeddedView, FileEntry, ImageProperties
from simsearch.store.writer import CatalogWriter

SIZES = (1_000, 10_000, 100_000)
WIDTH = 256


def measure() -> str:
    """Measure and format the section of the report."""
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        weights = find_weights("mobilenet_v2")
        run_child("bench.growth", f"{folder}/warm", str(multiply(100, Path(folder) / "warm_pictures")), weights)
        for n in (1_000, 10_000):
            pictures = multiply(n, Path(folder) / str(n))
            peaks.append(float(run_child("bench.growth", f"{folder}/ix{n}", str(pictures), weights)))
    memory = format_table(
        ["pictures", "peak memory of the process"],
        [["1,000", f"{peaks[0]:.0f} MB"], ["10,000", f"{peaks[1]:.0f} MB ({peaks[1] / peaks[0]:.2f} x)"]],
    )
    rows = [_measure_growth(n) for n in SIZES]
    headings = [
        "images",
        "write",
        "build the index",
        "open and first answer",
        "warm search p50 (FAISS alone)",
        "on disk",
    ]
    return "\n\n".join(
        [
            "## Memory and growth",
            "`simsearch index` of photographs with MobileNetV2 at bf16, converted graph in the cache:",
            memory,
            f"Synthetic vectors of {WIDTH} d written through the catalog:",
            format_table(headings, rows),
        ]
    )


def _measure_growth(n: int) -> list[str]:
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with CatalogWriter.open_or_create(folder) as writer:
            with writer.transaction():
                model = resolve_model(ModelChoice(backbone="histogram"))
                model_id = writer.add_model(model, WIDTH, model.fingerprint).id

            def write() -> None:
                for start in range(0, n, 1000):
                    rows = random.standard_normal((1000, WIDTH)).astype(np.float32)
                    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
                    with writer.transaction():
                        writer.record_files(
                            (make_entry(start + number, row) for number, row in enumerate(rows)), model_id
                        )

            write_s = measure_seconds(write)
            fingerprint = writer.list_models()[0].fingerprint
            cache_s = measure_seconds(lambda: IndexCache(writer).refresh(fingerprint))
        query = draw_unit_vector(random)
        first_s = measure_seconds(lambda: _search_once(folder, query))
        with Catalog.open(folder) as catalog:
            index = IndexCache(catalog).open_index(catalog.list_models()[0].fingerprint)
            queries = [draw_unit_vector(random) for _ in range(100)]
            bare = [measure_seconds(lambda row=row: index.search(row[None], 10)) for row in queries]  # type: ignore[misc]
            limits = RankingLimits(10)
            times = [measure_seconds(lambda row=row: rank_hits(row, index, catalog, limits)) for row in queries]  # type: ignore[misc]
        size_mb = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    return [
        f"{n:,}", f"{n / write_s:,.0f} /s", f"{cache_s:.2f} s", f"{1e3 * first_s:.1f} ms",
        f"{1e3 * statistics.median(times):.2f} ms ({1e3 * statistics.median(bare):.2f})",
        f"{size_mb:.0f} MB ({1e6 * size_mb / n:.0f} B per image)",
    ]  # fmt: skip


def draw_unit_vector(random: np.random.Generator) -> np.ndarray:
    """Draw a random unit vector."""
    row = random.standard_normal(WIDTH).astype(np.float32)
    unit: np.ndarray = row / np.linalg.norm(row)
    return unit


def make_entry(number: int, row: np.ndarray) -> FileEntry:
    """Make the catalog entry of a file with one vector."""
    file = FoundFile(f"/pictures/{number:07}.jpg", 1000 + number, number)
    view = EmbeddedView("original", "{}", row)
    return FileEntry(file, f"{number:032x}", ImageProperties(640, 480, "JPEG"), [view])


def _search_once(folder: Path, query: np.ndarray) -> None:
    with Catalog.open(folder) as catalog:
        index = IndexCache(catalog).open_index(catalog.list_models()[0].fingerprint)
        assert len(rank_hits(query, index, catalog, RankingLimits(10))) == 10


def measure_ingest_mb(folder: str, source: str, weights: str) -> float:
    """Index a folder with MobileNetV2 in this process, and return its peak memory in MB."""
    ingest(folder, [source], ModelChoice(backbone="mobilenet_v2", weights=weights, precision="bf16"))
    return read_memory_mb()


if __name__ == "__main__":
    print(measure_ingest_mb(*sys.argv[1:]))
