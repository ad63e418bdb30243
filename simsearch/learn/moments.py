"""The parts of a map in closed form: whitening by the within-class covariance, and scores of the classes.

* Whitening: the inverse square root of the within-class covariance, shrunk towards a multiple of the identity
  (within-class covariance normalization: Hatch, Kajarekar & Stolcke, "Within-class covariance normalization for
  SVM-based speaker recognition", 2006; shrinkage: Ledoit & Wolf 2004). It helps for classes that were not learned too.
* Scores: linear discriminant analysis with the same shrinkage (Hastie, Tibshirani & Friedman, "The Elements of
  Statistical Learning", 4.3), each class at distance 1 from the mean in its whitened space. A softmax turns them into
  probabilities of the learned classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simsearch.models.label_map import LabelMap
from simsearch.models.projection import Projection

Vectors = NDArray[np.float32]
Classes = NDArray[np.int64]
Matrix = NDArray[np.float64]

_TINY = 1e-30
_N_MEASURED = 1_000
"""The scale of class probabilities is measured on at least this many vectors, or on all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapSettings:
    """Settings of a map.

    `shrinkage` of the within-class covariance is in (0, 1], for the whitening; `class_shrinkage` for the class scores.
    `sharpness` is the standard deviation of the scores before the softmax: the larger, the surer the probabilities.
    `class_weight` in [0, 1) is the share of the class probabilities in the similarity of two images of one sure class.
    """

    shrinkage: float
    class_shrinkage: float
    sharpness: float
    class_weight: float


class LabeledMoments:
    """The mean, total and within-class covariance of labeled unit vectors (n, d), from which every map is built."""

    def __init__(self, vectors: Vectors, classes: Classes) -> None:
        _, numbers, counts = np.unique(classes, return_inverse=True, return_counts=True)
        n = len(vectors)
        self.mean = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
        centered = vectors - self.mean
        order = np.argsort(numbers, kind="stable")
        starts = np.cumsum(counts) - counts
        sums = np.add.reduceat(centered[order].astype(np.float64), starts, axis=0)
        products = (centered.T @ centered).astype(np.float64)
        between = (sums / counts[:, None]).T @ sums
        self._total: Matrix = products / n
        self._within = _decompose((products - between) / max(n - len(counts), 1))
        self._turned_means: Matrix = self._within[1].T @ (sums / counts[:, None]).T

    def build_whitening(self, shrinkage: float) -> Projection:
        """Build the whitening (d, d)."""
        values, axes = self._within
        return Projection(self.mean, ((axes / np.sqrt(_shrink(values, shrinkage))) @ axes.T).astype(np.float32))

    def build_class_weights(self, shrinkage: float) -> Vectors:
        """Build the weights (d, k) of the scores, scaled so that the scores of the vectors have the mean square 1."""
        values, axes = self._within
        shrunk = _shrink(values, shrinkage)[:, None]
        distances = np.sqrt(np.sum(np.square(self._turned_means) / shrunk, axis=0))
        weights = axes @ (self._turned_means / shrunk / np.maximum(distances, _TINY))
        mean_square = float(np.sum(weights * (self._total @ weights))) / weights.shape[1]
        return np.asarray(weights / max(mean_square, _TINY) ** 0.5, np.float32)

    def build_map(self, settings: MapSettings, vectors: Vectors) -> LabelMap:
        """Build the map; the probabilities of `vectors`, a sample of many, get the mean square length 1."""
        class_weights = self.build_class_weights(settings.class_shrinkage) * np.float32(settings.sharpness)
        learned = LabelMap(self.build_whitening(settings.shrinkage), class_weights, 1.0, settings.class_weight)
        return LabelMap(
            learned.whitening,
            class_weights,
            measure_scale(learned, vectors[:: max(1, len(vectors) // _N_MEASURED)]),
            settings.class_weight,
        )


def measure_scale(learned: LabelMap, vectors: Vectors) -> float:
    """The factor that gives the class probabilities of `vectors` the mean square length 1."""
    squares = np.square(learned.compute_probabilities(vectors)).sum(axis=1)
    return float(1 / np.sqrt(squares.mean()))


def _shrink(variances: Matrix, shrinkage: float) -> Matrix:
    return (1 - shrinkage) * variances + shrinkage * max(float(variances.mean()), _TINY)


def _decompose(covariance: Matrix) -> tuple[Matrix, Matrix]:
    """Eigenvalues (d,), 0 or more and ascending, and eigenvectors (d, d) as columns."""
    values, axes = np.linalg.eigh(covariance)
    return np.maximum(values, 0.0), axes
