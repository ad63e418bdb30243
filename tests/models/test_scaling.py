"""The named scalings against Keras's pre-processing."""

from __future__ import annotations

import sys

import keras
import numpy as np
import pytest

from simsearch.models.choice import ModelChoice, resolve_model
from simsearch.models.keras_runtime import build_graph
from simsearch.models.model import SCALINGS
from simsearch.models.zoo import BACKBONES
from tests.models.conftest import apply_scaling, make_random_pixels, normalize_rows, pool_maps

pytestmark = pytest.mark.long


def find_family(constructor):
    """Find the Keras module of a network and its `preprocess_input`."""
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
    pixels = make_random_pixels(4, 16)
    expected = family.preprocess_input(pixels.astype(np.float32))
    np.testing.assert_allclose(apply_scaling(pixels, SCALINGS[name]), expected, atol=1e-4)


def test_none_leaves_values_alone_and_unit_divides_by_255():
    pixels = make_random_pixels(2, 8)
    np.testing.assert_array_equal(apply_scaling(pixels, SCALINGS["none"]), pixels)
    np.testing.assert_allclose(apply_scaling(pixels, SCALINGS["unit"]), pixels / 255)


@pytest.mark.parametrize("row", BACKBONES.values(), ids=lambda row: row.name)
def test_every_row_has_the_scaling_of_its_family(row):
    pixels = make_random_pixels(1, 8)
    expected = find_family(row.constructor).preprocess_input(pixels.astype(np.float32))
    np.testing.assert_allclose(apply_scaling(pixels, SCALINGS[row.scaling]), expected, atol=1e-4)


@pytest.mark.parametrize(
    "name", ["vgg16", "mobilenet_v2", pytest.param("densenet121", marks=pytest.mark.thorough)], ids=str
)
def test_the_graph_is_pre_processing_network_pooling_and_length_one(name):
    row, pixels = BACKBONES[name], make_random_pixels(2, 224)
    graph = build_graph(resolve_model(ModelChoice(backbone=name, weights="random")))

    network = getattr(keras.applications, row.constructor)(weights=None, include_top=False)
    network.set_weights(graph.get_weights())
    maps = network(find_family(row.constructor).preprocess_input(pixels.astype(np.float32)), training=False)
    expected = normalize_rows(pool_maps(np.asarray(maps), "avg"))
    np.testing.assert_allclose(np.asarray(graph(pixels)), expected, atol=2e-5)
