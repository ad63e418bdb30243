"""Rows of a benchmark: distinct names, confidence intervals, costs, and the significance of differences."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from simsearch.evaluation.model_probe import ModelSpeeds, compute_image_bytes, measure_weights
from simsearch.evaluation.ranking import Ranker
from simsearch.evaluation.results import MAIN_METRIC, BenchmarkRow, RowCost, Score
from simsearch.evaluation.scoring import RankingScores
from simsearch.evaluation.statistics import adjust_p_values, bootstrap_interval, compute_paired_p_value
from simsearch.rerank.method import RerankMethod
from simsearch.store.catalog import StoredModel

_N_ANSWERS = 10


def measure_cost(stored: StoredModel, ranker: Ranker, speeds: ModelSpeeds, n_views: int) -> RowCost:
    """Measure the cost of a row; the times of a query are those of decoding, embedding and searching, one by one."""
    seconds = []
    for vector, embed_s in zip(speeds.query_vectors, speeds.query_s.tolist(), strict=True):
        started = time.perf_counter()
        ranker.search(vector, _N_ANSWERS)
        seconds.append(embed_s + time.perf_counter() - started)
    p50, p99 = np.percentile(np.array(seconds[1:] or seconds) * 1e3, [50, 99])  # the first query builds the index
    on_disk, in_memory = compute_image_bytes(stored.width, ranker.width, n_views)
    parameters, weights_bytes = measure_weights(stored)
    return RowCost(
        embedded_per_second=speeds.embedded_per_second / (1 + n_views),
        images_per_second=speeds.images_per_second[n_views],
        query_ms_p50=float(p50), query_ms_p99=float(p99),
        disk_bytes_per_image=on_disk, memory_bytes_per_image=in_memory,
        parameters=parameters, weights_bytes=weights_bytes,
    )  # fmt: skip


def build_row(
    stored: StoredModel, method: RerankMethod, *, n_views: int, scores: RankingScores, cost: RowCost, seed: int
) -> BenchmarkRow:
    """Build a row, named by its backbone and without a p-value."""
    model = stored.model
    return BenchmarkRow(
        name=model.backbone, backbone=model.backbone, model=stored.fingerprint, precision=model.precision,
        layer=model.layer, pooling=model.pooling, augment=n_views, rerank=str(method), width=scores.width,
        scores={name: _estimate_score(values, seed) for name, values in scores.per_query.items()},
        per_query=scores.per_query, p_value=None, precision_recall=scores.precision_recall,
        precision_at=scores.precision_at, per_class=scores.per_class, worst=scores.worst, cost=cost,
    )  # fmt: skip


def _estimate_score(values: NDArray[np.float64], seed: int) -> Score:
    judged = values[~np.isnan(values)]
    if not len(judged):
        return Score(float("nan"), float("nan"), float("nan"))
    return Score(float(judged.mean()), *bootstrap_interval(judged, seed=seed))


def name_rows(rows: Sequence[BenchmarkRow]) -> list[BenchmarkRow]:
    """Give each row a distinct name: its backbone, and all fields that differ among the rows of that backbone."""
    named = []
    for row in rows:
        same_backbone = [other for other in rows if other.backbone == row.backbone]
        parts = [row.backbone]
        parts += [
            str(getattr(row, field) or "default")
            for field in ("precision", "layer", "pooling")
            if len({getattr(other, field) for other in same_backbone}) > 1
        ]
        n_variants = len({(other.precision, other.layer, other.pooling) for other in same_backbone})
        if len({other.model for other in same_backbone}) > n_variants:
            parts.append(row.model[-6:])
        if row.augment:
            parts.append(f"+{row.augment} views")
        if row.rerank != "none":
            parts.append(row.rerank)
        named.append(replace(row, name=" ".join(parts)))
    return named


def compare_rows(rows: Sequence[BenchmarkRow], seed: int) -> list[BenchmarkRow]:
    """Add to each row the p-value of its difference from the best row, corrected for the number of rows."""
    best = max(rows, key=lambda row: row.scores[MAIN_METRIC].mean)
    others = [row for row in rows if row is not best]
    p_values = [
        compute_paired_p_value(row.per_query[MAIN_METRIC], best.per_query[MAIN_METRIC], seed=seed) for row in others
    ]
    corrected = dict(zip((row.name for row in others), adjust_p_values(np.array(p_values)).tolist(), strict=True))
    return [replace(row, p_value=corrected.get(row.name)) for row in rows]
