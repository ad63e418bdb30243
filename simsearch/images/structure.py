"""Limits on the structure of a picture file: what takes long to decode is refused before it is decoded.

A small file can take minutes to decode: a JPEG with hundreds of scans over all pixels, a PNG of millions of chunks.
The counting stops at its limit. Times were measured on one core of 2.5 GHz or so.
"""

from __future__ import annotations

import re

from simsearch.errors import ImageError

MAX_SCANS = 500
"""Scans of a JPEG of any size. Encoders write 10 (libjpeg) to about 20 (mozjpeg)."""

MAX_SCANNED_MEGAPIXELS = 1000
"""Megapixels times scans, for more than `_USUAL_SCANS`. A scan takes 0.7 to 1.6 ms per megapixel, so 0.7 to 1.6 s."""

MAX_SEGMENTS = 10_000
"""Steps to the first scan of a JPEG. Each takes 1 us; a color profile and a depth map have some hundreds."""

MAX_CHUNKS = 100_000
"""Chunks of a PNG. Each takes 1 to 3 us, and libpng writes 8 kB in each: 800 MB."""

MAX_BLOCKS = 100_000
"""Blocks of a GIF before its first picture. Each takes 0.5 to 0.8 us, so 0.1 s together."""

MAX_TEXT_BYTES = 32_000_000
"""Size of a PPM whose samples are written as text. A megabyte takes 0.1 s."""

MAX_HEADER_BYTES = 65_536
"""Blanks and comments in the header of a PPM. Pillow reads them byte by byte: 60 MB took 11 s."""

_USUAL_SCANS = 20  # what encoders write is decoded at any size that `max_pixels` allows
_SCAN_MARK = b"\xff\xda"
_NEXT_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # neither a stuffed 0xFF, nor a restart mark, nor a fill byte
_PPM_BLANKS = re.compile(rb"(?:[ \t-\r]+|#[^\r\n]*)*")
_PPM_SIGNATURES = (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"P0", b"Pf", b"PF", b"Py")
_N_PPM_TOKENS = 5
_ADVICE = "open it in an image editor and save it again"


def check_structure(data: bytes, path: str) -> None:
    """Check the number of parts that a decoder walks through, as far as that needs no size of the picture.

    Raises `ImageError`.
    """
    if data.startswith(b"\xff\xd8"):
        if not _has_few_segments(data):
            raise ImageError(path, f"JPEG with more than {MAX_SEGMENTS:,} segments before its pixels", _ADVICE)
        if count_scans(data, MAX_SCANS) > MAX_SCANS:
            raise ImageError(path, f"JPEG with more than {MAX_SCANS} scans", _ADVICE)
    elif data.startswith(b"\x89PNG\r\n\x1a\n"):
        if not _has_few_chunks(data):
            raise ImageError(path, f"PNG with more than {MAX_CHUNKS:,} chunks", _ADVICE)
    elif data.startswith(b"GIF8"):
        if not _has_few_blocks(data):
            raise ImageError(path, f"GIF with more than {MAX_BLOCKS:,} blocks before its first picture", _ADVICE)
    else:
        check_ppm_header(data, path)
        if data.startswith((b"P1", b"P2", b"P3")) and len(data) > MAX_TEXT_BYTES:
            problem = f"PPM written as text, of {len(data) / 1e6:.0f} MB; the limit is {MAX_TEXT_BYTES / 1e6:.0f} MB"
            raise ImageError(path, problem, "convert it to PNG")


def check_scans(data: bytes, size: tuple[int, int], path: str) -> None:
    """Check the scans of a JPEG of this size in px together. Raises `ImageError`."""
    megapixels = size[0] * size[1] / 1e6
    allowed = max(_USUAL_SCANS, int(MAX_SCANNED_MEGAPIXELS / max(megapixels, 1e-6)))
    if allowed < MAX_SCANS and count_scans(data, allowed) > allowed:
        problem = f"JPEG with more than {allowed} scans of {megapixels:.0f} megapixels"
        raise ImageError(path, problem, _ADVICE)


def check_ppm_header(head: bytes, path: str) -> None:
    """Check the length of the header of a PPM; the first `MAX_HEADER_BYTES` + 1 of its bytes are enough.

    Other content passes. Raises `ImageError`.
    """
    if not head.startswith(_PPM_SIGNATURES):
        return
    position = 2
    for _ in range(_N_PPM_TOKENS):
        blanks = _PPM_BLANKS.match(head, position, MAX_HEADER_BYTES + 1)
        position = position if blanks is None else blanks.end()
        if position > MAX_HEADER_BYTES:
            raise ImageError(path, f"PPM with more than {MAX_HEADER_BYTES:,} bytes in its header", _ADVICE)
        while position < len(head) and position <= MAX_HEADER_BYTES and head[position : position + 1].isalnum():
            position += 1


def count_scans(data: bytes, most: int) -> int:
    """Count the scans of a JPEG, at most `most` + 1. Those of an embedded preview do not count."""
    if data.count(_SCAN_MARK) <= most:  # at least as many as there are scans, and found fast
        return data.count(_SCAN_MARK)
    n_scans, position = 0, 2
    while n_scans <= most and (found := _NEXT_MARKER.search(data, position)) is not None:
        position = found.end()
        if data[position - 1] == 0xD9:  # the end of the image
            break
        if data[position - 1] != 0xD8:
            n_scans += data[position - 1] == 0xDA
            position += int.from_bytes(data[position : position + 2])
    return n_scans


def _has_few_segments(data: bytes) -> bool:
    """Whether the first scan, or the end of what Pillow reads, comes after at most `MAX_SEGMENTS` steps."""
    position = 2
    for _ in range(MAX_SEGMENTS):
        marker = data[position : position + 2]
        if len(marker) < 2 or marker == _SCAN_MARK or marker[0] != 0xFF:
            return True
        if marker[1] in (0x00, 0xFF):  # Pillow reads these one by one
            position += 1 if marker[1] == 0xFF else 2
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4])
    return False


def _has_few_chunks(data: bytes) -> bool:
    position = 8
    for _ in range(MAX_CHUNKS):
        if position + 8 > len(data):
            return True
        position += 12 + int.from_bytes(data[position : position + 4])
    return False


def _has_few_blocks(data: bytes) -> bool:
    """Whether the first picture of a GIF comes after at most `MAX_BLOCKS` blocks of extensions."""
    if len(data) < 13:
        return True
    n_blocks = 0
    position = 13 + (3 << ((data[10] & 7) + 1) if data[10] & 0x80 else 0)
    while data[position : position + 1] == b"!":
        position += 2
        while position < len(data) and data[position]:
            position += 1 + data[position]
            n_blocks += 1
            if n_blocks > MAX_BLOCKS:
                return False
        position += 1
        n_blocks += 1
    return n_blocks <= MAX_BLOCKS
