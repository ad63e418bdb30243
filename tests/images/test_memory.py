"""Decoding keeps to a budget of memory over all threads, and says so where a picture is too large for it."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from simsearch.errors import ImageError
from simsearch.images.memory import MemoryBudget, estimate_decoding_bytes, reserve_memory
from tests.support.pictures import encode, png

LIMITED = """
import resource, sys
from concurrent.futures import ThreadPoolExecutor
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
from simsearch.errors import ImageError
from simsearch.images.decode import decode_image
data = sys.stdin.buffer.read()

def decode(number):
    try:
        return decode_image(data, f"{number}.png", max_pixels=200_000_000).image.getpixel((0, 0))
    except ImageError as error:
        return str(error)

with ThreadPoolExecutor(4) as threads:
    for result in threads.map(decode, range(int(sys.argv[2]))):
        print(result)
"""


def blank_png(side_px: int, bits: int, color: int, bytes_per_pixel: int) -> bytes:
    packer = zlib.compressobj(1)
    row = bytes(1 + side_px * bytes_per_pixel)
    rows = [packer.compress(row * 100) for _ in range(side_px // 100)]
    return png((side_px, side_px), bits, color, b"".join([*rows, packer.flush()]))


def decode_within(limit: int, data: bytes, times: int) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(limit), str(times)], input=data, capture_output=True, check=True
    )
    return done.stdout.decode().splitlines()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not keep this limit")
def test_large_gray_pictures_of_16_bits_are_decoded_within_the_memory_of_a_small_machine():
    assert decode_within(1_200_000_000, blank_png(4000, 16, 0, 2), 4) == ["(0, 0, 0)"] * 4


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not keep this limit")
def test_a_picture_that_needs_more_memory_than_there_is_names_the_memory_and_not_a_limit_of_pixels():
    (said,) = decode_within(1_200_000_000, png((11_000, 11_000), 8, 6, b""), 1)
    expected = "decoding 11000 x 11000 px takes about 1.0 GB of memory, and 0.6 GB are available to this process"
    assert expected in said
    assert "megapixels" not in said


def test_a_failed_allocation_is_reported_as_such():
    with (
        pytest.raises(ImageError, match="not enough memory to decode 9 x 9 px"),
        reserve_memory(10, (9, 9), "a.png", MemoryBudget(10)),
    ):
        raise MemoryError


def test_threads_together_never_hold_more_than_the_budget():
    budget, held, most, lock = MemoryBudget(10), 0, 0, threading.Lock()

    def work(n_bytes: int) -> None:
        nonlocal held, most
        with budget.reserve(n_bytes):
            with lock:
                held += n_bytes
                most = max(most, held)
            threading.Event().wait(0.002)
            with lock:
                held -= n_bytes

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, [1, 10, 3, 7, 4, 6, 10, 2] * 5))
    assert 7 <= most <= 10
    with pytest.raises(ValueError, match="more than the budget"), budget.reserve(11):
        pass


@pytest.mark.parametrize(
    ("data", "bytes_per_pixel"),
    [
        (encode(Image.new("RGB", (100, 100)), "PNG"), 8),
        (encode(Image.new("RGBA", (100, 100)), "PNG"), 8),
        (encode(np.zeros((100, 100), np.uint16), "PNG"), 6),
        (encode(Image.new("L", (100, 100)), "PNG"), 5),
        (encode(Image.new("RGB", (100, 100)), "JPEG"), 8),
        (encode(Image.new("RGB", (100, 100)), "JPEG", progressive=True), 10),
        (encode(Image.new("CMYK", (100, 100)), "JPEG", progressive=True), 12),
        (encode(Image.new("RGB", (100, 100)), "WEBP"), 16),
    ],
)
def test_the_estimate_depends_on_mode_and_format(data: bytes, bytes_per_pixel: int):
    image = Image.open(io.BytesIO(data))
    assert estimate_decoding_bytes(image, image.size) == 10_000 * (bytes_per_pixel + 64)
