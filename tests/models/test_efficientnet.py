"""EfficientNet's weights from a file give the same features as Keras's own loading."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from simsearch.models.choice import ModelChoice, resolve_model
from simsearch.models.keras_runtime import build_graph, keras
from simsearch.models.model import Model

pytestmark = pytest.mark.long


def test_a_file_gets_the_input_scaling_that_keras_adds_to_imagenet_weights(tmp_path: Path):
    """Keras, with weights="imagenet", divides the normalized input by sqrt(std) of each channel once more."""
    keras.utils.set_random_seed(0)
    network = keras.applications.EfficientNetB0(weights=None, include_top=False, input_shape=(224, 224, 3))
    network.save_weights(tmp_path / "efficientnet_b0_notop.weights.h5")
    stem = keras.Model(network.input, network.get_layer("stem_conv_pad").input)
    rest = keras.Model(network.get_layer("stem_conv_pad").input, network.output)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    scaled = stem(pixels.astype(np.float32)) / np.sqrt([0.229, 0.224, 0.225]).astype(np.float32)
    pooled = np.mean(rest(scaled), axis=(1, 2))
    expected = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)

    choice = ModelChoice(backbone="efficientnet_b0", weights=str(tmp_path / "efficientnet_b0_notop.weights.h5"))
    model: Model = resolve_model(choice)
    np.testing.assert_allclose(np.asarray(build_graph(model)(pixels)), expected, atol=2e-4)
