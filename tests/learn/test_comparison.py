"""`benchmark --learn`: no row is measured on what it learned from, and all methods are measured on the same images."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from simsearch.errors import UsageError
from simsearch.evaluation.improvements import MeasuredModel
from simsearch.evaluation.labels import LabelGroups
from simsearch.evaluation.protocol import RetrievalTask, TaskImage, build_label_task
from simsearch.images.views import NO_AUGMENTATION
from simsearch.learn.comparison import compare_learning, split_task
from simsearch.models.choice import resolve_model
from simsearch.rerank.method import RerankMethod
from simsearch.store.catalog import StoredModel
from tests.conftest import HISTOGRAM, draw_picture
from tests.support.command_line import run

D, N_CLASSES, N_EACH = 24, 16, 8
METHODS = [RerankMethod(), RerankMethod(dba=3)]
BENCHMARK = (
    "benchmark", "photos", "--into", "ix", "--backbone", "histogram", "--backbone", "builtin", "--fuse", "--learn",
    "--robustness", 0, "--rerank", "none",
)  # fmt: skip


def normalize(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def make_task(classes: np.ndarray) -> RetrievalTask:
    images = [TaskImage(f"{at:032x}", (f"/{at}.jpg",)) for at in range(len(classes))]
    labels = {f"/{at}.jpg": f"class {label}" for at, label in enumerate(classes)}
    return build_label_task(images, LabelGroups(labels, "test"))


def make_model(vectors: np.ndarray) -> MeasuredModel:
    model = resolve_model(HISTOGRAM)
    stored = StoredModel(1, model.fingerprint, model, vectors.shape[1], 0, NO_AUGMENTATION)
    return MeasuredModel(stored, vectors, vectors, 1.0)


def plant_copies(rng: np.random.Generator, vectors: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    at = rng.choice(len(vectors), n, replace=False)
    return normalize(vectors[at] + rng.normal(size=(n, D)) * 0.01), at


def test_no_image_and_no_copy_is_learned_from_and_measured():
    rng = np.random.default_rng(0)
    classes = np.repeat(np.arange(N_CLASSES), N_EACH)
    vectors = normalize(rng.normal(size=(len(classes), D)))
    copies, at = plant_copies(rng, vectors, 50)
    wrong = rng.integers(N_CLASSES, size=50)
    classes, vectors = np.concatenate([classes, wrong]), np.vstack([vectors, copies])
    original = np.concatenate([np.arange(len(classes) - 50), at])
    kinds = []
    for held_out in split_task(make_task(classes), vectors, seed=0):
        kinds.append(held_out.kind)
        assert not set(original[held_out.learned]) & set(original[held_out.measured])
        measured = {image.paths[0] for image in held_out.task.images}
        assert measured == {f"/{at}.jpg" for at in held_out.measured}
        if held_out.kind == "new":
            assert not set(classes[held_out.learned]) & set(classes[held_out.measured])
    assert kinds == ["known", "known", "new", "new"]


def test_labels_without_meaning_give_the_learned_row_nothing():
    rng = np.random.default_rng(1)
    classes = np.repeat(np.arange(N_CLASSES), N_EACH)
    vectors = normalize(rng.normal(size=(len(classes), D)))
    copies, at = plant_copies(rng, vectors, 60)  # a row that had learned from what it is measured on would find these
    classes, vectors = np.concatenate([classes, classes[at]]), np.vstack([vectors, copies])
    rows = compare_learning(make_task(classes), make_model(vectors), METHODS, "map", seed=0)
    score = {(row.task, row.method): row.score.mean for row in rows}
    for kind in ("known", "new"):
        assert score[kind, "learned"] < score[kind, "none"] + 0.03


def test_every_method_is_measured_on_the_same_queries():
    rng = np.random.default_rng(2)
    centers = rng.normal(size=(N_CLASSES, D)) * np.linspace(1.5, 0, D)
    classes = np.repeat(np.arange(N_CLASSES), N_EACH)
    vectors = normalize(centers[classes] + rng.normal(size=(len(classes), D)) * np.linspace(0.6, 2, D))
    rows = compare_learning(make_task(classes), make_model(vectors), METHODS, "map", seed=0)
    assert [(row.task, row.method) for row in rows] == [
        (kind, method) for kind in ("known", "new") for method in ("none", "dba3", "learned")
    ]
    for row in rows:
        assert row.n_queries == len(classes)  # each image is a query once, in the half that it is held out in
        assert (row.p_value is None) == (row.method == "none")
    score = {(row.task, row.method): row.score.mean for row in rows}
    assert score["known", "learned"] > score["known", "none"] + 0.1


def test_labels_that_allow_no_comparison_are_refused():
    classes = np.array([0, 0, 1, 1])
    with pytest.raises(UsageError, match="cannot be compared"):
        compare_learning(make_task(classes), make_model(normalize(np.eye(4, D))), METHODS, "map", seed=0)


@pytest.mark.long
def test_the_command_reports_pairs_and_learning(tmp_path: Path):
    for number in range(48):
        draw_picture(tmp_path / "photos" / f"class_{number % 4}" / f"{number}.png", number)
    done = run(*BENCHMARK, "--json", "--out", "report", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    (trial,) = report["fusions"]
    assert trial["name"].startswith("histogram+")
    assert {(row["backbone"], row["task"], row["method"]) for row in report["learning"]} == {
        (backbone, task, method)
        for backbone in ("histogram", "builtin")
        for task in ("known", "new")
        for method in ("none", "learned")
    }
    for page in ("report.html", "report.md"):
        text = (tmp_path / "report" / page).read_text()
        assert "Joined backbones" in text
        assert "Re-ranking and learning" in text


@pytest.mark.long
def test_the_terminal_shows_the_gain_of_pairs_and_of_learning(tmp_path: Path):
    for number in range(32):
        draw_picture(tmp_path / "photos" / f"class_{number % 4}" / f"{number}.png", number)
    done = run(*BENCHMARK, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    pairs, _, learning = done.stdout.partition("joined backbones, against the better part alone")[2].partition(
        "re-ranking and learning, on images held out from learning"
    )
    assert re.search(r"^histogram\+([\d.]+\*)?builtin\t0\.\d{3}\t0\.\d{3}\t[+-]0\.\d{3}\t", pairs, re.MULTILINE)
    assert [learning.count(word) for word in ("known", "new", "learned")] == [4, 4, 4]
