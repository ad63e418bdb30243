"""What evaluation costs once embeddings are ready: seconds and memory, in a fresh process for each width."""

from __future__ import annotations

import subprocess
import sys

from bench.setup import format_table

_MEASURE = """
import resource, sys, time
import numpy as np
from simsearch.evaluation.embedding import Embedded
from simsearch.evaluation.labels import Groups
from simsearch.evaluation.protocol import Item, leave_one_out, sampled
from simsearch.evaluation.ranking import Ranker
from simsearch.evaluation.scoring import score
from simsearch.rerank.method import Method

N_IMAGES, N_CLASSES, N_QUERIES, N_BACKBONES = 20_000, 100, 2_000, 3
width, method = int(sys.argv[1]), Method.parse(sys.argv[2])
random = np.random.default_rng(0)
names = [f"image_{number}" for number in range(N_IMAGES)]
labels = random.integers(0, N_CLASSES, N_IMAGES)
items = [Item(name, (name,)) for name in names]
groups = Groups({name: f"class {label}" for name, label in zip(names, labels)}, "made up")
task = sampled(leave_one_out(items, groups, "leave-one-out"), N_QUERIES, 0)
own = np.array([query.position for query in task.queries])
centres = random.standard_normal((N_CLASSES, width), dtype=np.float32)
seconds = 0.0
for _ in range(N_BACKBONES):
    rows = centres[labels] + 2 * random.standard_normal((N_IMAGES, width), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    embedded = Embedded(rows, np.empty((N_IMAGES, 0, width), np.float32))
    started = time.perf_counter()
    score(task, Ranker(embedded, method), rows[own])
    seconds += time.perf_counter() - started
print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""

CASES = (
    (256, "none"), (256, "pca128"), (256, "dba"), (256, "dba+aqe"), (256, "k-reciprocal"),
    (1280, "none"), (1280, "pca+dba+aqe"), (4096, "none"),
)  # fmt: skip


def measure() -> str:
    """The section of the report."""
    rows = []
    for width, method in CASES:
        command = [sys.executable, "-c", _MEASURE, str(width), method]
        seconds, peak_mb = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        rows.append([str(width), method, f"{float(seconds):.1f} s", f"{float(peak_mb):,.0f} MB"])
    return (
        "## Evaluation\n\n20,000 images, 100 classes, 2,000 queries, 3 backbones one after the other (made-up "
        "vectors), all metrics: seconds of ranking and judging, peak memory of the process.\n\n"
        + format_table(["width", "re-ranking", "seconds for 3 backbones", "peak memory"], rows)
    )
