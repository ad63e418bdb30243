"""Indexing with a Ray cluster on this machine, compared with indexing without one: the overhead of `--ray`.

`BENCH_PICTURES=20000 BENCH_BACKBONES=builtin python -m bench scale` measures more pictures, with one backbone.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from pathlib import Path

from bench.setup import find_weights, format_table, ingest, multiply
from simsearch import ModelChoice
from simsearch.ingest.run import IngestReport

N_PICTURES = int(os.environ.get("BENCH_PICTURES", "1000"))
N_FEW = 32
BACKBONES = os.environ.get("BENCH_BACKBONES", "builtin mobilenet_v2").split()


def measure() -> str:
    """Measure and format the section of the report."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        pictures = multiply(N_PICTURES, Path(name) / "pictures")
        few = multiply(N_FEW, Path(name) / "few")
        for backbone in BACKBONES:
            rows.append(_measure_backbone(backbone, pictures, few, Path(name)))
            print("   ", rows[-1], flush=True)
    headings = ["backbone", "alone", "`--ray`", "start", "`--ray` without the start", "vectors"]
    return "\n\n".join(
        [
            "## Ray",
            f"Images/s for {N_PICTURES:,} images at f32, the model prepared before: `simsearch index` alone, "
            f"and with `--ray` on a cluster started for the run, a worker for each of the {os.cpu_count()} cores. The "
            f"start is the additional time of `--ray` for {N_FEW} images: the cluster, workers, libraries and "
            "the model. A single machine gains nothing; each further machine adds its workers.",
            format_table(headings, rows),
        ]
    )


def _measure_backbone(backbone: str, pictures: Path, few: Path, place: Path) -> list[str]:
    weights = None if backbone == "builtin" else find_weights(backbone)
    choice = ModelChoice(backbone=backbone, weights=weights, precision="f32")
    here, there = place / f"{backbone}-here", place / f"{backbone}-there"
    ingest(place / f"{backbone}-first", [few], choice)  # converts the network, once
    start_s = -ingest(place / f"{backbone}-few", [few], choice).elapsed_s
    start_s += ingest(place / f"{backbone}-few-there", [few], choice, ray="local").elapsed_s
    local, distributed = (
        ingest(folder, [pictures], choice, ray=address) for folder, address in ((here, None), (there, "local"))
    )
    return [
        backbone,
        _format_rate(local, local.elapsed_s),
        _format_rate(distributed, distributed.elapsed_s),
        f"{start_s:.1f} s",
        _format_rate(distributed, distributed.elapsed_s - start_s),
        "equal" if _read_vectors(here) == _read_vectors(there) else "other",
    ]


def _format_rate(report: IngestReport, elapsed_s: float) -> str:
    return f"{report.n_embedded / elapsed_s:.1f}"


def _read_vectors(collection: Path) -> list[tuple[int, bytes]]:
    connection = sqlite3.connect(collection / "catalog.db")
    try:
        return connection.execute("SELECT view_id, vector FROM vectors ORDER BY view_id").fetchall()
    finally:
        connection.close()
