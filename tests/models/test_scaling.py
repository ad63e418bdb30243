"""The named scalings against Keras's own pre-processing."""

from __future__ import annotations

import sys

import keras
import numpy as np
import pytest

from simsearch.models.choice import ModelChoice, resolve
from simsearch.models.keras_runtime import build_graph
from simsearch.models.model import SCALINGS
from simsearch.models.zoo import BACKBONES
from tests.models.conftest import pooled, random_pixels, scaled, unit


def family_of(constructor):
    """The module of Keras that holds a network and its `preprocess_input`."""
    return sys.modules[getattr(keras.applications, constructor).__module__]


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("caffe", keras.applications.vgg16),
        ("tf", keras.applications.mobilenet_v2),
        ("torch", keras.applications.densenet),
    ],
)
def test_a_named_scaling_is_that_of_keras(name, family):
    pixels = random_pixels(4, 16)
    expected = family.preprocess_input(pixels.astype(np.float32))
    np.testing.assert_allclose(scaled(pixels, SCALINGS[name]), expected, atol=1e-4)


def test_none_leaves_values_alone_and_unit_divides_by_255():
    pixels = random_pixels(2, 8)
    np.testing.assert_array_equal(scaled(pixels, SCALINGS["none"]), pixels)
    np.testing.assert_allclose(scaled(pixels, SCALINGS["unit"]), pixels / 255)


@pytest.mark.parametrize("row", BACKBONES.values(), ids=lambda row: row.name)
def test_every_row_has_the_scaling_of_its_family(row):
    pixels = random_pixels(1, 8)
    expected = family_of(row.constructor).preprocess_input(pixels.astype(np.float32))
    np.testing.assert_allclose(scaled(pixels, SCALINGS[row.scaling]), expected, atol=1e-4)


@pytest.mark.parametrize(
    "name", ["vgg16", "mobilenet_v2", pytest.param("densenet121", marks=pytest.mark.long)], ids=str
)
def test_the_graph_is_pre_processing_network_pooling_and_length_one(name):
    row, pixels = BACKBONES[name], random_pixels(2, 224)
    graph = build_graph(resolve(ModelChoice(backbone=name, weights="random")))

    network = getattr(keras.applications, row.constructor)(weights=None, include_top=False)
    network.set_weights(graph.get_weights())
    maps = network(family_of(row.constructor).preprocess_input(pixels.astype(np.float32)), training=False)
    expected = unit(pooled(np.asarray(maps), "avg"))
    np.testing.assert_allclose(np.asarray(graph(pixels)), expected, atol=2e-5)
