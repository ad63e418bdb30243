"""Load a model as an `Embedder`: choose the engine, convert the graph, and fall back where that fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import ModelError, SimsearchError
from simsearch.models import graph_cache
from simsearch.models.builtin import network, versions
from simsearch.models.embedder import Embedder, HistogramEmbedder, check_can_embed
from simsearch.models.graph_operations import Operation
from simsearch.models.model import GraphBytes, Model
from simsearch.models.weights import hash_file
from simsearch.sources.progress import find_listener

Engine = Literal["auto", "openvino", "tensorflow"]
ENGINES: tuple[str, ...] = get_args(Engine)

MIN_AGREEMENT = 0.9999
"""The minimum mean cosine between the vectors of Keras and of the converted graph, both at f32."""

_N_NOISE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """Options for loading a model.

    `for_throughput` optimizes for many batches, otherwise for the latency of one. `locate` finds the weights; it is
    called only where they are needed. `graph` is the stored graph of an int8 model. `pixels` (n, side, side, 3) uint8
    are used to check a newly converted graph; without them it is checked on noise. `n_threads` limits OpenVINO's
    threads; None means all cores.
    """

    engine: Engine = "auto"
    for_throughput: bool = False
    locate: Callable[[Model], Model] = lambda model: model
    graph: GraphBytes | None = None
    pixels: NDArray[np.uint8] | None = None
    n_threads: int | None = None


def open_embedder(model: Model, options: LoadOptions | None = None) -> Embedder:
    """Load a model: 0.3 s if its graph is in the cache, otherwise several seconds for the conversion.

    TensorFlow runs the models that OpenVINO cannot run, and a note says so. Raises `ModelError` when the network cannot
    be built, when its weights do not fit, or when the requested engine cannot run it.
    """
    options = options or LoadOptions()
    check_can_embed(model)
    if model.runtime == "fused":
        raise ModelError(f"{model.backbone} joins vectors of a collection", "choose a single --backbone")
    if model.runtime == "histogram":
        return HistogramEmbedder(model)
    if model.runtime == "builtin" and options.graph is None:
        versions.find_graph(model)  # raises where this package does not have the model's version
    if options.engine == "tensorflow":
        return _open_keras(model, options, [])
    try:
        from simsearch.models import openvino_runtime
    except ImportError as error:
        if options.engine == "openvino" or model.runtime == "onnx":
            raise ModelError(f"OpenVINO cannot be loaded ({error})", "install it: pip install openvino") from error
        return _open_keras(
            model, options, [f"OpenVINO cannot be loaded ({error}); TensorFlow is used, which is slower"]
        )
    if options.graph is not None:
        graph = openvino_runtime.from_bytes(options.graph)
        return openvino_runtime.OpenVinoEmbedder(
            model, graph, for_throughput=options.for_throughput, n_threads=options.n_threads
        )
    if model.runtime == "builtin":
        return _open_builtin(openvino_runtime, model, options)
    if model.runtime == "onnx":
        return openvino_runtime.OpenVinoEmbedder(model, for_throughput=options.for_throughput)
    return _open_converted(openvino_runtime, model, options)


def read_operations(model: Model, options: LoadOptions) -> list[Operation]:
    """Read the network of a model at f32 as a list of operations; a network that was never run is converted first.

    Raises `ModelError` where the model has no network, or OpenVINO cannot run it.
    """
    model = model.f32_model
    check_can_embed(model)
    if model.runtime in ("histogram", "fused"):
        problem = f"{model.backbone} is not a single network, and cannot be written as one"
        raise ModelError(problem, "choose another --backbone")
    from simsearch.models import openvino_runtime

    if model.runtime == "onnx":
        return openvino_runtime.list_operations(openvino_runtime.read_onnx(options.locate(model)))
    if model.runtime == "builtin":
        return openvino_runtime.list_operations(openvino_runtime.read_graph(*versions.find_graph(model)))
    open_embedder(model, options)  # converts it where the cache does not have it
    file = graph_cache.find(make_graph_key(model, openvino_runtime.VERSION))
    if file is None:
        raise ModelError(f"OpenVINO cannot run {model.backbone}", "choose another --backbone")
    return openvino_runtime.list_operations(file)


def make_graph_key(model: Model, version: str) -> str:
    """The cache key of a converted graph; all precisions share it."""
    return f"{model.f32_model.fingerprint}-openvino-{version}"


def compute_mean_cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """The mean cosine between corresponding unit rows of two arrays (n, d)."""
    return float(np.mean(np.sum(a * b, axis=1)))


def _open_builtin(openvino_runtime: Any, model: Model, options: LoadOptions) -> Embedder:
    """Open the built-in network, with the classification head where that is the model's layer.

    Without VNNI, sums of int8 products saturate (mean cosine 0.96 to f32), so the int8 graph is adapted there (0.993).
    """
    definition, weights = versions.find_graph(model)

    def read() -> Any:
        graph = openvino_runtime.read_graph(definition, weights)
        if model.precision == "int8" and not openvino_runtime.has_vnni():
            return openvino_runtime.avoid_saturation(graph, network.SENSITIVE_LAYERS)
        return graph

    if model.layer == network.PREDICTIONS_LAYER:
        graph = openvino_runtime.add_classifier(read(), network.POOLED, network.read_classifier())
        return openvino_runtime.OpenVinoEmbedder(model, graph, for_throughput=options.for_throughput)  # type: ignore[no-any-return]
    key = f"{model.fingerprint}-{hash_file(str(definition))[:16]}"
    return openvino_runtime.OpenVinoEmbedder(  # type: ignore[no-any-return]
        model, read, for_throughput=options.for_throughput, cache_key=key
    )


def _open_keras(model: Model, options: LoadOptions, notes: Sequence[str]) -> Embedder:
    if versions.is_former(model):
        raise ModelError(
            f"TensorFlow cannot run the former version of {model.backbone}",
            "remove --engine, or upgrade the collection",
        )
    if model.runtime == "onnx":
        raise ModelError("TensorFlow cannot read ONNX files", "remove --engine")
    if model.precision == "int8":
        raise ModelError("TensorFlow cannot run int8 models", "remove --engine, or index with --precision f32")
    from simsearch.models.keras_runtime import KerasEmbedder

    return KerasEmbedder(options.locate(model), notes)


def _open_converted(openvino_runtime: Any, model: Model, options: LoadOptions) -> Embedder:
    """Open a Keras network in OpenVINO: from the cache, or converted now and compared with Keras."""
    notes: list[str] = []
    key = make_graph_key(model, openvino_runtime.VERSION)
    try:
        if file := graph_cache.find(key):
            return openvino_runtime.OpenVinoEmbedder(model, file, for_throughput=options.for_throughput)  # type: ignore[no-any-return]
    except (ValueError, SimsearchError) as error:
        notes.append(f"the cached graph of {model.backbone} was damaged and is converted again ({error})")
    with find_listener().on_activity(f"converting {model.backbone} for OpenVINO, once"):
        return _convert(openvino_runtime, model, options, key, notes)


def _convert(openvino_runtime: Any, model: Model, options: LoadOptions, key: str, notes: list[str]) -> Embedder:
    """Convert a Keras network, compare it with Keras, keep it in the cache, and open it."""
    keras = _open_keras(model, options, notes)
    try:
        graph = openvino_runtime.convert(keras.function)  # type: ignore[attr-defined]  # a KerasEmbedder
        exact = openvino_runtime.OpenVinoEmbedder(model.f32_model, graph)
    except Exception as error:  # the exception type for an unsupported layer is undefined
        return _fall_back_to_keras(
            keras, options, f"cannot convert {model.backbone} ({openvino_runtime.extract_last_line(error)})"
        )
    pixels = _make_noise(model) if options.pixels is None or not len(options.pixels) else options.pixels[:_N_NOISE]
    agreement = compute_mean_cosine(keras.embed(pixels), exact.embed(pixels))
    if not agreement >= MIN_AGREEMENT:
        return _fall_back_to_keras(
            keras, options, f"computes different vectors for {model.backbone} (mean cosine {agreement:.4f})"
        )
    try:
        graph = graph_cache.keep(key, lambda path: openvino_runtime.save(graph, path))
    except OSError as error:
        notes.append(f"the graph cache cannot be written ({error}); {model.backbone} is converted each time")
    return openvino_runtime.OpenVinoEmbedder(model, graph, for_throughput=options.for_throughput, notes=notes)  # type: ignore[no-any-return]


def _fall_back_to_keras(keras: Embedder, options: LoadOptions, problem: str) -> Embedder:
    if options.engine == "openvino":
        raise ModelError(f"OpenVINO {problem}", "remove --engine to use TensorFlow")
    keras.notes = (*keras.notes, f"OpenVINO {problem}; TensorFlow is used, which is slower")
    return keras


def _make_noise(model: Model) -> NDArray[np.uint8]:
    shape = (_N_NOISE, model.side_px, model.side_px, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
