"""Scores of rankings: every metric for every query, curves, means by class, and the worst queries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simsearch.evaluation import metrics
from simsearch.evaluation.embedding import Vectors
from simsearch.evaluation.metrics import Rankings
from simsearch.evaluation.protocol import GroundTruth, Positions, RetrievalTask
from simsearch.evaluation.ranking import Ranker, RankingBlock
from simsearch.evaluation.results import MAIN_METRIC, RetrievedImage, WorstQuery

Metric = Callable[[Rankings], NDArray[np.float64]]

_METRICS: Mapping[str, Metric] = {
    "p_at_1": lambda rankings: metrics.precision_at(rankings, 1),
    "p_at_5": lambda rankings: metrics.precision_at(rankings, 5),
    "p_at_10": lambda rankings: metrics.precision_at(rankings, 10),
    "recall_at_10": lambda rankings: metrics.recall_at(rankings, 10),
    "hit_at_10": lambda rankings: metrics.hit_at(rankings, 10),
    "map": metrics.average_precision,
    "map_at_10": lambda rankings: metrics.average_precision_at(rankings, 10),
    "mrr": metrics.reciprocal_rank,
    "ndcg_at_10": lambda rankings: metrics.ndcg_at(rankings, 10),
    "r_precision": metrics.r_precision,
}
_CURVE_LENGTH = 50
_N_SHOWN = 6
_N_WORST = 8
_ALL = slice(None)


@dataclass(frozen=True, slots=True, eq=False)
class RankingScores:
    """The scores of a row: (q,) by metric, NaN where a grade has no relevant image; the rest as in `BenchmarkRow`."""

    width: int
    per_query: Mapping[str, NDArray[np.float64]]
    precision_recall: NDArray[np.float64]
    precision_at: NDArray[np.float64]
    per_class: Mapping[str, float]
    worst: tuple[WorstQuery, ...]


def list_metrics(task: RetrievalTask) -> tuple[str, ...]:
    """List the metrics that `score` computes for a task, in the order of reports."""
    names = list(_METRICS)
    if task.protocol == "ukbench":
        names.append("ns")
    return (*names, *(f"map_{grade}" for grade in task.truths if grade not in ("", "medium")))


def score(task: RetrievalTask, ranker: Ranker, queries: Vectors) -> RankingScores:
    """Rank all images for every query (q, d), and compute the metrics."""
    own = np.array([query.position for query in task.queries], np.int64)
    parts: list[dict[str, NDArray[np.float64]]] = []
    firsts = []
    for block in ranker.rank(queries, own, task.main_truth.ignored):
        parts.append(_score_block(task, block))
        first = block.order[:, :_N_SHOWN]
        firsts.append((first, np.take_along_axis(block.similarities, first, 1)))
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    first, similarities = (np.concatenate(arrays) for arrays in zip(*firsts, strict=True))
    return RankingScores(
        ranker.width,
        {name: joined[name] for name in list_metrics(task)},
        joined["precision_recall"].mean(axis=0),
        joined["precision_at"].mean(axis=0),
        _average_by_class(task, joined[MAIN_METRIC]),
        _find_worst(task, joined[MAIN_METRIC], first, similarities),
    )


def _score_block(task: RetrievalTask, block: RankingBlock) -> dict[str, NDArray[np.float64]]:
    """Compute every metric and both curves for the queries of a block."""
    rankings = _build_rankings(task.main_truth, block.queries, block.order)
    scores = {name: metric(rankings) for name, metric in _METRICS.items()}
    scores["precision_recall"] = metrics.interpolated_precision(rankings)
    scores["precision_at"] = metrics.precision_curve(rankings, min(_CURVE_LENGTH, max(1, block.order.shape[1] - 1)))
    if task.protocol == "ukbench":
        scores["ns"] = metrics.n_s_score(rankings)
    if "medium" in task.truths:  # as in the published results of these sets
        scores[MAIN_METRIC] = metrics.average_precision_trapezoid(rankings)
    for grade in task.truths:
        if grade not in ("", "medium"):
            scores[f"map_{grade}"] = _score_grade(task.truths[grade], block)
    return scores


def _score_grade(truth: GroundTruth, block: RankingBlock) -> NDArray[np.float64]:
    """Compute the average precision under a grade other than the main one, which ignores other images."""
    has_answer = truth.count_relevant(block.queries) > 0
    scores = np.full(len(has_answer), np.nan)
    if has_answer.any():
        _, ignored = truth.build_masks(block.queries, block.order.shape[1])
        last = np.argsort(np.take_along_axis(ignored, block.order, 1), axis=1, kind="stable")
        order = np.take_along_axis(block.order, last, 1)
        scores[has_answer] = metrics.average_precision_trapezoid(
            _build_rankings(truth, block.queries, order, has_answer)
        )
    return scores


def _build_rankings(
    truth: GroundTruth, queries: slice, order: Positions, selected: NDArray[np.bool_] | slice = _ALL
) -> Rankings:
    """The ranks of the relevant images in the orders of the queries, which have the ignored images at the end."""
    relevant, _ = truth.build_masks(queries, order.shape[1])
    return Rankings.from_relevance(
        np.take_along_axis(relevant, order, 1)[selected], truth.count_relevant(queries)[selected]
    )


def _average_by_class(task: RetrievalTask, scores: NDArray[np.float64]) -> dict[str, float]:
    labels = np.array([query.label for query in task.queries])
    return {label: float(scores[labels == label].mean()) for label in sorted(set(labels.tolist())) if label}


def _find_worst(
    task: RetrievalTask, scores: NDArray[np.float64], first: Positions, similarities: Vectors
) -> tuple[WorstQuery, ...]:
    """The queries of the lowest scores, earlier ones of equal score first, with their first answers."""
    worst = []
    for at in np.argsort(scores, kind="stable")[:_N_WORST].tolist():
        query, relevant = task.queries[at], set(task.main_truth.relevant[at].tolist())
        ignored = set(task.main_truth.ignored[at].tolist())
        answers = tuple(
            RetrievedImage(
                task.images[position].paths[0], task.labels[position], float(similarity), position in relevant
            )
            for position, similarity in zip(first[at].tolist(), similarities[at].tolist(), strict=True)
            if position not in ignored
        )
        worst.append(WorstQuery(query.path, query.label, float(scores[at]), answers))
    return tuple(worst)
