"""OpenVINO runtime: convert Keras graphs, read ONNX files, and run graphs compiled for this processor.

Pre-processing, pooling and L2 normalization are part of every graph: uint8 pixels in, vectors out. No other module
imports OpenVINO.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops
from openvino.preprocess import ColorFormat, PrePostProcessor

from simsearch.errors import ModelError
from simsearch.machine import read_cpu_info
from simsearch.models.layers import make_pooling_error, make_unknown_layer_error
from simsearch.models.model import GEM_POWER, NORM_FLOOR, GraphBytes, Model, Precision, Scaling

VERSION = str(ov.__version__).split("-")[0]

# OpenVINO 2026.4 builds its table of types on first use, and deadlocks when two threads trigger that at the same time:
# one holds the lock of the table and waits for the GIL, the other the reverse. So it is built here, in one thread.
ov.Type.u8.to_dtype()


class OpenVinoEmbedder:
    """A graph compiled for this processor.

    `graph` is a graph or the path of one; by default the model's ONNX file is read. `for_throughput` compiles it for as
    many parallel batches as there are streams, otherwise for the lowest latency of one batch. `n_threads` None means
    all cores.
    """

    engine = "openvino"

    def __init__(
        self,
        model: Model,
        graph: Any = None,
        *,
        for_throughput: bool = False,
        n_threads: int | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        self.model = model
        self.notes = tuple(notes)
        settings: dict[str, Any] = {
            # int8 is encoded in the graph; its other operations run in f32.
            "INFERENCE_PRECISION_HINT": "bf16" if model.precision == "bf16" else "f32",
            "PERFORMANCE_HINT": "THROUGHPUT" if for_throughput else "LATENCY",
        }
        if n_threads is not None:
            settings["INFERENCE_NUM_THREADS"] = n_threads
        self.graph = graph or read_onnx(model)
        try:
            self._compiled = ov.Core().compile_model(self.graph, "CPU", settings)
            self.width = int(self._compiled.output(0).get_partial_shape()[1].get_length())
        except RuntimeError as error:
            raise ModelError(
                f"OpenVINO cannot compile {model.backbone} ({extract_last_line(error)})", "use --engine tensorflow"
            ) from error
        self.n_parallel = int(self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")) if for_throughput else 1
        self._thread_local = threading.local()
        if model.runtime == "onnx":
            self._check_input_size()

    def embed(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed (n, side, side, 3) uint8 RGB as (n, d) float32 unit rows. Thread-safe."""
        if not hasattr(self._thread_local, "request"):
            self._thread_local.request = self._compiled.create_infer_request()
        rows: NDArray[np.float32] = self._thread_local.request.infer({0: batch}, share_inputs=True)[0]
        # The division at the end of the graph may have run in a lower precision.
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        units: NDArray[np.float32] = np.divide(rows, lengths, where=lengths > 0.5, out=np.zeros_like(rows))
        return units

    def serialize_graph(self) -> GraphBytes:
        """Serialize the graph, to run it on another machine."""
        if isinstance(self.graph, Path):
            return GraphBytes(self.graph.read_bytes(), self.graph.with_suffix(".bin").read_bytes())
        return to_bytes(self.graph)

    def _check_input_size(self) -> None:
        """Embed a black picture: only running a network shows whether it accepts the side given in its JSON file."""
        side = self.model.side_px
        try:
            self.embed(np.zeros((1, side, side, 3), dtype=np.uint8))
        except RuntimeError as error:
            raise ModelError(
                f"{self.model.file} cannot run with a {side} x {side} px input ({extract_last_line(error)})",
                "correct the side in the JSON file of the model",
            ) from error


def list_native_precisions() -> tuple[Precision, ...]:
    """The precisions that this processor supports natively, the fastest first."""
    capabilities = ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    lower: list[Precision] = ["int8"] if "INT8" in capabilities and _has_vnni() else []
    return (*lower, "bf16", "f32") if "BF16" in capabilities else (*lower, "f32")


def _has_vnni() -> bool:
    """Whether the processor has int8 instructions (VNNI); True without `/proc/cpuinfo`, so OpenVINO decides."""
    cpu_info = read_cpu_info()
    return "vnni" in cpu_info or not cpu_info


def convert(function: Any) -> Any:
    """Convert a TensorFlow function from pixels to vectors to an OpenVINO graph.

    For an unsupported layer OpenVINO raises exceptions of various types.
    """
    return ov.convert_model(function)


def save(graph: Any, file: Path) -> None:
    """Write a graph to `file` (.xml) and its weights, in float32, to the .bin file beside it.

    Raises `OSError`.
    """
    try:
        ov.save_model(graph, file, compress_to_fp16=False)
    except RuntimeError as error:
        raise OSError(extract_last_line(error)) from error


def to_bytes(graph: Any) -> GraphBytes:
    """Serialize a graph."""
    with tempfile.TemporaryDirectory(prefix="simsearch-") as folder:
        file = Path(folder) / "graph.xml"
        save(graph, file)
        return GraphBytes(file.read_bytes(), file.with_suffix(".bin").read_bytes())


def from_bytes(graph: GraphBytes) -> Any:
    """Read the graph that `to_bytes` serialized."""
    weights = ov.Tensor(np.frombuffer(graph.weights, dtype=np.uint8))
    return ov.Core().read_model(graph.definition, weights)


def quantize(graph: Any, pixels: NDArray[np.uint8]) -> Any:
    """Quantize a graph to int8 with NNCF's mixed preset, calibrated on pictures (n, side, side, 3) uint8.

    Raises `ImportError` when NNCF is not installed.
    """
    import nncf

    nncf.set_log_level("ERROR")
    graph = graph if isinstance(graph, ov.Model) else ov.Core().read_model(graph)
    pictures = nncf.Dataset([picture[None] for picture in pixels])
    with contextlib.redirect_stdout(io.StringIO()):  # NNCF prints progress bars; stdout is reserved for results
        return nncf.quantize(graph, pictures, preset=nncf.QuantizationPreset.MIXED, subset_size=len(pixels))


def read_onnx(model: Model) -> Any:
    """Read the user's ONNX file as a graph from uint8 (n, side, side, 3) to unit rows (n, d).

    Raises `UnknownLayer` or another `ModelError`.
    """
    try:
        network = ov.Core().read_model(model.file)
        if len(network.inputs) != 1:
            raise ModelError(f"{model.file} has {len(network.inputs)} inputs", "export it with one input, the picture")
        is_planar = _is_planar(network.input(0).get_partial_shape(), model)
        side = model.side_px
        network.reshape(ov.PartialShape([-1, 3, side, side] if is_planar else [-1, side, side, 3]))
        network = _preprocess(network, model.scaling, is_planar=is_planar)
        rows = _normalize_rows(_pool(_find_output(network, model), model, is_planar=is_planar))
        rows.get_partial_shape()[1].get_length()  # raises where the length of the vectors is not fixed
    except RuntimeError as error:
        raise ModelError(
            f"{model.file} cannot be read as ONNX ({extract_last_line(error)})",
            "export it again with one input and a variable batch size",
        ) from error
    return ov.Model([rows], network.get_parameters(), model.backbone)


def _is_planar(shape: Any, model: Model) -> bool:
    """Whether the input is (n, 3, h, w) and not (n, h, w, 3)."""
    if shape.rank.get_length() == 4:
        for axis, is_planar in ((1, True), (3, False)):
            if shape[axis].is_static and shape[axis].get_length() == 3:
                return is_planar
    raise ModelError(
        f"the input of {model.file} has the shape {shape}", "export it with an input (n, 3, h, w) or (n, h, w, 3)"
    )


def _preprocess(network: Any, scaling: Scaling, *, is_planar: bool) -> Any:
    steps = PrePostProcessor(network)
    picture = steps.input()
    picture.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC")).set_color_format(ColorFormat.RGB)
    picture.model().set_layout(ov.Layout("NCHW" if is_planar else "NHWC"))
    prepared = picture.preprocess().convert_element_type(ov.Type.f32)
    if scaling.channels == "bgr":
        prepared = prepared.convert_color(ColorFormat.BGR)
    pairs = list(zip(scaling.scale, scaling.offset, strict=True))
    prepared.mean([-offset / scale for scale, offset in pairs]).scale([1 / scale for scale, _ in pairs])
    return steps.build()


def _find_output(network: Any, model: Model) -> Any:
    if model.layer is None:
        return network.output(0).get_node().input_value(0)
    by_name = {name: node.output(0) for node in network.get_ordered_ops() for name in _list_names(node)}
    if model.layer not in by_name:
        raise make_unknown_layer_error(model.backbone, model.layer, by_name)
    return by_name[model.layer]


def _list_names(node: Any) -> set[str]:
    """The name of a node and, where it has a single output, the ONNX names of that tensor."""
    tensor_names = node.output(0).get_names() if node.get_output_size() == 1 else set()
    return {node.get_friendly_name(), *tensor_names}


def _pool(maps: Any, model: Model, *, is_planar: bool) -> Any:
    """Pool (n, c, h, w), (n, h, w, c) or (n, tokens, c) to (n, c); (n, d) is returned as it is."""
    rank = maps.get_partial_shape().rank.get_length()
    if rank not in (2, 3, 4):
        raise make_pooling_error(model)
    if rank == 2:
        return maps
    axes = np.array([1] if rank == 3 else [2, 3] if is_planar else [1, 2], dtype=np.int64)
    if model.pooling == "max":
        return ops.reduce_max(maps, axes).output(0)
    if model.pooling == "avg":
        return ops.reduce_mean(maps, axes).output(0)
    powers = ops.power(ops.maximum(maps, np.float32(1e-6)), np.float32(GEM_POWER))
    return ops.power(ops.reduce_mean(powers, axes), np.float32(1 / GEM_POWER)).output(0)


def _normalize_rows(rows: Any) -> Any:
    return ops.normalize_l2(rows, np.array([1], dtype=np.int64), NORM_FLOOR**2, "max").output(0)


def extract_last_line(error: Exception) -> str:
    """The last line of an OpenVINO error, at most 200 characters; the lines before it are positions in its sources."""
    lines = str(error).strip().splitlines()
    return lines[-1][:200] if lines else type(error).__name__
