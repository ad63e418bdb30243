"""Pictures that the tests of decoding share: encoded by Pillow, or written by hand, bit by bit."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from simsearch.errors import ImageError
from simsearch.images.decode import DecodedImage, decode_image

LIMIT = 100_000_000
FUZZ = settings(max_examples=4 * settings().max_examples)
"""More examples of what may crash a decoder: 100, or 1,000 under HYPOTHESIS_PROFILE=thorough."""


def photo(width: int = 101, height: int = 100, seed: int = 0) -> np.ndarray:
    """(height, width, 3) uint8: smooth colours, as in a photograph, and no symmetry."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def encode(picture: Image.Image | np.ndarray, name: str, **options) -> bytes:
    image = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


def orientation_exif(orientation) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def picture_of(data: bytes, *, max_pixels: int = LIMIT, target_px: int | None = None) -> DecodedImage:
    return decode_image(data, "picture", max_pixels=max_pixels, target_px=target_px)


def pixels_of(data: bytes) -> np.ndarray:
    picture = picture_of(data)
    assert picture.image.mode == "RGB"
    pixels = np.asarray(picture.image)
    assert (picture.height, picture.width) == pixels.shape[:2]
    return pixels


def failure_of(data: bytes, *, max_pixels: int = LIMIT) -> ImageError:
    with pytest.raises(ImageError) as caught:
        picture_of(data, max_pixels=max_pixels)
    return caught.value


def mean_difference(one: np.ndarray, other: np.ndarray) -> float:
    assert one.shape == other.shape
    return float(np.abs(one.astype(float) - other.astype(float)).mean())


def greys(*values: int) -> list[list[int]]:
    return [[value] * 3 for value in values]


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(size: tuple[int, int], bits: int, colour: int, body: bytes, *extra: bytes) -> bytes:
    """A PNG of any kind; `body` is its compressed rows, each with its filter byte."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", *size, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b"")


def tiff(size: tuple[int, int], mark: str = "<") -> bytes:
    """An uncompressed grey TIFF of one strip, whose pixels are left out."""
    tags = [(256, 4, size[0]), (257, 4, size[1]), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 200)]
    tags += [(277, 3, 1), (278, 4, size[1]), (279, 4, size[0] * size[1] % 2**32)]
    body = b"II*\0" if mark == "<" else b"MM\0*"
    body += struct.pack(mark + "IH", 8, len(tags))
    for tag, kind, value in tags:
        body += struct.pack(mark + "HHI", tag, kind, 1)
        body += struct.pack(mark + ("HH" if kind == 3 else "I"), *((value, 0) if kind == 3 else (value,)))
    return body + bytes(4)


def jpeg_of_size(width: int, height: int) -> bytes:
    """A small JPEG whose header lies about its size."""
    data = bytearray(encode(photo(8, 8), "JPEG"))
    frame = data.index(b"\xff\xc0") + 5
    data[frame : frame + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def gif_of_size(width: int, height: int) -> bytes:
    size = struct.pack("<HH", width, height)
    screen = b"GIF89a" + size + b"\x80\0\0" + bytes(3) + b"\xff\xff\xff"
    return screen + b"," + bytes(4) + size + b"\0" + b"\x02\x02\x44\x01\0;"
