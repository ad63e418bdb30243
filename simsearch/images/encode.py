"""Pixels that a caller has in memory as the bytes of a file, so that they are decoded like any other picture."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps

from simsearch.images.color import convert_to_rgb
from simsearch.images.decode import Pixels


def encode_pixels(pixels: Pixels) -> bytes:
    """Encode pixels (h, w, 3) uint8 RGB as a PPM file, without loss."""
    height, width, _ = pixels.shape
    return b"P6 %d %d 255\n" % (width, height) + np.ascontiguousarray(pixels).tobytes()


def encode_picture(picture: Image.Image) -> bytes:
    """Encode a Pillow image as a PPM file: upright by its EXIF orientation, RGB, transparency on white."""
    return encode_pixels(np.asarray(convert_to_rgb(ImageOps.exif_transpose(picture))))
