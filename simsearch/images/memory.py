"""The memory that decoding takes: estimated for each picture, and limited over all threads of this process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from simsearch.errors import ImageError
from simsearch.machine import detect_memory_bytes

_UNKNOWN_MEMORY = 4 << 30
_SHARE = 2  # half of the memory; models, vectors and the bytes of files have the other half
_RESULT_BYTES = 4  # a pixel in RGB, as Pillow stores it
_STRIP_BYTES = 64 << 20  # temporary arrays of a strip in `color.py`: 53 MB for gray of 16 bits

_STORED_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
"""Bytes of a pixel as Pillow stores it, by mode; 4 in all others."""

_DECODER_BYTES = {"WEBP": 12, "AVIF": 12, "JPEG2000": 26, "HEIF": 12, "TIFF": 8, "PPM": 8}
"""Bytes per pixel that a decoder takes beside the picture; 0 for all others.

Measured as peaks of the resident memory for 20 megapixels, less the picture: WebP 12, AVIF 5 to 9, JPEG 2000 15 to 21,
HEIF 3 to 5, TIFF of one compressed strip 3 to 7, PNG, GIF and BMP 0. The rest is a margin, for samples of more than 8
bits. A progressive JPEG keeps 2 bytes for each component of a pixel: 6 for color.
"""


class MemoryBudget:
    """A number of bytes that threads share. Who needs more than is left waits, in the order of arrival."""

    def __init__(self, n_bytes: int) -> None:
        self.n_bytes = n_bytes
        self._n_used = 0
        self._turn = threading.Lock()
        self._released = threading.Condition()

    @contextmanager
    def reserve(self, n_bytes: int) -> Iterator[None]:
        """Reserve bytes for a block. A thread that holds some must not ask for more. Raises `ValueError`."""
        if n_bytes > self.n_bytes:
            raise ValueError(f"{n_bytes} bytes are more than the budget of {self.n_bytes}")
        with self._turn, self._released:
            self._released.wait_for(lambda: self._n_used + n_bytes <= self.n_bytes)
            self._n_used += n_bytes
        try:
            yield
        finally:
            with self._released:
                self._n_used -= n_bytes
                self._released.notify_all()


DECODING_BUDGET = MemoryBudget((detect_memory_bytes() or _UNKNOWN_MEMORY) // _SHARE)
"""Of all threads of this process that decode."""


@contextmanager
def reserve_memory(n_bytes: int, size: tuple[int, int], path: str, budget: MemoryBudget) -> Iterator[None]:
    """Reserve the memory to decode a picture of `size` px, and translate the failure of an allocation in the block.

    Raises `ImageError` where the budget is too small, or the system refuses the memory.
    """
    shown = f"{size[0]} x {size[1]} px"
    if n_bytes > budget.n_bytes:
        problem = (
            f"decoding {shown} takes about {n_bytes / 1e9:.1f} GB of memory, and {budget.n_bytes / 1e9:.1f} GB are"
            " available to this process for pictures"
        )
        raise ImageError(path, problem, "raise the memory limit of this process, or save the picture smaller")
    with budget.reserve(n_bytes):
        try:
            yield
        except MemoryError as error:
            raise ImageError(
                path, f"not enough memory to decode {shown}", "raise the memory limit of this process, or free memory"
            ) from error


def estimate_decoding_bytes(image: Image.Image, full_size: tuple[int, int]) -> int:
    """Estimate the peak of memory from an opened picture to upright RGB; `full_size` is its size before `draft`."""
    n_pixels, n_full = image.width * image.height, full_size[0] * full_size[1]
    stored = _STORED_BYTES.get(image.mode, 4)
    coefficients = 2 * len(image.getbands()) * n_full if image.info.get("progressive") else 0
    decoding = n_pixels * (stored + _DECODER_BYTES.get(image.format or "", 0)) + coefficients
    # Turning a picture upright and converting it both hold two pictures; an RGB picture may need turning.
    return max(decoding, n_pixels * (stored + max(stored, _RESULT_BYTES))) + min(_STRIP_BYTES, 64 * n_pixels)
