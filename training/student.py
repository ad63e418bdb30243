"""The student: MobileNetV2 with its batch norms folded away, average pooling, a linear map to 256 d, unit rows."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

SIDE_PX = 144
DIMENSIONS = 256


class BlockSpec(NamedTuple):
    """One inverted residual block of MobileNetV2 (Sandler et al., CVPR 2018, table 2), as Keras names it."""

    name: str
    channels_in: int
    expanded: int
    channels_out: int
    stride: int


def list_blocks() -> list[BlockSpec]:
    """The seventeen blocks."""
    stages = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    table: list[BlockSpec] = []
    channels_in = 32
    for expansion, channels_out, repeats, first_stride in stages:
        for repeat in range(repeats):
            name = f"block_{len(table)}" if table else "expanded_conv"
            stride = first_stride if repeat == 0 else 1
            table.append(BlockSpec(name, channels_in, channels_in * expansion, channels_out, stride))
            channels_in = channels_out
    return table


class Convolution(nn.Conv2d):
    """A convolution padded as Keras pads MobileNetV2: one more row and column at the end where the stride is 2."""

    def __init__(self, channels_in: int, channels_out: int, size: int, stride: int = 1, groups: int = 1) -> None:
        padding = size // 2 if stride == 1 else 0
        super().__init__(channels_in, channels_out, size, stride, padding, groups=groups)

    def forward(self, maps: Tensor) -> Tensor:
        """Pad, then convolve."""
        if self.stride[0] == 2:
            before = maps.shape[-1] % 2
            maps = functional.pad(maps, (before, 1, before, 1))
        return super().forward(maps)


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; added to its input where the shapes allow."""

    def __init__(self, block: BlockSpec) -> None:
        super().__init__()
        self.expand = None
        if block.expanded != block.channels_in:
            self.expand = Convolution(block.channels_in, block.expanded, 1)
        self.depthwise = Convolution(block.expanded, block.expanded, 3, block.stride, groups=block.expanded)
        self.project = Convolution(block.expanded, block.channels_out, 1)
        self.residual = block.stride == 1 and block.channels_in == block.channels_out

    def forward(self, maps: Tensor) -> Tensor:
        """(n, c, h, w) to (n, c_out, h / stride, w / stride)."""
        inner = maps if self.expand is None else functional.relu6(self.expand(maps))
        inner = functional.relu6(self.depthwise(inner))
        inner = self.project(inner)
        return maps + inner if self.residual else inner


class Student(nn.Module):
    """From pixels (n, 3, side, side) scaled to [-1, 1] to unit rows (n, 256)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Convolution(3, 32, 3, 2)
        self.blocks = nn.ModuleList(InvertedResidual(block) for block in list_blocks())
        self.head = Convolution(320, 1280, 1)
        self.projection = nn.Linear(1280, DIMENSIONS)

    def extract_features(self, scaled: Tensor) -> Tensor:
        """Pooled features (n, 1280)."""
        maps = functional.relu6(self.stem(scaled))
        for block in self.blocks:
            maps = block(maps)
        return functional.relu6(self.head(maps)).mean((2, 3))

    def forward(self, scaled: Tensor) -> Tensor:
        """Unit rows (n, 256)."""
        return functional.normalize(self.projection(self.extract_features(scaled)).float())

    def collect_convolutions(self) -> dict[str, Convolution]:
        """Every convolution by the name of its Keras layer."""
        named: dict[str, Convolution] = {"Conv1": self.stem}
        for row, block in zip(list_blocks(), self.blocks, strict=True):
            for part in ("expand", "depthwise", "project"):
                if getattr(block, part) is not None:
                    named[f"{row.name}_{part}"] = getattr(block, part)
        named["Conv_1"] = self.head
        return named

    def load_start(self, start: Path) -> None:
        """Take the teacher MobileNetV2's own convolutions (`start.npz` of teachers.py)."""
        arrays = np.load(start)
        for name, convolution in self.collect_convolutions().items():
            order = (2, 3, 0, 1) if "depthwise" in name else (3, 2, 0, 1)
            with torch.no_grad():
                convolution.weight.copy_(torch.from_numpy(arrays[f"{name}/kernel"].transpose(order).copy()))
                convolution.bias.copy_(torch.from_numpy(arrays[f"{name}/bias"]))
