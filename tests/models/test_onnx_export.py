"""Exported ONNX files against the ONNX project's reference evaluator and against the network that was exported."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from openvino import Model as Graph
from openvino import opset13 as ops
from openvino import save_model

from simsearch import ModelChoice
from simsearch.errors import ModelError
from simsearch.models.choice import resolve_model
from simsearch.models.label_map import LabelMap
from simsearch.models.loader import LoadOptions, open_embedder, read_operations
from simsearch.models.model import Model
from simsearch.models.onnx_export import write_onnx
from simsearch.models.openvino_runtime import OpenVinoEmbedder, list_operations
from simsearch.models.projection import Projection

SIDE, N_MAPS = 12, 6


def make_map(width_before: int, width: int = 5, class_weight: float = 0.4) -> LabelMap:
    rng = np.random.default_rng(1)
    mean, axes = rng.normal(size=width_before) * 0.01, rng.normal(size=(width_before, width))
    classes = (rng.normal(size=(width_before, 3)) * 4).astype(np.float32)
    return LabelMap(Projection(mean.astype(np.float32), axes.astype(np.float32)), classes, 1.5, class_weight)


def make_pixels(n: int, side: int) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


def constant(*shape: int, seed: int) -> object:
    return ops.constant((np.random.default_rng(seed).normal(size=shape) * 0.4).astype(np.float32))


def build_graph() -> Graph:
    """A network with one of each kind of operation that the exporter writes, from uint8 pixels to unit rows."""
    same, none = "same_upper", "explicit"
    pixels = ops.parameter([-1, SIDE, SIDE, 3], np.uint8, name="pixels")
    maps = ops.transpose(ops.convert(pixels, "f32"), np.array([0, 3, 1, 2]))
    maps = ops.divide(ops.subtract(maps, np.float32(127)), np.float32(64))
    maps = ops.convolution(maps, constant(N_MAPS, 3, 3, 3, seed=1), [1, 1], [0, 0], [0, 0], [1, 1], same)
    maps = ops.clamp(ops.add(maps, constant(1, N_MAPS, 1, 1, seed=2)), 0.0, 6.0)
    grouped = constant(N_MAPS, 1, 1, 3, 3, seed=3)
    maps = ops.group_convolution(maps, grouped, [2, 2], [1, 1], [1, 1], [1, 1], none)
    maps = ops.concat([ops.swish(maps), ops.hswish(maps), ops.relu(maps), ops.sigmoid(maps), ops.tanh(maps)], 1)
    zero = np.array([0, 0, 1, 1])
    maps = ops.pad(maps, zero, zero, "constant", np.float32(0.25))
    maps = ops.avg_pool(maps, [1, 1], [1, 1], [1, 1], [3, 3], True, "floor", none)
    maps = ops.max_pool(maps, [2, 2], [1, 1], [0, 0], [0, 0], [2, 2], "ceil", none).output(0)
    pooled = ops.reduce_mean(ops.power(ops.maximum(maps, np.float32(1e-3)), np.float32(2)), np.array([2, 3]), True)
    rows = ops.sqrt(ops.squeeze(pooled, np.array([2, 3])))
    rows = ops.matmul(rows, constant(9, 5 * N_MAPS, seed=4), False, True)
    rows = ops.add(rows, ops.softmax(rows, 1))
    rows = ops.reshape(rows, np.array([-1, 9]), False)
    return Graph([ops.normalize_l2(rows, np.array([1]), 1e-24, "max").output(0)], [pixels], "all")


@pytest.fixture(scope="module")
def model() -> Model:
    return resolve_model(ModelChoice(backbone="builtin"))


def evaluate(file: Path, pixels: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(str(file))
    return ReferenceEvaluator(str(file)).run(None, {"pixels": pixels.astype(np.float32)})[0]


@pytest.mark.parametrize("class_weight", [0.0, 0.4])
def test_every_operation_agrees_with_the_reference_evaluator(tmp_path: Path, model: Model, class_weight: float):
    import dataclasses

    small = dataclasses.replace(model, side_px=SIDE)
    graph, label_map, pixels = build_graph(), make_map(9, class_weight=class_weight), make_pixels(3, SIDE)
    save_model(graph, tmp_path / "graph.xml", compress_to_fp16=False)
    write_onnx(tmp_path / "small.onnx", list_operations(tmp_path / "graph.xml"), small, label_map)
    expected = label_map.apply(OpenVinoEmbedder(small, graph).embed(pixels))
    cosines = np.sum(evaluate(tmp_path / "small.onnx", pixels) * expected, axis=1)
    assert cosines.min() > 0.9999


def test_the_exported_builtin_is_a_model_file_like_any_other(tmp_path: Path, model: Model):
    embedder = open_embedder(model.f32_model)
    label_map, pixels = make_map(embedder.width, 32), make_pixels(2, model.side_px)
    file = tmp_path / "mapped.onnx"
    write_onnx(file, read_operations(model, LoadOptions()), model, label_map)
    assert json.loads(file.with_suffix(".json").read_text())["side"] == model.side_px
    exported = open_embedder(resolve_model(ModelChoice(backbone=str(file))))
    assert exported.width == label_map.width == 35
    cosines = np.sum(exported.embed(pixels) * label_map.apply(embedder.embed(pixels)), axis=1)
    assert cosines.min() > 0.9999


def test_the_histogram_is_no_network():
    with pytest.raises(ModelError, match="histogram is not a single network"):
        read_operations(resolve_model(ModelChoice(backbone="histogram")), LoadOptions())


def test_an_operation_that_cannot_be_written_is_named(tmp_path: Path, model: Model):
    pixels = ops.parameter([-1, 4, 4, 3], np.uint8, name="pixels")
    rows = ops.reshape(ops.erf(ops.convert(pixels, "f32")), np.array([0, -1]), True)
    graph = Graph([rows.output(0)], [pixels], "odd")
    with pytest.raises(ModelError, match="Erf"):
        write_onnx(tmp_path / "odd.onnx", list_operations(graph), model, make_map(48))
    assert not list(tmp_path.iterdir())
