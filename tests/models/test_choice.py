"""Resolving a choice to a model, and finding the weights of a stored model again."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from simsearch.errors import ModelError, UnknownBackbone, UsageError, WeightsMismatch, WeightsMissing
from simsearch.models.choice import ModelChoice, list_backbone_names, list_backbones, relocate_weights, resolve_model
from simsearch.models.histogram import SIDE_PX, WIDTH, compute_histograms
from simsearch.models.loader import open_embedder
from simsearch.models.model import SCALINGS
from simsearch.models.published import PUBLISHED
from simsearch.models.weights import WeightsOptions, hash_file
from simsearch.models.zoo import BACKBONES
from tests.models.conftest import make_random_pixels
from tests.support.onnx_models import TinyEncoder

HERE = WeightsOptions(offline=True)


def resolve_choice(backbone, **choice):
    return resolve_model(ModelChoice(backbone=backbone, offline=True, **choice))


# The histogram -------------------------------------------------------------------------------------------------------


def test_the_histogram_needs_nothing(places):
    model = resolve_choice("histogram")
    assert (model.backbone, model.runtime, model.weights, model.file) == ("histogram", "histogram", "none", None)
    assert (model.side_px, model.resize, model.layer) == (SIDE_PX, "squash", None)
    assert relocate_weights(model, HERE) == model


@pytest.mark.parametrize(
    ("option", "value"), [("weights", "mine.h5"), ("weights", "random"), ("layer", "fc2"), ("pooling", "max")]
)
def test_histogram_refuses_network_options(option, value):
    with pytest.raises(ModelError, match=f"^--{option} does not apply to the backbone histogram; remove --{option}"):
        resolve_choice("histogram", **{option: value})


def test_histogram_uses_the_given_resize_rule():
    assert resolve_choice("histogram", resize="crop").resize == "crop"


def test_the_histogram_is_an_embedder_like_any_other():
    embedder, batch = open_embedder(resolve_choice("histogram")), make_random_pixels(2, SIDE_PX)
    assert embedder.width == WIDTH
    np.testing.assert_array_equal(embedder.embed(batch), compute_histograms(batch))


# Rows of the zoo -----------------------------------------------------------------------------------------------------


def test_row_provides_the_defaults(places):
    file = places.put("named", "vgg16_notop.weights.h5")
    model = resolve_choice("vgg16")
    assert (model.backbone, model.runtime, model.file) == ("vgg16", "keras-zoo", file)
    assert model.weights == hash_file(file)
    assert (model.side_px, model.scaling) == (224, SCALINGS["caffe"])
    assert (model.layer, model.pooling, model.resize) == ("block5_pool", "avg", "squash")


def test_user_options_override_the_row(places, tmp_path):
    (tmp_path / "mine.h5").write_bytes(b"mine")
    model = resolve_choice("vgg16", weights=str(tmp_path / "mine.h5"), layer="block4_pool", pooling="gem", resize="pad")
    assert (model.file, model.layer, model.pooling) == (str(tmp_path / "mine.h5"), "block4_pool", "gem")
    assert model.resize == "pad"


def test_naming_the_default_layer_is_the_same_model(places):
    places.put("named", "vgg16_notop.weights.h5")
    assert resolve_choice("vgg16", layer="block5_pool") == resolve_choice("vgg16")


def test_a_layer_of_the_head_takes_weights_with_head(places):
    places.put("named", "vgg16_notop.weights.h5", b"without")
    with pytest.raises(WeightsMissing, match=r"as vgg16_weights_tf_dim_ordering_tf_kernels\.h5,"):
        resolve_choice("vgg16", layer="fc2")
    with_head = places.put("cache", "vgg16.weights.h5", b"with")
    assert resolve_choice("vgg16", layer="fc2").file == with_head


def test_random_weights_are_looked_for_nowhere(places):
    model = resolve_choice("vgg16", weights="random")
    assert (model.weights, model.file) == ("random", None)
    assert relocate_weights(model, HERE) == model


@pytest.mark.parametrize("row", BACKBONES.values(), ids=lambda row: row.name)
def test_every_zoo_row_resolves_to_a_model(row, places):
    model = resolve_choice(row.name, weights="random")
    assert (model.backbone, model.side_px, model.layer) == (row.name, row.side_px, row.layer)


def test_resolving_imports_no_network(places):
    code = (
        "import sys\nfrom simsearch.models.choice import ModelChoice, list_backbones, resolve_model\n"
        "list_backbones(), resolve_model(ModelChoice(backbone='vgg16', weights='random'))\n"
        "sys.exit(any(name in sys.modules for name in ('tensorflow', 'keras', 'openvino')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Names ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("mobilnet_v2", "mobilenet_v2"),
        ("VGG16", "vgg16"),
        ("ResNet50V2", "resnet50_v2"),
        ("EfficientNetB0", "efficientnet_b0"),
        ("histogramm", "histogram"),
    ],
)
def test_an_unknown_backbone_offers_near_names(name, near):
    with pytest.raises(UnknownBackbone, match=f"unknown backbone '{name}'; did you mean .*{near}") as caught:
        resolve_choice(name)
    assert near in caught.value.nearest


def test_a_name_that_is_near_to_none_is_answered_with_the_command_that_lists_all():
    with pytest.raises(UnknownBackbone, match=r"^unknown backbone 'qqq'; `simsearch backbones` lists them all$"):
        resolve_choice("qqq")


def test_the_list_has_a_row_for_every_name(places):
    rows = list_backbones()
    assert [row.name for row in rows] == list_backbone_names() == ["builtin", "histogram", *PUBLISHED, *BACKBONES]
    written = [row.to_dict() for row in rows]
    assert json.loads(json.dumps(written)) == written
    assert len({tuple(row) for row in written}) == 1


def test_list_reports_the_path_of_weights(places):
    file = places.put("keras", "mobilenet_v2.weights.h5")
    found = {row.name: row.weights_path for row in list_backbones()}
    assert {name: path for name, path in found.items() if path and name != "builtin"} == {"mobilenet_v2": file}


# Choices -------------------------------------------------------------------------------------------------------------


def test_words_that_are_known_become_a_choice():
    choice = ModelChoice.from_options(backbone="vgg16", pooling="gem", resize="pad", layer="fc2", offline=True)
    assert choice == ModelChoice(backbone="vgg16", pooling="gem", resize="pad", layer="fc2", offline=True)
    assert ModelChoice.from_options() == ModelChoice()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"pooling": "mean"}, "^unknown pooling 'mean'; choose one of avg, max, gem, cls$"),
        ({"pooling": ""}, "^unknown pooling ''; choose one of avg, max, gem, cls$"),
        ({"resize": "stretch"}, "^unknown resize.* 'stretch'; choose one of squash, crop, pad, nearest$"),
    ],
)
def test_a_word_that_is_not_known_is_a_usage_error(words, message):
    with pytest.raises(UsageError, match=message):
        ModelChoice.from_options(**words)


# A model found again -------------------------------------------------------------------------------------------------


@pytest.fixture
def indexed(places):
    """A VGG16 model as a catalog stores it."""
    places.put("named", "vgg16_notop.weights.h5", b"without head")
    return resolve_choice("vgg16")


def test_weights_that_are_where_they_were_are_taken(indexed):
    assert relocate_weights(indexed, HERE) == indexed


@pytest.mark.parametrize(
    "name", ["vgg16_notop.weights.h5", "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5", "vgg16.weights.h5"]
)
@pytest.mark.parametrize("place", ["cache", "keras"])
def test_weights_that_moved_are_found_by_their_content(indexed, places, place, name):
    os.remove(indexed.file)
    file = places.put(place, name, b"without head")
    found = relocate_weights(indexed, HERE)
    assert found == dataclasses.replace(indexed, file=file)
    assert found.fingerprint == indexed.fingerprint


def test_other_weights_in_a_better_place_do_not_hide_the_right_ones(indexed, places):
    places.put("named", "vgg16_notop.weights.h5", b"changed since")
    places.put("cache", "vgg16.weights.h5", b"with head")
    file = places.put("keras", "vgg16.weights.h5", b"without head")
    assert relocate_weights(indexed, HERE).file == file


def test_weights_under_a_name_of_the_users_are_found_in_a_place(places, tmp_path):
    mine = tmp_path / "mine.h5"
    mine.write_bytes(b"without head")
    model = resolve_choice("vgg16", weights=str(mine))
    mine.unlink()
    file = places.put("cache", "vgg16_notop.weights.h5", b"without head")
    assert relocate_weights(model, HERE).file == file


def test_a_named_file_is_taken_if_it_is_the_right_one(indexed, tmp_path):
    mine = tmp_path / "mine.h5"
    mine.write_bytes(b"without head")
    assert relocate_weights(indexed, WeightsOptions(str(mine))).file == str(mine)
    mine.write_bytes(b"other weights")
    with pytest.raises(
        WeightsMismatch, match=r"the weights in .*mine\.h5 differ from .*; give the right file with --wei"
    ):
        relocate_weights(indexed, WeightsOptions(str(mine)))


def test_other_weights_are_refused(indexed, places):
    places.put("named", "vgg16_notop.weights.h5", b"changed since")
    with pytest.raises(
        WeightsMismatch, match=r"the weights in .*vgg16_notop.* differ from those that the collection was indexed"
    ):
        relocate_weights(indexed, HERE)


def test_weights_that_are_gone_are_missing(indexed):
    os.remove(indexed.file)
    with pytest.raises(WeightsMissing, match="no weights for vgg16"):
        relocate_weights(indexed, HERE)


def test_weights_that_are_gone_are_downloaded_again(mirror):
    mirror.files["mobilenet_1_0_224_tf_no_top.h5"] = b"published"
    model = resolve_model(ModelChoice(backbone="mobilenet"))
    os.remove(model.file)
    assert relocate_weights(model, WeightsOptions()) == model
    assert mirror.asked == ["mobilenet_1_0_224_tf_no_top.h5"] * 2


# A model file --------------------------------------------------------------------------------------------------------


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A model file with a relative path."""
    monkeypatch.chdir(tmp_path)
    TinyEncoder(outputs=("image_embeds",)).save(tmp_path / "mine.onnx")
    Path("mine.json").write_text('{"side": 32, "scaling": "unit", "layer": "features"}')
    return tmp_path / "mine.onnx"


def test_a_model_file_is_a_backbone(mine):
    model = resolve_choice("mine.onnx", pooling="max")
    assert (model.backbone, model.file, model.zoo_name) == ("mine", str(mine), None)
    assert (model.layer, model.pooling) == ("features", "max")


def test_model_file_contains_its_own_weights(mine):
    with pytest.raises(ModelError, match=r"mine\.onnx contains its own weights; remove --weights"):
        resolve_choice("mine.onnx", weights="other.h5")
    with pytest.raises(ModelError, match=r"mine\.onnx contains its own weights; remove --weights"):
        relocate_weights(resolve_choice("mine.onnx"), WeightsOptions("other.h5"))


def test_a_model_file_is_the_same_model_as_long_as_it_is_the_same(mine):
    model = resolve_choice("mine.onnx")
    assert relocate_weights(model, HERE) == model
    mine.write_bytes(b"trained again")
    with pytest.raises(
        WeightsMismatch, match=r"mine\.onnx is missing, or differs .*; restore the file, or index again"
    ):
        relocate_weights(model, HERE)
    mine.unlink()
    with pytest.raises(WeightsMismatch, match=r"mine\.onnx is missing"):
        relocate_weights(model, HERE)


def test_an_indexed_model_no_longer_needs_its_json(mine):
    model = resolve_choice("mine.onnx")
    mine.with_suffix(".json").unlink()
    assert relocate_weights(model, HERE) == model


def test_a_model_file_that_is_called_like_a_row_is_still_a_file(mine):
    mine.rename(mine.with_name("vgg16.onnx"))
    mine.with_suffix(".json").rename(mine.with_name("vgg16.json"))
    model = resolve_choice("./vgg16.onnx")
    assert (model.backbone, model.runtime, model.zoo_name) == ("vgg16", "onnx", None)
    assert relocate_weights(model, HERE) == model
