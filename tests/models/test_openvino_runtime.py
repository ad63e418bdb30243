"""ONNX files against NumPy: the files are written here, by hand, so that nothing but NumPy knows what they hold."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import numpy as np
import pytest

from simsearch.errors import ModelError, UnknownLayer
from simsearch.models.choice import ModelChoice, resolve
from simsearch.models.embedder import open_embedder
from simsearch.models.model import POOLINGS, SCALINGS
from tests.models.conftest import pooled, random_pixels, scaled, unit

SIDE_PX = 12
RANDOM = np.random.default_rng(7)
FIRST = RANDOM.normal(size=(4, 3, 3, 3)).astype(np.float32)  # (channels out, channels in, height, width)
BIAS = RANDOM.normal(size=4).astype(np.float32)
SECOND = RANDOM.normal(size=(5, 4, 1, 1)).astype(np.float32)


# ONNX as Protocol Buffers (github.com/onnx/onnx, onnx.proto): the few messages and fields a small network needs -------


def varint(number):
    number &= (1 << 64) - 1
    head = bytearray()
    while number > 127:
        head.append(number & 127 | 128)
        number >>= 7
    return bytes([*head, number])


def message(*fields):
    """A message of (number, value) pairs; a value is an integer, text or the bytes of another message."""
    parts = []
    for number, value in fields:
        if isinstance(value, int):
            parts.append(varint(number << 3) + varint(value))
        else:
            content = value.encode() if isinstance(value, str) else value
            parts.append(varint(number << 3 | 2) + varint(len(content)) + content)
    return b"".join(parts)


def node(kind, inputs, output, name, **attributes):
    """An operation; every attribute is a list of integers, or one integer."""
    attributes = [
        message((1, key), (20, 2), (3, value)) if isinstance(value, int)
        else message((1, key), (20, 7), *((8, item) for item in value))
        for key, value in attributes.items()
    ]  # fmt: skip
    return message(
        *((1, name) for name in inputs), (2, output), (3, name), (4, kind), *((5, value) for value in attributes)
    )


def tensor(name, array):
    kind = {"float32": 1, "int64": 7}[str(array.dtype)]
    return message(*((1, length) for length in array.shape), (2, kind), (8, name), (9, array.tobytes()))


def value_info(name, shape):
    """A float32 input or output; a length given as text is unknown."""
    lengths = [message((2, length) if isinstance(length, str) else (1, length)) for length in shape]
    tensor_type = message((1, 1), (2, message(*((1, length) for length in lengths))))
    return message((1, name), (2, message((1, tensor_type))))


@dataclass(frozen=True)
class Network:
    """What an ONNX file holds; `inputs` and `output` are (name, shape)."""

    nodes: list[bytes]
    inputs: list[tuple[str, tuple]]
    output: tuple[str, tuple]
    constants: dict[str, np.ndarray] = field(default_factory=dict)

    def save(self, path, **settings):
        graph = message(
            *((1, one) for one in self.nodes),
            (2, "graph"),
            *((5, tensor(*constant)) for constant in self.constants.items()),
            *((11, value_info(*one)) for one in self.inputs),
            (12, value_info(*self.output)),
        )
        path.write_bytes(message((1, 8), (8, message((1, ""), (2, 13))), (7, graph)))
        path.with_suffix(".json").write_text(json.dumps({"side": SIDE_PX, "scaling": "torch"} | settings))
        return path


# The networks, in ONNX and in NumPy ----------------------------------------------------------------------------------


CONSTANTS = {"kernel_1": FIRST, "bias_1": BIAS, "kernel_2": SECOND}


def convolutions(pixels, output):
    return [
        node("Conv", [pixels, "kernel_1", "bias_1"], "sums", "conv_1", pads=[1, 1, 1, 1]),
        node("Relu", ["sums"], "activations", "relu_1"),
        node("Conv", ["activations", "kernel_2"], output, "conv_2"),
    ]


def planar(*last, output=("maps", ("n", 5, SIDE_PX, SIDE_PX)), constants=()):
    nodes = [*convolutions("pixels", "maps"), *last]
    return Network(nodes, [("pixels", ("n", 3, SIDE_PX, SIDE_PX))], output, CONSTANTS | dict(constants))


def interleaved():
    """As TensorFlow's exporters write networks: transposed at both ends."""
    nodes = [
        node("Transpose", ["pixels"], "planes", "to_planes", perm=[0, 3, 1, 2]),
        *convolutions("planes", "maps"),
        node("Transpose", ["maps"], "pixelwise", "to_pixels", perm=[0, 2, 3, 1]),
    ]
    inputs = [("pixels", ("n", SIDE_PX, SIDE_PX, 3))]
    return Network(nodes, inputs, ("pixelwise", ("n", SIDE_PX, SIDE_PX, 5)), CONSTANTS)


def activations(pixels, scaling):
    """The first convolution and its ReLU, (n, h, w, 4), one kernel position after another."""
    values = np.pad(scaled(pixels, scaling), ((0, 0), (1, 1), (1, 1), (0, 0)))
    sums = np.zeros((*pixels.shape[:3], 4)) + BIAS
    for down in range(3):
        for across in range(3):
            sums += values[:, down : down + SIDE_PX, across : across + SIDE_PX] @ FIRST[:, :, down, across].T
    return np.maximum(sums, 0)


def maps(pixels, scaling):
    return activations(pixels, scaling) @ SECOND[:, :, 0, 0].T


def embedder(path, **choice):
    return open_embedder(resolve(ModelChoice(backbone=str(path), **choice)))


# The tests -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", [planar, interleaved])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_vectors_are_those_numpy_computes(network, pooling, tmp_path):
    pixels = random_pixels(3, SIDE_PX)
    loaded = embedder(network().save(tmp_path / "mine.onnx", pooling=pooling))
    expected = unit(pooled(maps(pixels, SCALINGS["torch"]), pooling))
    vectors = loaded.embed(pixels)
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    assert (vectors.dtype, loaded.width) == (np.float32, 5)


@pytest.mark.parametrize("network", [planar, interleaved])
@pytest.mark.parametrize("scaling", [*SCALINGS, "its own"])
def test_pixels_are_scaled_as_the_model_says(network, scaling, tmp_path):
    pixels = random_pixels(2, SIDE_PX)
    own = {"channels": "bgr", "scale": [0.5, 0.25, -0.125], "offset": [1, -2, 30]}
    path = network().save(tmp_path / "mine.onnx", scaling=own if scaling == "its own" else scaling)
    loaded = embedder(path)
    expected = unit(pooled(maps(pixels, loaded.model.scaling), "avg"))
    np.testing.assert_allclose(loaded.embed(pixels), expected, atol=2e-5)


@pytest.mark.parametrize("layer", ["relu_1", "activations"], ids=["by its node", "by its tensor"])
def test_a_layer_can_be_named(layer, tmp_path):
    pixels = random_pixels(2, SIDE_PX)
    vectors = embedder(planar().save(tmp_path / "mine.onnx"), layer=layer).embed(pixels)
    np.testing.assert_allclose(vectors, unit(pooled(activations(pixels, SCALINGS["torch"]), "avg")), atol=1e-5)


def test_an_unknown_layer_offers_near_names(tmp_path):
    with pytest.raises(UnknownLayer, match="mine has no layer 'activation'; nearest names: activations"):
        embedder(planar().save(tmp_path / "mine.onnx"), layer="activation")


def test_an_output_that_is_a_vector_stays_one(tmp_path):
    pixels = random_pixels(2, SIDE_PX)
    flatten = node("Flatten", ["maps"], "flat", "flatten", axis=1)
    network = planar(flatten, output=("flat", ("n", 5 * SIDE_PX**2)))
    vectors = embedder(network.save(tmp_path / "mine.onnx", pooling="max")).embed(pixels)
    expected = np.moveaxis(maps(pixels, SCALINGS["torch"]), -1, 1).reshape(2, -1)
    np.testing.assert_allclose(vectors, unit(expected), atol=1e-5)


def test_tokens_are_pooled_like_positions(tmp_path):
    pixels = random_pixels(2, SIDE_PX)
    network = planar(
        node("Reshape", ["maps", "shape"], "rows", "reshape"),
        node("Transpose", ["rows"], "tokens", "transpose", perm=[0, 2, 1]),
        output=("tokens", ("n", SIDE_PX**2, 5)),
        constants={"shape": np.array([0, 5, -1])},
    )
    vectors = embedder(network.save(tmp_path / "mine.onnx", pooling="max")).embed(pixels)
    np.testing.assert_allclose(vectors, unit(pooled(maps(pixels, SCALINGS["torch"]), "max")), atol=1e-5)


def test_a_picture_has_the_same_vector_alone_and_among_others(tmp_path):
    pixels, loaded = random_pixels(5, SIDE_PX), embedder(planar().save(tmp_path / "mine.onnx"))
    alone = np.concatenate([loaded.embed(pixels[i : i + 1]) for i in range(5)])
    assert np.sum(alone * loaded.embed(pixels), axis=1).min() >= 0.99999


def test_vectors_of_a_batch_survive_the_next_batch(tmp_path):
    loaded = embedder(planar().save(tmp_path / "mine.onnx"))
    first = loaded.embed(random_pixels(2, SIDE_PX, seed=1))
    kept = first.copy()
    loaded.embed(random_pixels(2, SIDE_PX, seed=2))
    np.testing.assert_array_equal(first, kept)


def test_a_picture_without_direction_stays_near_zero(tmp_path):
    relu = [node("Relu", ["pixels"], "maps", "relu")]
    shape = ("n", 3, SIDE_PX, SIDE_PX)
    path = Network(relu, [("pixels", shape)], ("maps", shape)).save(tmp_path / "mine.onnx", scaling="none")
    vectors = embedder(path).embed(np.zeros((2, SIDE_PX, SIDE_PX, 3), dtype=np.uint8))
    np.testing.assert_allclose(vectors, np.zeros((2, 3)), atol=1e-6)


def test_a_network_of_any_side_takes_the_side_of_its_json(tmp_path):
    any_side = Network(
        convolutions("pixels", "maps"), [("pixels", ("n", 3, "h", "w"))], ("maps", ("n", 5, "h", "w")), CONSTANTS
    )
    pixels = random_pixels(2, SIDE_PX)
    expected = unit(pooled(maps(pixels, SCALINGS["torch"]), "avg"))
    np.testing.assert_allclose(embedder(any_side.save(tmp_path / "mine.onnx")).embed(pixels), expected, atol=1e-5)


# What is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"no network", b""], ids=["text", "empty"])
def test_a_broken_file_is_named(content, tmp_path):
    path = planar().save(tmp_path / "mine.onnx")
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"mine\.onnx cannot be read as ONNX \(.*\); export it again"):
        embedder(path)


def test_a_truncated_file_is_named(tmp_path):
    path = planar().save(tmp_path / "mine.onnx")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ModelError, match=r"mine\.onnx cannot be read as ONNX"):
        embedder(path)


def test_two_inputs_are_one_too_many(tmp_path):
    shape = ("n", 3, SIDE_PX, SIDE_PX)
    total = [node("Add", ["left", "right"], "maps", "add")]
    path = Network(total, [("left", shape), ("right", shape)], ("maps", shape)).save(tmp_path / "mine.onnx")
    with pytest.raises(ModelError, match=r"mine\.onnx has 2 inputs; export it with one"):
        embedder(path)


@pytest.mark.parametrize("shape", [("n", 4, SIDE_PX, SIDE_PX), ("n", 3, SIDE_PX), ("n", "c", "h", "w")], ids=str)
def test_an_input_that_is_no_picture_is_named(shape, tmp_path):
    relu = [node("Relu", ["pixels"], "maps", "relu")]
    path = Network(relu, [("pixels", shape)], ("maps", shape)).save(tmp_path / "mine.onnx")
    with pytest.raises(ModelError, match=r"mine\.onnx takes .*; export it with an input of"):
        embedder(path)


def test_an_output_that_cannot_be_pooled_is_named(tmp_path):
    reshape = node("Reshape", ["maps", "shape"], "cube", "reshape")
    output = ("cube", ("n", 5, 2, 2, 36))
    network = planar(reshape, output=output, constants={"shape": np.array([0, 5, 2, 2, 36])})
    with pytest.raises(ModelError, match="the output of mine gives no vector or map"):
        embedder(network.save(tmp_path / "mine.onnx"))


def test_a_vector_of_no_fixed_length_is_refused(tmp_path):
    reshape = node("Reshape", ["maps", "shape"], "flat", "reshape")
    network = planar(reshape, output=("flat", (1, "d")), constants={"shape": np.array([1, -1])})
    with pytest.raises(ModelError, match=r"mine\.onnx cannot be read as ONNX .*; export it again"):
        embedder(network.save(tmp_path / "mine.onnx"))


def test_a_side_that_the_network_cannot_take_is_refused(tmp_path):
    reshape = node("Reshape", ["maps", "shape"], "flat", "reshape")
    network = planar(reshape, output=("flat", ("n", 720)), constants={"shape": np.array([0, 5 * SIDE_PX**2])})
    assert embedder(network.save(tmp_path / "mine.onnx")).width == 720
    with pytest.raises(ModelError, match=r"mine\.onnx does not run at 20 x 20 px \(.*\); mend the side"):
        embedder(network.save(tmp_path / "mine.onnx", side=20))
