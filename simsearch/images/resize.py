"""Resize a picture to the square input of a model, by the rule that the model was trained with."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Resize = Literal["squash", "crop", "pad", "nearest"]
"""How a picture of any shape is resized to a square.

`squash` scales both sides. `crop` scales the shorter side to 8/7 of the square's side and takes the middle, as ImageNet
networks are evaluated. `pad` scales the longer side and fills with white. `nearest` scales both sides and takes the
nearest pixel, as Keras's `load_img(target_size=...)` does, for comparison with results that were computed that way.
"""

Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
"""Pillow's resampling filters; all but `nearest` average over the pixels that a smaller picture leaves out."""

CropOffset = Literal["floor", "round"]
"""Where a middle of an odd margin begins: rounded down (transformers), or to the even pixel (torchvision, OpenCLIP)."""

Pixels = NDArray[np.uint8]

_FILTERS: dict[Interpolation, Image.Resampling] = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True, slots=True)
class ResizeRule:
    """A rule from a picture of any shape to a square of `side_px`.

    With `shortest_px`, `crop` scales the shorter side to that length and takes the middle, as transformers and
    torchvision define it: the longer side is rounded down, and `crop_offset` rounds the place of the middle. Both sides
    of a JPEG that is decoded at a reduced scale stay at least `decode_margin` times as long as they will be. With a
    margin above 1, the edges that such a decoding fills up to whole blocks are left out, too.
    """

    side_px: int
    resize: Resize
    interpolation: Interpolation = "bilinear"
    shortest_px: int | None = None
    crop_offset: CropOffset = "floor"
    decode_margin: int = 1

    @property
    def target_px(self) -> int | None:
        """The length that both sides must keep so that a reduced decoding loses nothing; None for full size."""
        if self.resize == "nearest" or self.interpolation == "nearest":
            return None
        if self.resize == "squash":
            return self.side_px * self.decode_margin
        if self.resize == "crop" and self.shortest_px is not None:
            return self.shortest_px * self.decode_margin
        return -(-self.side_px * 8 // 7) * self.decode_margin

    def apply(self, image: Image.Image, full_size: tuple[int, int]) -> NDArray[np.uint8]:
        """Resize an RGB picture to (side, side, 3) uint8.

        `full_size` is its width and height before a reduced decoding; sizes are rounded as for the full picture.
        """
        side, filter_ = (self.side_px, self.side_px), _FILTERS[self.interpolation]
        visible = _find_visible_size(image.size, full_size) if self.decode_margin > 1 else image.size
        if self.resize == "squash":
            square = image.resize(side, filter_, box=(0, 0, *visible))
        elif self.resize == "nearest":
            square = image.resize(side, Image.Resampling.NEAREST)
        elif self.resize == "pad":
            square = self._pad(image)
        elif self.shortest_px is None:
            square = image.resize(side, filter_, box=_find_middle(image.size))
        else:
            square = image.resize(side, filter_, box=self._find_published_middle(visible, full_size))
        return np.asarray(square)

    def transform(self, pixels: Pixels, change: Callable[[Pixels], Pixels]) -> Pixels:
        """Apply a function of squares to the square (side, side, 3)."""
        return change(pixels)

    def _find_published_middle(
        self, size: tuple[float, float], full_size: tuple[int, int]
    ) -> tuple[float, float, float, float]:
        """The box of the middle in pixels of the picture, as if it were resized whole and cropped then."""
        assert self.shortest_px is not None
        shorter = min(full_size)
        resized = [
            self.shortest_px if length == shorter else int(self.shortest_px * length / shorter) for length in full_size
        ]
        starts = [self._halve(length - self.side_px) for length in resized]
        scales = [length / new_length for length, new_length in zip(size, resized, strict=True)]
        left, top = (start * scale for start, scale in zip(starts, scales, strict=True))
        right, bottom = ((start + self.side_px) * scale for start, scale in zip(starts, scales, strict=True))
        return left, top, min(right, size[0]), min(bottom, size[1])

    def _halve(self, margin: int) -> int:
        return margin // 2 if self.crop_offset == "floor" else round(margin / 2)

    def _pad(self, image: Image.Image) -> Image.Image:
        """Pad with white as `ImageOps.pad` does, but keep at least one pixel of a very thin picture."""
        longer = max(image.size)
        width, height = (max(1, round(length * self.side_px / longer)) for length in image.size)
        square = Image.new("RGB", (self.side_px, self.side_px), "white")
        inner = image.resize((width, height), _FILTERS[self.interpolation])
        square.paste(inner, (round((self.side_px - width) / 2), round((self.side_px - height) / 2)))
        return square


@dataclass(frozen=True, slots=True)
class JoinedRule:
    """The rules of a model that joins networks with inputs of different kinds.

    Its input is one array (n_px, 3): the squares of the rules in their order, each flattened to (side * side, 3).
    """

    rules: tuple[ResizeRule, ...]

    def apply(self, image: Image.Image, full_size: tuple[int, int]) -> Pixels:
        """Resize an RGB picture, decoded at full size, to the input (n_px, 3) uint8."""
        return self.join([rule.apply(image, full_size) for rule in self.rules])

    def join(self, squares: Sequence[Pixels]) -> Pixels:
        """Join the squares (side, side, 3) of one picture, in the order of the rules, to the input (n_px, 3)."""
        return np.concatenate([square.reshape(-1, 3) for square in squares])

    def split(self, batch: Pixels) -> list[Pixels]:
        """Split inputs (..., n_px, 3) to the squares (..., side, side, 3) of each rule."""
        sides = [rule.side_px for rule in self.rules]
        parts = np.split(batch, np.cumsum([side * side for side in sides])[:-1], axis=-2)
        return [part.reshape(*batch.shape[:-2], side, side, 3) for part, side in zip(parts, sides, strict=True)]

    def transform(self, pixels: Pixels, change: Callable[[Pixels], Pixels]) -> Pixels:
        """Apply a function of squares to each square of an input (n_px, 3)."""
        return self.join([change(square) for square in self.split(pixels)])


InputRule = ResizeRule | JoinedRule
"""A rule from a picture to the input of a model."""


def _find_visible_size(size: tuple[int, int], full_size: tuple[int, int]) -> tuple[float, float]:
    """The part of a picture decoded at 1/2, 1/4 or 1/8 that is not padding, in its pixels.

    The decoder rounds both sides up, so the last pixel may stand for less than a block of the full picture.
    """
    scale = 2 ** round(math.log2(max(full / length for full, length in zip(full_size, size, strict=True))))
    return min(full_size[0] / scale, size[0]), min(full_size[1] / scale, size[1])


def _find_middle(size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The box of the middle of a picture with 7/8 of its shorter side.

    It begins at whole pixels: where the shorter side is 8/7 of the square's side, the crop is exact and not blurred.
    """
    margin = 1 / 16
    visible = min(size) * (1 - 2 * margin)
    left, top = ((length - visible) // 2 for length in size)
    return left, top, left + visible, top + visible
