"""Words become the directions of their classes in the classification head of a network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from simsearch.errors import ModelError, UsageError
from simsearch.models.builtin import network
from simsearch.models.choice import ModelChoice, resolve_model
from simsearch.models.imagenet import load_classes
from simsearch.models.model import Model
from simsearch.models.text.heads import has_head, read_head
from simsearch.models.text.loader import open_text_encoder
from simsearch.models.text.vocabulary import find_word
from simsearch.models.text.words import MAX_DIRECTIONS, WordEncoder
from simsearch.models.weights import WeightsOptions
from simsearch.models.zoo import BACKBONES

HEAD = np.random.default_rng(5).standard_normal((1000, 24)).astype(np.float32)
ENCODER = WordEncoder("mobilenet_v2", HEAD)
CENTERED = HEAD.astype(np.float64) - HEAD.mean(axis=0)
SCATTER = CENTERED.T @ CENTERED
DIRECTIONS = CENTERED @ np.linalg.inv(SCATTER + 3 * np.trace(SCATTER) / 24 * np.eye(24))


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def position(name: str) -> int:
    return next(at for at, one in enumerate(load_classes()) if one.name == name)


def test_a_class_name_is_the_direction_of_its_class():
    (found,) = ENCODER.encode(["table lamp"])
    np.testing.assert_allclose(found.rows, unit(DIRECTIONS[[position("table lamp")]]), atol=1e-5)
    assert found.notes == ()


def test_a_direction_is_named_by_its_class_if_one_is_similar():
    rows = DIRECTIONS[[position("table lamp"), position("teapot")]] * 5
    assert ENCODER.name_directions(rows) == ["table lamp", "teapot"]
    assert ENCODER.name_directions(np.zeros((1, 24))) == [""]


def test_a_word_of_several_classes_has_the_direction_of_each():
    word = find_word("fruit")
    assert word is not None
    (found,) = ENCODER.encode(["fruit"])
    np.testing.assert_allclose(found.rows, unit(DIRECTIONS[list(word.classes)]), atol=1e-5)


def test_a_word_of_many_classes_has_the_directions_of_groups():
    word = find_word("dog")
    assert word is not None
    (found,) = ENCODER.encode(["dog"])
    assert found.rows.shape == (MAX_DIRECTIONS, 24)
    groups = np.array_split(DIRECTIONS[list(word.classes)], MAX_DIRECTIONS)
    np.testing.assert_allclose(found.rows, unit(np.stack([group.mean(axis=0) for group in groups])), atol=1e-5)


def test_a_text_of_two_words_is_their_sum():
    (found,) = ENCODER.encode(["a vase on a pool table"])
    vase, table = (unit(DIRECTIONS[position(name)]) for name in ("vase", "pool table"))
    np.testing.assert_allclose(found.rows, unit(vase + table)[None], atol=1e-5)


def test_unknown_words_beside_known_ones_are_in_a_note():
    (found,) = ENCODER.encode(["a zorgly vase"])
    assert found.notes == ("mobilenet_v2 searched for vase; it does not know: zorgly",)


def test_an_unknown_word_is_refused_with_the_nearest_ones():
    with pytest.raises(
        UsageError, match=r"knows 5,\d+ words, but not 'vaze'; the nearest words are vase, .* text tower"
    ):
        ENCODER.encode(["vaze"])


# Heads


def model_of(backbone: str, file: Path | None = None) -> Model:
    model = resolve_model(ModelChoice(backbone=backbone, weights="random"))
    return replace(model, weights="1f", file=None if file is None else str(file))


def write_weights(file: Path, shape: tuple[int, ...]) -> np.ndarray:
    kernel = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    with h5py.File(file, "w") as h5:
        h5["layers/dense/vars/0"] = kernel
        h5["layers/dense/vars/1"] = np.zeros(1000, np.float32)
        h5["layers/conv/vars/0"] = np.zeros((3, 3, 4, 8), np.float32)
    return kernel


@pytest.mark.parametrize(("backbone", "shape"), [("mobilenet_v2", (1280, 1000)), ("mobilenet", (1, 1, 1024, 1000))])
def test_the_head_is_read_from_the_weights_file(backbone: str, shape: tuple[int, ...], tmp_path: Path):
    file = tmp_path / f"{backbone}.weights.h5"
    kernel = write_weights(file, shape)
    head = read_head(model_of(backbone, file), WeightsOptions(offline=True))
    np.testing.assert_array_equal(head, kernel.reshape(shape[-2:]).T)
    (found,) = open_text_encoder(model_of(backbone, file), WeightsOptions(offline=True)).encode(["lamp"])
    assert found.rows.shape[1] == shape[-2]


def test_a_file_without_a_head_is_refused(tmp_path: Path):
    file = tmp_path / "mobilenet_v2.weights.h5"
    write_weights(file, (96, 1000))
    with pytest.raises(ModelError, match="no classification head"):
        read_head(model_of("mobilenet_v2", file), WeightsOptions(offline=True))
    file.write_bytes(b"no HDF5")
    with pytest.raises(ModelError, match="cannot read the weights"):
        read_head(model_of("mobilenet_v2", file), WeightsOptions(offline=True))


def test_only_a_linear_head_on_the_vectors_answers_words():
    linear = {name for name in BACKBONES if has_head(model_of(name))}
    assert {"resnet50", "mobilenet", "mobilenet_v2", "efficientnet_b0", "efficientnet_v2_l", "nasnet_mobile"} <= linear
    assert linear.isdisjoint({"vgg16", "vgg19", "mobilenet_v3_small", "mobilenet_v3_large", "convnext_tiny"})
    model = model_of("mobilenet_v2")
    for other in (replace(model, layer="block_3_add"), replace(model, pooling="gem"), replace(model, weights="random")):
        assert not has_head(other)
        with pytest.raises(UsageError, match="cannot answer text queries"):
            open_text_encoder(other, WeightsOptions(offline=True))
    assert not has_head(resolve_model(ModelChoice(backbone="histogram")))


def test_the_built_in_network_answers_words():
    model = resolve_model(ModelChoice(backbone="builtin"))
    assert has_head(model)
    assert not has_head(replace(model, layer="predictions"))
    word = find_word("lamp")
    assert word is not None
    (found,) = open_text_encoder(model, WeightsOptions(offline=True)).encode(["lamp"])
    assert found.rows.shape == (len(word.classes), network.WIDTH)
