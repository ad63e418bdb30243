"""What networks take pictures for. The probabilities are compared with Keras's own."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from simsearch import ModelChoice
from simsearch.errors import (
    ImageError,
    ModelError,
    NotAPicture,
    UnknownBackbone,
    UsageError,
    WeightsMismatch,
    WeightsMissing,
)
from simsearch.images.decode import decode_square, read_raw_file
from simsearch.images.resize import ResizeRule
from simsearch.models.builtin import network as builtin
from simsearch.models.imagenet import load_classes
from simsearch.models.zoo import BACKBONES
from simsearch.study.predict import PredictionResult, predict
from tests.conftest import SHARED, draw_picture

pytestmark = pytest.mark.long

SMALL = ModelChoice(backbone="mobilenet_v3_small", weights="random", engine="tensorflow")
WEIGHTS = SHARED / "weights" / "mobilenet_v2.weights.h5"
MOBILENET = ModelChoice(backbone="mobilenet_v2", weights=str(WEIGHTS))
QUICK = ("mobilenet", "mobilenet_v3_small")
FAMILIES = (
    "vgg16", "resnet50",
    "resnet50_v2", "xception", "inception_v3", "densenet121", "nasnet_mobile", "efficientnet_b0", "efficientnet_v2_b0",
    "convnext_tiny",
)  # fmt: skip


def pixels_of(path: Path, side_px: int) -> np.ndarray:
    raw = read_raw_file(str(path), has_picture_extension=True, max_pixels=10**8)
    return decode_square(raw, ResizeRule(side_px, "crop"), max_pixels=10**8)[1]


def rates(predictions: PredictionResult) -> tuple[float, float]:
    """Top 1 and top 5 of the only model, the class being in each file's name."""
    truth = [Path(image.path).name[:9] for image in predictions.images]
    ids = [[guess.cls.id for guess in next(iter(image.top_classes.values()))] for image in predictions.images]
    first = np.mean([five[0] == true for five, true in zip(ids, truth, strict=True)])
    return float(first), float(np.mean([true in five for five, true in zip(ids, truth, strict=True)]))


def test_most_of_a_hundred_photographs_of_imagenet_are_recognised(shared):
    """A hundred are too few for the promised rates, and enough to notice classes in another order."""
    photographs = sorted((shared / "photos" / "imagenet_sample").iterdir())[::10]
    top_1, top_5 = rates(predict(photographs, [MOBILENET]))
    assert top_1 >= 0.75
    assert top_5 >= 0.9


@pytest.mark.thorough
def test_a_thousand_photographs_of_imagenet_are_recognised_as_promised(shared):
    top_1, top_5 = rates(predict(sorted((shared / "photos" / "imagenet_sample").iterdir()), [MOBILENET]))
    assert top_1 >= 0.84
    assert top_5 >= 0.96


def test_the_builtin_network_recognises_most_of_a_hundred_photographs_without_a_download(shared, monkeypatch, tmp_path):
    for name in ("SIMSEARCH_WEIGHTS", "SIMSEARCH_CACHE", "KERAS_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    photographs = sorted((shared / "photos" / "imagenet_sample").iterdir())[::10]
    top_1, top_5 = rates(predict(photographs, [ModelChoice(offline=True)]))
    assert top_1 >= 0.72
    assert top_5 >= 0.88


@pytest.mark.thorough
def test_the_builtin_network_recognises_a_thousand_photographs_as_promised(shared):
    top_1, top_5 = rates(predict(sorted((shared / "photos" / "imagenet_sample").iterdir())))
    assert top_1 >= 0.8
    assert top_5 >= 0.94


def test_probabilities_of_the_builtin_network_are_those_of_its_keras_definition(tmp_path):
    paths = [draw_picture(tmp_path / f"{seed}.png", seed) for seed in range(3)]
    expected = builtin.build(with_head=True)(np.stack([pixels_of(path, builtin.SIDE_PX) for path in paths])).numpy()
    numbers = {each.id: number for number, each in enumerate(load_classes())}
    for engine in ("openvino", "tensorflow"):
        found = predict(paths, [ModelChoice(backbone="builtin", engine=engine)], top=1000)
        for image, row in zip(found.images, expected, strict=True):
            probabilities = np.zeros(1000)
            for guess in image.top_classes["builtin"]:
                probabilities[numbers[guess.cls.id]] = guess.probability
            np.testing.assert_allclose(probabilities, row, atol=1e-4)


def test_probabilities_are_those_of_keras(shared):
    """Though the compiled graph gives unit rows."""
    paths = sorted((shared / "seed").glob("*.[jJ]*"))
    network = keras.applications.MobileNetV2(weights=str(WEIGHTS))
    expected = network(np.stack([pixels_of(path, 224) for path in paths]) / np.float32(127.5) - 1).numpy()
    found = predict(paths, [MOBILENET], top=1000)
    numbers = {each.id: number for number, each in enumerate(load_classes())}
    for image, row in zip(found.images, expected, strict=True):
        probabilities = np.zeros(1000)
        for guess in image.top_classes["mobilenet_v2"]:
            probabilities[numbers[guess.cls.id]] = guess.probability
        np.testing.assert_allclose(probabilities, row, atol=2e-5)
    assert found.images[1].top_classes["mobilenet_v2"][0].cls.name == "vase"


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> PredictionResult:
    folder = tmp_path_factory.mktemp("pictures")
    paths = [draw_picture(folder / f"{seed}.png", seed) for seed in range(3)]
    paths.insert(1, folder / "torn.jpg")
    paths[1].write_bytes(b"\xff\xd8\xff\xe0 torn")
    other = ModelChoice(backbone="mobilenet_v3_small", weights="random", engine="tensorflow", resize="squash")
    return predict(paths, [SMALL, other], top=1000)


def test_guesses_are_ranked_and_the_probabilities_of_all_classes_sum_to_one(found):
    for image in found.images:
        for guesses in image.top_classes.values():
            probabilities = [guess.probability for guess in guesses]
            assert [guess.rank for guess in guesses] == list(range(1, 1001))
            assert probabilities == sorted(probabilities, reverse=True)
            assert {guess.cls for guess in guesses} == set(load_classes())
            assert sum(probabilities) == pytest.approx(1, abs=1e-5)


def test_a_picture_that_cannot_be_read_is_left_out_and_told(found):
    assert [Path(image.path).name for image in found.images] == ["0.png", "1.png", "2.png"]
    assert [(Path(skip.path).name, bool(skip.reason)) for skip in found.skips] == [("torn.jpg", True)]


def test_random_weights_are_told(found):
    assert found.notes[0] == "mobilenet_v3_small has random weights: its results are meaningless"


def test_pictures_are_cropped_unless_another_rule_is_asked_for(found):
    assert [model.resize for model in found.models.values()] == ["crop", "squash"]


def test_two_models_of_one_backbone_are_told_apart_by_their_fingerprints(found):
    assert list(found.models) == [model.fingerprint for model in found.models.values()]
    assert len(found.models) == 2


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.thorough) for name in FAMILIES)])
def test_the_last_layer_of_a_head_is_a_softmax_of_a_thousand_classes(name: str):
    row = BACKBONES[name]
    network = getattr(keras.applications, row.constructor)(weights=None)
    assert network.layers[-1].activation is keras.activations.softmax
    assert network.output_shape == (None, 1000)


@pytest.mark.parametrize(
    ("choice", "error", "message"),
    [
        (ModelChoice(backbone="histogram"), ModelError, "histogram has no classification head; name builtin, or a"),
        (
            ModelChoice(backbone="builtin", weights="x.h5"),
            ModelError,
            "--weights does not apply to the backbone builtin",
        ),
        (ModelChoice(backbone="mine.onnx"), ModelError, "the classes of the outputs of mine.onnx are unknown"),
        (ModelChoice(backbone="vgg61"), UnknownBackbone, "unknown backbone 'vgg61'; did you mean"),
        (ModelChoice(backbone="vgg16", weights="x_notop.h5"), WeightsMismatch, "without the classification head"),
        (ModelChoice(backbone="vgg16", weights="none.h5"), WeightsMissing, "none.h5 does not exist"),
    ],
)
def test_a_backbone_without_classes_is_told(choice: ModelChoice, error: type[Exception], message: str, tmp_path):
    with pytest.raises(error, match=message):
        predict([tmp_path / "any.jpg"], [choice])


def test_weights_without_a_head_are_named_when_no_others_are_found(tmp_path, monkeypatch):
    monkeypatch.setenv("SIMSEARCH_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    (tmp_path / "vgg16_notop.weights.h5").write_bytes(b"weights")
    with pytest.raises(WeightsMissing, match=r"vgg16_notop.weights.h5 is without the classification head") as caught:
        predict([tmp_path / "any.jpg"], [ModelChoice(backbone="vgg16", offline=True)])
    assert caught.value.file == BACKBONES["vgg16"].top.name


def test_one_weights_file_is_not_taken_for_two_backbones(tmp_path):
    choices = [ModelChoice(backbone=name, weights="some.h5") for name in ("vgg16", "resnet50")]
    with pytest.raises(UsageError, match="cannot serve several backbones"):
        predict([tmp_path / "any.jpg"], choices)


@pytest.mark.parametrize("top", [0, -3])
def test_fewer_than_one_class_is_a_wrong_question(top: int):
    with pytest.raises(UsageError, match=f"top is {top}"):
        predict(["any.jpg"], [SMALL], top=top)


def test_no_pictures_at_all_is_a_wrong_question():
    with pytest.raises(UsageError, match="name an image"):
        predict([], [SMALL])


def test_when_no_picture_can_be_read_the_first_failure_is_told(tmp_path):
    (tmp_path / "notes.txt").write_text("to do")
    with pytest.raises(NotAPicture, match=r"cannot read .*notes.txt"):
        predict([tmp_path / "notes.txt", tmp_path / "missing.jpg"], [SMALL])
    with pytest.raises(ImageError, match=r"missing.jpg"):
        predict([tmp_path / "missing.jpg"], [SMALL])
