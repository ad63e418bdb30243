"""Keras runtime: build any Keras network as a graph from uint8 pixels to unit vectors.

Pre-processing, pooling and L2 normalization are layers of the graph, so they are the same at ingest and at query. No
other module imports TensorFlow.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import MissingExtra, ModelError, UnknownLayer, WeightsMismatch
from simsearch.machine import silence_stderr
from simsearch.models.builtin import network as builtin
from simsearch.models.layers import (
    Layer,
    LayerMaps,
    make_class_token_error,
    make_pooling_error,
    make_unknown_layer_error,
    select_layers,
)
from simsearch.models.model import GEM_POWER, NORM_FLOOR, Model, Pooling, Scaling
from simsearch.models.weights import has_head
from simsearch.models.zoo import BACKBONES, Backbone, WeightsFile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")


try:
    with silence_stderr():  # TensorFlow writes device messages on import
        import keras
        import tensorflow as tf
except ImportError as error:
    raise MissingExtra("a network of Keras", "keras") from error


class KerasEmbedder:
    """A Keras graph compiled by TensorFlow, once for all batch sizes. It calculates in float32."""

    engine = "tensorflow"
    n_parallel = 1

    def __init__(self, model: Model, notes: Sequence[str] = ()) -> None:
        self.model = model.f32_model
        self.notes = tuple(notes)
        function = _load_saved_model(model) if model.runtime == "saved-model" else _build_keras_function(model)
        pixels = tf.TensorSpec([None, model.side_px, model.side_px, 3], tf.uint8)
        self._function = tf.function(function, input_signature=[pixels], autograph=False)
        self.width = int(self._function.get_concrete_function().output_shapes[-1])

    @property
    def function(self) -> Any:
        """The TensorFlow function from pixels to vectors, for conversion to another engine."""
        return self._function.get_concrete_function()

    def embed(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed (n, side, side, 3) uint8 RGB as (n, d) float32 unit rows."""
        vectors: NDArray[np.float32] = self._function(tf.constant(batch)).numpy()
        return vectors


def build_graph(model: Model) -> keras.Model:
    """Build the Keras network of a model, from uint8 (n, side, side, 3) to unit rows (n, d).

    Raises `UnknownLayer`, `WeightsMismatch` or another `ModelError`.
    """
    _check_backend()
    if model.runtime == "builtin":
        included = builtin.build(with_head=model.layer == builtin.PREDICTIONS_LAYER)
        return keras.Model(included.inputs, _normalize_rows(included.outputs[0]), name=model.backbone)
    network = _build_zoo_network(model) if model.runtime == "keras-zoo" else _load_keras_file(model)
    features = _cut(network, model)
    _check_inputs_and_outputs(model, n_inputs=len(features.inputs), n_outputs=len(features.outputs))
    pixels = keras.Input((model.side_px, model.side_px, 3), dtype="uint8", name="pixels")
    shape = features.inputs[0].shape
    if shape[-1] != 3:  # Keras would raise only when the network runs
        raise _make_size_error(model, f"its input has the shape {shape}")
    try:
        maps = features(_scale(pixels, model.scaling))
    except ValueError as error:
        raise _make_size_error(model, _extract_first_line(error)) from error
    return keras.Model(pixels, _normalize_rows(_pool(maps, model)), name=model.backbone)


class FeatureMapExtractor:
    """A network with several layers as outputs, so that one pass computes all their feature maps.

    `layers` are names or indexes, as for `select_layers`. Raises `UnknownLayer` or another `ModelError`.
    """

    def __init__(self, model: Model, layers: Sequence[str | int] = ()) -> None:
        _check_backend()
        if model.runtime == "builtin":
            network = builtin.build()
        else:
            network = _build_zoo_network(model) if model.runtime == "keras-zoo" else _load_keras_file(model)
            network = _fix_input_size(network, model)
        described = [_describe_layer(index, layer) for index, layer in enumerate(network.layers)]
        self._model = model
        self.layers = select_layers(described, layers, model.backbone)
        self._network = keras.Model(network.inputs, [network.layers[layer.index].output for layer in self.layers])

    def extract(self, pixels: NDArray[np.uint8]) -> tuple[LayerMaps, ...]:
        """Compute the feature maps of one picture (side, side, 3) uint8 RGB, one result per layer."""
        batch = tf.constant(pixels[None])
        try:
            # The built-in network contains the scaling.
            values = batch if self._model.runtime == "builtin" else _scale(batch, self._model.scaling)
            outputs = self._network(values, training=False)
        except (ValueError, tf.errors.InvalidArgumentError) as error:
            raise _make_size_error(self._model, _extract_first_line(error)) from error
        outputs = outputs if isinstance(outputs, list) else [outputs]  # Keras unpacks a list of one
        return tuple(LayerMaps(layer, maps[0].numpy()) for layer, maps in zip(self.layers, outputs, strict=True))


def _fix_input_size(network: keras.Model, model: Model) -> keras.Model:
    """Fix the input size of a network to the model's side; a network of variable size has no fixed map sizes."""
    _check_inputs_and_outputs(model, n_inputs=len(network.inputs), n_outputs=1)
    if None not in network.inputs[0].shape[1:]:
        return network
    try:
        fixed = keras.models.clone_model(network, input_tensors=keras.Input((model.side_px, model.side_px, 3)))
    except ValueError as error:
        raise _make_size_error(model, _extract_first_line(error)) from error
    fixed.set_weights(network.get_weights())
    return fixed


def _describe_layer(index: int, layer: Any) -> Layer:
    try:
        shape = getattr(layer.output, "shape", ())  # a list of several outputs has no shape
    except (AttributeError, ValueError):  # a layer that is used more than once has no single output
        shape = ()
    is_map = len(shape) == 4 and None not in shape[1:] and min(shape[1:3]) > 1
    return Layer(index, layer.name, tuple(shape[1:]) if is_map else None, isinstance(layer, _CONVOLUTIONS))


_CONVOLUTIONS = (
    keras.layers.Conv2D,
    keras.layers.Conv2DTranspose,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
)


def download(wanted: WeightsFile, url: str, folder: Path) -> None:
    """Download a weights file through Keras into `folder`, atomically.

    Raises `OSError` when the download fails or the file does not have the published digest.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary = tempfile.mkdtemp(prefix=".download-", dir=folder)
    try:
        try:
            with _redirect_progress():
                fetched = keras.utils.get_file(wanted.name, origin=url, cache_dir=temporary, cache_subdir="")
        except Exception as error:  # Keras raises a bare Exception for every failure of the transfer
            raise OSError(str(error)) from error
        if wanted.digest and _compute_published_digest(fetched, wanted.digest) != wanted.digest:
            raise OSError(f"the file from {url} does not have the published digest")
        os.replace(fetched, folder / wanted.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _redirect_progress() -> contextlib.AbstractContextManager[Any]:
    """Redirect Keras's progress from stdout, which is reserved for results; discard it without a terminal."""
    return contextlib.redirect_stdout(sys.stderr if sys.stderr.isatty() else io.StringIO())


def _compute_published_digest(path: str, like: str) -> str:
    """The MD5 or SHA-256 digest of a file in hexadecimal, the same kind as `like`."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5" if len(like) == 32 else "sha256").hexdigest()


def _check_backend() -> None:
    if keras.backend.backend() != "tensorflow":
        raise ModelError(
            f"the Keras backend is {keras.backend.backend()}, not TensorFlow", "set KERAS_BACKEND=tensorflow"
        )


def _build_zoo_network(model: Model) -> keras.Model:
    row = BACKBONES[model.backbone]
    needs_head = model.layer in row.head_layers
    if model.file is None:
        network = _construct(row, with_head=needs_head)
        _randomize(network)
        return network
    order = [True] if needs_head else [has_head(model.file), not has_head(model.file)]
    failure: Exception | None = None
    for with_head in order:
        network = _construct(row, with_head=with_head)
        if with_head and not needs_head and row.layer not in {layer.name for layer in network.layers}:
            continue  # ConvNeXt with a head normalizes its features differently
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Keras warns dozens of times before it raises
                network.load_weights(model.file)
        except (ValueError, OSError, KeyError, TypeError, AttributeError, IndexError) as error:
            failure = failure or error
        else:
            if row.constructor.startswith("EfficientNetB"):
                _rescale_efficientnet_input(network)
            return network
    wanted = row.top if needs_head else row.notop
    raise WeightsMismatch(
        f"the weights in {model.file} do not fit {row.name}, layer {model.layer} ({_extract_first_line(failure)})",
        f"give the Keras weights of {row.name}, such as {wanted.name}",
    ) from failure


def _rescale_efficientnet_input(network: keras.Model) -> None:
    """Scale EfficientNet's input by another 1 / sqrt(std), as its ImageNet weights were trained.

    Keras adds this step when it downloads the weights itself (TensorFlow issue 49930), but not when it loads them from
    a file. Dividing by sqrt(variance * std) is equivalent.
    """
    normalization = next(layer for layer in network.layers if isinstance(layer, keras.layers.Normalization))
    deviations = np.array([0.229, 0.224, 0.225], dtype=np.float32)
    normalization.variance = normalization.variance * deviations


def _construct(row: Backbone, *, with_head: bool) -> keras.Model:
    keras.backend.clear_session()  # restarts the numbering of automatic layer names
    shape = (row.side_px, row.side_px, 3)
    return getattr(keras.applications, row.constructor)(weights=None, include_top=with_head, input_shape=shape)


def _randomize(network: keras.Model) -> None:
    """Set He-normal kernels from a fixed seed, and neutral other weights: the same on every machine and Keras."""
    random = np.random.default_rng(0)
    for variable in network.weights:
        shape = tuple(variable.shape)
        if len(shape) > 1:
            # A depthwise kernel (h, w, channels, 1) has one input channel.
            fan_in = int(np.prod(shape[:2] if len(shape) == 4 and shape[3] == 1 else shape[:-1]))
            value = random.standard_normal(shape, dtype=np.float32) * np.float32(np.sqrt(2 / fan_in))
        else:
            starts_at_one = variable.name in ("gamma", "moving_variance", "variance")
            value = np.full(shape, 1.0 if starts_at_one else 0.0, dtype=np.float32)
        variable.assign(value.astype(variable.dtype))


def _load_keras_file(model: Model) -> keras.Model:
    try:
        network = keras.models.load_model(model.file, compile=False)
    except Exception as error:  # an invalid file makes Keras raise any type of exception
        raise ModelError(
            f"{model.file} cannot be loaded ({_extract_first_line(error)})", "save it again with Keras 3"
        ) from error
    if not getattr(
        network, "inputs", None
    ):  # a Sequential without an Input has no such attribute, a subclassed model has None
        raise ModelError(f"{model.file} has no defined input", "give the network an Input layer and save it again")
    return network


def _cut(network: keras.Model, model: Model) -> keras.Model:
    """Cut the network after the model's layer."""
    if model.layer is None:
        return network
    names = [layer.name for layer in network.layers]
    if model.layer not in names:
        raise make_unknown_layer_error(model.backbone, model.layer, names)
    return keras.Model(network.inputs, network.get_layer(model.layer).output)


def _check_inputs_and_outputs(model: Model, *, n_inputs: int, n_outputs: int) -> None:
    if (n_inputs, n_outputs) != (1, 1):
        raise ModelError(
            f"{model.backbone} has {n_inputs} inputs and {n_outputs} outputs",
            "save a model with one input (a picture) and one output (a vector or map)",
        )


def _make_size_error(model: Model, detail: str) -> ModelError:
    return ModelError(
        f"{model.backbone} does not accept a {model.side_px} x {model.side_px} x 3 input ({detail})",
        "correct the side in the JSON file of the model",
    )


def _scale(pixels: Any, scaling: Scaling) -> Any:
    values = keras.ops.cast(pixels, "float32")
    if scaling.channels == "bgr":
        values = values[..., ::-1]
    scale, offset = (np.array(triple, dtype=np.float32) for triple in (scaling.scale, scaling.offset))
    return values * scale + offset


def _pool(maps: Any, model: Model) -> Any:
    """Pool (n, h, w, c) or (n, tokens, c) to (n, c); (n, d) is returned as it is."""
    axes = tuple(range(1, len(maps.shape) - 1))
    if len(maps.shape) < 2 or len(maps.shape) > 4:
        raise make_pooling_error(model)
    if model.pooling == "cls" and len(axes) == 2:
        raise make_class_token_error(model)
    return _POOLS[model.pooling](maps, axes) if axes else maps


def _pool_gem(maps: Any, axes: tuple[int, ...]) -> Any:
    """Generalized mean over positions, (mean x^p)^(1/p) of x >= 1e-6 (Radenović, Tolias & Chum 2018, eq. 3)."""
    powers = keras.ops.power(keras.ops.maximum(maps, 1e-6), GEM_POWER)
    return keras.ops.power(keras.ops.mean(powers, axis=axes), 1 / GEM_POWER)


_POOLS: dict[Pooling, Callable[[Any, tuple[int, ...]], Any]] = {
    "avg": lambda maps, axes: keras.ops.mean(maps, axis=axes),
    "max": lambda maps, axes: keras.ops.max(maps, axis=axes),
    "gem": _pool_gem,
    "cls": lambda tokens, _: tokens[:, 0],
}


def _normalize_rows(rows: Any) -> Any:
    length = keras.ops.sqrt(keras.ops.sum(keras.ops.square(rows), axis=-1, keepdims=True))
    return rows / keras.ops.maximum(length, NORM_FLOOR)


def _build_keras_function(model: Model) -> Callable[[Any], Any]:
    graph = build_graph(model)
    return lambda pixels: graph(pixels, training=False)


def _load_saved_model(model: Model) -> Callable[[Any], Any]:
    """Load the default signature of a SavedModel folder, between pre-processing and pooling."""
    _check_backend()
    if model.layer is not None:
        raise UnknownLayer(model.backbone, model.layer, [])
    try:
        loaded = tf.saved_model.load(model.file)
        signature = loaded.signatures["serving_default"]
        inputs = list(signature.structured_input_signature[1])
    except Exception as error:  # an invalid folder makes TensorFlow raise any type of exception
        raise ModelError(
            f"{model.file} cannot be loaded ({_extract_first_line(error)})",
            "save it with one input and the signature serving_default",
        ) from error

    _check_inputs_and_outputs(model, n_inputs=len(inputs), n_outputs=len(signature.structured_outputs))

    def compute_vectors(pixels: Any) -> Any:
        try:
            outputs = signature(**{inputs[0]: _scale(pixels, model.scaling)})
        except (ValueError, TypeError, tf.errors.InvalidArgumentError) as error:
            raise _make_size_error(model, _extract_first_line(error)) from error
        return _normalize_rows(_pool(next(iter(outputs.values())), model))

    compute_vectors.keep_alive = loaded  # type: ignore[attr-defined]  # without this reference its variables are freed
    return compute_vectors


def _extract_first_line(error: Exception | None) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
