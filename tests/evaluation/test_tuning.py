"""Trying re-ranking methods on a collection: how they are judged, which one is chosen, and that queries use it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simsearch import Collection
from simsearch.errors import UsageError
from simsearch.evaluation.results import Score
from simsearch.evaluation.tuning import MethodTrial, _choose_method, tune
from tests.conftest import HISTOGRAM, draw_picture
from tests.support import oneshot


def _kinds(folder: Path, n_kinds: int, n_each: int) -> Path:
    """Kinds of pictures that have colours in common, a folder each."""
    random = np.random.default_rng(0)
    for kind in range(n_kinds):
        base = random.integers(60, 200, 3)
        for number in range(n_each):
            pixels = np.clip(base + random.normal(0, 25, (40, 40, 3)) + random.normal(0, 20, 3), 0, 255)
            file = folder / f"kind_{kind}" / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(file)
    return folder


@pytest.fixture
def sorted_collection(tmp_path: Path) -> Path:
    oneshot.ingest(tmp_path / "sorted", [_kinds(tmp_path / "pictures", 4, 8)], HISTOGRAM)
    return tmp_path / "sorted"


def test_folders_are_taken_for_classes_and_the_choice_is_kept(sorted_collection: Path):
    found = tune(sorted_collection, methods=["none", "pca8", "pca8+dba3"])
    assert (found.judged_by, found.n_images, found.n_queries) == ("folder", 32, 32)
    assert [trial.method for trial in found.trials] == ["none", "pca8", "pca8+dba3"]
    with Collection.open(sorted_collection) as collection:
        assert collection.default_rerank == found.chosen


def test_trials_agree_with_brute_force(sorted_collection: Path):
    found = tune(sorted_collection, methods=["none"])
    with Collection.open(sorted_collection) as collection:
        paths = sorted(str(path) for path in (sorted_collection.parent / "pictures").rglob("*.png"))
        precisions, firsts = [], []
        for path in paths:
            hits = [hit.path for hit in collection.search(path, k=32, exclude_self=True, rerank="none").hits]
            right = np.array([Path(hit).parent.name == Path(path).parent.name for hit in hits])
            ranks = np.flatnonzero(right) + 1
            precisions.append(np.mean(np.arange(1, len(ranks) + 1) / ranks))
            firsts.append(right[0])
    assert found.trials[0].mean_average_precision.mean == pytest.approx(np.mean(precisions), abs=1e-9)
    assert found.trials[0].precision_at_1 == pytest.approx(np.mean(firsts))


def test_without_folders_changed_pictures_must_find_their_originals(tmp_path: Path):
    for seed in range(30):
        draw_picture(tmp_path / "pictures" / f"{seed:02}.png", seed, side_px=64)
    oneshot.ingest(tmp_path / "flat", [tmp_path / "pictures"], HISTOGRAM)
    found = tune(tmp_path / "flat", methods=["none", "pca"], n_queries=20)
    assert (found.judged_by, found.n_images, found.n_queries) == ("augmented views", 30, 20)
    assert found.trials[0].precision_at_1 > 0.5


def test_a_dry_run_changes_nothing(sorted_collection: Path):
    oneshot.set_default_rerank(sorted_collection, "pca4")
    tune(sorted_collection, methods=["none", "aqe"], keep=False)
    with Collection.open(sorted_collection) as collection:
        assert collection.default_rerank == "pca4"


def test_the_sample_is_seeded(sorted_collection: Path):
    def scores(seed: int) -> list[float]:
        found = tune(sorted_collection, methods=["none"], n_queries=10, seed=seed, keep=False)
        return [trial.mean_average_precision.mean for trial in found.trials]

    assert scores(1) == scores(1) != scores(2)


@pytest.mark.parametrize(
    ("p_values", "chosen"),
    [
        ({"none": 0.2, "pca256": 0.6, "pca256+dba5": None}, "none"),
        ({"none": 0.01, "pca256": 0.6, "pca256+dba5": None}, "pca256"),
        ({"none": 0.01, "pca256": 0.049, "pca256+dba5": None}, "pca256+dba5"),
        ({"none": 0.01, "pca256": 0.3, "dba5": 0.3, "pca256+dba5": None}, "dba5"),
        ({"none": None, "pca256": 0.9}, "none"),
    ],
)
def test_the_simplest_of_those_that_are_not_worse_is_chosen(p_values: dict[str, float | None], chosen: str):
    means = {"none": 0.4, "pca256": 0.5, "dba5": 0.55, "pca256+dba5": 0.6}
    trials = [
        MethodTrial(method, Score(means[method], means[method], means[method]), 0.5, p_value, 1.0)
        for method, p_value in p_values.items()
    ]
    assert _choose_method(trials) == chosen


def test_what_cannot_be_tried_is_said_in_a_line(sorted_collection: Path, tmp_path: Path):
    with pytest.raises(UsageError, match="unknown re-ranking step"):
        tune(sorted_collection, methods=["magic"])
    with pytest.raises(UsageError, match="sample of one or more"):
        tune(sorted_collection, n_queries=0)
    draw_picture(tmp_path / "one" / "a.png", 1)
    oneshot.ingest(tmp_path / "alone", [tmp_path / "one"], HISTOGRAM)
    with pytest.raises(UsageError, match="index two pictures or more"):
        tune(tmp_path / "alone")
