"""Every format and mode gives the right RGB pixels."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.support.pictures import (
    encode,
    greys,
    mean_difference,
    photo,
    picture_of,
    pixels_of,
    png,
)

LOSSLESS = [
    ("PNG", {}),
    ("WEBP", {"lossless": True}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("TIFF", {"compression": "tiff_deflate"}),
    ("BMP", {}),
    ("DIB", {}),
    ("PPM", {}),
    ("JPEG2000", {}),
]
LOSSY = [
    ("JPEG", {"quality": 95, "subsampling": 0}),
    ("WEBP", {"quality": 95}),
    ("AVIF", {"quality": 95, "subsampling": "4:4:4"}),
]


# Formats


@pytest.mark.parametrize(("name", "options"), LOSSLESS)
def test_lossless_formats_give_the_pixels_back(name: str, options: dict):
    pixels = photo()
    data = encode(pixels, name, **options)
    assert np.array_equal(pixels_of(data), pixels)
    assert picture_of(data).format == name


@pytest.mark.parametrize(("name", "options"), LOSSY)
def test_lossy_formats_give_nearly_the_pixels_back(name: str, options: dict):
    pixels = photo()
    data = encode(pixels, name, **options)
    assert mean_difference(pixels_of(data), pixels) < 3
    assert picture_of(data).format == name


def test_gif_gives_its_palettes_pixels():
    pixels = np.asarray([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [9, 8, 7]]], dtype=np.uint8)
    assert np.array_equal(pixels_of(encode(pixels, "GIF")), pixels)


@pytest.mark.parametrize("brand", [b"heic", b"mif1"])
def test_heic_is_read_through_the_extra(heif, brand: bytes):
    pixels = photo(64, 48)
    data = bytearray(encode(pixels, "HEIF", quality=95))
    data[8:12] = brand
    assert mean_difference(pixels_of(bytes(data)), pixels) < 4
    assert picture_of(bytes(data)).format == "HEIF"


def test_avif_under_the_general_brand_is_read():
    data = bytearray(encode(photo(), "AVIF"))
    data[8:12] = b"mif1"
    assert picture_of(bytes(data)).format == "AVIF"


def test_heic_without_the_extra_names_the_extra():
    code = """
import sys
sys.modules["pillow_heif"] = None  # as if it were not installed
from simsearch.errors import ImageError
from simsearch.images.decode import decode_image
try:
    decode_image(b"\\0\\0\\0\\x18ftypheic" + bytes(64), "picture.heic", max_pixels=100)
except ImageError as error:
    sys.exit(str(error))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    message = "cannot read picture.heic: HEIC needs an optional package; install it: pip install 'pillow-heif>=1.1'"
    assert done.stderr.strip() == message


@pytest.mark.parametrize("name", ["GIF", "TIFF", "PNG", "WEBP", "AVIF", "MPO"])
def test_of_several_frames_the_first_is_taken(name: str):
    red, blue = (Image.new("RGB", (16, 16), colour) for colour in ("red", "blue"))
    pixels = pixels_of(encode(red, name, save_all=True, append_images=[blue, blue]))
    assert pixels.shape == (16, 16, 3)
    assert mean_difference(pixels, np.full((16, 16, 3), (255, 0, 0))) < 3


def test_frames_of_another_size_change_nothing():
    first, second = Image.new("L", (20, 10), 40), Image.new("L", (300, 200), 90)
    assert pixels_of(encode(first, "TIFF", save_all=True, append_images=[second])).shape == (10, 20, 3)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"P1 2 1\n1 0\n", greys(0, 255)),
        (b"P2 3 1 255\n0 7 255\n", greys(0, 7, 255)),
        (b"P3 1 1 255\n1 2 3\n", [[1, 2, 3]]),
        (b"P4 2 1\n\x80", greys(0, 255)),
        (b"P5 2 1 255\n\x05\xff", greys(5, 255)),
        (b"P5 3 1 65535\n\0\0\x01\x01\xff\xff", greys(0, 1, 255)),
        (b"P6 1 1 255\n\x01\x02\x03", [[1, 2, 3]]),
    ],
    ids=["P1", "P2", "P3", "P4", "P5", "P5 of 16 bits", "P6"],
)
def test_the_portable_formats_give_their_pixels(data: bytes, expected: list):
    assert pixels_of(data).tolist() == [expected]


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 3)])
def test_the_smallest_pictures_are_read(size: tuple[int, int]):
    pixels = photo(*size)
    assert np.array_equal(pixels_of(encode(pixels, "PNG")), pixels)
    assert picture_of(encode(pixels, "JPEG"), target_px=8).image.size == size


# Modes


@pytest.mark.parametrize("name", ["PNG", "TIFF", "BMP", "GIF"])
def test_one_bit_is_black_and_white(name: str):
    image = Image.fromarray(np.asarray([[0, 255, 255], [255, 0, 0]], dtype=np.uint8)).convert("1")
    assert pixels_of(encode(image, name)).tolist() == [greys(0, 255, 255), greys(255, 0, 0)]


@pytest.mark.parametrize("name", ["PNG", "TIFF", "BMP", "PPM", "JPEG2000"])
def test_grey_is_the_same_in_every_channel(name: str):
    values = np.asarray([[0, 1, 100], [128, 254, 255]], dtype=np.uint8)
    assert np.array_equal(pixels_of(encode(values, name)), np.repeat(values[..., None], 3, axis=2))


@pytest.mark.parametrize("name", ["PNG", "TIFF", "BMP", "GIF"])
def test_a_palette_is_looked_up(name: str):
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.putdata([2, 0, 1])
    assert pixels_of(encode(image, name)).tolist() == [[[70, 80, 90], [10, 20, 30], [40, 50, 60]]]


def test_a_palettes_transparent_colour_is_white():
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.putdata([2, 0, 1])
    for name in ("PNG", "GIF"):
        pixels = pixels_of(encode(image, name, transparency=0))
        assert pixels.tolist() == [[[70, 80, 90], [255, 255, 255], [40, 50, 60]]]


def test_a_palettes_half_transparent_colour_is_mixed_with_white():
    image = Image.new("P", (3, 1))
    image.putpalette([0, 50, 100, 40, 50, 60, 70, 80, 90])
    image.putdata([0, 1, 2])
    pixels = pixels_of(encode(image, "PNG", transparency=b"\x33\xff\x00"))  # a fifth, whole, none
    assert pixels.tolist() == [[[204, 214, 224], [40, 50, 60], [255, 255, 255]]]


@pytest.mark.parametrize("name", ["PNG", "TIFF", "WEBP", "JPEG2000"])
def test_alpha_is_composited_on_white(name: str):
    opaque, two_fifths, a_fifth, none = 255, 102, 51, 0
    values = [
        (10, 20, 30, opaque),
        (0, 50, 255, two_fifths),  # 2/5 of each, and 3/5 of 255, which is 153
        (0, 50, 100, a_fifth),  # 1/5 of each, and 4/5 of 255, which is 204
        (0, 0, 0, none),
    ]
    options = {"lossless": True} if name == "WEBP" else {}
    data = encode(np.asarray([values], dtype=np.uint8), name, **options)
    assert pixels_of(data).tolist() == [[[10, 20, 30], [153, 173, 255], [204, 214, 224], [255, 255, 255]]]


@pytest.mark.parametrize("name", ["PNG", "TIFF"])
def test_grey_with_alpha_is_composited_on_white(name: str):
    image = Image.new("LA", (3, 1))
    image.putdata([(100, 51), (100, 255), (0, 0)])
    assert pixels_of(encode(image, name)).tolist() == [greys(224, 100, 255)]


def test_the_transparent_colour_of_an_rgb_png_is_white():
    pixels = np.asarray([[[1, 2, 3], [1, 2, 4], [0, 0, 0]]], dtype=np.uint8)
    decoded = pixels_of(encode(pixels, "PNG", transparency=(1, 2, 3)))
    assert decoded.tolist() == [[[255, 255, 255], [1, 2, 4], [0, 0, 0]]]


def test_the_transparent_value_of_a_grey_png_is_white():
    decoded = pixels_of(encode(np.asarray([[7, 8]], dtype=np.uint8), "PNG", transparency=7))
    assert decoded.tolist() == [greys(255, 8)]


@pytest.mark.parametrize("name", ["PNG", "TIFF", "JPEG2000"])
def test_grey_of_16_bits_is_divided_by_257(name: str):
    values = np.asarray([[0, 128, 129, 257, 25700, 65534, 65535]], dtype=np.uint16)
    assert pixels_of(encode(values, name)).tolist() == [greys(0, 0, 1, 1, 100, 255, 255)]


def test_grey_of_16_bits_in_either_byte_order_is_the_same():
    big = Image.frombytes("I;16B", (3, 1), struct.pack(">3H", 0, 25700, 65535))
    data = encode(big, "TIFF")
    assert data.startswith(b"MM")
    assert pixels_of(data).tolist() == [greys(0, 100, 255)]


def test_colours_of_16_bits_keep_their_upper_byte():
    row = b"\0" + struct.pack(">6H", 0x0100, 0x80FF, 0xFFFF, 0x1234, 0, 0x00FF)
    assert pixels_of(png((2, 1), 16, 2, zlib.compress(row))).tolist() == [[[1, 128, 255], [18, 0, 0]]]


def test_colours_of_16_bits_with_alpha_are_composited_on_white():
    row = b"\0" + struct.pack(">8H", 0, 50 * 257, 100 * 257, 51 * 257, 0, 0, 0, 0)
    assert pixels_of(png((2, 1), 16, 6, zlib.compress(row))).tolist() == [[[204, 214, 224], [255, 255, 255]]]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 25700, 65535], [0, 100, 255]),
        ([-100, 0, 300], [0, 64, 255]),
        ([0, 500_000, 2_000_000], [0, 64, 255]),
        ([-7, -7, -7], [0, 0, 0]),
        ([2_000_000_000] * 3, [0, 0, 0]),
    ],
    ids=["16 bits", "with negative ones", "wider", "all negative", "all wide"],
)
def test_integers_of_32_bits_are_scaled_or_stretched(values: list[int], expected: list[int]):
    data = encode(np.asarray([values], dtype=np.int32), "TIFF")
    assert pixels_of(data).tolist() == [greys(*expected)]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 0.25, 1], [0, 64, 255]),
        ([0, 100, 255], [0, 100, 255]),
        ([0, 257, 65535], [0, 1, 255]),
        ([-1, 0, 3], [0, 64, 255]),
        ([-1e30, 0, 3e30], [0, 64, 255]),
        ([float("nan"), float("inf"), 1], [0, 0, 255]),
        ([-5, -5, -5], [0, 0, 0]),
        ([1e6, 1e6, 1e6], [0, 0, 0]),
        ([0, 0, 0], [0, 0, 0]),
    ],
    ids=["unit", "8 bits", "16 bits", "signed", "huge", "not finite", "all negative", "all wide", "all zero"],
)
def test_floats_are_scaled_or_stretched(values: list[float], expected: list[int]):
    data = encode(np.asarray([values], dtype=np.float32), "TIFF")
    assert pixels_of(data).tolist() == [greys(*expected)]


CMYK = {
    (0, 0, 0, 0): (255, 255, 255),
    (0, 0, 0, 255): (0, 0, 0),
    (0, 255, 255, 0): (255, 0, 0),
    (255, 0, 0, 0): (0, 255, 255),
}


@pytest.mark.parametrize(("ink", "colour"), CMYK.items())
def test_cmyk_becomes_rgb(ink: tuple[int, ...], colour: tuple[int, ...]):
    image = Image.new("CMYK", (16, 16), ink)
    assert (pixels_of(encode(image, "TIFF")) == colour).all()
    assert np.abs(pixels_of(encode(image, "JPEG", quality=100)).astype(int) - colour).max() <= 4


def test_lab_becomes_rgb():
    neutral = encode(Image.new("LAB", (2, 2), (255, 128, 128)), "TIFF")
    assert mean_difference(pixels_of(neutral), np.full((2, 2, 3), 255)) < 3
