"""Open-set figures of a model: how many false answers a query gets if nothing in the database is of its class.

The probability curve of `search.calibration` is fitted to the queries of half of the classes. The other half is held
out: its queries are answered once as usual, and once after all images of their class were removed from the database.
"""

from __future__ import annotations

import numpy as np

from simsearch.evaluation.embedding import Vectors
from simsearch.evaluation.protocol import RetrievalTask
from simsearch.evaluation.results import OpenSetResult
from simsearch.search.calibration import (
    MIN_LABELS_TO_CHECK,
    CountedHits,
    ProbabilityCurve,
    SampleQueries,
    collect_hits,
    fit_curve,
    measure_error,
    select_hits,
    split_labels,
)

MIN_PROBABILITIES = (0.5, 0.9)
"""The minimum probabilities at which answers are counted."""


def measure_open_set(task: RetrievalTask, vectors: Vectors, model: str, seed: int) -> list[OpenSetResult]:
    """Measure a model with vectors (n, d) of the images of a task, for each of `MIN_PROBABILITIES`.

    Empty for a task without class labels, or with fewer than four classes of several images.
    """
    codes = _encode_labels(task)
    own = np.array(
        [query.position for query in task.queries if query.box is None and query.position >= 0 and query.label],
        np.int64,
    )
    own = own[np.bincount(codes[codes >= 0], minlength=codes.max(initial=0) + 1)[codes[own]] > 1]
    if len(np.unique(codes[own])) < MIN_LABELS_TO_CHECK:
        return []
    is_labeled = codes >= 0
    at = np.cumsum(is_labeled) - 1
    hits = collect_hits(SampleQueries(vectors[own], codes[own], at[own]), vectors[is_labeled], codes[is_labeled])
    is_held_out = split_labels(codes[own], seed)
    curve = fit_curve(*(select_hits(part, ~is_held_out) for part in hits))
    present, absent = (select_hits(part, is_held_out) for part in hits)
    error = measure_error(curve, present, absent)
    n_labels = len(np.unique(codes[own][is_held_out]))
    return [
        OpenSetResult(
            model=model, min_probability=probability, min_similarity=curve.find_similarity(probability),
            n_queries=int(is_held_out.sum()), n_classes=n_labels, **_count_answers(curve, probability, present, absent),
            calibration_error=error.expected, brier=error.brier, brier_constant=error.brier_constant,
        )
        for probability in MIN_PROBABILITIES
    ]  # fmt: skip


def _count_answers(
    curve: ProbabilityCurve, probability: float, present: CountedHits, absent: CountedHits
) -> dict[str, float]:
    is_false = absent.similarities >= curve.find_similarity(probability)
    is_kept = present.similarities >= curve.find_similarity(probability)
    n_right = int(present.is_relevant.sum())
    n_kept = int(is_kept.sum())
    return {
        "false_per_query": float(is_false.sum(1).mean()),
        "share_with_false": float(is_false.any(1).mean()),
        "right_kept": float((is_kept & present.is_relevant).sum()) / n_right if n_right else float("nan"),
        "precision": float((is_kept & present.is_relevant).sum()) / n_kept if n_kept else float("nan"),
    }


def _encode_labels(task: RetrievalTask) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The number of the label of each image; -1 for an image without a label."""
    numbers = {label: number for number, label in enumerate(sorted({label for label in task.labels if label}))}
    return np.array([numbers.get(label, -1) for label in task.labels], np.int64)
