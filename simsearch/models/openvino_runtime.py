"""OpenVINO runtime: convert Keras graphs, read ONNX files, and run graphs compiled for this processor.

Pre-processing, pooling and L2 normalization are part of every graph: uint8 pixels in, vectors out. No other module
imports OpenVINO.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from simsearch.errors import ModelError
from simsearch.machine import block_import, find_thread_limit, read_cpu_info
from simsearch.models import graph_cache
from simsearch.models.builtin.network import ClassificationHead
from simsearch.models.graph_operations import Operation
from simsearch.models.layers import make_class_token_error, make_pooling_error, make_unknown_layer_error
from simsearch.models.model import GEM_POWER, NORM_FLOOR, GraphBytes, Model, Precision, Scaling
from simsearch.models.onnx_file import OnnxOutline, read_onnx_outline
from simsearch.models.onnx_graph import find_picture_input

with block_import("openvino.tools.ovc"):  # the converter takes a third of the import; `convert` imports it itself
    import openvino as ov
    from openvino import opset13 as ops
    from openvino.preprocess import ColorFormat, PrePostProcessor

_N_QUANTIZATION_PASSES = 2.0
"""NNCF reads the pictures about so many times: for the ranges of values, and to correct the bias of each layer."""

_TELEMETRY = "openvino_telemetry"
"""A package that OpenVINO installs. With it, the converter and NNCF report each use to Google Analytics."""
_WIDER_RANGE = 1.5
VERSION = str(ov.__version__).split("-")[0]

# OpenVINO 2026.4 builds its table of types on first use, and deadlocks when two threads trigger that at the same time:
# one holds the lock of the table and waits for the GIL, the other the reverse. So it is built here, in one thread.
ov.Type.u8.to_dtype()


class OpenVinoEmbedder:
    """A graph compiled for this processor.

    `graph` is a graph, the path of one, or a function that reads one; by default the model's ONNX file is read.
    `for_throughput` compiles it for as many parallel batches as there are streams, otherwise for the lowest latency of
    one batch. `n_threads` None means all cores, or as many as `limit_cores` and OMP_NUM_THREADS allow. With `cache_key`
    the compiled graph is kept in the user's cache: a graph compiled for the lowest latency opens in a quarter of the
    time then, and `graph` is not read.
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
        cache_key: str | None = None,
    ) -> None:
        self.model = model
        self.notes = tuple(notes)
        settings: dict[str, Any] = {
            # int8 is encoded in the graph; its other operations run in f32.
            "INFERENCE_PRECISION_HINT": "bf16" if model.precision == "bf16" else "f32",
            "PERFORMANCE_HINT": "THROUGHPUT" if for_throughput else "LATENCY",
        }
        limits = [n for n in (n_threads, find_thread_limit()) if n is not None]
        if limits:
            # Pinned threads of several processes would all be on the first cores.
            settings |= {"INFERENCE_NUM_THREADS": min(limits), "ENABLE_CPU_PINNING": False}
        self._graph = graph or read_onnx(model)
        try:
            self._compiled = self._compile(settings, None if for_throughput else cache_key)
            self.width = int(self._compiled.output(0).get_partial_shape()[1].get_length())
            length = self._compiled.input(0).get_partial_shape()[0]
            self._batch_size = int(length.get_length()) if length.is_static else 0
        except RuntimeError as error:
            raise ModelError(
                f"OpenVINO cannot compile {model.backbone} ({extract_last_line(error)})", "use --engine tensorflow"
            ) from error
        self.n_parallel = int(self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")) if for_throughput else 1
        self._thread_local = threading.local()
        if model.runtime == "onnx":
            self._check_input_size()

    @property
    def graph(self) -> Any:
        """The graph or its path; it is read now where that was not necessary before."""
        if callable(self._graph) and not isinstance(self._graph, ov.Model):
            self._graph = self._graph()
        return self._graph

    def _compile(self, settings: Mapping[str, Any], cache_key: str | None) -> Any:
        """Compile the graph, or import what an earlier process compiled for the same processor and settings."""
        core = ov.Core()
        if cache_key is None:
            return core.compile_model(self.graph, "CPU", settings)
        key = f"{cache_key}-{_hash_environment(core, settings)}"
        if stored := graph_cache.find_compiled(key):
            with contextlib.suppress(RuntimeError):  # compiled anew
                return core.import_model(stored, "CPU", settings)
        compiled = core.compile_model(self.graph, "CPU", settings)
        with contextlib.suppress(OSError):  # the cache cannot be written; it only saves time
            graph_cache.keep_compiled(key, compiled.export_model().getvalue())
        return compiled

    def embed(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed (n, side, side, 3) uint8 RGB as (n, d) float32 unit rows. Thread-safe."""
        if not hasattr(self._thread_local, "request"):
            self._thread_local.request = self._compiled.create_infer_request()
        rows = self._infer(batch)
        # The division at the end of the graph may have run in a lower precision.
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        units: NDArray[np.float32] = np.divide(rows, lengths, where=lengths > 0.5, out=np.zeros_like(rows))
        return units

    def _infer(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run the network; one of a fixed batch size runs several times, and the last batch is filled up."""
        request, size = self._thread_local.request, self._batch_size
        if not size or len(batch) == size:
            rows: NDArray[np.float32] = request.infer({0: batch}, share_inputs=True)[0]
            return rows
        if not len(batch):
            return np.empty((0, self.width), dtype=np.float32)
        n_missing = -len(batch) % size
        filled = np.concatenate([batch, np.zeros((n_missing, *batch.shape[1:]), dtype=np.uint8)])
        parts = [
            request.infer({0: filled[i : i + size]}, share_inputs=True)[0].copy() for i in range(0, len(filled), size)
        ]
        return np.concatenate(parts)[: len(batch)]

    def serialize_graph(self) -> GraphBytes:
        """Serialize the graph, to run it on another machine."""
        if isinstance(self.graph, Path):
            return GraphBytes(self.graph.read_bytes(), self.graph.with_suffix(".bin").read_bytes())
        return to_bytes(self.graph)

    def _check_input_size(self) -> None:
        """Embed a black picture: only running a network shows whether it accepts the side given in its JSON file.

        Where the shapes do not fit, OpenVINO 2026.4 raises an error, or in a single thread returns no row.
        """
        side = self.model.side_px
        try:
            rows = self.embed(np.zeros((1, side, side, 3), dtype=np.uint8))
            if rows.shape != (1, self.width):
                raise RuntimeError(f"one picture gives {rows.shape[0]} vectors of {rows.shape[1]} dimensions")
        except RuntimeError as error:
            raise ModelError(
                f"{self.model.file} cannot run with a {side} x {side} px input ({extract_last_line(error)})",
                "correct the side in the JSON file of the model",
            ) from error


def list_native_precisions(*, avoids_saturation: bool = False) -> tuple[Precision, ...]:
    """The precisions that this processor supports natively, the fastest first.

    int8 needs VNNI, except for a graph that is adapted by `avoid_saturation`.
    """
    capabilities = ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    lower: list[Precision] = ["int8"] if "INT8" in capabilities and (has_vnni() or avoids_saturation) else []
    return (*lower, "bf16", "f32") if "BF16" in capabilities else (*lower, "f32")


def _hash_environment(core: Any, settings: Mapping[str, Any]) -> str:
    """A digest of what a compiled graph depends on: OpenVINO, the processor and its cores, the settings."""
    processor = [line for line in read_cpu_info().splitlines() if line.startswith(("flags", "Features", "model name"))]
    details = [ov.__version__, core.get_property("CPU", "FULL_DEVICE_NAME"), sorted(settings.items()), os.cpu_count()]
    return xxhash.xxh3_64_hexdigest(repr([details, sorted(set(processor))]).encode())


def has_vnni() -> bool:
    """Whether the processor has int8 instructions (VNNI); True without `/proc/cpuinfo`, so OpenVINO decides."""
    cpu_info = read_cpu_info()
    return "vnni" in cpu_info or not cpu_info


def convert(function: Any) -> Any:
    """Convert a TensorFlow function from pixels to vectors to an OpenVINO graph.

    For an unsupported layer OpenVINO raises exceptions of various types.
    """
    with block_import(_TELEMETRY):
        from openvino.tools.ovc import convert_model

    with _mend_version_lookup():
        return convert_model(function)


@contextlib.contextmanager
def _mend_version_lookup() -> Iterator[None]:
    """Let OpenVINO find the version of TensorFlow in Python 3.13 and later, where its own way raises `NameError`.

    OpenVINO 2026.4 deletes a name that `exec` has bound in a function, which is gone by then (PEP 667).
    """
    from openvino.frontend.tensorflow import utils

    look_up = utils.get_environment_setup

    def look_up_in_modules(framework: str) -> dict[str, str]:
        try:
            return look_up(framework)  # type: ignore[no-any-return]
        except NameError:
            return {"tensorflow": sys.modules["tensorflow"].__version__}

    utils.get_environment_setup = look_up_in_modules
    try:
        yield
    finally:
        utils.get_environment_setup = look_up


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


def read_graph(definition: Path, weights: Path) -> Any:
    """Read a graph whose weights are in a file of another name."""
    return ov.Core().read_model(definition, weights)


def avoid_saturation(graph: Any, exact: Collection[str]) -> Any:
    """Adapt an int8 graph, in place, to a processor without VNNI, which adds two products of 8 bits in 16 bits.

    The unsigned ranges of activations become 1.5 times as large, so that values stay below 171 of 255 and sums rarely
    saturate. The outputs of the nodes `exact`, the most sensitive ones, are not quantized.
    """
    for node in graph.get_ordered_ops():
        if node.get_type_name() != "FakeQuantize":
            continue
        if node.get_friendly_name().partition("/")[0] in exact:
            for target in list(node.output(0).get_target_inputs()):
                target.replace_source_output(node.input_value(0))
                _use_f32_kernel(target.get_node())
        elif not (_read_constant(node, 1) < 0).any():
            for number in (2, 4):  # the upper ends of the input and of the output
                wider = ops.constant(_read_constant(node, number) * _WIDER_RANGE)
                node.input(number).replace_source_output(wider.output(0))
    return graph


def _use_f32_kernel(convolution: Any) -> None:
    """Give a convolution, whose kernel is an int8 constant times a scale, the product as a constant.

    OpenVINO 2026.4 computes wrong results where an int8 kernel is multiplied before its use in floating point.
    """
    if convolution.get_type_name() != "Convolution":
        return
    multiply = convolution.input_value(1).get_node()
    kernel = _read_constant(multiply.input_value(0).get_node(), 0).astype(np.float32) * _read_constant(multiply, 1)
    convolution.input(1).replace_source_output(ops.constant(kernel.astype(np.float32)).output(0))


def _read_constant(node: Any, number: int) -> NDArray[Any]:
    return np.asarray(node.input_value(number).get_node().get_data())


def add_classifier(graph: Any, features: str, head: ClassificationHead) -> Any:
    """Cut a graph at the node `features` (n, c, 1, 1), and add a softmax classifier in the form of L2 unit rows."""
    (node,) = (each for each in graph.get_ops() if each.get_friendly_name() == features)
    rows = ops.squeeze(node.output(0), np.array([2, 3], dtype=np.int64))
    logits = ops.add(ops.matmul(rows, ops.constant(head.weight), False, True), ops.constant(head.bias[None]))
    return ov.Model([_normalize_rows(ops.softmax(logits, 1))], graph.get_parameters(), graph.get_friendly_name())


def from_bytes(graph: GraphBytes) -> Any:
    """Read the graph that `to_bytes` serialized."""
    weights = ov.Tensor(np.frombuffer(graph.weights, dtype=np.uint8))
    return ov.Core().read_model(graph.definition, weights)


def quantize(graph: Any, pixels: NDArray[np.uint8], progress: Callable[[float], None] = lambda _: None) -> Any:
    """Quantize a graph to int8 with NNCF's mixed preset, calibrated on pictures (n, side, side, 3) uint8.

    `progress` is called with the finished share, from 0 to 1, which is an estimate. Raises `ImportError` when NNCF is
    not installed.
    """
    with block_import(_TELEMETRY):
        import nncf

    nncf.set_log_level("ERROR")
    graph = graph if isinstance(graph, ov.Model) else ov.Core().read_model(graph)
    n_read = 0

    def read(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        nonlocal n_read
        n_read += 1
        progress(min(1.0, n_read / (_N_QUANTIZATION_PASSES * len(pixels))))
        return picture[None]

    pictures = nncf.Dataset(list(pixels), read)
    with contextlib.redirect_stdout(io.StringIO()):  # NNCF prints progress bars; stdout is reserved for results
        return nncf.quantize(graph, pictures, preset=nncf.QuantizationPreset.MIXED, subset_size=len(pixels))


def read_onnx(model: Model) -> Any:
    """Read the user's ONNX file as a graph from uint8 (n, side, side, 3) to unit rows (n, d).

    n is variable, or the fixed batch size of the file. Raises `UnknownLayer` or another `ModelError`.
    """
    try:
        return _build_onnx_graph(model, -1)
    except RuntimeError as error:
        failure = error
    batch_size = _read_fixed_batch_size(model)
    try:
        if batch_size:
            return _build_onnx_graph(model, batch_size)
    except RuntimeError as error:
        failure = error
    raise ModelError(
        f"{model.file} cannot be read as ONNX ({extract_last_line(failure)})",
        "export it again with one input and a variable batch size",
    ) from failure


def _build_onnx_graph(model: Model, batch_size: int) -> Any:
    """Build the graph for a batch size, -1 for any. Raises `RuntimeError` where the file does not allow it."""
    outline = read_onnx_outline(str(model.file))
    with _follow_links(Path(str(model.file)), outline) as file:
        network = ov.Core().read_model(file)
    picture = _find_picture_input(network, outline, model)
    is_planar = _is_planar(picture.get_partial_shape(), model)
    side = model.side_px
    shape = [batch_size, 3, side, side] if is_planar else [batch_size, side, side, 3]
    network.reshape({picture: ov.PartialShape(shape)})
    network = _preprocess(network, picture.get_any_name(), model.scaling, is_planar=is_planar)
    maps = _find_output(network, model)
    if maps.get_element_type() != ov.Type.f32:
        maps = ops.convert(maps, "f32").output(0)
    rows = _normalize_rows(_pool(maps, model, is_planar=is_planar))
    shape = rows.get_partial_shape()
    shape[1].get_length()  # raises where the length of the vectors is not fixed
    if batch_size == -1 and shape[0].is_static:
        raise RuntimeError("the batch size is fixed inside the network")
    parameters = [
        each for each in network.get_parameters() if each.get_friendly_name() == picture.get_node().get_friendly_name()
    ]
    return ov.Model([rows], parameters, model.backbone)


def _read_fixed_batch_size(model: Model) -> int:
    """The fixed batch size of the picture input of an ONNX file; 0 where it is variable."""
    path = Path(str(model.file))
    shape = find_picture_input(read_onnx_outline(str(path)), path).shape
    return shape[0] or 0 if shape else 0


def _find_picture_input(network: Any, outline: OnnxOutline, model: Model) -> Any:
    """The input for pictures; the others of a graph of two towers take texts."""
    name = find_picture_input(outline, Path(str(model.file))).name
    return next(each for each in network.inputs if name in each.get_names())


@contextlib.contextmanager
def _follow_links(graph: Path, outline: OnnxOutline) -> Iterator[Path]:
    """Yield a path of a graph that OpenVINO reads: it refuses data files that are links to other folders.

    Hugging Face's cache has such links, to the `blobs` of the same repository; only those are followed.
    """
    names = [graph.name, *outline.external_files]
    blobs = [folder / "blobs" for folder in graph.parents if folder.name.startswith("models--")]
    places = [(graph.parent / name).resolve() for name in names]
    if not outline.external_files or not blobs or any(place.parent != blobs[0].resolve() for place in places):
        yield graph
        return
    with tempfile.TemporaryDirectory(prefix="simsearch-", ignore_cleanup_errors=True) as folder:
        for name, place in zip(names, places, strict=True):
            target = Path(folder) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(place, target)
            except OSError:  # on another file system
                shutil.copyfile(place, target)
        yield Path(folder) / graph.name


def _is_planar(shape: Any, model: Model) -> bool:
    """Whether the input is (n, 3, h, w) and not (n, h, w, 3); without a fixed axis of 3 it is, as exporters do it."""
    if shape.rank.is_static and shape.rank.get_length() == 4:
        lengths = [axis.get_length() if axis.is_static else None for axis in shape]
        for axis, is_planar in ((1, True), (3, False)):
            if lengths[axis] == 3:
                return is_planar
        if lengths[1] is None:
            return True
        if lengths[3] is None and lengths[1] == lengths[2]:
            return False
    raise ModelError(
        f"the input of {model.file} has the shape {shape}", "export it with an input (n, 3, h, w) or (n, h, w, 3)"
    )


def _preprocess(network: Any, name: str, scaling: Scaling, *, is_planar: bool) -> Any:
    """Put the scaling before the picture input `name`; the values are converted to its type at the end."""
    steps = PrePostProcessor(network)
    picture = steps.input(name)
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
    by_name |= {name: each.get_node().input_value(0) for each in network.outputs for name in each.get_names()}
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
    if model.pooling == "cls":
        return _take_class_token(maps, model)
    if rank == 3 and model.tokens == "patches":
        maps = _leave_prefix_out(maps, model)
    axes = np.array([1] if rank == 3 else [2, 3] if is_planar else [1, 2], dtype=np.int64)
    if model.pooling == "max":
        return ops.reduce_max(maps, axes).output(0)
    if model.pooling == "avg":
        return ops.reduce_mean(maps, axes).output(0)
    powers = ops.power(ops.maximum(maps, np.float32(1e-6)), np.float32(GEM_POWER))
    return ops.power(ops.reduce_mean(powers, axes), np.float32(1 / GEM_POWER)).output(0)


def _take_class_token(tokens: Any, model: Model) -> Any:
    """The first token of (n, tokens, c). Raises `ModelError` where all tokens are patches of the picture."""
    if tokens.get_partial_shape().rank.get_length() != 3 or _count_prefix_tokens(tokens) == 0:
        raise make_class_token_error(model)
    return ops.gather(tokens, np.int64(0), np.int64(1)).output(0)


def _leave_prefix_out(tokens: Any, model: Model) -> Any:
    """The patch tokens of (n, tokens, c), without class token and registers (Darcet et al. 2024) before them."""
    first = _count_prefix_tokens(tokens)
    if not first:
        return tokens
    ends = [np.array([end], dtype=np.int64) for end in (first, np.iinfo(np.int64).max, 1, 1)]
    return ops.slice(tokens, *ends).output(0)


def _count_prefix_tokens(tokens: Any) -> int | None:
    """The number of tokens before the patches, which are a square; None where the number of tokens is variable."""
    length = tokens.get_partial_shape()[1]
    if not length.is_static:
        return None
    n_tokens = int(length.get_length())
    return n_tokens - math.isqrt(n_tokens) ** 2


def _normalize_rows(rows: Any) -> Any:
    return ops.normalize_l2(rows, np.array([1], dtype=np.int64), NORM_FLOOR**2, "max").output(0)


def extract_last_line(error: Exception) -> str:
    """The last line of an OpenVINO error, at most 200 characters; the lines before it are positions in its sources."""
    lines = str(error).strip().splitlines()
    return lines[-1][:200] if lines else type(error).__name__


def list_operations(graph: Any) -> list[Operation]:
    """List the operations of a graph, or of the file of one, in an order in which operands come first.

    Raises `ValueError` where an operation uses another result than the first of an operation with several.
    """
    network = graph if isinstance(graph, ov.Model) else ov.Core().read_model(graph)
    nodes = network.get_ordered_ops()
    positions = {node.get_friendly_name(): at for at, node in enumerate(nodes)}
    operations = []
    for node in nodes:
        sources = [value.get_source_output() for value in node.inputs()]
        if any(source.get_index() for source in sources):
            raise ValueError(f"a further result of {node.get_type_name()} is used")
        shape = node.get_output_partial_shape(0)
        operations.append(
            Operation(
                type=node.get_type_name(),
                inputs=tuple(positions[source.get_node().get_friendly_name()] for source in sources),
                element_type=node.get_output_element_type(0).to_dtype().name,
                shape=tuple(size.get_length() if size.is_static else -1 for size in shape),
                attributes=node.get_attributes(),
                value=np.array(node.data) if node.get_type_name() == "Constant" else None,
            )
        )
    return operations


class OnnxTextGraph:
    """A text encoder in an ONNX file. Of a combined file only the part is loaded that the output needs.

    `inputs` maps names of inputs to the names of values that `run` gets. Raises `ModelError`.
    """

    def __init__(self, path: str, inputs: Mapping[str, str], output: str) -> None:
        self._inputs = dict(inputs)
        try:
            network = ov.Core().read_model(path)
            found = next(each for each in network.outputs if output in each.get_names())
            parameters = [each for each in network.get_parameters() if set(inputs) & _list_names(each)]
            graph = ov.Model([found.get_node().input_value(0)], parameters, "text")
            self._compiled = ov.Core().compile_model(graph, "CPU", {"PERFORMANCE_HINT": "LATENCY"})
        except (RuntimeError, StopIteration) as error:
            advice = "export the text encoder again, with input_ids and text_embeds"
            raise ModelError(f"{path} cannot be loaded ({extract_last_line(error)})", advice) from error

    def run(self, values: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        """Run the graph on ids and masks (n, length); returns rows (n, d), not normalized."""
        fed = {}
        for port in self._compiled.inputs:
            name = next(self._inputs[name] for name in port.get_names() if name in self._inputs)
            fed[port] = values[name].astype(port.get_element_type().to_dtype())
        try:
            rows: NDArray[np.float32] = self._compiled(fed)[0].astype(np.float32)
        except RuntimeError as error:
            advice = "export the text encoder again, with a variable length or the length of its context"
            raise ModelError(f"the text encoder cannot run ({extract_last_line(error)})", advice) from error
        if rows.ndim != 2:
            advice = "export the text encoder with the output text_embeds"
            raise ModelError(f"the text encoder has an output of the shape {rows.shape}", advice)
        return rows
