"""A whole study: each step is what the command for it says, and what cannot be had leaves the others alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from simsearch import ModelChoice
from simsearch.errors import ImageError, UnknownLayer, UsageError, WeightsMissing
from simsearch.images.views import NO_AUGMENTATION, Augmentation
from simsearch.study.compare import compare
from simsearch.study.features import extract_features
from simsearch.study.predict import predict
from simsearch.study.study import MAX_STUDY_IMAGES, StudyResult, choose_default_models, run_study
from tests.conftest import HISTOGRAM, draw_picture
from tests.support.networks import save, small_network

pytestmark = pytest.mark.long

SMALL = ModelChoice(backbone="mobilenet_v3_small", weights="random", engine="tensorflow", precision="f32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    for seed in range(3):
        draw_picture(folder / f"{seed}.png", seed)
    (folder / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0 torn")
    return folder


@pytest.fixture(scope="module")
def pictures(folder) -> list[str]:
    return sorted(map(str, folder.glob("*.png")))


@pytest.fixture(scope="module")
def mine(folder) -> ModelChoice:
    return ModelChoice(
        backbone=save(small_network(), folder / "mine.keras"), layer="third", precision="f32", engine="tensorflow"
    )


@pytest.fixture(scope="module")
def found(folder, pictures, mine) -> StudyResult:
    paths = [pictures[0], str(folder / "torn.jpg"), *pictures[1:]]
    return run_study(paths, [mine, SMALL, HISTOGRAM], Augmentation(2), top=2)


def test_similarities_are_those_of_compare(found, pictures, mine):
    expected = compare(pictures, [mine, SMALL, HISTOGRAM])
    assert found.comparison.paths == expected.paths
    assert found.comparison.models == expected.models
    for name, matrix in expected.similarities.items():
        np.testing.assert_allclose(found.comparison.similarities[name], matrix, atol=1e-6)


def test_predictions_are_those_of_predict_and_softmax_outputs_are_compared(found, pictures):
    expected = predict(pictures, [SMALL], top=1000)
    classification = found.classifications["mobilenet_v3_small"]
    assert classification.resize == "crop"
    rows = []
    for image, guesses in zip(expected.images, classification.top_classes, strict=True):
        every = image.top_classes["mobilenet_v3_small"]
        assert guesses == every[:2]
        rows.append([guess.probability for guess in sorted(every, key=lambda guess: guess.cls.id)])
    cosines = [[np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b) for b in rows] for a in rows]
    np.testing.assert_allclose(classification.similarities, cosines, atol=1e-6)


def test_feature_maps_are_the_most_active_of_the_first_picture(found, pictures, mine):
    plain = ModelChoice(backbone=mine.backbone)
    (expected,) = extract_features([pictures[0]], plain, by_activation=True)
    assert found.features["mine"].path == pictures[0]
    assert [block.layer for block in found.features["mine"].layers] == ["second", "third", "fourth"]
    for block, of in zip(found.features["mine"].layers, expected.layers, strict=True):
        assert block.channels == of.channels
        np.testing.assert_allclose(block.maps, of.maps, atol=1e-5)


def test_what_a_backbone_cannot_give_is_said_and_the_rest_is_there(found):
    assert list(found.comparison.models) == ["mine", "mobilenet_v3_small", "histogram"]
    assert set(found.missing_classifications) == {"mine", "histogram"}
    assert found.missing_classifications["histogram"] == "histogram has no classification head"
    assert found.missing_classifications["mine"].startswith("the classes of the outputs of")
    assert found.missing_features == {"histogram": "histogram gives no access to its layers"}
    assert set(found.separations) == {"mine", "mobilenet_v3_small", "histogram"}


def test_a_file_that_cannot_be_read_is_left_out_of_every_step(found, folder):
    assert [skip.path for skip in found.comparison.skips] == [str(folder / "torn.jpg")]
    assert len(found.comparison.paths) == len(found.classifications["mobilenet_v3_small"].top_classes) == 3
    assert found.augmented.select_own("histogram").shape == (3, 2)


def test_one_picture_has_views_but_no_pairs_and_no_others(pictures):
    alone = run_study(pictures[:1], [HISTOGRAM], Augmentation(3))
    assert alone.comparison.n_pairs == 0
    assert alone.augmented.select_own("histogram").shape == (1, 3)
    assert alone.separations == {}


def test_without_views_there_is_nothing_to_separate(pictures):
    plain = run_study(pictures, [HISTOGRAM], NO_AUGMENTATION)
    assert (plain.augmented, plain.separations, plain.comparison.n_pairs) == (None, {}, 3)


def test_a_layer_that_no_backbone_has_is_an_error_with_near_names(pictures, mine):
    with pytest.raises(UnknownLayer, match="mine has no layer 'thirt'; nearest names: third"):
        run_study(pictures, [ModelChoice(backbone=mine.backbone, layer="thirt", precision="f32")], NO_AUGMENTATION)


@pytest.mark.parametrize(
    ("n", "top", "message"),
    [(0, 5, "cannot study 0 images"), (MAX_STUDY_IMAGES + 1, 5, "name 1 to 24"), (1, 0, "top is 0")],
)
def test_wrong_questions_are_refused_before_anything_is_read(n: int, top: int, message: str):
    with pytest.raises(UsageError, match=message):
        run_study(["missing.png"] * n, [HISTOGRAM], NO_AUGMENTATION, top=top)


def test_pictures_none_of_which_can_be_read_are_an_error(folder):
    with pytest.raises(ImageError, match=r"torn\.jpg"):
        run_study([folder / "torn.jpg"], [HISTOGRAM], NO_AUGMENTATION)


def test_weights_that_are_missing_stop_a_study_that_named_the_backbone(pictures, tmp_path, monkeypatch):
    for variable in ("SIMSEARCH_WEIGHTS", "SIMSEARCH_CACHE", "KERAS_HOME"):
        monkeypatch.setenv(variable, str(tmp_path))
    with pytest.raises(WeightsMissing, match="no weights for vgg16"):
        run_study(pictures, [ModelChoice(backbone="vgg16", offline=True)], NO_AUGMENTATION)


@pytest.mark.parametrize(
    ("here", "names"),
    [
        (["vgg16", "resnet50", "mobilenet_v2"], ["vgg16", "resnet50"]),
        (["vgg16", "mobilenet_v2"], ["builtin", "mobilenet_v2"]),
        ([], ["builtin", "histogram"]),
    ],
)
def test_default_backbones_are_the_original_ones_or_what_needs_no_download(here, names, tmp_path, monkeypatch):
    for variable in ("SIMSEARCH_WEIGHTS", "SIMSEARCH_CACHE", "KERAS_HOME"):
        monkeypatch.setenv(variable, str(tmp_path))
    for name in here:
        (tmp_path / f"{name}.weights.h5").write_bytes(b"")
    choices, note = choose_default_models(resize="crop", precision="f32")
    assert [choice.backbone for choice in choices] == names
    assert {(choice.resize, choice.precision) for choice in choices} == {("crop", "f32")}
    assert ("no weights of" in note) == (names[0] != "vgg16")
