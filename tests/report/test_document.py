"""A benchmark as JSON."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

from simsearch.evaluation.results import BenchmarkResult, Score
from simsearch.report.benchmark.findings import summarize_benchmark
from tests.support.benchmarks import METRICS, NOT_UTF8, benchmark, row


def to_json(found: BenchmarkResult) -> dict[str, Any]:
    return found.to_dict(summary=summarize_benchmark(found))


def test_a_row_has_every_metric_with_its_interval_and_every_cost():
    made = to_json(benchmark(row("alpha", 0.7, p_value=None, speed=50), row("beta", 0.6, p_value=0.2)))
    first, second = made["rows"]
    assert [first[metric] for metric in METRICS] == [0.7] * len(METRICS)
    assert first["intervals"]["map"] == [0.7 - 0.05, 0.7 + 0.05]
    assert (first["d"], first["images_per_second"], first["query_ms_p50"]) == (256, 50.0, 20.0)
    assert (first["bytes_per_image"], first["disk_bytes_per_image"]) == (1032.0, 1634.0)
    assert (first["embedded_per_second"], first["query_ms_p99"]) == (60.0, 40.0)
    assert (first["parameters"], first["weights_bytes"]) == (2_257_984, 9_134_112)
    assert (first["p_value"], first["is_best"], first["is_tied_with_best"]) == (None, True, False)
    assert (second["p_value"], second["is_best"], second["is_tied_with_best"]) == (0.2, False, True)
    assert [first[name] for name in ("backbone", "precision", "rerank", "augment")] == ["alpha", "f32", "none", 0]


def test_everything_survives_json(awkward: BenchmarkResult):
    made = to_json(awkward)
    again = json.loads(json.dumps(made, allow_nan=False))
    assert again == made
    assert again["dataset"]["exclusions"][0]["count"] == 3
    assert again["rows"][0]["worst"][2]["path"].endswith(NOT_UTF8)
    assert len(again["rows"][0]["precision_recall"]) == 101
    assert again["robustness"][0]["hit_at_1"] == {"0": 0.9, "4": 1.0}
    assert again["best"] == "alpha pca256+dba5"


def test_what_is_no_number_is_null():
    empty = replace(row("alpha", 0.7), per_class={"a": math.nan})
    empty = replace(empty, scores={**empty.scores, "mrr": Score(math.nan, math.nan, math.inf)})
    made = to_json(benchmark(empty))["rows"][0]
    assert (made["mrr"], made["intervals"]["mrr"], made["per_class"]) == (None, [None, None], {"a": None})
