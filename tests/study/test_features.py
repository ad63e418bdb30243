"""Feature maps: the numbers are those of Keras, the layers those that were asked for."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from simsearch import ModelChoice
from simsearch.errors import ImageError, ModelError, UnknownLayer, UsageError
from simsearch.models.builtin import network as builtin
from simsearch.models.choice import resolve_model
from simsearch.models.keras_runtime import FeatureMapExtractor
from simsearch.models.loader import open_embedder
from simsearch.study.features import ImageFeatures, extract_features
from tests.conftest import draw_picture
from tests.support.networks import SIDE_PX, save, small_network

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("features")
    for seed in range(2):
        draw_picture(folder / f"{seed}.png", seed)
    return folder


@pytest.fixture(scope="module")
def network() -> keras.Model:
    return small_network()


@pytest.fixture(scope="module")
def mine(folder, network) -> ModelChoice:
    return ModelChoice(backbone=save(network, folder / "mine.keras"))


def maps_of(network: keras.Model, layer: str, found: ImageFeatures) -> np.ndarray:
    """(h, w, n) of a layer, found without simsearch."""
    part = keras.Model(network.input, network.get_layer(layer).output)
    return part(found.pixels[None] / np.float32(127.5) - 1).numpy()[0]


def random_layers(name: str) -> list[tuple[str, int]]:
    cut = FeatureMapExtractor(resolve_model(ModelChoice(backbone=name, weights="random")))
    return [(layer.name, layer.index) for layer in cut.layers]


def test_maps_are_those_of_keras_for_every_picture_and_layer(folder, network, mine):
    found = extract_features([folder / "0.png", folder / "1.png"], mine, layers=["rectified", 1, "second"])
    assert [Path(each.path).name for each in found] == ["0.png", "1.png"]
    for each in found:
        assert [(block.layer, block.index) for block in each.layers] == [("rectified", 4), ("first", 1), ("second", 2)]
        for block in each.layers:
            np.testing.assert_allclose(block.maps, maps_of(network, block.layer, each), atol=1e-4)
            np.testing.assert_allclose(block.activations, block.maps.mean(axis=(0, 1)), atol=1e-5)
            assert (block.n_maps, block.channels) == (block.maps.shape[2], tuple(range(block.maps.shape[2])))


def test_one_layer_alone_is_a_block_too(folder, network, mine):
    (found,) = extract_features([folder / "0.png"], mine, layers=["third"])
    np.testing.assert_allclose(found.layers[0].maps, maps_of(network, "third", found), atol=1e-4)


def test_without_layers_the_last_convolution_of_each_size_is_taken(folder, mine):
    (found,) = extract_features([folder / "0.png"], mine)
    assert [(block.layer, block.maps.shape[:2]) for block in found.layers] == [
        ("second", (16, 16)),
        ("third", (8, 8)),
        ("fourth", (3, 3)),
    ]


def test_the_first_maps_are_kept_or_the_most_active_in_order(folder, network, mine):
    (plain,) = extract_features([folder / "0.png"], mine, layers=["first"], max_maps=4)
    (ordered,) = extract_features([folder / "0.png"], mine, layers=["first"], max_maps=4, by_activation=True)
    every = maps_of(network, "first", plain)
    assert plain.layers[0].channels == (0, 1, 2, 3)
    expected = sorted(range(6), key=lambda channel: -every[..., channel].mean())[:4]
    assert ordered.layers[0].channels == tuple(expected)
    np.testing.assert_allclose(ordered.layers[0].maps, every[..., expected], atol=1e-4)


def test_a_network_that_takes_any_size_is_looked_into_at_its_side(folder, network, tmp_path):
    flexible = small_network(side_px=None)
    flexible.set_weights(network.get_weights())
    (found,) = extract_features([folder / "0.png"], ModelChoice(backbone=save(flexible, tmp_path / "any.keras")))
    assert [block.layer for block in found.layers] == ["second", "third", "fourth"]
    np.testing.assert_allclose(found.layers[1].maps, maps_of(network, "third", found), atol=1e-4)
    assert found.pixels.shape == (SIDE_PX, SIDE_PX, 3)


def test_the_maps_of_the_builtin_network_lead_to_its_vectors(folder):
    """Pooled and projected by the shipped weights, they are what OpenVINO makes of the picture."""
    (found,) = extract_features([folder / "0.png"], layers=["last_relu"], max_maps=builtin.LAST_CHANNELS)
    weights = builtin.read_weights()
    kernel = weights["projection/kernel"].reshape(builtin.WIDTH, builtin.LAST_CHANNELS)
    projected = kernel @ found.layers[0].maps.mean(axis=(0, 1)) + weights["projection/bias"].reshape(-1)
    vector = open_embedder(found.model).embed(found.pixels[None])[0]
    assert vector @ projected / np.linalg.norm(projected) >= 0.9999


def test_the_blocks_of_vgg16_end_where_the_original_study_looked():
    assert random_layers("vgg16") == [
        ("block1_conv2", 2),
        ("block2_conv2", 5),
        ("block3_conv3", 9),
        ("block4_conv3", 13),
        ("block5_conv3", 17),
    ]


def test_the_blocks_of_the_builtin_network_are_found():
    cut = FeatureMapExtractor(resolve_model(ModelChoice(backbone="builtin")))
    assert [layer.name for layer in cut.layers] == [
        "block_1_expand",
        "block_3_expand",
        "block_5_expand",
        "block_11_expand",
        "last",
    ]


def test_the_blocks_of_resnet50_are_its_five_stages():
    assert [name for name, _ in random_layers("resnet50")] == [
        "conv1_conv",
        "conv2_block3_3_conv",
        "conv3_block4_3_conv",
        "conv4_block6_3_conv",
        "conv5_block3_3_conv",
    ]


@pytest.mark.parametrize(
    ("name", "last"),
    [
        pytest.param("resnet50_v2", "conv5_block3_3_conv", marks=pytest.mark.thorough),
        pytest.param("xception", "block14_sepconv2", marks=pytest.mark.thorough),
        pytest.param("inception_v3", "conv2d_93", marks=pytest.mark.thorough),
        ("mobilenet", "conv_pw_13"),
        ("mobilenet_v2", "Conv_1"),
        pytest.param("mobilenet_v3_small", "conv_1", marks=pytest.mark.thorough),
        pytest.param("densenet121", "conv5_block16_2_conv", marks=pytest.mark.thorough),
        pytest.param("nasnet_mobile", "separable_conv_2_normal_left5_12", marks=pytest.mark.thorough),
        pytest.param("efficientnet_b0", "top_conv", marks=pytest.mark.thorough),
        pytest.param("efficientnet_v2_b0", "top_conv", marks=pytest.mark.thorough),
        pytest.param("convnext_tiny", "convnext_tiny_stage_3_block_2_depthwise_conv", marks=pytest.mark.thorough),
    ],
)
def test_every_family_has_blocks_that_shrink(name: str, last: str):
    cut = FeatureMapExtractor(resolve_model(ModelChoice(backbone=name, weights="random")))
    heights = [layer.shape[0] for layer in cut.layers]
    assert 4 <= len(heights) <= 7
    assert heights == sorted(set(heights), reverse=True)
    assert heights[-1] >= 7
    assert cut.layers[-1].name == last


def test_random_weights_are_told(folder):
    choice = ModelChoice(backbone="mobilenet_v3_small", weights="random")
    (found,) = extract_features([folder / "0.png"], choice, layers=["conv"])
    assert found.notes == (
        "mobilenet_v3_small has random weights: its maps show the architecture, not learned features",
    )


@pytest.mark.parametrize(
    ("layer", "error", "message"),
    [
        ("secund", UnknownLayer, "mine has no layer 'secund'; nearest names: second"),
        (7, ModelError, r"mine has no layer 7; give an index from 0 \(the input\) to 6"),
        (-1, ModelError, "mine has no layer -1"),
        ("pooled", ModelError, "layer pooled of mine outputs no feature maps"),
    ],
)
def test_a_layer_that_is_not_there_or_has_no_maps_is_told(folder, mine, layer, error, message):
    with pytest.raises(error, match=message):
        extract_features([folder / "0.png"], mine, layers=[layer])


def test_a_layer_of_the_head_is_refused_before_anything_is_loaded(folder):
    with pytest.raises(ModelError, match="layer fc2 of vgg16 outputs no feature maps"):
        extract_features([folder / "0.png"], ModelChoice(backbone="vgg16", weights="random"), layers=["fc2"])


def test_a_backbone_that_shows_no_layers_is_told(folder):
    with pytest.raises(ModelError, match="histogram gives no access to its layers"):
        extract_features([folder / "0.png"], ModelChoice(backbone="histogram"))


def test_a_wrong_side_beside_a_model_file_is_told(folder, network, tmp_path):
    with pytest.raises(ModelError, match=r"does not accept a 20 x 20 x 3 input .*correct the side in the JSON"):
        extract_features([folder / "0.png"], ModelChoice(backbone=save(network, tmp_path / "mine.keras", side=20)))


def test_no_maps_are_a_wrong_question():
    with pytest.raises(UsageError, match="the number of maps is 0"):
        extract_features(["any.png"], max_maps=0)


def test_a_picture_that_cannot_be_read_is_told(tmp_path):
    with pytest.raises(ImageError, match=r"missing.png"):
        extract_features([tmp_path / "missing.png"])
