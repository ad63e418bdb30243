"""Benchmarks small enough to check by hand, with names that break what is not careful."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from simsearch.evaluation.results import (
    BenchmarkResult,
    BenchmarkRow,
    DatasetSummary,
    Exclusion,
    LabeledQuery,
    RetrievedImage,
    RobustnessResult,
    RowCost,
    Score,
    WorstQuery,
)
from tests.conftest import draw_picture

METRICS = ("p_at_1", "p_at_10", "map", "mrr", "ndcg_at_10")
HOSTILE = "<img src=x onerror=alert(1)>\"'&.png"
SCRIPT = "<script>alert(1)<!--.png"
NOT_UTF8 = os.fsdecode(b"caf\xe9.png")
LABELS = ("<b>vase</b>", "$x_1$ | `pot`", "猫", "line\nbreak", "plain")


def cost(speed: float = 100.0) -> RowCost:
    return RowCost(
        embedded_per_second=speed * 1.2,
        images_per_second=speed,
        query_ms_p50=1000 / speed,
        query_ms_p99=2000 / speed,
        disk_bytes_per_image=1634.0,
        memory_bytes_per_image=1032.0,
        parameters=2_257_984,
        weights_bytes=9_134_112,
    )


def row(
    name: str, mean: float, *, p_value: float | None = None, speed: float = 100.0, rerank: str = "none"
) -> BenchmarkRow:
    """A row whose metrics all have one mean; its backbone is the first word of its name."""
    per_query = np.array([mean, min(1.0, mean + 0.1), max(0.0, mean - 0.1)])
    return BenchmarkRow(
        name=name,
        backbone=name.split()[0],
        model=f"{name.split()[0]}-0123456789ab",
        precision="f32",
        layer=None,
        pooling="avg",
        augment=0,
        rerank=rerank,
        width=256,
        scores={metric: Score(mean, mean - 0.05, mean + 0.05) for metric in METRICS},
        per_query=dict.fromkeys(METRICS, per_query),
        p_value=p_value,
        precision_recall=np.linspace(1, mean, 101),
        precision_at=np.linspace(1, mean, 20),
        per_class={label: min(1.0, mean + number / 20) for number, label in enumerate(LABELS)},
        worst=(),
        cost=cost(speed),
    )


def benchmark(*rows: BenchmarkRow, **changes: object) -> BenchmarkResult:
    """A benchmark of three queries and these rows; `changes` replace its fields."""
    dataset = DatasetSummary(
        source="photos/vases",
        protocol="self-excluded",
        task="every image is a query",
        labels="the folder of an image",
        n_images=12,
        n_classes=5,
        n_queries=3,
        n_queries_of=12,
        exclusions=(),
    )
    made = BenchmarkResult(
        dataset=dataset,
        metrics=METRICS,
        queries=tuple(LabeledQuery(f"photos/{number}.png", "plain") for number in range(3)),
        rows=rows,
        robustness=(),
        n_robustness_images=0,
        notes=(),
        seed=7,
        command="simsearch benchmark photos",
        machine="2 cores",
        versions={"simsearch": "0.1"},
        made_at="2026-01-02T03:04:05+00:00",
        elapsed_s=93.4,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def awkward_benchmark(folder: Path) -> BenchmarkResult:
    """Four rows, with everything a report can show: pictures in `folder`, one of them gone, under names that hurt."""
    names = [HOSTILE, SCRIPT, NOT_UTF8, "plain.png"]
    paths = [str(draw_picture(folder / "<i>a" / name, seed)) for seed, name in enumerate(names)]
    gone = str(folder / "gone.png")
    queries = tuple(LabeledQuery(path, label) for path, label in zip(paths[:3], LABELS, strict=False))
    answers = tuple(
        RetrievedImage(path, LABELS[number % len(LABELS)], 0.9 - number / 10, number == 2)
        for number, path in enumerate([*paths, gone])
    )
    worst = tuple(WorstQuery(query.path, query.label, 0.01, answers) for query in queries)
    rows = [
        replace(row("alpha pca256+dba5", 0.7, rerank="pca256+dba5", speed=40), worst=worst, layer="<u>out"),
        replace(row("alpha", 0.69, p_value=0.31, speed=41), worst=worst),
        replace(row('be<ta>"$x_1$"', 0.5, p_value=0.0004, speed=400), worst=worst),
        row("gamma|`", 0.45, p_value=0.0004, speed=390),
    ]
    exclusions = (Exclusion("an <em>empty</em> class takes no part", 3, (HOSTILE, NOT_UTF8)),)
    plain = benchmark(*rows)
    return replace(
        plain,
        dataset=replace(plain.dataset, source=str(folder / "<i>a"), exclusions=exclusions),
        queries=queries,
        robustness=tuple(robustness(rows[0].model)) + tuple(robustness("</td>unknown")),
        n_robustness_images=200,
        notes=("<s>a note</s>",),
        command="simsearch benchmark '<i>a'",
    )


def robustness(model: str, hits: Mapping[int, float] | None = None) -> list[RobustnessResult]:
    changes = [("rotation", "5°"), ("rotation", "25°"), ("flip", "on")]
    return [
        RobustnessResult(model, kind, strength, 0.9 - number / 10, 0.8 - number / 10, hits or {0: 0.9, 4: 1.0})
        for number, (kind, strength) in enumerate(changes)
    ]
