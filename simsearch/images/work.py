"""The processor time that decoding takes: estimated from header and size, and limited in relation to the file's size.

A blank picture of 200 megapixels is a file of some kilobytes in most formats, and takes as long as a real one.
"""

from __future__ import annotations

from PIL import Image

from simsearch.errors import ImageError
from simsearch.images.structure import count_scans

MIN_ALLOWED_S = 4.0
"""What a file of any size may take."""

ALLOWED_S_PER_MB = 0.75
"""What a file may take beyond that. Content costs a quarter of it or less, so real pictures of any size pass."""

_COSTS_MS: dict[str, tuple[float, float]] = {
    "JPEG": (8, 10), "MPO": (8, 10), "PNG": (8, 20), "WEBP": (16, 45), "AVIF": (8, 110), "JPEG2000": (30, 170),
    "HEIF": (10, 150), "TIFF": (8, 10), "GIF": (8, 15), "PPM": (5, 150),
}  # fmt: skip
"""Milliseconds for each megapixel and for each megabyte, on a core of 2.5 GHz or so.

Fitted to pictures of 9 megapixels: blank ones (JPEG 2000 22 to 27 ms per megapixel, WebP 13, AVIF 4, HEIF 7, PNG 5),
smooth ones and noise (JPEG 2000 110 to 170 ms per megabyte, HEIF 143, AVIF 94, WebP 39, PNG 14).
"""
_OTHER_COSTS_MS = (5.0, 5.0)
_MS_PER_SCAN = 1.6  # and megapixel
_CONVERSION_MS = 25.0  # and megapixel: wide gray and transparency become RGB
_PLAIN_MODES = frozenset({"1", "L", "RGB", "YCbCr", "CMYK"})
_MAX_COUNTED_SCANS = 500

_quick_limit_s: float | None = None


class TooMuchWork(ImageError):
    """The picture takes more work than this process does; see `limit_work`."""


def limit_work(seconds: float | None) -> None:
    """Let this process refuse pictures that take longer, by `TooMuchWork`, from now on; None removes the limit."""
    global _quick_limit_s
    _quick_limit_s = seconds


def check_work(image: Image.Image, full_size: tuple[int, int], data: bytes, path: str) -> None:
    """Check the work of decoding an opened picture; `full_size` is its size in px before `draft`.

    Raises `TooMuchWork`, or `ImageError` where the work is out of proportion to the file.
    """
    seconds = estimate_decoding_s(image, full_size, data)
    if _quick_limit_s is not None and seconds > _quick_limit_s:
        raise TooMuchWork(path, f"decoding takes about {seconds:.1f} s", "decode it in another process")
    allowed = MIN_ALLOWED_S + ALLOWED_S_PER_MB * len(data) / 1e6
    if seconds > allowed:
        width, height = full_size
        problem = (
            f"decoding {width} x {height} px of {image.format} takes about {seconds:.0f} s; the limit for a file of "
            f"{len(data) / 1e6:.1f} MB is {allowed:.1f} s"
        )
        raise ImageError(path, problem, "save the picture smaller, or as JPEG")


def estimate_decoding_s(image: Image.Image, full_size: tuple[int, int], data: bytes) -> float:
    """Estimate the processor time in s from an opened picture to upright RGB."""
    megapixels = full_size[0] * full_size[1] / 1e6
    per_megapixel, per_megabyte = _COSTS_MS.get(image.format or "", _OTHER_COSTS_MS)
    if image.info.get("progressive"):
        per_megapixel += _MS_PER_SCAN * count_scans(data, _MAX_COUNTED_SCANS)
    if image.mode not in _PLAIN_MODES:
        per_megapixel += _CONVERSION_MS
    return (megapixels * per_megapixel + len(data) / 1e6 * per_megabyte) / 1e3
