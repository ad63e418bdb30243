"""Trials of joined backbones: every pair of the measured models, with the weight chosen on other classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from simsearch.evaluation.improvements import MeasuredModel, estimate_score, without_views
from simsearch.evaluation.model_probe import compute_image_bytes
from simsearch.evaluation.protocol import RetrievalTask
from simsearch.evaluation.ranking import Ranker, measure_answer_ms
from simsearch.evaluation.results import FusionTrial
from simsearch.evaluation.scoring import score
from simsearch.evaluation.statistics import adjust_p_values, compute_paired_p_value
from simsearch.models.fusion import FusionTerm, RowFusion, join_terms
from simsearch.rerank.method import RerankMethod

WEIGHTS = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0)
"""The weights of the second part that are tried; the first has the weight 1."""

Values = NDArray[np.float64]


def try_fusions(
    task: RetrievalTask, models: Sequence[MeasuredModel], metric: str, seed: int
) -> tuple[FusionTrial, ...]:
    """Join every pair of models, choose a weight for each by measurement, and compare with the better part."""
    alone = [_measure(task, model.originals, model.queries, metric) for model in models]
    pairs = list(combinations(range(len(models)), 2))
    trials, p_values = [], []
    for a, b in pairs:
        before = max(alone[a], alone[b], key=lambda values: float(values.mean()))
        trial, after = _try_pair(task, (models[a], models[b]), metric, before, seed)
        trials.append(trial)
        p_values.append(compute_paired_p_value(after, before, seed=seed))
    corrected = adjust_p_values(np.array(p_values)).tolist()
    return tuple(replace(trial, p_value=p) for trial, p in zip(trials, corrected, strict=True))


def _try_pair(
    task: RetrievalTask, parts: tuple[MeasuredModel, MeasuredModel], metric: str, before: Values, seed: int
) -> tuple[FusionTrial, Values]:
    """The trial of a pair, without its p-value, and the cross-validated value of each query (q,)."""
    centers = tuple(part.originals.mean(axis=0) for part in parts)
    fusions = [RowFusion(centers, (1.0, weight)) for weight in WEIGHTS]
    by_weight = []
    for fusion in fusions:
        rows = fusion.join([part.originals for part in parts])
        by_weight.append(_measure(task, rows, fusion.join([part.queries for part in parts]), metric))
    values = np.stack(by_weight)
    after, sides = np.empty(values.shape[1]), _split_queries(task, seed)
    for side in (False, True):
        chosen = int(np.argmax(values[:, sides != side].mean(axis=1)))
        after[sides == side] = values[chosen, sides == side]
    best = int(np.argmax(values.mean(axis=1)))
    rows = fusions[best].join([part.originals for part in parts])
    answer_ms = measure_answer_ms(
        Ranker(without_views(rows), RerankMethod()), fusions[best].join([part.queries for part in parts])
    )
    names = [part.stored.model.backbone for part in parts]
    trial = FusionTrial(
        name=join_terms([FusionTerm(names[0]), FusionTerm(names[1], WEIGHTS[best])]),
        before=estimate_score(before, seed), after=estimate_score(after, seed), p_value=float("nan"),
        query_ms=parts[0].embed_ms + parts[1].embed_ms + answer_ms,
        memory_bytes_per_image=compute_image_bytes(rows.shape[1], rows.shape[1], 0)[1],
    )  # fmt: skip
    return trial, after


def _measure(task: RetrievalTask, rows: NDArray[np.float32], queries: NDArray[np.float32], metric: str) -> Values:
    return score(task, Ranker(without_views(rows), RerankMethod()), queries, (metric,)).per_query[metric]


def _split_queries(task: RetrievalTask, seed: int) -> NDArray[np.bool_]:
    """A side for each query (q,): that of its class, or its own where queries have no classes."""
    labels = np.array([query.label or query.path for query in task.queries])
    names, numbers = np.unique(labels, return_inverse=True)
    sides = np.zeros(len(names), bool)
    sides[np.random.default_rng(seed).permutation(len(names))[: len(names) // 2]] = True
    return np.asarray(sides[numbers], bool)
