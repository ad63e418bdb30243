"""Files that are too large, damaged or not pictures: one `ImageError` with the reason, and no other output."""

from __future__ import annotations

import pickle
import struct
import subprocess
import sys
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from simsearch.errors import ImageError, NotAPicture
from simsearch.images.decode import compute_default_max_pixels, decode_image, resize_to_square
from simsearch.images.resize import ResizeRule
from tests.support.pictures import (
    FUZZ,
    LIMIT,
    encode,
    failure_of,
    gif_of_size,
    jpeg_of_size,
    orientation_exif,
    photo,
    picture_of,
    png,
    png_chunk,
    tiff,
)

pytestmark = pytest.mark.long

# Limits

BOMBS = {
    "PNG": png((30_000, 30_000), 1, 0, zlib.compress(bytes(1000))),
    "PNG of the greatest size": png((2**31 - 1, 2**31 - 1), 8, 6, b""),
    "JPEG": jpeg_of_size(65_000, 65_000),
    "GIF": gif_of_size(65_535, 65_535),
    "TIFF": tiff((60_000, 60_000)),
    "TIFF of the greatest size": tiff((2**31 - 1, 2**31 - 1), ">"),
    "BMP": b"BM" + struct.pack("<IIIIiiHHIIIIII", 54, 0, 54, 40, 40_000, 40_000, 1, 24, 0, 0, 0, 0, 0, 0),
    "PPM": b"P6 60000 60000 255\n",
}


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_refused_by_its_header(data: bytes):
    assert len(data) < 2000
    failure = failure_of(data)
    assert not isinstance(failure, NotAPicture)
    assert "is more than the limit of 100 megapixels; raise it with --max-megapixels" in str(failure)


def test_a_real_bomb_is_refused():
    deflate = zlib.compressobj()
    rows = [deflate.compress(bytes(100 * (1 + 30_000 // 8))) for _ in range(300)]
    data = png((30_000, 30_000), 1, 0, b"".join(rows) + deflate.flush())
    assert len(data) < 200_000
    assert "--max-megapixels" in str(failure_of(data))


def test_the_limit_counts_pixels_and_includes_itself():
    data = encode(photo(50, 40), "PNG")
    assert picture_of(data, max_pixels=2000).width == 50
    assert "50 x 40 px is more than the limit" in str(failure_of(data, max_pixels=1999))


def test_the_limit_counts_the_full_size_of_a_jpeg_that_would_be_reduced():
    data = encode(photo(800, 800), "JPEG")
    with pytest.raises(ImageError, match="--max-megapixels"):
        picture_of(data, max_pixels=639_999, target_px=8)
    assert picture_of(data, max_pixels=640_000, target_px=8).image.size == (100, 100)


def test_a_limit_above_pillows_own_lets_more_through():
    side = 10_100
    data = encode(Image.new("L", (side, side), 99), "JPEG")
    picture = picture_of(data, max_pixels=side * side, target_px=64)
    assert (picture.width, picture.height) == (side, side)


def test_nothing_is_printed_about_a_picture_over_the_limit():
    code = """
import sys
from simsearch.errors import ImageError
from simsearch.images.decode import decode_image
try:
    decode_image(sys.stdin.buffer.read(), "picture", max_pixels=100_000_000)
except ImageError as error:
    sys.stdout.write(str(error))
"""
    bomb = png((11_000, 11_000), 1, 0, b"")
    done = subprocess.run([sys.executable, "-c", code], input=bomb, capture_output=True, timeout=60, check=True)
    assert done.stderr == b""
    assert b"11000 x 11000 px is more than the limit of 100 megapixels" in done.stdout


NOISY = {
    "TIFF": encode(photo(64, 64), "TIFF", compression="tiff_lzw"),
    "TIFF, deflate": encode(photo(64, 64), "TIFF", compression="tiff_deflate"),
    "TIFF, JPEG": encode(photo(64, 64), "TIFF", compression="jpeg"),
    "TIFF, fax": encode(Image.fromarray(photo(64, 64)).convert("1"), "TIFF", compression="group4"),
    "JPEG": encode(photo(64, 64), "JPEG"),
}


def test_decoders_write_nothing_about_a_damaged_picture():
    """In a process of its own, whose stderr is the file that C libraries write to; it gets the name of each picture."""
    code = """
import pickle, sys
from simsearch.errors import ImageError
from simsearch.images.decode import decode_image
for name, data in pickle.load(sys.stdin.buffer).items():
    print(name, file=sys.stderr, flush=True)
    for position in range(8, len(data), max(1, len(data) // 100)):
        try:
            decode_image(data[:position] + bytes([data[position] ^ 0x55]) + data[position + 1 :], "a", max_pixels=10**6)
        except ImageError:
            pass
"""
    animated = png_chunk(b"acTL", struct.pack(">II", 0, 0))
    invalid = png((8, 8), 8, 2, zlib.compress(bytes(8 * 25)), animated)
    pictures = NOISY | {"APNG without frames": invalid}
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, input=pickle.dumps(pictures), capture_output=True, timeout=100, check=True)
    assert done.stderr.decode().splitlines() == list(pictures)


def test_the_default_limit_is_never_below_a_hundred_megapixels():
    assert compute_default_max_pixels() >= LIMIT


# Damage


def cuts(name: str) -> list[bytes]:
    data = encode(photo(64, 64), name)
    return [data[: int(len(data) * share)] for share in (0.25, 0.5, 0.9)]


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "BMP", "PPM", "JPEG2000"])
def test_a_truncated_picture_is_damaged(name: str):
    for data in cuts(name):
        failure = failure_of(data)
        assert not isinstance(failure, NotAPicture)
        assert failure.problem.startswith("damaged")
        assert failure.advice == "restore it from a copy"


def test_a_truncated_heic_is_damaged_and_said_in_one_line(heif):
    for data in cuts("HEIF"):
        failure = failure_of(data)
        assert not isinstance(failure, NotAPicture)
        assert failure.problem.startswith("damaged")
        assert "\n" not in str(failure)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "AVIF", "GIF", "JPEG2000"])
def test_a_picture_cut_within_its_header_is_damaged_all_the_same(name: str):
    failure = failure_of(encode(photo(64, 64), name)[:24])
    assert not isinstance(failure, NotAPicture)
    assert failure.problem.startswith("damaged header")


def test_a_tiff_that_cannot_be_identified_is_damaged_or_foreign():
    data = encode(photo(64, 64), "TIFF", compression="tiff_deflate")  # its directory is at the end
    reason = "damaged header, or an unsupported kind of TIFF; restore it from a copy, or convert it to JPEG or PNG"
    assert failure_of(data[: len(data) // 2]).reason == reason


@pytest.mark.parametrize("body", [b"no deflate stream", b"", zlib.compress(bytes(10_000))[:-40], b"\x78\x9c" * 50])
def test_a_png_whose_stream_is_damaged_is_refused(body: bytes):
    failure = failure_of(png((64, 64), 8, 2, body))
    assert (type(failure), failure.advice) == (ImageError, "restore it from a copy")


def test_a_png_with_a_wrong_checksum_in_its_header_is_refused():
    data = bytearray(encode(photo(64, 64), "PNG"))
    data[29] ^= 0xFF
    assert failure_of(bytes(data)).problem == "damaged header"


FAKES = {
    "empty": (b"", "the file is empty"),
    "one byte": (b"\xff", "not a picture"),
    "text": (b"dear diary\n" * 20, "not a picture"),
    "web page": (b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "a web page"),
    "web page in lower case": (b"<!doctype html><html></html>", "a web page"),
    "web page without type": (b"<html><body>moved</body></html>", "a web page"),
    "LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n", "a Git LFS pointer"),
    "PDF": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "a PDF document"),
    "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
    "SVG with a prolog": (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "not a picture"),
    "Photoshop": (b"8BPS\0\x01" + bytes(64), "a Photoshop document"),
    "JPEG XL": (b"\xff\x0a" + bytes(64), "JPEG XL"),
    "JPEG XL in a box": (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(64), "JPEG XL"),
    "zeros": (bytes(4096), "zeros"),
    "film": (b"\0\0\0\x18ftypmp42\0\0\0\0isommp42" + bytes(256), "not a picture"),
    "sound": (b"RIFF\x24\0\0\0WAVEfmt " + bytes(64), "not a picture"),
    "EPS, which would start Ghostscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
    "text that begins like a BMP": (b"BMW is a make of cars\n" * 9, "damaged header"),
    "text that begins like a PPM": (b"P5 is the fifth point\n" * 9, "damaged header"),
}


@pytest.mark.parametrize(("data", "words"), FAKES.values(), ids=FAKES)
def test_a_file_of_another_kind_is_named_in_the_error(data: bytes, words: str):
    failure = failure_of(data)
    assert isinstance(failure, NotAPicture)
    assert words in failure.problem
    assert failure.advice


def test_an_error_names_the_file_the_cause_and_the_remedy():
    with pytest.raises(ImageError) as caught:
        decode_image(b"", "photos/a.jpg", max_pixels=LIMIT)
    assert str(caught.value) == "cannot read photos/a.jpg: the file is empty; restore it from a copy"
    assert caught.value.path == "photos/a.jpg"


# Noise: nothing but ImageError ever comes out

SMALL_LIMIT = 250_000
STARTS = [b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0", b"MM\0*", b"BM", b"P6 ", b"(\0\0\0"]
STARTS += [b"RIFF\x20\0\0\0WEBPVP8 ", b"\0\0\0\x18ftypavif", b"\0\0\0\x0cjP  \r\n\x87\n"]


def decode_or_refuse(data: bytes) -> None:
    try:
        picture = picture_of(data, max_pixels=SMALL_LIMIT, target_px=8)
    except ImageError as error:
        refusal = error
    else:
        assert resize_to_square(picture, ResizeRule(8, "squash")).shape == (8, 8, 3)
        return
    assert refusal.problem
    assert refusal.advice
    assert "\n" not in refusal.reason


@FUZZ
@given(st.sampled_from(STARTS), st.binary(max_size=300))
def test_random_bytes_are_refused_or_read(start: bytes, rest: bytes):
    decode_or_refuse(start + rest)


SEEDS = {
    "JPEG": encode(photo(24, 20), "JPEG", exif=orientation_exif(6)),
    "JPEG, progressive": encode(photo(24, 20), "JPEG", progressive=True),
    "PNG": encode(photo(24, 20), "PNG"),
    "PNG of a palette": encode(Image.fromarray(photo(24, 20)).quantize(16), "PNG", transparency=3),
    "GIF": encode(photo(24, 20), "GIF"),
    "TIFF": encode(photo(24, 20), "TIFF", compression="tiff_lzw"),
    "WEBP": encode(photo(24, 20), "WEBP"),
    "BMP": encode(photo(24, 20), "BMP"),
    "AVIF": encode(photo(24, 20), "AVIF", speed=10),
    "JPEG2000": encode(photo(24, 20), "JPEG2000"),
    "PPM": encode(photo(24, 20), "PPM"),
}
MUTATIONS = st.tuples(
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=12), st.floats(0, 1)
)


@pytest.mark.parametrize("data", SEEDS.values(), ids=SEEDS)
def test_mutated_pictures_are_refused_or_read(data: bytes):
    @FUZZ
    @given(MUTATIONS)
    def check(mutation):
        changes, end = mutation
        changed = bytearray(data)
        for place, value in changes:
            changed[int(place**2 * len(data))] = value  # more of them near the header
        decode_or_refuse(bytes(changed[: len(data) if end > 0.3 else int(end / 0.3 * len(data))]))

    check()
