"""Conversion of decoded pictures of any mode to RGB, in strips: it takes the memory of the picture and of the result.

Whole pictures would take 27 bytes per pixel for gray of 16 bits, and 20 for transparent ones; strips take 6 and 8.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_STRIP_PIXELS = 1 << 20


def convert_to_rgb(image: Image.Image) -> Image.Image:
    """Convert to RGB: transparency on white, gray of more than 8 bits as in `_convert_wide_gray`.

    The picture is returned as it is if it is RGB and opaque.
    """
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return _convert_wide_gray(image)
    if image.has_transparency_data:
        return _flatten_on_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _flatten_on_white(image: Image.Image) -> Image.Image:
    flat = Image.new("RGB", image.size)
    for top, strip in _split_into_strips(image):
        layers = strip.convert("RGBA")
        white = Image.new("RGBA", layers.size, "white")
        flat.paste(Image.alpha_composite(white, layers).convert("RGB"), (0, top))
    return flat


def _convert_wide_gray(image: Image.Image) -> Image.Image:
    """Convert gray of more than 8 bits: floats within [0, 1] are scaled by 255, values within 16 bits by 1/257.

    Other ranges are stretched from their minimum to their maximum.
    """
    ranges = [(float(values.min()), float(values.max())) for _, values in _read_gray_strips(image)]
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    rgb = Image.new("RGB", image.size)
    for top, values in _read_gray_strips(image):
        if low < 0 or high > 65535:
            scaled = (values - low) * (255 / ((high - low) or 1))
        elif image.mode == "F" and high <= 1:
            scaled = values * 255
        elif image.mode == "F" and high <= 255:
            scaled = values
        else:
            scaled = values / 257
        rgb.paste(Image.fromarray(np.round(scaled).astype(np.uint8)), (0, top))
    return rgb


def _read_gray_strips(image: Image.Image) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Yield each strip's first row and its values; those that are not finite count as 0."""
    for top, strip in _split_into_strips(image):
        yield top, np.nan_to_num(np.asarray(strip, dtype=np.float64), posinf=0.0, neginf=0.0)


def _split_into_strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Yield strips of about a million pixels, each with the number of its first row."""
    width, height = image.size
    n_rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, n_rows):
        yield top, image.crop((0, top, width, min(height, top + n_rows)))
