"""Scores of rankings: every metric for every query, curves, means by class, and the worst queries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import UsageError
from simsearch.evaluation import metrics
from simsearch.evaluation.embedding import Vectors
from simsearch.evaluation.metric_names import DEFAULT_METRIC, STANDARD_METRICS, TASK_METRICS, compute_metric
from simsearch.evaluation.metrics import Rankings
from simsearch.evaluation.protocol import GroundTruth, Positions, RetrievalTask
from simsearch.evaluation.ranking import Ranker, RankingBlock
from simsearch.evaluation.results import RetrievedImage, WorstQuery

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


def list_metrics(task: RetrievalTask, chosen: Sequence[str] = ()) -> tuple[str, ...]:
    """List the metrics that `score` computes for a task, in the order of reports; `chosen` are keys of further ones.

    Raises `UsageError` for a chosen metric of another kind of task.
    """
    special = ["ns"] if task.protocol == "ukbench" else []
    special += [f"map_{grade}" for grade in task.truths if grade not in ("", "medium")]
    for name in chosen:
        if name in TASK_METRICS and name not in special:
            needed = "--protocol ukbench" if name == "ns" else "lists of easy and hard images in --labels"
            raise UsageError(f"the metric {name} is not defined for this task", f"it needs {needed}")
    return tuple(dict.fromkeys((*STANDARD_METRICS, *(name for name in chosen if name not in special), *special)))


def score(
    task: RetrievalTask,
    ranker: Ranker,
    queries: Vectors,
    chosen: Sequence[str] = (),
    on_block: Callable[[RankingBlock], None] = lambda _: None,
) -> RankingScores:
    """Rank all images for every query (q, d), and compute the metrics.

    `chosen` are keys of metrics; the first is the main metric, by which classes and the worst queries are judged. Each
    block of rankings is passed to `on_block`, without the rank that the protocol skips.
    """
    names = list_metrics(task, chosen)
    main = chosen[0] if chosen else DEFAULT_METRIC
    parts: list[dict[str, NDArray[np.float64]]] = []
    firsts = []
    for found in ranker.rank(queries, task.own_positions, task.main_truth.ignored):
        block = replace(found, order=found.order[:, 1:]) if task.protocol == "skip-first" else found
        on_block(block)
        parts.append(_score_block(task, block, names))
        first = block.order[:, :_N_SHOWN]
        firsts.append((first, np.take_along_axis(block.similarities, first, 1)))
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    first, similarities = (np.concatenate(arrays) for arrays in zip(*firsts, strict=True))
    return RankingScores(
        ranker.width,
        {name: joined[name] for name in names},
        joined["precision_recall"].mean(axis=0),
        joined["precision_at"].mean(axis=0),
        _average_by_class(task, joined[main]),
        _find_worst(task, joined[main], joined[DEFAULT_METRIC], first, similarities),
    )


def _score_block(task: RetrievalTask, block: RankingBlock, names: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Compute every metric and both curves for the queries of a block."""
    rankings = _build_rankings(task.main_truth, block.queries, block.order, block.similarities.shape[1])
    grades = {f"map_{grade}": truth for grade, truth in task.truths.items() if grade not in ("", "medium")}
    scores = {name: compute_metric(name, rankings) for name in names if name not in ("ns", *grades)}
    scores["precision_recall"] = metrics.interpolated_precision(rankings)
    scores["precision_at"] = metrics.precision_curve(rankings, min(_CURVE_LENGTH, max(1, block.order.shape[1] - 1)))
    if task.protocol == "ukbench":
        scores["ns"] = metrics.n_s_score(rankings)
    if "medium" in task.truths:  # as in the published results of these sets
        scores[DEFAULT_METRIC] = metrics.average_precision_trapezoid(rankings)
    for name, truth in grades.items():
        scores[name] = _score_grade(truth, block)
    return scores


def _score_grade(truth: GroundTruth, block: RankingBlock) -> NDArray[np.float64]:
    """Compute the average precision under a grade other than the main one, which ignores other images."""
    has_answer = truth.count_relevant(block.queries) > 0
    scores = np.full(len(has_answer), np.nan)
    if has_answer.any():
        _, ignored = truth.build_masks(block.queries, block.similarities.shape[1])
        last = np.argsort(np.take_along_axis(ignored, block.order, 1), axis=1, kind="stable")
        order = np.take_along_axis(block.order, last, 1)
        scores[has_answer] = metrics.average_precision_trapezoid(
            _build_rankings(truth, block.queries, order, block.similarities.shape[1], has_answer)
        )
    return scores


def _build_rankings(
    truth: GroundTruth, queries: slice, order: Positions, n_images: int, selected: NDArray[np.bool_] | slice = _ALL
) -> Rankings:
    """The ranks of the relevant images in the orders of the queries, which have the ignored images at the end."""
    relevant, _ = truth.build_masks(queries, n_images)
    return Rankings.from_relevance(
        np.take_along_axis(relevant, order, 1)[selected], truth.count_relevant(queries)[selected]
    )


def _average_by_class(task: RetrievalTask, scores: NDArray[np.float64]) -> dict[str, float]:
    labels = np.array([query.label for query in task.queries])
    return {label: float(scores[labels == label].mean()) for label in sorted(set(labels.tolist())) if label}


def _find_worst(
    task: RetrievalTask,
    scores: NDArray[np.float64],
    precisions: NDArray[np.float64],
    first: Positions,
    similarities: Vectors,
) -> tuple[WorstQuery, ...]:
    """The queries of the lowest scores, then of the lowest average precision, with their first answers."""
    worst = []
    for at in np.lexsort((precisions, scores))[:_N_WORST].tolist():
        query, relevant = task.queries[at], set(task.main_truth.relevant[at].tolist())
        ignored = set(task.main_truth.ignored[at].tolist())
        answers = tuple(
            RetrievedImage(
                task.images[position].paths[0], task.labels[position], float(similarity), position in relevant
            )
            for position, similarity in zip(first[at].tolist(), similarities[at].tolist(), strict=True)
            if position not in ignored
        )
        worst.append(WorstQuery(query.path, query.label, float(precisions[at]), answers))
    return tuple(worst)
