"""Cost of evaluation without embedding: seconds and memory, in a new process for each case."""

from __future__ import annotations

import sys
import time

import numpy as np

from bench.setup import format_table, read_memory_mb, run_child
from simsearch.evaluation.embedding import TaskVectors
from simsearch.evaluation.labels import LabelGroups
from simsearch.evaluation.protocol import TaskImage, build_label_task, sample_queries
from simsearch.evaluation.ranking import Ranker
from simsearch.evaluation.scoring import score
from simsearch.rerank.method import RerankMethod

N_IMAGES, N_CLASSES, N_QUERIES, N_BACKBONES = 20_000, 100, 2_000, 3
CASES = (
    (256, "none"), (256, "pca128"), (256, "dba"), (256, "dba+aqe"), (256, "k-reciprocal"),
    (1280, "none"), (1280, "pca+dba+aqe"), (4096, "none"),
)  # fmt: skip


def measure() -> str:
    """Measure and format the section of the report."""
    rows = []
    for width, method in CASES:
        seconds, peak_mb = run_child("bench.evaluation", str(width), method).split()
        rows.append([str(width), method, f"{float(seconds):.1f} s", f"{float(peak_mb):,.0f} MB"])
    return (
        f"## Evaluation\n\n{N_IMAGES:,} images, {N_CLASSES} classes, {N_QUERIES:,} queries, {N_BACKBONES} "
        "backbones in turn (synthetic vectors), all metrics: seconds to rank and score, peak memory of the process.\n\n"
        + format_table(["width", "re-ranking", "seconds for 3 backbones", "peak memory"], rows)
    )


def rank_and_score(width: int, method: RerankMethod) -> float:
    """Rank and score synthetic vectors of every backbone in this process: seconds."""
    random = np.random.default_rng(0)
    names = [f"image_{number}" for number in range(N_IMAGES)]
    labels = random.integers(0, N_CLASSES, N_IMAGES)
    images = [TaskImage(name, (name,)) for name in names]
    groups = LabelGroups({name: f"class {label}" for name, label in zip(names, labels, strict=True)}, "synthetic")
    task = sample_queries(build_label_task(images, groups), N_QUERIES, 0)
    own = np.array([query.position for query in task.queries])
    centers = random.standard_normal((N_CLASSES, width), dtype=np.float32)
    seconds = 0.0
    for _ in range(N_BACKBONES):
        rows = centers[labels] + 2 * random.standard_normal((N_IMAGES, width), dtype=np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        vectors = TaskVectors(rows, np.empty((N_IMAGES, 0, width), np.float32))
        started = time.perf_counter()
        score(task, Ranker(vectors, method), rows[own])
        seconds += time.perf_counter() - started
    return seconds


if __name__ == "__main__":
    print(rank_and_score(int(sys.argv[1]), RerankMethod.parse(sys.argv[2])), read_memory_mb())
