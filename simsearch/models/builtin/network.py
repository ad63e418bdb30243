"""The built-in network as a Keras model, with the weights from `builtin.xml` and `builtin.bin`.

MobileNetV2 (Sandler et al., CVPR 2018) with folded batch norms, average pooling and a linear projection; `CARD.md`
describes its training. The weights are stored only in these two files: OpenVINO runs them directly, and `build` reads
the same values without OpenVINO.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import keras

SIDE_PX = 144
WIDTH = 256
HEAD_CHANNELS = 1280
PARAMETERS = 2_551_584
GRAPH = Path(__file__).with_name("builtin.xml")

_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, output channels, repeats, and stride of the first repeat (table 2 of the paper)."""
_ELEMENT_TYPES: Mapping[str, type[np.generic]] = {"f16": np.float16, "f32": np.float32, "i8": np.int8}


class InvertedResidualBlock(NamedTuple):
    """The settings of an inverted residual block."""

    name: str
    channels_in: int
    expanded: int
    channels_out: int
    stride: int

    @property
    def is_residual(self) -> bool:
        """Whether the block's input is added to its output."""
        return self.stride == 1 and self.channels_in == self.channels_out


def list_blocks() -> Iterator[InvertedResidualBlock]:
    """The 17 blocks, with the names that Keras gives them."""
    channels_in, number = 32, 0
    for expansion, channels_out, repeats, first_stride in _STAGES:
        for repeat in range(repeats):
            name = f"block_{number}" if number else "expanded_conv"
            yield InvertedResidualBlock(
                name, channels_in, channels_in * expansion, channels_out, first_stride if repeat == 0 else 1
            )
            channels_in, number = channels_out, number + 1


def read_weights(graph: Path = GRAPH) -> dict[str, NDArray[np.float32]]:
    """Read the weights by name, in OpenVINO's layout: `<layer>/kernel` (out, in, h, w) and `<layer>/bias`.

    A kernel stored in int8 is multiplied by its `<layer>/scale`, one factor per output channel.
    """
    stored = dict(_read_constants(graph))
    weights = {}
    for name, values in stored.items():
        layer, _, part = name.rpartition("/")
        if part in ("kernel", "bias"):
            scale = stored.get(f"{layer}/scale") if part == "kernel" else None
            weights[name] = values.astype(np.float32) * (1 if scale is None else scale.reshape(-1, 1, 1, 1))
    return weights


def _read_constants(graph: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    data = graph.with_suffix(".bin").read_bytes()
    for layer in ElementTree.parse(graph).iter("layer"):
        described = layer.find("data")
        if layer.get("type") == "Const" and described is not None and described.get("element_type") in _ELEMENT_TYPES:
            shape = [int(side) for side in described.attrib["shape"].split(",") if side.strip()]
            kind = np.dtype(_ELEMENT_TYPES[described.attrib["element_type"]])
            count = int(np.prod(shape, dtype=np.int64))
            values = np.frombuffer(data, kind, count, int(described.attrib["offset"]))
            yield layer.attrib["name"], values.reshape(shape)


def build() -> keras.Model:
    """Build the network from `pixels` uint8 (n, 144, 144, 3) RGB to `vectors` float32 (n, 256), unit rows."""
    import keras

    pixels = keras.Input((SIDE_PX, SIDE_PX, 3), dtype="uint8", name="pixels")
    scaled = keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="scaled")(pixels)
    maps = _add_relu6(_add_convolution(scaled, "Conv1", 32, size=3, stride=2), "Conv1_relu")
    for block in list_blocks():
        maps = _add_inverted_residual(maps, block)
    maps = _add_relu6(_add_convolution(maps, "Conv_1", HEAD_CHANNELS), "out_relu")
    pooled = keras.layers.GlobalAveragePooling2D(name="pooled")(maps)
    projected = keras.layers.Dense(WIDTH, name="projection")(pooled)
    vectors = keras.layers.UnitNormalization(axis=-1, name="vectors")(projected)
    model = keras.Model(pixels, vectors, name="builtin")
    _load_weights(model)
    return model


def _add_inverted_residual(maps: Any, block: InvertedResidualBlock) -> Any:
    import keras

    inner = maps
    if block.expanded != block.channels_in:
        inner = _add_relu6(_add_convolution(inner, f"{block.name}_expand", block.expanded), f"{block.name}_expand_relu")
    depthwise = keras.layers.DepthwiseConv2D(3, block.stride, "valid", name=f"{block.name}_depthwise")
    inner = _add_relu6(depthwise(_pad(inner, block.name, block.stride)), f"{block.name}_depthwise_relu")
    inner = _add_convolution(inner, f"{block.name}_project", block.channels_out)
    return keras.layers.Add(name=f"{block.name}_add")([maps, inner]) if block.is_residual else inner


def _add_convolution(maps: Any, name: str, channels: int, *, size: int = 1, stride: int = 1) -> Any:
    import keras

    maps = _pad(maps, name, stride) if size == 3 else maps
    return keras.layers.Conv2D(channels, size, stride, "valid", name=name)(maps)


def _pad(maps: Any, name: str, stride: int) -> Any:
    """Pad for a 3 x 3 kernel: on all sides, or for stride 2 as the published weights expect it."""
    import keras

    before = 1 if stride == 1 else maps.shape[1] % 2
    return keras.layers.ZeroPadding2D(((before, 1), (before, 1)), name=f"{name}_pad")(maps)


def _add_relu6(maps: Any, name: str) -> Any:
    import keras

    return keras.layers.ReLU(6.0, name=name)(maps)


def _load_weights(model: keras.Model) -> None:
    weights = read_weights()
    for layer in model.layers:
        if layer.weights:
            kernel = weights[f"{layer.name}/kernel"]
            layer.set_weights([_to_keras_layout(kernel, layer), weights[f"{layer.name}/bias"].reshape(-1)])


def _to_keras_layout(kernel: NDArray[np.float32], layer: Any) -> NDArray[np.float32]:
    """Convert a kernel from (out, in, h, w), or (channels, 1, 1, h, w) for a depthwise one, to Keras's layout."""
    if kernel.ndim == 5:
        return kernel[:, 0].transpose(2, 3, 0, 1)
    kernel = kernel.transpose(2, 3, 1, 0)
    return kernel[0, 0] if layer.name == "projection" else kernel
