"""The student: MobileNetV2 with folded batch norms, average pooling, a linear projection to 256 d, unit rows."""

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
    """The settings of an inverted residual block of MobileNetV2 (Sandler et al., CVPR 2018, table 2)."""

    name: str
    channels_in: int
    expanded: int
    channels_out: int
    stride: int


def list_blocks() -> list[BlockSpec]:
    """The 17 blocks, with the names that Keras gives them."""
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
    """A convolution padded as in Keras's MobileNetV2: for stride 2, one more row and column at the end."""

    def __init__(self, channels_in: int, channels_out: int, size: int, stride: int = 1, groups: int = 1) -> None:
        padding = size // 2 if stride == 1 else 0
        super().__init__(channels_in, channels_out, size, stride, padding, groups=groups)

    def forward(self, maps: Tensor) -> Tensor:
        """Pad and convolve."""
        if self.stride[0] == 2:
            before = maps.shape[-1] % 2
            maps = functional.pad(maps, (before, 1, before, 1))
        return super().forward(maps)


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; the input is added where the shapes are equal."""

    def __init__(self, block: BlockSpec) -> None:
        super().__init__()
        self.expand = None
        if block.expanded != block.channels_in:
            self.expand = Convolution(block.channels_in, block.expanded, 1)
        self.depthwise = Convolution(block.expanded, block.expanded, 3, block.stride, groups=block.expanded)
        self.project = Convolution(block.expanded, block.channels_out, 1)
        self.residual = block.stride == 1 and block.channels_in == block.channels_out

    def forward(self, maps: Tensor) -> Tensor:
        """Map (n, c, h, w) to (n, c_out, h / stride, w / stride)."""
        inner = maps if self.expand is None else functional.relu6(self.expand(maps))
        inner = functional.relu6(self.depthwise(inner))
        inner = self.project(inner)
        return maps + inner if self.residual else inner


class Student(nn.Module):
    """The network from pixels (n, 3, side, side), scaled to [-1, 1], to unit rows (n, 256)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Convolution(3, 32, 3, 2)
        self.blocks = nn.ModuleList(InvertedResidual(block) for block in list_blocks())
        self.head = Convolution(320, 1280, 1)
        self.projection = nn.Linear(1280, DIMENSIONS)

    def extract_features(self, scaled: Tensor) -> Tensor:
        """Compute pooled features (n, 1280)."""
        maps = functional.relu6(self.stem(scaled))
        for block in self.blocks:
            maps = block(maps)
        return functional.relu6(self.head(maps)).mean((2, 3))

    def forward(self, scaled: Tensor) -> Tensor:
        """Compute unit rows (n, 256)."""
        return functional.normalize(self.projection(self.extract_features(scaled)).float())

    def collect_convolutions(self) -> dict[str, Convolution]:
        """Collect all convolutions by the names of their Keras layers."""
        by_name: dict[str, Convolution] = {"Conv1": self.stem}
        for row, block in zip(list_blocks(), self.blocks, strict=True):
            for part in ("expand", "depthwise", "project"):
                if getattr(block, part) is not None:
                    by_name[f"{row.name}_{part}"] = getattr(block, part)
        by_name["Conv_1"] = self.head
        return by_name

    def load_start(self, start: Path) -> None:
        """Load the convolutions of the MobileNetV2 teacher (`start.npz` of teachers.py)."""
        arrays = np.load(start)
        for name, convolution in self.collect_convolutions().items():
            order = (2, 3, 0, 1) if "depthwise" in name else (3, 2, 0, 1)
            with torch.no_grad():
                convolution.weight.copy_(torch.from_numpy(arrays[f"{name}/kernel"].transpose(order).copy()))
                convolution.bias.copy_(torch.from_numpy(arrays[f"{name}/bias"]))
