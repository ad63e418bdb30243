"""Rows of a benchmark: distinct names, confidence intervals, costs, and the significance of differences."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from simsearch.evaluation.model_probe import ModelSpeeds, compute_image_bytes, measure_weights
from simsearch.evaluation.preprocessing import describe_preprocessing
from simsearch.evaluation.ranking import Ranker
from simsearch.evaluation.results import BenchmarkRow, RowCost, Score
from simsearch.evaluation.scoring import RankingScores
from simsearch.evaluation.statistics import adjust_p_values, bootstrap_intervals, compute_paired_p_value
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
    stored: StoredModel,
    method: RerankMethod,
    *,
    n_views: int,
    scores: RankingScores,
    cost: RowCost,
    protocol: str,
    seed: int,
) -> BenchmarkRow:
    """Build a row, named by its backbone and without a p-value."""
    model = stored.model
    return BenchmarkRow(
        name=model.backbone, backbone=model.backbone, model=stored.fingerprint, precision=model.precision,
        layer=model.layer, pooling=model.pooling, augment=n_views, rerank=str(method), width=scores.width,
        scores=_estimate_scores(scores.per_query, seed), protocol=protocol,
        preprocessing=describe_preprocessing(model),
        per_query=scores.per_query, p_value=None, precision_recall=scores.precision_recall,
        precision_at=scores.precision_at, per_class=scores.per_class, worst=scores.worst, cost=cost,
    )  # fmt: skip


def _estimate_scores(per_query: Mapping[str, NDArray[np.float64]], seed: int) -> dict[str, Score]:
    """The means of metrics with their intervals; a NaN is a query that a metric does not judge."""
    nothing = Score(float("nan"), float("nan"), float("nan"))
    scores = dict.fromkeys(per_query, nothing)
    groups: dict[bytes, list[str]] = {}
    for name, values in per_query.items():
        groups.setdefault(np.isfinite(values).tobytes(), []).append(name)
    for names in groups.values():  # metrics that judge the same queries are resampled together
        judged = np.isfinite(per_query[names[0]])
        if judged.any():
            values = np.stack([per_query[name][judged] for name in names], axis=1)
            intervals = bootstrap_intervals(values, seed=seed)
            for name, mean, interval in zip(names, values.mean(axis=0).tolist(), intervals, strict=True):
                scores[name] = Score(mean, *interval)
    return scores


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


def compare_rows(rows: Sequence[BenchmarkRow], metric: str, seed: int) -> list[BenchmarkRow]:
    """Add to each row the p-value of its difference from the best row in a metric, corrected for the number of rows.

    Queries that the metric does not judge are left out.
    """
    best = max(rows, key=lambda row: row.scores[metric].mean)
    others = [row for row in rows if row is not best]
    p_values = np.array([compare_with_best(row, best, metric, seed) for row in others])
    corrected = dict(zip((row.name for row in others), adjust_p_values(p_values).tolist(), strict=True))
    return [replace(row, p_value=corrected.get(row.name)) for row in rows]


def compare_with_best(row: BenchmarkRow, best: BenchmarkRow, metric: str, seed: int) -> float:
    """Compute the p-value of a paired test of two rows in a metric, over the queries that it judges."""
    values, best_values = row.per_query[metric], best.per_query[metric]
    judged = np.isfinite(values) & np.isfinite(best_values)
    return compute_paired_p_value(values[judged], best_values[judged], seed=seed)
