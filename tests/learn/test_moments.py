"""The parts of a map against covariances and regressions computed another way, and the map as a whole."""

from __future__ import annotations

import numpy as np
import pytest

from simsearch.learn.moments import LabeledMoments, MapSettings
from simsearch.models.label_map import LabelMap

D, N_CLASSES, N_EACH = 12, 16, 9
SETTINGS = MapSettings(shrinkage=0.5, class_shrinkage=0.3, sharpness=1.0, class_weight=0.4)


@pytest.fixture(scope="module")
def labeled() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    centers = rng.normal(size=(N_CLASSES, D))
    classes = np.repeat(np.arange(N_CLASSES), N_EACH)
    rows = centers[classes] + rng.normal(size=(len(classes), D)) * np.linspace(0.2, 2, D)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), classes


@pytest.mark.parametrize("shrinkage", [0.1, 0.5, 1.0])
def test_whitening_makes_the_shrunk_within_class_covariance_the_identity(labeled, shrinkage: float):
    rows, classes = labeled
    within = np.zeros((D, D))
    for label in range(N_CLASSES):
        within += np.cov(rows[classes == label].astype(np.float64), rowvar=False) * (N_EACH - 1)
    within /= len(rows) - N_CLASSES
    shrunk = (1 - shrinkage) * within + shrinkage * np.trace(within) / D * np.eye(D)
    axes = LabeledMoments(rows, classes).build_whitening(shrinkage).axes
    np.testing.assert_allclose(axes.T @ shrunk @ axes, np.eye(D), atol=1e-4)


@pytest.mark.parametrize("shrinkage", [0.2, 1.0])
def test_class_weights_are_those_of_a_linear_discriminant_analysis(labeled, shrinkage: float):
    rows, classes = labeled
    centered = rows.astype(np.float64) - rows.mean(axis=0)
    means = np.stack([centered[classes == label].mean(axis=0) for label in range(N_CLASSES)])
    deviations = centered - means[classes]
    within = deviations.T @ deviations / (len(rows) - N_CLASSES)
    shrunk = (1 - shrinkage) * within + shrinkage * np.trace(within) / D * np.eye(D)
    directions = np.linalg.solve(shrunk, means.T)
    directions /= np.sqrt(np.einsum("kd,dk->k", means, directions))  # each class at Mahalanobis distance 1
    expected = directions / np.sqrt(np.mean(np.square(centered @ directions)))
    weights = LabeledMoments(rows, classes).build_class_weights(shrinkage)
    np.testing.assert_allclose(weights, expected, atol=1e-3 * np.abs(expected).max())


def test_a_map_joins_whitened_vectors_and_class_probabilities(labeled):
    rows, classes = labeled
    moments = LabeledMoments(rows, classes)
    mapped = moments.build_map(SETTINGS, rows).apply(rows)
    whitened = moments.build_whitening(0.5).apply(rows)
    scores = np.exp((rows - rows.mean(axis=0)) @ moments.build_class_weights(0.3))
    probabilities = scores / scores.sum(axis=1, keepdims=True)
    probabilities /= np.sqrt(np.mean(np.square(probabilities).sum(axis=1)))
    expected = np.hstack([np.sqrt(0.6) * whitened, np.sqrt(0.4) * probabilities])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert mapped.shape == (len(rows), D + N_CLASSES)
    np.testing.assert_allclose(mapped, expected, atol=1e-4)


def test_whitening_brings_images_of_new_classes_together(labeled):
    rows, classes = labeled
    known = classes < N_CLASSES // 2
    learned = LabeledMoments(rows[known], classes[known]).build_whitening(0.2)

    def measure_separation(vectors: np.ndarray) -> float:
        similarities = vectors @ vectors.T
        is_same = classes[~known][:, None] == classes[~known][None, :]
        return similarities[is_same].mean() - similarities[~is_same].mean()

    assert measure_separation(learned.apply(rows[~known])) > measure_separation(rows[~known])


def test_a_map_survives_serialization_and_refuses_other_bytes(labeled):
    rows, classes = labeled
    learned = LabeledMoments(rows, classes).build_map(SETTINGS, rows)
    restored = LabelMap.from_bytes(learned.to_bytes())
    np.testing.assert_array_equal(restored.apply(rows), learned.apply(rows))
    assert restored.digest == learned.digest
    for damaged in (b"", b"PK", learned.to_bytes()[:-40]):
        with pytest.raises(ValueError, match="not a label map"):
            LabelMap.from_bytes(damaged)


def test_vectors_that_are_all_equal_give_a_map_without_nan():
    rows = np.full((6, 4), 0.5, np.float32)
    learned = LabeledMoments(rows, np.array([0, 0, 0, 1, 1, 1])).build_map(SETTINGS, rows)
    assert not learned.apply(rows).any()
