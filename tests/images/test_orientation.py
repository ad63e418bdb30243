"""Pictures are decoded upright by their EXIF orientation, whatever else their EXIF contains."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from tests.support.pictures import (
    FUZZ,
    encode,
    mean_difference,
    orientation_exif,
    photo,
    picture_of,
    pixels_of,
)

# What must be done to the stored rows and columns: CIPA DC-008 (EXIF), tag 0x0112.
UPRIGHT = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: np.rot90(stored, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize(
    ("name", "options"),
    [("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"})],
)
def test_lossless_pictures_are_turned_upright(name: str, options: dict, orientation: int):
    stored = photo(31, 20)
    data = encode(stored, name, exif=orientation_exif(orientation), **options)
    assert np.array_equal(pixels_of(data), UPRIGHT[orientation](stored))


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("size", [(101, 100), (100, 101), (64, 64), (1, 50)])
@pytest.mark.parametrize("target_px", [None, 12, 50])
def test_jpegs_are_turned_upright_at_every_scale(size: tuple[int, int], orientation: int, target_px: int | None):
    stored = photo(*size)
    flat = picture_of(encode(stored, "JPEG"), target_px=target_px)
    turned = picture_of(encode(stored, "JPEG", exif=orientation_exif(orientation)), target_px=target_px)
    assert np.array_equal(np.asarray(turned.image), UPRIGHT[orientation](np.asarray(flat.image)))
    assert (turned.width, turned.height) == (size if orientation < 5 else size[::-1])
    assert (flat.width, flat.height) == size


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_avif_is_turned_upright(orientation: int):
    stored = photo(48, 32)
    data = encode(stored, "AVIF", quality=95, subsampling="4:4:4", exif=orientation_exif(orientation))
    assert mean_difference(pixels_of(data), UPRIGHT[orientation](stored)) < 3


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_heic_is_turned_upright_once(heif, orientation: int):
    stored = photo(64, 48)
    data = encode(stored, "HEIF", quality=95, exif=orientation_exif(orientation).tobytes())
    assert mean_difference(pixels_of(data), UPRIGHT[orientation](stored)) < 4


def test_the_first_of_several_tiff_frames_is_turned_upright():
    stored = photo(31, 20)
    more = [Image.fromarray(photo(8, 8))]
    data = encode(stored, "TIFF", save_all=True, append_images=more, exif=orientation_exif(6))
    assert np.array_equal(pixels_of(data), np.rot90(stored, -1))


def test_transparency_survives_the_turning():
    stored = np.zeros((2, 3, 4), dtype=np.uint8)
    stored[0, 0] = (1, 2, 3, 255)
    turned = pixels_of(encode(stored, "PNG", exif=orientation_exif(6)))
    assert turned[0, 1].tolist() == [1, 2, 3]
    assert (turned.reshape(-1, 3) == 255).all(axis=1).sum() == 5


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_unknown_orientation_rotates_nothing(orientation: int):
    stored = photo(31, 20)
    assert np.array_equal(pixels_of(encode(stored, "PNG", exif=orientation_exif(orientation))), stored)


BROKEN_EXIF = {
    "empty": b"Exif\0\0",
    "noise": b"Exif\0\0" + bytes(range(64)),
    "no magic": b"Exif\0\0XX*\0\x08\0\0\0",
    "cut": orientation_exif(6).tobytes()[:-8],
    "directory far away": b"Exif\0\0II*\0\xff\xff\xff\x7f",
    "directory within itself": b"Exif\0\0II*\0\x00\0\0\0",
    "endless directory": b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(24),
    "orientation is text": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x02\0\0\x006\0\0\0\0\0\0\0",
}


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("exif", BROKEN_EXIF.values(), ids=BROKEN_EXIF)
def test_damaged_exif_leaves_the_picture_as_it_is_stored(name: str, exif: bytes):
    stored = photo(31, 20)
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}.get(name, {})
    picture = picture_of(encode(stored, name, exif=exif, **options))
    assert mean_difference(np.asarray(picture.image), stored) < 3
    assert (picture.width, picture.height) == (31, 20)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP"])
def test_exif_that_is_damaged_elsewhere_still_rotates_the_picture(name: str):
    number_for_a_name = struct.pack("<HHII", 0x010F, 5, 1, 38)  # the maker, as a fraction
    on_its_side = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)
    exif = b"Exif\0\0II*\0\x08\0\0\0\x02\0" + number_for_a_name + on_its_side + struct.pack("<III", 0, 1, 1)
    picture = picture_of(encode(photo(31, 20), name, exif=exif))
    assert picture.image.size == (picture.width, picture.height) == (20, 31)


def full_exif() -> bytes:
    """Orientation 6 among tags of every type."""
    exif = orientation_exif(6)
    exif[0x010F] = "maker"
    exif[0x011A] = 72.0
    exif[0x0111] = (1, 2, 3)
    exif[0x9C9B] = b"title"
    exif.get_ifd(0x8769)[0x9003] = "2020:01:01 00:00:00"
    exif.get_ifd(0x8825)[1] = "N"
    return exif.tobytes()


@FUZZ
@given(st.lists(st.tuples(st.integers(6, len(full_exif()) - 1), st.integers(0, 255)), min_size=1, max_size=8))
@example([(0x46, 2), (0x47, 0)])
def test_random_exif_does_not_stop_decoding(changes: list[tuple[int, int]]):
    exif = bytearray(full_exif())
    for place, value in changes:
        exif[place] = value
    picture = picture_of(encode(photo(31, 20), "PNG", exif=bytes(exif)))
    assert {picture.width, picture.height} == {31, 20}
    assert picture.image.size == (picture.width, picture.height)
