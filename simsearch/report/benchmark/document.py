"""A benchmark as one JSON document: report.json, and what `simsearch benchmark --json` prints."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from simsearch.evaluation.results import MAIN_METRIC, BenchmarkResult, BenchmarkRow, RobustnessResult, WorstQuery
from simsearch.report.benchmark.findings import is_tied, summarize_benchmark


def build_document(benchmark: BenchmarkResult) -> dict[str, Any]:
    """Plain lists, texts and numbers, in the order of the benchmark; what is no number is null.

    Names are as they are: bytes that are no UTF-8 are lone surrogates, which `json.dumps` writes as escapes.
    """
    best = benchmark.best
    made = {
        "dataset": dataclasses.asdict(benchmark.dataset),
        "headline": MAIN_METRIC,
        "best": best.name,
        "summary": list(summarize_benchmark(benchmark)),
        "metrics": list(benchmark.metrics),
        "rows": [_build_row(row, best) for row in benchmark.rows],
        "robustness": [_build_robustness(found) for found in benchmark.robustness],
        "robustness_images": benchmark.n_robustness_images,
        "notes": list(benchmark.notes),
        "seed": benchmark.seed,
        "command": benchmark.command,
        "machine": benchmark.machine,
        "versions": dict(benchmark.versions),
        "made_at": benchmark.made_at,
        "seconds": benchmark.elapsed_s,
    }
    return {name: _to_json_value(value) for name, value in made.items()}


def _build_row(row: BenchmarkRow, best: BenchmarkRow) -> dict[str, Any]:
    cost = row.cost
    return {
        "name": row.name,
        "backbone": row.backbone,
        "model": row.model,
        "precision": row.precision,
        "layer": row.layer,
        "pooling": row.pooling,
        "augment": row.augment,
        "rerank": row.rerank,
        "d": row.width,
        **{metric: found.mean for metric, found in row.scores.items()},
        "intervals": {metric: [found.low, found.high] for metric, found in row.scores.items()},
        "p_value": row.p_value,
        "is_best": row is best,
        "is_tied_with_best": is_tied(row),
        "embedded_per_second": cost.embedded_per_second,
        "images_per_second": cost.images_per_second,
        "query_ms_p50": cost.query_ms_p50,
        "query_ms_p99": cost.query_ms_p99,
        "bytes_per_image": cost.memory_bytes_per_image,
        "disk_bytes_per_image": cost.disk_bytes_per_image,
        "parameters": cost.parameters,
        "weights_bytes": cost.weights_bytes,
        "precision_recall": row.precision_recall,
        "precision_at": row.precision_at,
        "per_class": dict(row.per_class),
        "worst": [_build_failure(failure) for failure in row.worst],
    }


def _build_failure(failure: WorstQuery) -> dict[str, Any]:
    answers = [dataclasses.asdict(answer) for answer in failure.answers]
    return {
        "path": failure.path,
        "label": failure.label,
        "average_precision": failure.average_precision,
        "answers": answers,
    }


def _build_robustness(found: RobustnessResult) -> dict[str, Any]:
    return {
        "model": found.model,
        "kind": found.kind,
        "strength": found.strength,
        "similarity": found.similarity,
        "similarity_low": found.similarity_low,
        "hit_at_1": {str(views): hit for views, hit in found.hit_at_1.items()},
    }


def _to_json_value(value: Any) -> Any:
    """The same without NumPy's types, tuples, NaN and infinities, which JSON does not know."""
    if hasattr(value, "tolist"):
        return _to_json_value(value.tolist())
    if isinstance(value, dict):
        return {str(name): _to_json_value(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json_value(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
