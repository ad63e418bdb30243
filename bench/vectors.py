"""Import of vectors without pictures: a million synthetic ones, with keys and two columns."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from bench.setup import format_table, read_memory_mb, run_child

SIZES = (100_000, 1_000_000)
WIDTH = 256
_BLOCK = 50_000


def measure() -> str:
    """Measure and format the section of the report."""
    rows = []
    for n in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            _write_source(Path(folder), n)
            rows.append(_format_row(n, json.loads(run_child("bench.vectors", folder))))
    headings = ["vectors", "all", "check and write", "build the index", "peak memory while writing", "on disk"]
    about = f"`simsearch import --without-pictures` of synthetic vectors of {WIDTH} d, an address and two columns each:"
    return "\n\n".join(["## Vectors without pictures", about, format_table(headings, rows)])


def _write_source(folder: Path, n: int) -> None:
    import pyarrow
    import pyarrow.parquet

    random = np.random.default_rng(0)
    centers = random.standard_normal((1_000, WIDTH), dtype=np.float32)
    vectors = np.lib.format.open_memmap(folder / "v.npy", mode="w+", dtype=np.float32, shape=(n, WIDTH))
    for start in range(0, n, _BLOCK):
        noise = random.standard_normal((_BLOCK, WIDTH), dtype=np.float32)
        vectors[start : start + _BLOCK] = centers[np.arange(start, start + _BLOCK) % 1_000] + 0.7 * noise
    vectors.flush()
    columns = {
        "url": [f"https://pictures.example/{number // 1_000:04d}/{number:07d}.jpg" for number in range(n)],
        "label": [f"c{number % 1_000}" for number in range(n)],
        "likes": np.arange(n) * 7_919 % 10_007,
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "v.parquet")


def _import(folder: Path) -> dict[str, float]:
    import simsearch

    started, written = time.perf_counter(), [0.0, 0.0]

    def note(_: object) -> None:
        written[:] = time.perf_counter() - started, read_memory_mb()

    with simsearch.open(folder / "c", create=True) as collection:
        collection.import_vectors(folder / "v.npy", "clip", progress=note)
    size = sum(file.stat().st_size for file in (folder / "c").iterdir())
    return {"all_s": time.perf_counter() - started, "written_s": written[0], "memory_mb": written[1], "disk": size}


def _format_row(n: int, found: dict[str, float]) -> list[str]:
    return [
        f"{n:,}", f"{found['all_s']:.0f} s", f"{found['written_s']:.0f} s",
        f"{found['all_s'] - found['written_s']:.0f} s", f"{found['memory_mb']:.0f} MB", f"{found['disk'] / 1e9:.2f} GB",
    ]  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(_import(Path(sys.argv[1]))))
