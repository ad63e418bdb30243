"""The only import of OpenVINO: runs ONNX files, with pre-processing, pooling and L2 made part of the graph."""

from __future__ import annotations

import difflib
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops
from openvino.preprocess import ColorFormat, PrePostProcessor

from simsearch.errors import ModelError, UnknownLayer
from simsearch.models.model import GEM_POWER, NORM_FLOOR, Model, Scaling


class OpenVinoEmbedder:
    """A graph compiled by OpenVINO for this processor."""

    def __init__(self, model: Model) -> None:
        self.model = model
        try:
            graph = _read_onnx(model)
            self._compiled = ov.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
            self.width = int(graph.output(0).get_partial_shape()[1].get_length())
        except RuntimeError as error:
            raise ModelError(
                f"{model.file} cannot be read as ONNX ({str(error).strip().splitlines()[-1][:200]})",
                "export it again, with one input of any batch size",
            ) from error

    def embed(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(n, side, side, 3) uint8 RGB to (n, d) float32 unit rows."""
        vectors: NDArray[np.float32] = self._compiled(batch)[0]
        return np.array(vectors)  # the engine's own buffer is written again by the next batch


def _read_onnx(model: Model) -> Any:
    """The ONNX file as a graph from uint8 (n, side, side, 3) to unit rows (n, d)."""
    network = ov.Core().read_model(model.file)
    if len(network.inputs) != 1:
        raise ModelError(f"{model.file} has {len(network.inputs)} inputs", "export it with one, the picture")
    is_planar = _is_planar(network.input(0).get_partial_shape(), model)
    side = model.side_px
    network.reshape(ov.PartialShape([-1, 3, side, side] if is_planar else [-1, side, side, 3]))
    network = _preprocess(network, model.scaling, is_planar=is_planar)
    rows = _unit(_pool(_output(network, model), model, is_planar=is_planar))
    return ov.Model([rows], network.get_parameters(), model.backbone)


def _is_planar(shape: Any, model: Model) -> bool:
    """Whether the input is (n, 3, h, w) and not (n, h, w, 3)."""
    if shape.rank.get_length() == 4:
        for axis, is_planar in ((1, True), (3, False)):
            if shape[axis].is_static and shape[axis].get_length() == 3:
                return is_planar
    raise ModelError(f"{model.file} takes {shape}", "export it with an input of (n, 3, h, w) or (n, h, w, 3)")


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


def _output(network: Any, model: Model) -> Any:
    if model.layer is None:
        return network.output(0).get_node().input_value(0)
    by_name = {name: node.output(0) for node in network.get_ordered_ops() for name in _names(node)}
    if model.layer not in by_name:
        near = difflib.get_close_matches(model.layer, by_name, n=3, cutoff=0.4)
        raise UnknownLayer(model.backbone, model.layer, near)
    return by_name[model.layer]


def _names(node: Any) -> set[str]:
    """The node's own name and, where it has one output, the ONNX names of that tensor."""
    tensor_names = node.output(0).get_names() if node.get_output_size() == 1 else set()
    return {node.get_friendly_name(), *tensor_names}


def _pool(maps: Any, model: Model, *, is_planar: bool) -> Any:
    """(n, c, h, w), (n, h, w, c) or (n, tokens, c) to (n, c); what is (n, d) already stays."""
    rank = maps.get_partial_shape().rank.get_length()
    if rank not in (2, 3, 4):
        layer = f"layer {model.layer}" if model.layer else "output"
        raise ModelError(f"the {layer} of {model.backbone} gives no vector or map", "name another layer with --layer")
    if rank == 2:
        return maps
    axes = np.array([1] if rank == 3 else [2, 3] if is_planar else [1, 2], dtype=np.int64)
    if model.pooling == "max":
        return ops.reduce_max(maps, axes).output(0)
    if model.pooling == "avg":
        return ops.reduce_mean(maps, axes).output(0)
    powers = ops.power(ops.maximum(maps, np.float32(1e-6)), np.float32(GEM_POWER))
    return ops.power(ops.reduce_mean(powers, axes), np.float32(1 / GEM_POWER)).output(0)


def _unit(rows: Any) -> Any:
    return ops.normalize_l2(rows, np.array([1], dtype=np.int64), NORM_FLOOR**2, "max").output(0)
