"""Rankings into scores: every metric for every query, curves, and the queries that went worst."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simsearch.evaluation import metrics
from simsearch.evaluation.embedding import Vectors
from simsearch.evaluation.metrics import Rankings
from simsearch.evaluation.protocol import Positions, Task, Truth
from simsearch.evaluation.ranking import Block, Ranker
from simsearch.evaluation.results import HEADLINE, Answered, Failure

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
_N_CURVE = 50
_N_SHOWN = 6
_N_WORST = 8
_ALL = slice(None)


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """The scores of a row: by metric (q,), NaN where a grade has no right answer; see `results.Row` for the rest."""

    width: int
    per_query: Mapping[str, NDArray[np.float64]]
    precision_recall: NDArray[np.float64]
    precision_at: NDArray[np.float64]
    per_class: Mapping[str, float]
    worst: tuple[Failure, ...]


def metric_names(task: Task) -> tuple[str, ...]:
    """The metrics that `score` computes for a task, in the order in which reports show them."""
    names = list(_METRICS)
    if task.protocol == "ukbench":
        names.append("ns")
    return (*names, *(f"map_{grade}" for grade in task.truths if grade not in ("", "medium")))


def score(task: Task, ranker: Ranker, queries: Vectors) -> Scored:
    """Rank everything for every query (q, d) and judge it."""
    own = np.array([query.position for query in task.queries], np.int64)
    parts: list[dict[str, NDArray[np.float64]]] = []
    firsts = []
    for block in ranker.rank(queries, own, task.main.ignored):
        parts.append(_judged(task, block))
        first = block.order[:, :_N_SHOWN]
        firsts.append((first, np.take_along_axis(block.similarities, first, 1)))
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    curves = [joined.pop(name) for name in ("precision_recall", "precision_at")]
    first, similarities = (np.concatenate(some) for some in zip(*firsts, strict=True))
    return Scored(
        ranker.width,
        {name: joined[name] for name in metric_names(task)},
        curves[0].mean(axis=0),
        curves[1].mean(axis=0),
        _by_class(task, joined[HEADLINE]),
        _worst(task, joined[HEADLINE], first, similarities),
    )


def _judged(task: Task, block: Block) -> dict[str, NDArray[np.float64]]:
    """Every metric and both curves for the queries of a block."""
    rankings = _rankings(task.main, block.queries, block.order)
    scores = {name: metric(rankings) for name, metric in _METRICS.items()}
    scores["precision_recall"] = metrics.interpolated_precision(rankings)
    scores["precision_at"] = metrics.precision_curve(rankings, min(_N_CURVE, max(1, block.order.shape[1] - 1)))
    if task.protocol == "ukbench":
        scores["ns"] = metrics.n_s_score(rankings)
    if "medium" in task.truths:  # as the published figures of these sets are computed
        scores[HEADLINE] = metrics.average_precision_trapezoid(rankings)
    for grade in task.truths:
        if grade not in ("", "medium"):
            scores[f"map_{grade}"] = _graded(task.truths[grade], block)
    return scores


def _graded(truth: Truth, block: Block) -> NDArray[np.float64]:
    """The scores under another grade than the main one, which ignores other images."""
    has_answer = truth.n_relevant(block.queries) > 0
    scores = np.full(len(has_answer), np.nan)
    if has_answer.any():
        _, ignored = truth.judged(block.queries, block.order.shape[1])
        last = np.argsort(np.take_along_axis(ignored, block.order, 1), axis=1, kind="stable")
        order = np.take_along_axis(block.order, last, 1)
        scores[has_answer] = metrics.average_precision_trapezoid(_rankings(truth, block.queries, order, has_answer))
    return scores


def _rankings(truth: Truth, queries: slice, order: Positions, wanted: NDArray[np.bool_] | slice = _ALL) -> Rankings:
    """Where the right answers of the queries stand in their orders, which have what is ignored at the end."""
    relevant, _ = truth.judged(queries, order.shape[1])
    return Rankings.of(np.take_along_axis(relevant, order, 1)[wanted], truth.n_relevant(queries)[wanted])


def _by_class(task: Task, scores: NDArray[np.float64]) -> dict[str, float]:
    labels = np.array([query.label for query in task.queries])
    return {label: float(scores[labels == label].mean()) for label in sorted(set(labels.tolist())) if label}


def _worst(task: Task, scores: NDArray[np.float64], first: Positions, similarities: Vectors) -> tuple[Failure, ...]:
    """The queries of the lowest score, the earlier of equal ones first, with what they got."""
    failures = []
    for at in np.argsort(scores, kind="stable")[:_N_WORST].tolist():
        query, right = task.queries[at], set(task.main.relevant[at].tolist())
        ignored = set(task.main.ignored[at].tolist())
        answers = tuple(
            Answered(task.items[position].paths[0], task.labels[position], float(similarity), position in right)
            for position, similarity in zip(first[at].tolist(), similarities[at].tolist(), strict=True)
            if position not in ignored
        )
        failures.append(Failure(query.path, query.label, float(scores[at]), answers))
    return tuple(failures)
