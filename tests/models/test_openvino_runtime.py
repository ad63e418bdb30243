"""ONNX files against NumPy. The files are encoded here, so the expected values come from NumPy alone."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import numpy as np
import pytest

from simsearch.errors import ModelError, UnknownLayer
from simsearch.models.choice import ModelChoice, resolve_model
from simsearch.models.loader import open_embedder
from simsearch.models.model import SCALINGS
from tests.models.conftest import apply_scaling, make_random_pixels, normalize_rows, pool_maps

SIDE_PX = 12
RANDOM = np.random.default_rng(7)
FIRST = RANDOM.normal(size=(4, 3, 3, 3)).astype(np.float32)  # (channels out, channels in, height, width)
BIAS = RANDOM.normal(size=4).astype(np.float32)
SECOND = RANDOM.normal(size=(5, 4, 1, 1)).astype(np.float32)


# ONNX as Protocol Buffers (github.com/onnx/onnx, onnx.proto): the few messages and fields a small network needs -------


def encode_varint(number):
    number &= (1 << 64) - 1
    head = bytearray()
    while number > 127:
        head.append(number & 127 | 128)
        number >>= 7
    return bytes([*head, number])


def encode_message(*fields):
    """Encode a message of (number, value) pairs; a value is an integer, text or the bytes of another message."""
    parts = []
    for number, value in fields:
        if isinstance(value, int):
            parts.append(encode_varint(number << 3) + encode_varint(value))
        else:
            content = value.encode() if isinstance(value, str) else value
            parts.append(encode_varint(number << 3 | 2) + encode_varint(len(content)) + content)
    return b"".join(parts)


def encode_node(kind, inputs, output, name, **attributes):
    """Encode an operation; each attribute is a list of integers, or one integer."""
    attributes = [
        encode_message((1, key), (20, 2), (3, value)) if isinstance(value, int)
        else encode_message((1, key), (20, 7), *((8, item) for item in value))
        for key, value in attributes.items()
    ]  # fmt: skip
    return encode_message(
        *((1, name) for name in inputs), (2, output), (3, name), (4, kind), *((5, value) for value in attributes)
    )


def encode_tensor(name, array):
    kind = {"float32": 1, "int64": 7}[str(array.dtype)]
    return encode_message(*((1, length) for length in array.shape), (2, kind), (8, name), (9, array.tobytes()))


def encode_value_info(name, shape):
    """Encode a float32 input or output; a length given as text is variable."""
    lengths = [encode_message((2, length) if isinstance(length, str) else (1, length)) for length in shape]
    tensor_type = encode_message((1, 1), (2, encode_message(*((1, length) for length in lengths))))
    return encode_message((1, name), (2, encode_message((1, tensor_type))))


@dataclass(frozen=True)
class OnnxNetwork:
    """The content of an ONNX file; `inputs` and `output` are (name, shape)."""

    nodes: list[bytes]
    inputs: list[tuple[str, tuple]]
    output: tuple[str, tuple]
    constants: dict[str, np.ndarray] = field(default_factory=dict)

    def save(self, path, **settings):
        graph = encode_message(
            *((1, one) for one in self.nodes),
            (2, "graph"),
            *((5, encode_tensor(*constant)) for constant in self.constants.items()),
            *((11, encode_value_info(*one)) for one in self.inputs),
            (12, encode_value_info(*self.output)),
        )
        path.write_bytes(encode_message((1, 8), (8, encode_message((1, ""), (2, 13))), (7, graph)))
        path.with_suffix(".json").write_text(json.dumps({"side": SIDE_PX, "scaling": "torch"} | settings))
        return path


# The networks, in ONNX and in NumPy ----------------------------------------------------------------------------------


CONSTANTS = {"kernel_1": FIRST, "bias_1": BIAS, "kernel_2": SECOND}


def add_convolutions(pixels, output):
    return [
        encode_node("Conv", [pixels, "kernel_1", "bias_1"], "sums", "conv_1", pads=[1, 1, 1, 1]),
        encode_node("Relu", ["sums"], "activations", "relu_1"),
        encode_node("Conv", ["activations", "kernel_2"], output, "conv_2"),
    ]


def make_planar(*last, output=("maps", ("n", 5, SIDE_PX, SIDE_PX)), constants=()):
    nodes = [*add_convolutions("pixels", "maps"), *last]
    return OnnxNetwork(nodes, [("pixels", ("n", 3, SIDE_PX, SIDE_PX))], output, CONSTANTS | dict(constants))


def make_interleaved():
    """A network as TensorFlow's exporters write it: with transposed input and output."""
    nodes = [
        encode_node("Transpose", ["pixels"], "planes", "to_planes", perm=[0, 3, 1, 2]),
        *add_convolutions("planes", "maps"),
        encode_node("Transpose", ["maps"], "pixelwise", "to_pixels", perm=[0, 2, 3, 1]),
    ]
    inputs = [("pixels", ("n", SIDE_PX, SIDE_PX, 3))]
    return OnnxNetwork(nodes, inputs, ("pixelwise", ("n", SIDE_PX, SIDE_PX, 5)), CONSTANTS)


def compute_activations(pixels, scaling):
    """Compute the first convolution and its ReLU, (n, h, w, 4), one kernel position after another."""
    values = np.pad(apply_scaling(pixels, scaling), ((0, 0), (1, 1), (1, 1), (0, 0)))
    sums = np.zeros((*pixels.shape[:3], 4)) + BIAS
    for down in range(3):
        for across in range(3):
            sums += values[:, down : down + SIDE_PX, across : across + SIDE_PX] @ FIRST[:, :, down, across].T
    return np.maximum(sums, 0)


def compute_maps(pixels, scaling):
    return compute_activations(pixels, scaling) @ SECOND[:, :, 0, 0].T


def open_onnx_embedder(path, **choice):
    return open_embedder(resolve_model(ModelChoice(backbone=str(path), **choice)))


# The tests -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", [make_planar, make_interleaved])
@pytest.mark.parametrize("pooling", ["avg", "max", "gem"])
def test_vectors_are_those_numpy_computes(network, pooling, tmp_path):
    pixels = make_random_pixels(3, SIDE_PX)
    loaded = open_onnx_embedder(network().save(tmp_path / "mine.onnx", pooling=pooling))
    expected = normalize_rows(pool_maps(compute_maps(pixels, SCALINGS["torch"]), pooling))
    vectors = loaded.embed(pixels)
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    assert (vectors.dtype, loaded.width) == (np.float32, 5)


@pytest.mark.parametrize("network", [make_planar, make_interleaved])
@pytest.mark.parametrize("scaling", [*SCALINGS, "its own"])
def test_pixels_are_scaled_by_the_model_settings(network, scaling, tmp_path):
    pixels = make_random_pixels(2, SIDE_PX)
    own = {"channels": "bgr", "scale": [0.5, 0.25, -0.125], "offset": [1, -2, 30]}
    path = network().save(tmp_path / "mine.onnx", scaling=own if scaling == "its own" else scaling)
    loaded = open_onnx_embedder(path)
    expected = normalize_rows(pool_maps(compute_maps(pixels, loaded.model.scaling), "avg"))
    np.testing.assert_allclose(loaded.embed(pixels), expected, atol=2e-5)


@pytest.mark.parametrize("layer", ["relu_1", "activations"], ids=["by its node", "by its tensor"])
def test_a_layer_can_be_named(layer, tmp_path):
    pixels = make_random_pixels(2, SIDE_PX)
    vectors = open_onnx_embedder(make_planar().save(tmp_path / "mine.onnx"), layer=layer).embed(pixels)
    np.testing.assert_allclose(
        vectors, normalize_rows(pool_maps(compute_activations(pixels, SCALINGS["torch"]), "avg")), atol=1e-5
    )


def test_an_unknown_layer_offers_near_names(tmp_path):
    with pytest.raises(UnknownLayer, match="mine has no layer 'activation'; nearest names: activations"):
        open_onnx_embedder(make_planar().save(tmp_path / "mine.onnx"), layer="activation")


def test_an_output_that_is_a_vector_stays_one(tmp_path):
    pixels = make_random_pixels(2, SIDE_PX)
    flatten = encode_node("Flatten", ["maps"], "flat", "flatten", axis=1)
    network = make_planar(flatten, output=("flat", ("n", 5 * SIDE_PX**2)))
    vectors = open_onnx_embedder(network.save(tmp_path / "mine.onnx", pooling="max")).embed(pixels)
    expected = np.moveaxis(compute_maps(pixels, SCALINGS["torch"]), -1, 1).reshape(2, -1)
    np.testing.assert_allclose(vectors, normalize_rows(expected), atol=1e-5)


def test_tokens_are_pooled_like_positions(tmp_path):
    pixels = make_random_pixels(2, SIDE_PX)
    network = make_planar(
        encode_node("Reshape", ["maps", "shape"], "rows", "reshape"),
        encode_node("Transpose", ["rows"], "tokens", "transpose", perm=[0, 2, 1]),
        output=("tokens", ("n", SIDE_PX**2, 5)),
        constants={"shape": np.array([0, 5, -1])},
    )
    vectors = open_onnx_embedder(network.save(tmp_path / "mine.onnx", pooling="max")).embed(pixels)
    np.testing.assert_allclose(
        vectors, normalize_rows(pool_maps(compute_maps(pixels, SCALINGS["torch"]), "max")), atol=1e-5
    )


def test_a_picture_has_the_same_vector_alone_and_among_others(tmp_path):
    pixels, loaded = make_random_pixels(5, SIDE_PX), open_onnx_embedder(make_planar().save(tmp_path / "mine.onnx"))
    alone = np.concatenate([loaded.embed(pixels[i : i + 1]) for i in range(5)])
    assert np.sum(alone * loaded.embed(pixels), axis=1).min() >= 0.99999


def test_vectors_of_a_batch_survive_the_next_batch(tmp_path):
    loaded = open_onnx_embedder(make_planar().save(tmp_path / "mine.onnx"))
    first = loaded.embed(make_random_pixels(2, SIDE_PX, seed=1))
    kept = first.copy()
    loaded.embed(make_random_pixels(2, SIDE_PX, seed=2))
    np.testing.assert_array_equal(first, kept)


def test_a_picture_without_direction_stays_near_zero(tmp_path):
    relu = [encode_node("Relu", ["pixels"], "maps", "relu")]
    shape = ("n", 3, SIDE_PX, SIDE_PX)
    path = OnnxNetwork(relu, [("pixels", shape)], ("maps", shape)).save(tmp_path / "mine.onnx", scaling="none")
    vectors = open_onnx_embedder(path).embed(np.zeros((2, SIDE_PX, SIDE_PX, 3), dtype=np.uint8))
    np.testing.assert_allclose(vectors, np.zeros((2, 3)), atol=1e-6)


def test_a_network_of_any_side_takes_the_side_of_its_json(tmp_path):
    any_side = OnnxNetwork(
        add_convolutions("pixels", "maps"), [("pixels", ("n", 3, "h", "w"))], ("maps", ("n", 5, "h", "w")), CONSTANTS
    )
    pixels = make_random_pixels(2, SIDE_PX)
    expected = normalize_rows(pool_maps(compute_maps(pixels, SCALINGS["torch"]), "avg"))
    np.testing.assert_allclose(
        open_onnx_embedder(any_side.save(tmp_path / "mine.onnx")).embed(pixels), expected, atol=1e-5
    )


# What is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"no network", b""], ids=["text", "empty"])
def test_a_broken_file_is_named(content, tmp_path):
    path = make_planar().save(tmp_path / "mine.onnx")
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"mine\.onnx cannot be read as ONNX \(.*\); export it again"):
        open_onnx_embedder(path)


def test_a_truncated_file_is_named(tmp_path):
    path = make_planar().save(tmp_path / "mine.onnx")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ModelError, match=r"mine\.onnx cannot be read as ONNX"):
        open_onnx_embedder(path)


def test_two_inputs_are_one_too_many(tmp_path):
    shape = ("n", 3, SIDE_PX, SIDE_PX)
    total = [encode_node("Add", ["left", "right"], "maps", "add")]
    path = OnnxNetwork(total, [("left", shape), ("right", shape)], ("maps", shape)).save(tmp_path / "mine.onnx")
    with pytest.raises(ModelError, match=r"mine\.onnx has 2 inputs; export it with one"):
        open_onnx_embedder(path)


@pytest.mark.parametrize("shape", [("n", 4, SIDE_PX, SIDE_PX), ("n", 3, SIDE_PX)], ids=str)
def test_an_input_that_is_no_picture_is_named(shape, tmp_path):
    relu = [encode_node("Relu", ["pixels"], "maps", "relu")]
    path = OnnxNetwork(relu, [("pixels", shape)], ("maps", shape)).save(tmp_path / "mine.onnx")
    with pytest.raises(ModelError, match=r"the input of .*mine\.onnx has the shape .*; export it with an input"):
        open_onnx_embedder(path)


def test_an_output_that_cannot_be_pooled_is_named(tmp_path):
    reshape = encode_node("Reshape", ["maps", "shape"], "cube", "reshape")
    output = ("cube", ("n", 5, 2, 2, 36))
    network = make_planar(reshape, output=output, constants={"shape": np.array([0, 5, 2, 2, 36])})
    with pytest.raises(ModelError, match="the output of mine is not a vector or a map"):
        open_onnx_embedder(network.save(tmp_path / "mine.onnx"))


def test_a_vector_of_no_fixed_length_is_refused(tmp_path):
    reshape = encode_node("Reshape", ["maps", "shape"], "flat", "reshape")
    network = make_planar(reshape, output=("flat", (1, "d")), constants={"shape": np.array([1, -1])})
    with pytest.raises(ModelError, match=r"mine\.onnx cannot be read as ONNX .*; export it again"):
        open_onnx_embedder(network.save(tmp_path / "mine.onnx"))


def test_a_side_that_the_network_cannot_take_is_refused(tmp_path):
    reshape = encode_node("Reshape", ["maps", "shape"], "flat", "reshape")
    network = make_planar(reshape, output=("flat", ("n", 720)), constants={"shape": np.array([0, 5 * SIDE_PX**2])})
    assert open_onnx_embedder(network.save(tmp_path / "mine.onnx")).width == 720
    with pytest.raises(ModelError, match=r"mine\.onnx cannot run with a 20 x 20 px input \(.*\); correct the side"):
        open_onnx_embedder(network.save(tmp_path / "mine.onnx", side=20))


def test_a_network_computes_in_as_many_threads_as_the_variable_of_openmp_allows(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    embedder = open_onnx_embedder(make_planar().save(tmp_path / "mine.onnx"))
    assert embedder._compiled.get_property("INFERENCE_NUM_THREADS") == 1
    assert not embedder._compiled.get_property("ENABLE_CPU_PINNING")  # else all processes share the first core
