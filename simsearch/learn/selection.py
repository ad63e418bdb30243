"""Choosing the settings of a map by cross-validation, and estimating the gain by nested cross-validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from simsearch.evaluation.metrics import Rankings, average_precision, rank_positions
from simsearch.learn.moments import Classes, LabeledMoments, MapSettings, Vectors
from simsearch.learn.splits import SPLITTERS, Positions, Split, Task
from simsearch.models.label_map import LabelMap

SHRINKAGES = (0.2, 0.4, 0.6, 0.8)
SHARPNESSES = (1.0, 1.5, 2.0, 4.0)
CLASS_WEIGHTS = (0.2, 0.4, 0.6, 0.8)

MIN_MEASURED = 2
"""Images of a class on the measuring side without which the class cannot be measured: one to query, one to find."""

_MAX_QUERIES = 400
_MAX_DATABASE = 4000

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PairedScores:
    """Average precision of the same queries (q,), with the vectors as they are and with the learned map."""

    before: Scores
    after: Scores

    @property
    def gain(self) -> float:
        """The mean difference; 0 without queries."""
        return float(np.mean(self.after - self.before)) if len(self.before) else 0.0


@dataclass(frozen=True, slots=True)
class LabeledVectors:
    """Labeled images: unit vectors (n, d), the features to learn from (n, d'), classes (n,), groups of copies (n,).

    The features are the vectors, or their leading principal components where d is large. Classes and groups are
    numbers.
    """

    vectors: Vectors
    features: Vectors
    classes: Classes
    copies: Positions

    def select(self, positions: Positions) -> LabeledVectors:
        """The rows at these positions."""
        return LabeledVectors(
            self.vectors[positions], self.features[positions], self.classes[positions], self.copies[positions]
        )


class FoldEvaluation:
    """One split, ready to be scored with any settings."""

    def __init__(self, data: LabeledVectors, split: Split, rng: np.random.Generator) -> None:
        self._learned = data.features[split.learned]
        self._moments = LabeledMoments(self._learned, data.classes[split.learned])
        database = _draw(split.measured, _MAX_DATABASE, rng)
        classes = data.classes[database]
        names, counts = np.unique(classes, return_counts=True)
        can_query = np.isin(classes, names[counts >= MIN_MEASURED])
        self._queries = _draw(np.flatnonzero(can_query), _MAX_QUERIES, rng)
        self._relevant = classes[self._queries][:, None] == classes[None, :]
        self._relevant[np.arange(len(self._queries)), self._queries] = False
        self._ignored = np.zeros(self._relevant.shape, bool)
        self._ignored[np.arange(len(self._queries)), self._queries] = True
        self._vectors = data.vectors[database]
        self._features = data.features[database]
        self.before = self._score(self._vectors[self._queries] @ self._vectors.T)

    def score(self, settings: MapSettings) -> Scores:
        """Score the map with these settings: average precision of each query (q,)."""
        rows = self._build_map(settings).apply(self._features)
        return self._score(np.clip(rows[self._queries] @ rows.T, -1, 1))

    def _build_map(self, settings: MapSettings) -> LabelMap:
        return self._moments.build_map(settings, self._learned)

    def _score(self, similarities: Vectors) -> Scores:
        if not len(self._queries):
            return np.empty(0)
        order = rank_positions(similarities, self._ignored)
        relevant = np.take_along_axis(self._relevant, order, axis=1)[:, : self._relevant.shape[1] - 1]
        return average_precision(Rankings.from_relevance(relevant, self._relevant.sum(axis=1)))


def choose_settings(
    data: LabeledVectors, rate: Callable[[Mapping[Task, float]], float], rng: np.random.Generator
) -> MapSettings:
    """Choose settings by two-fold cross-validation over images and over classes.

    `rate` turns the gain of each task into the value to maximize. The shrinkage is chosen for whitening alone, that
    of the class scores for known classes; then the sharpness and weight of the class probabilities.
    """
    folds = {task: _open_folds(data, task, rng) for task in SPLITTERS}

    def measure(settings: MapSettings) -> dict[Task, float]:
        return {task: _mean_gain(some, settings) for task, some in folds.items()}

    start = MapSettings(shrinkage=SHRINKAGES[-1], class_shrinkage=SHRINKAGES[-1], sharpness=2.0, class_weight=0.0)
    candidates = [replace(start, shrinkage=shrinkage) for shrinkage in SHRINKAGES]
    whitening = max(candidates, key=lambda settings: sum(measure(settings).values()))
    candidates = [replace(whitening, class_shrinkage=some, class_weight=0.6) for some in SHRINKAGES[1:]]
    chosen = max(candidates, key=lambda settings: measure(settings)["known"])
    candidates = [whitening]
    for sharpness, weight in product(SHARPNESSES, CLASS_WEIGHTS):
        candidates.append(replace(chosen, sharpness=sharpness, class_weight=weight))
    return max(candidates, key=lambda settings: rate(measure(settings)))


def estimate_gains(
    data: LabeledVectors, choose: Callable[[LabeledVectors], MapSettings], rng: np.random.Generator
) -> dict[Task, PairedScores]:
    """Estimate the gain of each task on images that neither a map nor the choice of its settings has seen."""
    gains: dict[Task, PairedScores] = {}
    for task, splitter in SPLITTERS.items():
        before, after = [np.empty(0)], [np.empty(0)]
        for split in splitter(data.classes, data.copies, rng):
            if not len(split.learned):
                continue
            settings = choose(data.select(split.learned))
            fold = FoldEvaluation(data, split, rng)
            before.append(fold.before)
            after.append(fold.score(settings))
        gains[task] = PairedScores(np.concatenate(before), np.concatenate(after))
    return gains


def _open_folds(data: LabeledVectors, task: Task, rng: np.random.Generator) -> list[FoldEvaluation]:
    splits = SPLITTERS[task](data.classes, data.copies, rng)
    return [FoldEvaluation(data, split, rng) for split in splits if len(split.learned)]


def _mean_gain(folds: Sequence[FoldEvaluation], settings: MapSettings) -> float:
    differences = [fold.score(settings) - fold.before for fold in folds]
    joined = np.concatenate([np.empty(0), *differences])
    return float(joined.mean()) if len(joined) else 0.0


def _draw(positions: Positions, n_most: int, rng: np.random.Generator) -> Positions:
    if len(positions) <= n_most:
        return positions
    return np.sort(rng.choice(positions, n_most, replace=False))
