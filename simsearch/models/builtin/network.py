"""The built-in network as a Keras model, with the weights from `builtin.xml` and `builtin.bin`.

EfficientNet-Lite0 (Tan & Le, ICML 2019, without squeeze-and-excitation and with ReLU6) with folded batch norms, average
pooling and a linear projection; `CARD.md` describes its origin. The weights are stored only in `builtin.bin`: OpenVINO
runs its two graphs directly, and `build` reads the same values without OpenVINO. `head.npz` is the classification head.
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

SIDE_PX = 176
WIDTH = 384
LAST_CHANNELS = 1280
PARAMETERS = 3_841_904
GRAPH = Path(__file__).with_name("builtin.xml")
INT8_GRAPH = Path(__file__).with_name("builtin-int8.xml")
"""The same weights as in `GRAPH`, from the same file; the maps between the layers are quantized to int8 too."""
WEIGHTS = Path(__file__).with_name("builtin.bin")
HEAD = Path(__file__).with_name("head.npz")
PREDICTIONS_LAYER = "predictions"
"""The softmax layer of the classification head, as Keras's networks name it."""
POOLED = "pooled"
"""The layer of the 1,280 features that are classified and projected."""
SENSITIVE_LAYERS = ("block_0_project", "block_10_add")
"""The layers whose outputs lose most when they are quantized."""
PROJECTION = "projection"
"""The layer whose output is the embedding before L2 normalization."""

_STAGES = (
    (1, 3, 16, 1, 1),
    (6, 3, 24, 2, 2),
    (6, 5, 40, 2, 2),
    (6, 3, 80, 3, 2),
    (6, 5, 112, 3, 1),
    (6, 5, 192, 4, 2),
    (6, 3, 320, 1, 1),
)
"""Expansion, kernel size, output channels, repeats, and stride of the first repeat (table 1 of the paper)."""
_ELEMENT_TYPES: Mapping[str, type[np.generic]] = {"f16": np.float16, "f32": np.float32, "i8": np.int8}


class InvertedResidualBlock(NamedTuple):
    """The settings of an inverted residual block."""

    name: str
    kernel_size: int
    channels_in: int
    expanded: int
    channels_out: int
    stride: int

    @property
    def is_residual(self) -> bool:
        """Whether the block's input is added to its output."""
        return self.stride == 1 and self.channels_in == self.channels_out


class ClassificationHead(NamedTuple):
    """A linear classifier: the logits of the 1,000 ImageNet classes are `x @ weight.T + bias`.

    `weight` (1000, d) and `bias` (1000,) are float32; the classes are in the order of `imagenet.load_classes`.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]


def list_blocks() -> Iterator[InvertedResidualBlock]:
    """The 16 blocks, in their order."""
    channels_in, number = 32, 0
    for expansion, kernel_size, channels_out, repeats, first_stride in _STAGES:
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            expanded = channels_in * expansion
            yield InvertedResidualBlock(f"block_{number}", kernel_size, channels_in, expanded, channels_out, stride)
            channels_in, number = channels_out, number + 1


def read_head(file: Path = HEAD) -> ClassificationHead:
    """Read the head in the space of the embedding: x (n, 384) is the embedding before its L2 normalization.

    It is what remains of the published head in the directions of the projection.
    """
    with np.load(file) as stored:
        return ClassificationHead(stored["weight"].astype(np.float32), stored["bias"])


def read_classifier(file: Path = HEAD) -> ClassificationHead:
    """Read the published head, for x (n, 1280), the pooled features. It is stored in int8 with a scale per class."""
    with np.load(file) as stored:
        weight = stored["pooled_weight"].astype(np.float32) * stored["pooled_scale"][:, None]
        return ClassificationHead(weight, stored["bias"])


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
            factors = 1 if scale is None else scale.astype(np.float32).reshape(-1, *[1] * (values.ndim - 1))
            weights[name] = values.astype(np.float32) * factors
    return weights


def _read_constants(graph: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    data = WEIGHTS.read_bytes()
    for layer in ElementTree.parse(graph).iter("layer"):
        described = layer.find("data")
        if layer.get("type") == "Const" and described is not None and described.get("element_type") in _ELEMENT_TYPES:
            shape = [int(side) for side in described.attrib["shape"].split(",") if side.strip()]
            kind = np.dtype(_ELEMENT_TYPES[described.attrib["element_type"]])
            count = int(np.prod(shape, dtype=np.int64))
            values = np.frombuffer(data, kind, count, int(described.attrib["offset"]))
            yield layer.attrib["name"], values.reshape(shape)


def build(*, with_head: bool = False) -> keras.Model:
    """Build the network from `pixels` uint8 (n, 176, 176, 3) RGB to `vectors` float32 (n, 384), unit rows.

    With `with_head` the output is `predictions` (n, 1000), the softmax of the classification head.
    """
    import keras

    pixels = keras.Input((SIDE_PX, SIDE_PX, 3), dtype="uint8", name="pixels")
    scaled = keras.layers.Rescaling(1 / 128, offset=-127 / 128, name="scaled")(pixels)
    maps = _add_relu6(keras.layers.Conv2D(32, 3, 2, "same", name="stem")(scaled), "stem_relu")
    for block in list_blocks():
        maps = _add_inverted_residual(maps, block)
    maps = _add_relu6(keras.layers.Conv2D(LAST_CHANNELS, 1, name="last")(maps), "last_relu")
    pooled = keras.layers.GlobalAveragePooling2D(name=POOLED)(maps)
    if with_head:
        outputs = keras.layers.Dense(1000, "softmax", name=PREDICTIONS_LAYER)(pooled)
    else:
        rows = keras.layers.Dense(WIDTH, name=PROJECTION)(pooled)
        outputs = keras.layers.UnitNormalization(axis=-1, name="vectors")(rows)
    model = keras.Model(pixels, outputs, name="builtin")
    _load_weights(model)
    return model


def _add_inverted_residual(maps: Any, block: InvertedResidualBlock) -> Any:
    import keras

    inner = maps
    if block.expanded != block.channels_in:
        expand = keras.layers.Conv2D(block.expanded, 1, name=f"{block.name}_expand")
        inner = _add_relu6(expand(inner), f"{block.name}_expand_relu")
    depthwise = keras.layers.DepthwiseConv2D(block.kernel_size, block.stride, "same", name=f"{block.name}_depthwise")
    inner = _add_relu6(depthwise(inner), f"{block.name}_depthwise_relu")
    inner = keras.layers.Conv2D(block.channels_out, 1, name=f"{block.name}_project")(inner)
    return keras.layers.Add(name=f"{block.name}_add")([maps, inner]) if block.is_residual else inner


def _add_relu6(maps: Any, name: str) -> Any:
    import keras

    return keras.layers.ReLU(6.0, name=name)(maps)


def _load_weights(model: keras.Model) -> None:
    weights = read_weights()
    for layer in model.layers:
        if layer.name == PREDICTIONS_LAYER:
            head = read_classifier()
            layer.set_weights([head.weight.T, head.bias])
        elif layer.weights:
            kernel = weights[f"{layer.name}/kernel"]
            layer.set_weights([_to_keras_layout(kernel, layer), weights[f"{layer.name}/bias"].reshape(-1)])


def _to_keras_layout(kernel: NDArray[np.float32], layer: Any) -> NDArray[np.float32]:
    """Convert a kernel from (out, in, h, w), or (channels, 1, 1, h, w) for a depthwise one, to Keras's layout."""
    if kernel.ndim == 5:
        return kernel[:, 0].transpose(2, 3, 0, 1)
    kernel = kernel.transpose(2, 3, 1, 0)
    return kernel[0, 0] if layer.name == PROJECTION else kernel
