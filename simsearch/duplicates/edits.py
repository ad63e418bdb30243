"""The edits that produce near duplicates: recompression, resizing, mirroring, crops, rotation, brightness."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

Edit = Callable[[Image.Image, np.random.Generator], Image.Image]
"""A function from an upright RGB picture to an edited one."""

_ROTATION_DEG = 3.0
_BRIGHTNESS = 0.2


def _build_recompression(quality: int) -> Edit:
    def edit(image: Image.Image, _: np.random.Generator) -> Image.Image:
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=quality)
        return Image.open(stream).convert("RGB")

    return edit


def _halve(image: Image.Image, _: np.random.Generator) -> Image.Image:
    width, height = image.size
    return image.resize((max(1, width // 2), max(1, height // 2)), Image.Resampling.LANCZOS)


def _mirror(image: Image.Image, _: np.random.Generator) -> Image.Image:
    return ImageOps.mirror(image)


def _build_crop(share: float) -> Edit:
    """Build a crop to that share of both sides, at a random position."""

    def edit(image: Image.Image, random: np.random.Generator) -> Image.Image:
        width, height = (max(1, round(length * share)) for length in image.size)
        left = int(random.integers(image.width - width + 1))
        top = int(random.integers(image.height - height + 1))
        return image.crop((left, top, left + width, top + height))

    return edit


def _rotate(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Rotate by three degrees in a random direction, and crop to the largest part without empty corners."""
    degrees = _ROTATION_DEG * float(random.choice([-1, 1]))
    sine, cosine = math.sin(math.radians(_ROTATION_DEG)), math.cos(math.radians(_ROTATION_DEG))
    width, height = image.size
    share = min(width / (width * cosine + height * sine), height / (width * sine + height * cosine))
    turned = image.rotate(degrees, Image.Resampling.BICUBIC)
    across, down = width * (1 - share) / 2, height * (1 - share) / 2
    box = (math.ceil(across), math.ceil(down), math.floor(width - across), math.floor(height - down))
    return turned.crop(box) if box[2] > box[0] and box[3] > box[1] else turned


def _change_brightness(image: Image.Image, random: np.random.Generator) -> Image.Image:
    factor = 1 + _BRIGHTNESS * float(random.choice([-1, 1]))
    return ImageEnhance.Brightness(image).enhance(factor)


EDITS: Mapping[str, Edit] = {
    "recompressed, JPEG quality 50": _build_recompression(50),
    "recompressed, JPEG quality 30": _build_recompression(30),
    "half the size": _halve,
    "mirrored": _mirror,
    "cropped to 95 %": _build_crop(0.95),
    "cropped to 90 %": _build_crop(0.90),
    "rotated by 3 degrees": _rotate,
    "brightness 20 % up or down": _change_brightness,
}
"""The edits a calibration measures, by the name it reports."""
