"""Model records: fingerprint and JSON."""

from __future__ import annotations

import dataclasses
import json

import pytest

from simsearch.models.model import SCALINGS, Model, Scaling

MODEL = Model(
    backbone="vgg16",
    runtime="keras-zoo",
    weights="0" * 32,
    file="/somewhere/vgg16.weights.h5",
    side_px=224,
    resize="squash",
    scaling=SCALINGS["caffe"],
    layer="block5_pool",
    pooling="avg",
)
OTHER = {
    "backbone": "vgg19",
    "runtime": "keras-file",
    "weights": "1" * 32,
    "side_px": 225,
    "resize": "crop",
    "scaling": SCALINGS["tf"],
    "layer": "fc2",
    "pooling": "gem",
    "precision": "int8",
    "calibration": "2" * 32,
}


@pytest.mark.parametrize("detail", OTHER)
def test_the_fingerprint_changes_with_each_detail_that_changes_vectors(detail):
    assert dataclasses.replace(MODEL, **{detail: OTHER[detail]}).fingerprint != MODEL.fingerprint


@pytest.mark.parametrize(
    "scaling",
    [
        Scaling("rgb", SCALINGS["caffe"].scale, SCALINGS["caffe"].offset),
        Scaling("bgr", (1.0, 1.0, 1.001), SCALINGS["caffe"].offset),
        Scaling("bgr", SCALINGS["caffe"].scale, (-103.939, -116.779, -123.69)),
    ],
    ids=["channels", "scale", "offset"],
)
def test_the_fingerprint_changes_with_each_number_of_the_scaling(scaling):
    assert dataclasses.replace(MODEL, scaling=scaling).fingerprint != MODEL.fingerprint


@pytest.mark.parametrize("file", ["/elsewhere/vgg16.weights.h5", "/somewhere/other.h5", None])
def test_fingerprint_does_not_depend_on_the_file_path(file):
    assert dataclasses.replace(MODEL, file=file).fingerprint == MODEL.fingerprint


def test_the_fingerprint_is_the_name_and_twelve_digits():
    name, _, digits = MODEL.fingerprint.rpartition("-")
    assert name == "vgg16"
    assert len(digits) == 12
    assert int(digits, 16) >= 0


@pytest.mark.parametrize(
    "model",
    [MODEL, dataclasses.replace(MODEL, file=None, layer=None), dataclasses.replace(MODEL, **OTHER)],
    ids=["whole", "without", "other"],
)
def test_json_gives_the_same_model_back(model):
    again = Model.from_json(model.to_json())
    assert again == model
    assert again.fingerprint == model.fingerprint
    assert hash(again) == hash(model)


def test_json_is_one_object_of_plain_values():
    fields = json.loads(MODEL.to_json())
    assert fields["backbone"] == "vgg16"
    assert fields["scaling"] == {"channels": "bgr", "scale": [1, 1, 1], "offset": [-103.939, -116.779, -123.68]}


@pytest.mark.parametrize(
    ("runtime", "row"),
    [
        ("histogram", "vgg16"),
        ("keras-zoo", "vgg16"),
        ("keras-file", None),
        ("saved-model", None),
        ("onnx", None),
    ],
)
def test_only_listed_backbones_have_a_zoo_name(runtime, row):
    assert dataclasses.replace(MODEL, runtime=runtime).zoo_name == row
