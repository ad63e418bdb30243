"""What the trials of joined backbones and of learning share: a measured model and its vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simsearch.evaluation.embedding import TaskVectors, Vectors
from simsearch.evaluation.protocol import RetrievalTask
from simsearch.evaluation.results import LearningRow, Score
from simsearch.evaluation.statistics import bootstrap_interval
from simsearch.store.catalog import StoredModel


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredModel:
    """A model with its vectors of a task: `originals` (n, d), `queries` (q, d), and ms to embed a query picture."""

    stored: StoredModel
    originals: Vectors
    queries: Vectors
    embed_ms: float


LearningComparison = Callable[[RetrievalTask, MeasuredModel], Sequence[LearningRow]]
"""A function that compares learning and re-ranking with the images of a task. Raises `UsageError` without classes."""


def estimate_score(values: NDArray[np.float64], seed: int) -> Score:
    """The mean of a metric over queries (q,), with its interval."""
    return Score(float(values.mean()), *bootstrap_interval(values, seed=seed))


def without_views(originals: Vectors) -> TaskVectors:
    """Vectors (n, d) of images without augmented views."""
    return TaskVectors(originals, np.empty((len(originals), 0, originals.shape[1]), np.float32))
