"""Scores made into rows: with names that tell them apart, intervals, costs, and what differs by more than chance."""

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
    """What a row costs; milliseconds are of a query's decoding, embedding and answer, one by one."""
    seconds = []
    for vector, embed_s in zip(speeds.query_vectors, speeds.query_s.tolist(), strict=True):
        started = time.perf_counter()
        ranker.search(vector, _N_ANSWERS)
        seconds.append(embed_s + time.perf_counter() - started)
    p50, p99 = np.percentile(np.array(seconds[1:] or seconds) * 1e3, [50, 99])  # the first one makes the index
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
    stored: StoredModel, method: RerankMethod, *, n_views: int, scored: RankingScores, cost: RowCost, seed: int
) -> BenchmarkRow:
    """A row under the name of its backbone, not compared with others yet."""
    model = stored.model
    return BenchmarkRow(
        name=model.backbone, backbone=model.backbone, model=stored.fingerprint, precision=model.precision,
        layer=model.layer, pooling=model.pooling, augment=n_views, rerank=str(method), width=scored.width,
        scores={name: _estimate_score(values, seed) for name, values in scored.per_query.items()},
        per_query=scored.per_query, p_value=None, precision_recall=scored.precision_recall,
        precision_at=scored.precision_at, per_class=scored.per_class, worst=scored.worst, cost=cost,
    )  # fmt: skip


def _estimate_score(values: NDArray[np.float64], seed: int) -> Score:
    judged = values[~np.isnan(values)]
    if not len(judged):
        return Score(float("nan"), float("nan"), float("nan"))
    return Score(float(judged.mean()), *bootstrap_interval(judged, seed=seed))


def name_rows(rows: Sequence[BenchmarkRow]) -> list[BenchmarkRow]:
    """The rows with names that tell them apart: the backbone, and whatever else is not the same in all of its rows."""
    found = []
    for row in rows:
        others = [other for other in rows if other.backbone == row.backbone]
        parts = [row.backbone]
        differing = [
            field for field in ("precision", "layer", "pooling") if len({getattr(other, field) for other in others}) > 1
        ]
        parts += [str(getattr(row, field) or "default") for field in differing]
        told = {(other.precision, other.layer, other.pooling) for other in others}
        if len({other.model for other in others}) > len(told):
            parts.append(row.model[-6:])
        if row.augment:
            parts.append(f"+{row.augment} views")
        if row.rerank != "none":
            parts.append(row.rerank)
        found.append(replace(row, name=" ".join(parts)))
    return found


def compare_rows(rows: Sequence[BenchmarkRow], seed: int) -> list[BenchmarkRow]:
    """The rows with the p-value of their difference from the best one, corrected for their number."""
    best = max(rows, key=lambda row: row.scores[MAIN_METRIC].mean)
    others = [row for row in rows if row is not best]
    p_values = [
        compute_paired_p_value(row.per_query[MAIN_METRIC], best.per_query[MAIN_METRIC], seed=seed) for row in others
    ]
    corrected = dict(zip((row.name for row in others), adjust_p_values(np.array(p_values)).tolist(), strict=True))
    return [replace(row, p_value=corrected.get(row.name)) for row in rows]
