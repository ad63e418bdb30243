"""Step 5. Write the trained student as `builtin.xml` and `builtin.bin`, OpenVINO IR.

The graph maps `pixels` uint8 (n, side, side, 3) RGB to `vectors` float32 (n, 256), unit rows; it contains scaling,
pooling, projection and L2 normalization. The constants have the names and the layout that
`simsearch/models/builtin/network.py` reads. Weights are float16; the last convolution and the projection are int8 with
one scale per channel, which keeps the files under 5 MB.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import torch
from numpy.typing import NDArray
from openvino import opset13 as ops
from student import SIDE_PX, Convolution, Student, list_blocks

INT8_LAYERS = ("Conv_1", "projection")
NORM_FLOOR = 1e-12
ConvolutionGeometry = tuple[list[int], list[int], list[int], list[int]]


class GraphBuilder:
    """Build the OpenVINO graph of a student, layer by layer."""

    def __init__(self, student: Student) -> None:
        self.student = student
        self.layers = student.collect_convolutions()

    def build_graph(self) -> ov.Model:
        """Build the whole network."""
        pixels = ops.parameter([-1, SIDE_PX, SIDE_PX, 3], ov.Type.u8, "pixels")
        planar = ops.transpose(ops.convert(pixels, "f32"), np.array([0, 3, 1, 2], np.int64))
        maps = ops.subtract(ops.multiply(planar, np.float32(1 / 127.5)), np.float32(1))
        maps = apply_relu6(self.add_convolution(maps, "Conv1"))
        for row in list_blocks():
            inner = (
                apply_relu6(self.add_convolution(maps, f"{row.name}_expand"))
                if row.expanded != row.channels_in
                else maps
            )
            inner = apply_relu6(self.add_convolution(inner, f"{row.name}_depthwise"))
            inner = self.add_convolution(inner, f"{row.name}_project")
            residual = row.stride == 1 and row.channels_in == row.channels_out
            maps = ops.add(maps, inner) if residual else inner
        maps = apply_relu6(self.add_convolution(maps, "Conv_1"))
        pooled = ops.reduce_mean(maps, np.array([2, 3], np.int64), keep_dims=True)
        projected = self.add_projection(pooled)
        vectors = ops.normalize_l2(projected, np.array([1], np.int64), NORM_FLOOR, "max", name="vectors")
        vectors.output(0).set_names({"vectors"})
        pixels.output(0).set_names({"pixels"})
        return ov.Model([vectors], [pixels], "builtin")

    def add_convolution(self, maps: Any, name: str) -> Any:
        """Add a convolution of the student, by the name of its Keras layer."""
        layer = self.layers[name]
        kernel = layer.weight.detach().float().numpy()
        before, after = compute_padding(layer, maps)
        place = ([layer.stride[0]] * 2, [before] * 2, [after] * 2, [1, 1])
        if layer.groups > 1:
            result = ops.group_convolution(maps, make_kernel(kernel[:, None], np.float16, name), *place)
            return ops.add(result, make_bias(layer.bias, name))
        return make_convolution(maps, kernel, layer.bias, place, name)

    def add_projection(self, pooled: Any) -> Any:
        """Add the projection as a 1 x 1 convolution, so that it is stored like the other layers."""
        layer = self.student.projection
        kernel = layer.weight.detach().float().numpy()[:, :, None, None]
        rows = make_convolution(pooled, kernel, layer.bias, ([1, 1], [0, 0], [0, 0], [1, 1]), "projection")
        return ops.squeeze(rows, np.array([2, 3], np.int64))


def compute_padding(layer: Convolution, maps: Any) -> tuple[int, int]:
    """Compute the padding before and after, in rows and columns."""
    if layer.kernel_size[0] == 1:
        return 0, 0
    side = maps.get_output_partial_shape(0)[2].get_length()
    return (1, 1) if layer.stride[0] == 1 else (side % 2, 1)


def make_convolution(
    maps: Any, kernel: NDArray[np.float32], biases: torch.Tensor, place: ConvolutionGeometry, name: str
) -> Any:
    """Make a convolution. The scale of an int8 kernel multiplies the output, not the kernel.

    OpenVINO 2026.4 computes wrong results in streams of one thread where an int8 kernel is multiplied before its use.
    """
    if name not in INT8_LAYERS:
        return ops.add(ops.convolution(maps, make_kernel(kernel, np.float16, name), *place), make_bias(biases, name))
    scale = np.abs(kernel).max((1, 2, 3), keepdims=True) / 127
    result = ops.convolution(maps, make_kernel(np.rint(kernel / scale), np.int8, name), *place)
    scaled = ops.multiply(result, ops.constant(scale.reshape(1, -1, 1, 1).astype(np.float32), name=f"{name}/scale"))
    return ops.add(scaled, make_bias(biases, name))


def make_kernel(kernel: NDArray[np.float32], kind: type[np.generic], name: str) -> Any:
    """Make a kernel constant; the graph converts it to f32."""
    return ops.convert(ops.constant(kernel.astype(kind), name=f"{name}/kernel"), "f32")


def make_bias(values: torch.Tensor, name: str) -> Any:
    """Make the bias constant for maps (n, c, h, w)."""
    return ops.constant(values.detach().float().numpy().reshape(1, -1, 1, 1), name=f"{name}/bias")


def apply_relu6(maps: Any) -> Any:
    """Clip to [0, 6]."""
    return ops.clamp(maps, 0.0, 6.0)


def blend(checkpoint: Path, start: Path | None, share: float) -> dict[str, torch.Tensor]:
    """Load the trained weights, or a weighted mean of them and of the starting weights.

    The mean keeps what was learned on a narrow pool and loses less of the original abilities (Wortsman et al., Robust
    fine-tuning of zero-shot models, CVPR 2022).
    """
    trained: dict[str, torch.Tensor] = torch.load(checkpoint)["average"]
    if start is None:
        return trained
    before = torch.load(start)["average"]
    return {name: torch.lerp(before[name], value, share) for name, value in trained.items()}


def main() -> None:
    """Run this step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True, help="the .pt file that distill.py wrote")
    parser.add_argument("--into", type=Path, required=True, help="folder for builtin.xml and builtin.bin")
    parser.add_argument("--start", type=Path, help="the <name>-start.pt to blend with")
    parser.add_argument(
        "--share", type=float, default=1.0, help="share of the trained weights in the mean; the rest is --start"
    )
    arguments = parser.parse_args()
    student = Student()
    student.load_state_dict(blend(arguments.checkpoint, arguments.start, arguments.share))
    arguments.into.mkdir(parents=True, exist_ok=True)
    ov.save_model(GraphBuilder(student).build_graph(), arguments.into / "builtin.xml", compress_to_fp16=False)


if __name__ == "__main__":
    main()
