"""One contract for every runtime: uint8 pixels in, unit vectors out. Picks the engine, and falls back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import ModelError, SimsearchError, WeightsMismatch
from simsearch.models import graph_cache, histogram
from simsearch.models.builtin import network
from simsearch.models.model import GraphBytes, Model
from simsearch.models.weights import hash_file

Engine = Literal["auto", "openvino", "tensorflow"]
ENGINES: tuple[str, ...] = get_args(Engine)

MIN_AGREEMENT = 0.9999
"""The least cosine between what Keras and the converted graph make of a picture at f32."""

MIN_VECTOR_NORM = 0.99
"""A row shorter than this is no unit vector: the network returned zeros or values that are not finite."""

_N_NOISE = 8


class Embedder(Protocol):
    """A model, loaded.

    `width` is d, the length of its vectors. `n_parallel` is how many batches may be embedded at once, by so many
    threads. `notes` say what a person should know, such as that something slower had to serve.
    """

    model: Model
    width: int
    engine: str
    n_parallel: int
    notes: tuple[str, ...]

    def embed(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(n, side, side, 3) uint8 RGB to (n, d) float32 unit rows; a row with no direction is near zero."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """How to load a model.

    `for_many`: for a run and not for one question. `locate` finds the weights, when they are needed at all.
    `graph` is what the catalog keeps of an int8 model. `pixels` are pictures (n, side, side, 3) that a newly
    converted graph is checked on; without them it is noise. `n_threads` are what OpenVINO may use, all where it is
    None.
    """

    engine: Engine = "auto"
    for_throughput: bool = False
    locate: Callable[[Model], Model] = lambda model: model
    graph: GraphBytes | None = None
    pixels: NDArray[np.uint8] | None = None
    n_threads: int | None = None


class HistogramEmbedder:
    """Counts colours and edges."""

    engine = "numpy"
    n_parallel = 1
    notes: tuple[str, ...] = ()

    def __init__(self, model: Model) -> None:
        self.model = model
        self.width = histogram.WIDTH

    def embed(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(n, side, side, 3) uint8 RGB to (n, d) float32 unit rows."""
        return histogram.compute_histograms(batch)


def open_embedder(model: Model, opening: LoadOptions | None = None) -> Embedder:
    """Load a model: in a third of a second where its graph was converted before, else in some seconds.

    What OpenVINO cannot run TensorFlow does, and a note says so. Raises `ModelError` when the network cannot be
    built or its weights do not fit, or when the engine that was asked for by name cannot run it.
    """
    opening = opening or LoadOptions()
    check_can_embed(model)
    if model.runtime == "histogram":
        return HistogramEmbedder(model)
    if model.runtime == "builtin" and opening.graph is None and model.weights != hash_builtin_weights():
        raise WeightsMismatch(
            f"the collection was indexed with another {model.backbone} than this simsearch has",
            f"index again: simsearch index ... --backbone {model.backbone}",
        )
    if opening.engine == "tensorflow":
        return _open_keras(model, opening, [])
    try:
        from simsearch.models import openvino_runtime
    except ImportError as error:
        if opening.engine == "openvino" or model.runtime == "onnx":
            raise ModelError(f"OpenVINO cannot be loaded ({error})", "install it: pip install openvino") from error
        return _open_keras(model, opening, [f"OpenVINO cannot be loaded ({error}); TensorFlow serves, slower"])
    if opening.graph is not None:
        graph = openvino_runtime.from_bytes(opening.graph)
        return openvino_runtime.OpenVinoEmbedder(
            model, graph, for_many=opening.for_throughput, n_threads=opening.n_threads
        )
    if model.runtime in ("builtin", "onnx"):
        graph = network.GRAPH if model.runtime == "builtin" else None
        return openvino_runtime.OpenVinoEmbedder(model, graph, for_many=opening.for_throughput)
    return _open_converted(openvino_runtime, model, opening)


def check_can_embed(model: Model) -> None:
    """Raises `ModelError` for a model whose vectors were imported: nothing here could make others."""
    if model.runtime == "imported":
        problem = f"the vectors of {model.backbone} were imported: no other picture can be embedded with it"
        raise ModelError(problem, "ask with an image of the collection (--id), or with another --backbone")


def hash_builtin_weights() -> str:
    """The digest of the weights of the backbone that ships with this simsearch."""
    return hash_file(str(network.GRAPH.with_suffix(".bin")))


def make_graph_key(model: Model, version: str) -> str:
    """Under which the cache keeps the graph that is the same for every precision."""
    return f"{model.f32_model.fingerprint}-openvino-{version}"


def compute_mean_cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """The mean cosine of the rows of two arrays (n, d) of unit rows."""
    return float(np.mean(np.sum(a * b, axis=1)))


def _open_keras(model: Model, opening: LoadOptions, notes: Sequence[str]) -> Embedder:
    if model.runtime == "onnx":
        raise ModelError("TensorFlow does not read ONNX", "leave --engine out")
    if model.precision == "int8":
        raise ModelError(
            "TensorFlow does not run what was made int8", "leave --engine out, or index with --precision f32"
        )
    from simsearch.models.keras_runtime import KerasEmbedder

    return KerasEmbedder(opening.locate(model), notes)


def _open_converted(openvino_runtime: Any, model: Model, opening: LoadOptions) -> Embedder:
    """A Keras network as OpenVINO runs it, from the cache or converted now."""
    notes: list[str] = []
    key = make_graph_key(model, openvino_runtime.VERSION)
    try:
        if file := graph_cache.find(key):
            return openvino_runtime.OpenVinoEmbedder(model, file, for_many=opening.for_throughput)  # type: ignore[no-any-return]
    except (ValueError, SimsearchError) as error:
        notes.append(f"the converted {model.backbone} in the cache was damaged and is made anew ({error})")
    keras = _open_keras(model, opening, notes)
    try:
        graph = openvino_runtime.convert(keras.function)  # type: ignore[attr-defined]  # it is Keras's
        exact = openvino_runtime.OpenVinoEmbedder(model.f32_model, graph)
    except Exception as error:  # a layer that OpenVINO does not know makes it raise anything
        return _fall_back_to_keras(
            keras, opening, f"cannot convert {model.backbone} ({openvino_runtime.last_line(error)})"
        )
    pixels = _make_noise(model) if opening.pixels is None or not len(opening.pixels) else opening.pixels[:_N_NOISE]
    agreement = compute_mean_cosine(keras.embed(pixels), exact.embed(pixels))
    if not agreement >= MIN_AGREEMENT:
        return _fall_back_to_keras(keras, opening, f"gives other vectors for {model.backbone} (cosine {agreement:.4f})")
    try:
        graph = graph_cache.keep(key, lambda path: openvino_runtime.save(graph, path))
    except OSError as error:
        notes.append(f"the cache cannot be written to ({error}); {model.backbone} is converted each time")
    return openvino_runtime.OpenVinoEmbedder(model, graph, for_many=opening.for_throughput, notes=notes)  # type: ignore[no-any-return]


def _fall_back_to_keras(keras: Embedder, opening: LoadOptions, problem: str) -> Embedder:
    if opening.engine == "openvino":
        raise ModelError(f"OpenVINO {problem}", "leave --engine out: TensorFlow serves then")
    keras.notes = (*keras.notes, f"OpenVINO {problem}; TensorFlow serves, slower")
    return keras


def _make_noise(model: Model) -> NDArray[np.uint8]:
    shape = (_N_NOISE, model.side_px, model.side_px, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
