"""Small networks of a test's own, as files."""

from __future__ import annotations

import json
from pathlib import Path

import keras

SIDE_PX = 16


def numbers(seed: int) -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(stddev=0.5, seed=seed)


def small_network(side_px: int | None = SIDE_PX) -> keras.Model:
    """Convolutions of three sizes, a vector in the end."""
    layers = keras.layers
    pixels = keras.Input((side_px, side_px, 3), name="picture")
    maps = layers.Conv2D(6, 3, padding="same", activation="relu", name="first", kernel_initializer=numbers(1))(pixels)
    maps = layers.DepthwiseConv2D(3, padding="same", name="second", depthwise_initializer=numbers(2))(maps)
    maps = layers.Conv2D(5, 3, strides=2, padding="same", name="third", kernel_initializer=numbers(3))(maps)
    maps = layers.ReLU(name="rectified")(maps)
    maps = layers.SeparableConv2D(
        4, 3, strides=2, name="fourth", depthwise_initializer=numbers(4), pointwise_initializer=numbers(5)
    )(maps)
    return keras.Model(pixels, layers.GlobalAveragePooling2D(name="pooled")(maps))


def save(network: keras.Model, path: Path, **settings: object) -> str:
    """The network as a `.keras` file with its JSON beside it; pixels are scaled to [-1, 1]."""
    network.save(path)
    path.with_suffix(".json").write_text(json.dumps({"side": SIDE_PX, "scaling": "tf"} | settings))
    return str(path)
