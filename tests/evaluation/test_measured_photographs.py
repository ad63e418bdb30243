"""A benchmark of real photographs and real networks: the figures that the project promises.

All is computed again here in NumPy from the stored vectors: similarities in float64, the principal axes by singular
values, and for every query a database blended without it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from simsearch import ModelChoice
from simsearch.evaluation.benchmark import run_benchmark
from simsearch.evaluation.results import BenchmarkResult
from simsearch.evaluation.spec import BenchmarkSpec
from simsearch.rerank.method import RerankMethod
from tests.conftest import HISTOGRAM, SHARED
from tests.support.photographs import CHOICES, PHOTOGRAPHS

pytestmark = [
    pytest.mark.skipif(not SHARED.is_dir(), reason="../shared, with real photographs, is not on this machine"),
    pytest.mark.long,
]
BACKBONES = {"mobilenet_v2": CHOICES["mobilenet_v2"], "histogram": HISTOGRAM}
METRICS = ("p_at_1", "p_at_10", "map")
Features = dict[str, tuple[np.ndarray, np.ndarray]]


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory, copy_photographs: Callable[[str, Path], Path]) -> Path:
    return copy_photographs("mobilenet_v2", tmp_path_factory.mktemp("indexes") / "caltech")


@pytest.fixture(scope="module")
def found(collection: Path) -> BenchmarkResult:
    methods = tuple(RerankMethod.parse(text) for text in ("none", "pca", "pca+dba"))
    return run_benchmark(
        BenchmarkSpec(
            source=str(PHOTOGRAPHS),
            collection_folder=str(collection),
            choices=tuple(BACKBONES.values()),
            methods=methods,
            n_robustness=10,
            probe_s=0.5,
        )
    )


@pytest.fixture(scope="module")
def features(found: BenchmarkResult, collection: Path) -> Features:
    return read_features(found, collection)


def read_features(found: BenchmarkResult, collection: Path) -> Features:
    """The vectors (1200, d) of each backbone and the classes (1200,) of their files, read with nothing of ours."""
    connection = sqlite3.connect(collection / "catalog.db")
    query = """SELECT path, vector FROM vectors JOIN models ON models.id = model_id JOIN views ON views.id = view_id
               JOIN files USING (image_id) WHERE fingerprint = ? ORDER BY path"""
    rows = {row.backbone: connection.execute(query, (row.model,)).fetchall() for row in found.rows}
    connection.close()
    return {
        backbone: (
            np.array([np.frombuffer(blob, "<f4") for _, blob in some], np.float64),
            np.array([Path(path).parent.name for path, _ in some]),
        )
        for backbone, some in rows.items()
    }


@pytest.fixture(scope="module")
def projected(features: Features) -> dict[str, np.ndarray]:
    return {backbone: _projected(vectors) for backbone, (vectors, _) in features.items()}


def _scores(similarities: np.ndarray, labels: np.ndarray) -> list[float]:
    """P@1, P@10 and mAP of (n, n) similarities, leave-one-out."""
    np.fill_diagonal(similarities, -np.inf)
    order = np.argsort(-similarities, axis=1, kind="stable")[:, :-1]
    right = labels[order] == labels[:, None]
    precision = np.cumsum(right, axis=1) / np.arange(1, len(labels))
    average = (precision * right).sum(axis=1) / right.sum(axis=1)
    return [right[:, 0].mean(), right[:, :10].mean(), average.mean()]


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def _projected(vectors: np.ndarray) -> np.ndarray:
    centred = vectors - vectors.mean(axis=0)
    return _unit(centred @ np.linalg.svd(centred, full_matrices=False)[2][:256].T)


def _compute_average_precision(rows: np.ndarray, labels: np.ndarray, query: int) -> float:
    """AP of a row against all others, each blended with its five nearest, the one that asks being none of them."""
    others = np.arange(len(rows)) != query
    database, kinds = rows[others], labels[others]
    similarities = database @ database.T
    np.fill_diagonal(similarities, -1)
    near = np.argsort(-similarities, axis=1)[:, :5]
    weights = np.maximum(np.take_along_axis(similarities, near, 1), 0) ** 3
    blended = _unit(database + np.einsum("nm,nmd->nd", weights, database[near]))
    right = kinds[np.argsort(-(blended @ rows[query]), kind="stable")] == labels[query]
    return float((np.cumsum(right) / np.arange(1, len(right) + 1))[right].mean())


def _told(found: BenchmarkResult, backbone: str, method: str) -> list[float]:
    (row,) = (row for row in found.rows if (row.backbone, row.rerank) == (backbone, method))
    return [row.scores[metric].mean for metric in METRICS]


def test_all_photographs_take_part(found: BenchmarkResult):
    facts = found.dataset
    assert (facts.n_images, facts.n_queries, facts.n_classes, facts.exclusions) == (1200, 1200, 100, ())
    assert len(found.rows) == 6


@pytest.mark.parametrize("backbone", BACKBONES)
def test_plain_features_score_as_numpy_finds(found: BenchmarkResult, features: Features, backbone: str):
    vectors, labels = features[backbone]
    np.testing.assert_allclose(_told(found, backbone, "none"), _scores(vectors @ vectors.T, labels), atol=0.001)


def test_plain_features_score_as_was_measured_elsewhere(found: BenchmarkResult):
    np.testing.assert_allclose(_told(found, "mobilenet_v2", "none"), [0.841, 0.646, 0.665], atol=0.01)


@pytest.mark.thorough
def test_plain_features_of_mobilenet_score_as_was_measured_elsewhere(tmp_path: Path):
    weights = str(SHARED / "weights" / "mobilenet_notop.weights.h5")
    choice = ModelChoice(backbone="mobilenet", weights=weights, precision="f32", offline=True)
    found = run_benchmark(
        BenchmarkSpec(source=str(PHOTOGRAPHS), collection_folder=str(tmp_path / "ix"), choices=(choice,))
    )
    np.testing.assert_allclose(_told(found, "mobilenet", "none"), [0.780, 0.547, 0.555], atol=0.01)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_projected_features_score_as_numpy_finds(
    found: BenchmarkResult, features: Features, projected: dict[str, np.ndarray], backbone: str
):
    rows, labels = projected[backbone], features[backbone][1]
    np.testing.assert_allclose(_told(found, backbone, "pca256"), _scores(rows @ rows.T, labels), atol=0.001)


def test_a_blended_database_scores_as_numpy_finds(
    found: BenchmarkResult, features: Features, projected: dict[str, np.ndarray]
):
    """Every fortieth query, each against a database that is blended without it."""
    (row,) = (row for row in found.rows if (row.backbone, row.rerank) == ("mobilenet_v2", "pca256+dba5"))
    queries = range(0, 1200, 40)
    expected = [_compute_average_precision(projected["mobilenet_v2"], features["mobilenet_v2"][1], q) for q in queries]
    differences = np.abs(row.per_query["map"][queries] - expected)
    assert np.median(differences) < 0.001
    assert differences.mean() < 0.005  # two of nearly equal similarity may change places


@pytest.mark.thorough
def test_features_of_the_built_in_network_score_as_numpy_finds(
    tmp_path: Path, copy_photographs: Callable[[str, Path], Path]
):
    folder = copy_photographs("builtin", tmp_path / "ix")
    methods = tuple(RerankMethod.parse(text) for text in ("none", "pca"))
    found = run_benchmark(
        BenchmarkSpec(
            source=str(PHOTOGRAPHS), collection_folder=str(folder), choices=(CHOICES["builtin"],), methods=methods
        )
    )
    vectors, labels = read_features(found, folder)["builtin"]
    for text, rows in (("none", vectors), ("pca256", _projected(vectors))):
        np.testing.assert_allclose(_told(found, "builtin", text), _scores(rows @ rows.T, labels), atol=0.001)


def test_the_improvements_gain_as_promised(found: BenchmarkResult):
    plain, projected, blended = (_told(found, "mobilenet_v2", text)[2] for text in ("none", "pca256", "pca256+dba5"))
    assert projected - plain >= 0.03
    assert blended - plain >= 0.07


def test_differences_that_are_not_chance_are_called_so(found: BenchmarkResult):
    by_name = {(row.backbone, row.rerank): row.p_value for row in found.rows}
    assert found.best.p_value is None
    assert by_name["histogram", "none"] < 0.001


def test_networks_take_small_changes_better_than_large_ones(found: BenchmarkResult):
    model = next(row.model for row in found.rows if row.backbone == "mobilenet_v2")
    changes = {(c.kind, c.strength): c for c in found.robustness if c.model == model}
    assert len(changes) == 12
    assert changes["rotation", "10 deg"].similarity > changes["rotation", "25 deg"].similarity
    assert changes["flip", "mirrored"].hit_at_1[0] >= 0.9
