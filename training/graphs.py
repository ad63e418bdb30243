"""The network as OpenVINO graphs: of f32 weights for calibration, and of int8 weights as they are stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops

from simsearch.models.builtin.network import PROJECTION, InvertedResidualBlock

NORM_FLOOR = 1e-12


class StoredLayer(NamedTuple):
    """A convolution: `kernel` as an OpenVINO constant, float32, or int8 with one factor of `scale` per output channel.

    `kernel` is (out, in, h, w), or (channels, 1, 1, h, w) for a depthwise convolution.
    """

    kernel: NDArray[Any]
    bias: NDArray[np.float32]
    scale: NDArray[np.float32] | None = None


def build_graph(layers: Mapping[str, StoredLayer], blocks: Sequence[InvertedResidualBlock], side_px: int) -> ov.Model:
    """Build the graph from `pixels` uint8 (n, side, side, 3) RGB to `vectors` float32 (n, d), unit rows.

    The scale of an int8 kernel multiplies the output of the convolution, not the kernel: OpenVINO 2026.4 computes wrong
    results in streams of one thread where an int8 kernel is multiplied before its use.
    """
    pixels = ops.parameter([-1, side_px, side_px, 3], ov.Type.u8, "pixels")
    planar = ops.transpose(ops.convert(pixels, "f32"), np.array([0, 3, 1, 2], np.int64))
    maps = ops.multiply(ops.subtract(planar, np.float32(127)), np.float32(1 / 128))
    maps = apply_relu6(add_convolution(maps, layers, "stem", 2))
    for block in blocks:
        inner = maps
        if block.expanded != block.channels_in:
            inner = apply_relu6(add_convolution(inner, layers, f"{block.name}_expand"))
        inner = apply_relu6(add_convolution(inner, layers, f"{block.name}_depthwise", block.stride))
        inner = add_convolution(inner, layers, f"{block.name}_project")
        maps = ops.add(maps, inner, name=f"{block.name}_add") if block.is_residual else inner
    maps = apply_relu6(add_convolution(maps, layers, "last"))
    pooled = ops.reduce_mean(maps, np.array([2, 3], np.int64), keep_dims=True, name="pooled")
    projected = add_convolution(pooled, layers, PROJECTION)
    rows = ops.squeeze(projected, np.array([2, 3], np.int64), name="rows")
    vectors = ops.normalize_l2(rows, np.array([1], np.int64), NORM_FLOOR, "max", name="vectors")
    vectors.output(0).set_names({"vectors"})
    pixels.output(0).set_names({"pixels"})
    return ov.Model([vectors], [pixels], "builtin")


def add_convolution(maps: Any, layers: Mapping[str, StoredLayer], name: str, stride: int = 1) -> Any:
    """Add a convolution with its bias, padded so that the side of its output is side / stride, rounded up."""
    layer = layers[name]
    side = maps.get_output_partial_shape(0)[2].get_length()
    padding = max((-(-side // stride) - 1) * stride + layer.kernel.shape[-1] - side, 0)
    geometry = ([stride] * 2, [padding // 2] * 2, [padding - padding // 2] * 2, [1, 1])
    kernel = ops.constant(layer.kernel, name=f"{name}/kernel")
    if layer.scale is not None:
        kernel = ops.convert(kernel, "f32")
    convolve = ops.convolution if layer.kernel.ndim == 4 else ops.group_convolution
    result = convolve(maps, kernel, *geometry, name=f"{name}/convolution")
    if layer.scale is not None:
        result = ops.multiply(result, ops.constant(layer.scale.reshape(1, -1, 1, 1), name=f"{name}/scale"))
    return ops.add(result, ops.constant(layer.bias.reshape(1, -1, 1, 1), name=f"{name}/bias"), name=name)


def apply_relu6(maps: Any) -> Any:
    """Clip to [0, 6]."""
    return ops.clamp(maps, 0.0, 6.0)


def store_in_int8(kernel: NDArray[np.float32], bias: NDArray[np.float32]) -> StoredLayer:
    """Round a kernel to int8, with one scale per output channel."""
    scale = np.abs(kernel).max(tuple(range(1, kernel.ndim)), keepdims=True) / 127
    return StoredLayer(np.rint(kernel / scale).astype(np.int8), bias, scale.astype(np.float32))
