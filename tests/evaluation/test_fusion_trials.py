"""Trials of joined backbones: what they gain where parts complement each other, and nothing where one is noise."""

from __future__ import annotations

import numpy as np

from simsearch.evaluation.fusion_trials import WEIGHTS, _split_queries, try_fusions
from simsearch.models.fusion import RowFusion, parse_fusion
from tests.learn.test_comparison import make_model, make_task, normalize

N_CLASSES, N_EACH, D = 12, 6, 16


def draw_part(seed: int, classes: np.ndarray, spread: float) -> np.ndarray:
    centers = np.random.default_rng(seed).normal(size=(N_CLASSES, D))
    noise = np.random.default_rng(seed + 1).normal(size=(len(classes), D))
    return normalize(centers[classes] + spread * noise)


def measure_map(vectors: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The average precision of every image among the others, by a loop."""
    scores = []
    for at, row in enumerate(vectors):
        order = [i for i in np.argsort(-(vectors @ row), kind="stable") if i != at]
        hits = np.flatnonzero(classes[order] == classes[at]) + 1
        scores.append(np.mean(np.arange(1, len(hits) + 1) / hits))
    return np.array(scores)


def test_parts_that_complement_each_other_gain_and_noise_does_not():
    classes = np.repeat(np.arange(N_CLASSES), N_EACH)
    first, second = draw_part(1, classes, 1.2), draw_part(5, classes, 1.2)
    noise = normalize(np.random.default_rng(9).normal(size=(len(classes), D)))
    models = [make_model(rows) for rows in (first, second, noise)]
    good, weak, _ = try_fusions(make_task(classes), models, "map", seed=0)
    assert good.before.mean == max(measure_map(first, classes).mean(), measure_map(second, classes).mean())
    assert good.after.mean > good.before.mean + 0.05
    assert good.p_value < 0.01
    assert weak.after.mean < weak.before.mean + 0.01
    assert good.memory_bytes_per_image == 2 * D * 4 + 8


def test_the_weight_for_a_query_was_chosen_with_queries_of_other_classes():
    classes = np.repeat(np.arange(N_CLASSES), N_EACH)
    first, second = draw_part(1, classes, 1.0), draw_part(5, classes, 1.6)
    task = make_task(classes)
    sides = _split_queries(task, 0)
    assert all(len(set(sides[classes == label])) == 1 for label in range(N_CLASSES))
    centers = (first.mean(axis=0), second.mean(axis=0))
    values = np.stack(
        [measure_map(RowFusion(centers, (1.0, weight)).join([first, second]), classes) for weight in WEIGHTS]
    )
    held_out = np.concatenate(
        [values[values[:, sides != side].mean(axis=1).argmax(), sides == side] for side in (False, True)]
    )
    (trial,) = try_fusions(task, [make_model(first), make_model(second)], "map", seed=0)
    assert abs(trial.after.mean - held_out.mean()) < 1e-9
    terms = parse_fusion(trial.name.replace("histogram+", "a+").replace("*histogram", "*b").replace("+histogram", "+b"))
    assert terms[1].weight == WEIGHTS[values.mean(axis=1).argmax()]
