"""Cosines to probabilities: the fit, its inverse, what is stored, and searches with a minimum probability."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from simsearch import Collection
from simsearch.errors import UsageError
from simsearch.search.calibrate import CalibrationOptions
from simsearch.search.calibration import (
    CountedHits,
    ProbabilityCalibration,
    ProbabilityCurve,
    SampleQueries,
    calibrate,
    collect_hits,
    fit_curve,
    measure_error,
    split_labels,
)
from tests.conftest import HISTOGRAM, ROOT, draw_picture
from tests.support import oneshot
from tests.support.command_line import read_document, run

OBJECTS = ROOT / "data" / "objects"


def draw_hits(n: int, seed: int, slope: float = 8.0, middle: float = 0.6) -> CountedHits:
    """Hits whose relevance follows a logistic curve of the cosine exactly."""
    random = np.random.default_rng(seed)
    similarities = random.uniform(0, 1, (n, 10))
    relevant = random.random((n, 10)) < 1 / (1 + np.exp(-slope * (similarities - middle)))
    return CountedHits(similarities, relevant)


def logistic(similarities: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-8 * (similarities - 0.6)))


def test_the_curve_recovers_the_probabilities_that_hits_were_drawn_with():
    curve = fit_curve(draw_hits(2000, 1))
    grid = np.linspace(0.05, 0.95, 50)
    assert np.abs(curve.compute(grid) - logistic(grid)).max() < 0.06
    assert list(curve.similarities) == sorted(curve.similarities)
    assert list(curve.probabilities) == sorted(curve.probabilities)
    error = measure_error(curve, draw_hits(2000, 2))
    assert error.expected < 0.02
    assert error.brier < error.brier_constant


def test_the_error_of_wrong_probabilities_is_large():
    overconfident = ProbabilityCurve((0.0, 0.3, 0.31, 1.0), (0.01, 0.01, 0.99, 0.99))
    assert measure_error(overconfident, draw_hits(2000, 2)).expected > 0.15


def test_isotonic_regression_agrees_with_scipy_on_bins_of_equal_size():
    optimize = pytest.importorskip("scipy.optimize")
    hits = draw_hits(120, 3, slope=2.0)  # 60 bins of 20 hits
    order = np.argsort(hits.similarities.ravel(), kind="stable")
    shares = (hits.is_relevant.ravel()[order].reshape(60, 20)).mean(1)
    expected = optimize.isotonic_regression(shares).x
    curve = fit_curve(hits)
    blocks = {round(float(value), 9) for value in expected}
    found = [(value * (n + 2) - 1) / n for value, n in zip(curve.probabilities, _count(expected), strict=True)]
    assert sorted(blocks) == pytest.approx(sorted(found), abs=0.01)  # (r + 1) / (n + 2) pools a little differently


def _count(expected: np.ndarray) -> list[int]:
    _, counts = np.unique(np.round(expected, 9), return_counts=True)
    return (20 * counts).tolist()


@pytest.mark.parametrize("probability", [0.1, 0.37, 0.5, 0.9])
def test_the_least_cosine_of_a_probability_is_the_inverse_of_the_curve(probability: float):
    curve = fit_curve(draw_hits(2000, 4))
    similarity = curve.find_similarity(probability)
    assert curve.compute(np.array([similarity]))[0] == pytest.approx(probability, abs=1e-9)
    assert curve.compute(np.array([similarity - 0.02]))[0] < probability


def test_a_probability_that_no_or_every_cosine_has():
    curve = ProbabilityCurve((0.2, 0.8), (0.3, 0.7))
    assert curve.find_similarity(0.71) > 1
    assert curve.find_similarity(0.3) == curve.find_similarity(0.0) == -1
    assert curve.find_similarity(0.5) == pytest.approx(0.5)
    assert ProbabilityCurve((0.5,), (0.4,)).compute(np.array([-1.0, 1.0])).tolist() == [0.4, 0.4]


def test_nothing_is_certain_however_clear_the_hits_are():
    clear = CountedHits(np.array([[0.1] * 10, [0.9] * 10]), np.array([[False] * 10, [True] * 10]))
    curve = fit_curve(clear)
    assert all(0 < probability < 1 for probability in curve.probabilities)
    assert fit_curve(CountedHits(np.array([[0.9, -math.inf]]), np.array([[True, False]]))).similarities == (0.9,)


def test_hits_are_those_of_a_sorted_matrix_and_never_the_query_itself():
    random = np.random.default_rng(0)
    rows = random.standard_normal((70, 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    labels = random.integers(0, 7, 70)
    own = np.arange(40)
    present, absent = collect_hits(SampleQueries(rows[own], labels[own], own), rows, labels)
    for at in own.tolist():
        similarities = rows @ rows[at]
        others = [other for other in np.argsort(-similarities) if other != at]
        strangers = [other for other in others if labels[other] != labels[at]]
        np.testing.assert_allclose(present.similarities[at], similarities[others[:10]], atol=1e-6)
        assert present.is_relevant[at].tolist() == (labels[others[:10]] == labels[at]).tolist()
        np.testing.assert_allclose(absent.similarities[at], similarities[strangers[:10]], atol=1e-6)
        assert not absent.is_relevant[at].any()


def test_half_of_the_labels_are_held_out_whole():
    labels = np.repeat(np.arange(11), 3)
    is_held_out = split_labels(labels, 0)
    assert len(np.unique(labels[is_held_out])) == 5
    assert not set(labels[is_held_out]) & set(labels[~is_held_out])


def test_a_calibration_is_stored_as_it_was_made():
    random = np.random.default_rng(0)
    rows = random.standard_normal((60, 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    for n_labels in (2, 6):
        labels = np.arange(60) % n_labels
        made = calibrate(SampleQueries(rows, labels, np.arange(60)), rows, labels, "of the same class", 0)
        assert ProbabilityCalibration.from_json(made.to_json()) == made
        assert (made.error is None) == (n_labels == 2)
        assert (made.n_queries, made.n_labels, made.n_images) == (60, n_labels, 60)


# In a collection


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rendered objects in their class folders, indexed with histogram and calibrated by class."""
    base = tmp_path_factory.mktemp("calibrated")
    oneshot.ingest(base / "indexes" / "objects", [OBJECTS], HISTOGRAM)
    told = read_document("calibrate", cwd=base)
    assert told["relation"] == "of the same class"
    assert told["images"] == told["queries"] == len(list(OBJECTS.glob("*/*.jpg")))
    assert told["error"]["expected"] < 0.2
    return base


@pytest.fixture
def opened(objects: Path) -> Iterator[Collection]:
    with Collection.open(objects / "indexes" / "objects") as collection:
        yield collection


def test_hits_have_the_probability_of_their_cosine(opened: Collection):
    answer = opened.search(5, k=20)
    assert answer.relation == "of the same class"
    probabilities = [hit.probability for hit in answer.hits]
    assert all(probability is not None and 0 < probability < 1 for probability in probabilities)
    assert probabilities == sorted(probabilities, reverse=True)  # type: ignore[type-var]
    document = answer.to_dict()
    assert document["probability_of"] == "of the same class"
    assert [hit["probability"] for hit in document["hits"]] == probabilities


def test_a_minimum_probability_cuts_exactly_there(opened: Collection):
    every = opened.search(5, k=None).hits
    for minimum in (0.2, 0.4, 0.6):
        kept = opened.search(5, k=None, min_probability=minimum).hits
        assert [hit.image_id for hit in kept] == [
            hit.image_id for hit in every if hit.probability is not None and hit.probability >= minimum - 0.0005
        ][: len(kept)]
        assert all(hit.probability is not None and hit.probability >= minimum - 0.0005 for hit in kept)
        assert len(kept) >= sum((hit.probability or 0) > minimum + 0.0005 for hit in every)


def test_nothing_similar_is_an_answer(objects: Path, tmp_path: Path):
    noise = draw_picture(tmp_path / "noise.png", 3)
    done = run("query", noise, "--min-probability", 0.9, "--in", objects / "indexes" / "objects", cwd=objects)
    assert done.returncode == 0
    assert "no results; lower --min-probability" in done.stdout
    assert "nothing similar: the nearest image has a probability of 0." in done.stderr


def test_without_a_calibration_json_is_as_before_and_a_minimum_is_an_error_with_advice(tmp_path: Path, objects: Path):
    oneshot.ingest(tmp_path / "ix", [OBJECTS / "lamp"], HISTOGRAM)
    told = read_document("query", "--id", 1, "--in", tmp_path / "ix", cwd=tmp_path)
    assert "probability_of" not in told
    assert all("probability" not in hit for hit in told["hits"])
    done = run("query", "--id", 1, "--min-probability", 0.5, "--in", tmp_path / "ix", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "has no calibration in this collection; run `simsearch calibrate --in " in done.stderr


@pytest.mark.parametrize("options", [{"rerank": "aqe2"}, {"queries": [1, 2]}])
def test_a_probability_is_that_of_one_picture_without_reranking(opened: Collection, options: dict):
    queries = options.pop("queries", 1)
    answer = opened.search(queries, **options)
    assert (answer.relation, {hit.probability for hit in answer.hits}) == ("", {None})
    with pytest.raises(UsageError, match="one positive example without re-ranking"):
        opened.search(queries, min_probability=0.5, **options)


def test_copies_are_calibrated_without_labels(objects: Path, tmp_path: Path):
    shutil.copytree(objects / "indexes", tmp_path / "indexes")
    told = read_document("calibrate", "--by", "copies", cwd=tmp_path)
    assert told["relation"] == "a copy of the same picture"
    assert told["queries"] == told["n_labels"] > 50
    own = read_document("query", "--id", 7, cwd=tmp_path)["hits"]
    assert own[0]["probability"] > own[-1]["probability"]


def test_a_column_is_a_label_and_images_without_it_are_left_out(objects: Path, tmp_path: Path):
    shutil.copytree(objects / "indexes", tmp_path / "indexes")
    lines = [
        f"{file},{'tall' if file.parent.name in ('lamp', 'vase') else 'low'}"
        for file in sorted(OBJECTS.glob("*/*.jpg"))[::2]
    ]
    (tmp_path / "shape.csv").write_text("\n".join(["path,shape", *lines]))
    assert run("annotate", "shape.csv", "--in", "indexes/objects", cwd=tmp_path).returncode == 0
    told = read_document("calibrate", "--by", "shape", cwd=tmp_path)
    assert (told["relation"], told["n_labels"], told["images"]) == ("of the same shape", 2, len(lines))
    assert told["error"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (CalibrationOptions("colour"), "no image has a column 'colour'"),
        (CalibrationOptions("class"), "fewer than two values of class have several images"),
    ],
)
def test_what_cannot_be_calibrated_is_an_error_with_advice(tmp_path: Path, options: CalibrationOptions, message: str):
    oneshot.ingest(tmp_path / "ix", [OBJECTS / "lamp"], HISTOGRAM)
    with Collection.open(tmp_path / "ix") as collection, pytest.raises(UsageError, match=message):
        collection.calibrate(options)
    with pytest.raises(UsageError, match="the sample has 0 queries"):
        CalibrationOptions(n_queries=0)


def test_a_model_that_is_deleted_takes_its_calibration_along(objects: Path, tmp_path: Path):
    shutil.copytree(objects / "indexes", tmp_path / "indexes")
    folder = tmp_path / "indexes" / "objects"
    oneshot.prune(folder, "histogram")
    oneshot.ingest(folder, [OBJECTS], HISTOGRAM)
    with Collection.open(folder) as collection:
        assert collection.search(1).relation == ""
