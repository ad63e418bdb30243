"""Pictures that take long to decode for what is in them are refused; real ones of any size are not."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from simsearch.images.decode import decode_image
from simsearch.images.work import ALLOWED_S_PER_MB, MIN_ALLOWED_S, TooMuchWork, estimate_decoding_s, limit_work
from tests.support.pictures import encode, failure_of, photo, picture_of

MANY = 10**9


def estimate(data: bytes, size: tuple[int, int]) -> float:
    return estimate_decoding_s(Image.open(io.BytesIO(data)), size, data)


def with_size(data: bytes, size: tuple[int, int]) -> bytes:
    """A JPEG 2000 whose header says another size, in its box and in its code stream."""
    found = bytearray(data)
    box, stream = data.index(b"ihdr") + 4, data.index(b"\xff\x51") + 6
    found[box : box + 8] = size[1].to_bytes(4) + size[0].to_bytes(4)
    for start in (stream, stream + 16):  # the size of the image, and of its only tile
        found[start : start + 8] = size[0].to_bytes(4) + size[1].to_bytes(4)
    return bytes(found)


def test_a_small_jpeg_2000_of_many_megapixels_is_refused():
    data = with_size(encode(Image.new("RGB", (64, 64)), "JPEG2000"), (16_000, 12_000))
    failure = failure_of(data, max_pixels=MANY)
    assert failure.problem.startswith("decoding 16000 x 12000 px of JPEG2000 takes about 6 s; the limit for a file of")
    assert picture_of(encode(Image.new("RGB", (2000, 1000)), "JPEG2000")).width == 2000


@pytest.mark.parametrize("kind", ["WEBP", "JPEG", "PNG", "AVIF", "TIFF"])
def test_usual_formats_pass_at_the_sizes_that_cameras_write(kind: str):
    data = encode(photo(200, 150), kind)
    assert estimate(data, (14_000, 10_000)) < MIN_ALLOWED_S


@pytest.mark.parametrize(("kind", "bits_per_pixel"), [("JPEG2000", 0.5), ("AVIF", 0.5), ("WEBP", 1.0), ("PNG", 8.0)])
def test_real_pictures_pass_at_any_size(kind: str, bits_per_pixel: float):
    """The limit grows faster with the content than the work does."""
    image = Image.open(io.BytesIO(encode(photo(200, 150), kind)))
    for megapixels in (50, 200, 1000):
        side = int((megapixels * 1e6) ** 0.5)
        data = bytes(int(megapixels * 1e6 * bits_per_pixel / 8))
        assert estimate_decoding_s(image, (side, side), data) < MIN_ALLOWED_S + ALLOWED_S_PER_MB * len(data) / 1e6


def test_scans_alpha_and_wide_gray_cost_more():
    plain = estimate(encode(photo(), "JPEG"), (4000, 3000))
    assert estimate(encode(photo(), "JPEG", progressive=True), (4000, 3000)) > plain
    gray = encode(Image.fromarray(photo()).convert("L"), "PNG")
    wide = encode(Image.fromarray(photo()).convert("I;16"), "PNG")
    assert estimate(wide, (4000, 3000)) > estimate(gray, (4000, 3000))


def test_a_process_may_take_quick_pictures_only():
    data = encode(Image.new("RGB", (1000, 1000)), "JPEG2000")
    limit_work(0.01)
    try:
        with pytest.raises(TooMuchWork):
            decode_image(data, "a", max_pixels=MANY)
        assert decode_image(encode(photo(), "PNG"), "a", max_pixels=MANY).format == "PNG"
    finally:
        limit_work(None)
    assert decode_image(data, "a", max_pixels=MANY).width == 1000
