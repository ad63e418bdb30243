"""A RAW photo as a camera writes it: a DNG with a Bayer mosaic and an embedded JPEG preview, written by hand."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image

_SHORT, _LONG, _ASCII, _BYTE, _RATIONAL, _SRATIONAL = 3, 4, 2, 1, 5, 10
_FORMATS = {_SHORT: "H", _LONG: "I", _BYTE: "B", _RATIONAL: "II", _SRATIONAL: "ii"}


def _entry(tag: int, kind: int, values: list[int] | bytes) -> tuple[int, int, int, bytes]:
    if kind == _ASCII:
        return tag, kind, len(values), bytes(values)
    if kind in (_RATIONAL, _SRATIONAL):
        pairs = [number for value in values for number in (value, 1)]
        return tag, kind, len(values), struct.pack(f"<{len(pairs)}{_FORMATS[kind][0]}", *pairs)
    return tag, kind, len(values), struct.pack(f"<{len(values)}{_FORMATS[kind]}", *values)


def _pack_ifd(entries: list[tuple[int, int, int, bytes]], offset: int) -> bytes:
    """An IFD at an offset of the file, its longer values behind it."""
    entries = sorted(entries)
    head = struct.pack("<H", len(entries))
    at = offset + 2 + 12 * len(entries) + 4
    rows, tail = b"", b""
    for tag, kind, n, content in entries:
        if len(content) <= 4:
            rows += struct.pack("<HHI", tag, kind, n) + content.ljust(4, b"\0")
        else:
            rows += struct.pack("<HHII", tag, kind, n, at + len(tail))
            tail += content + b"\0" * (len(content) % 2)
    return head + rows + struct.pack("<I", 0) + tail


def make_dng(
    picture: Image.Image, *, orientation: int = 1, exif: Image.Exif | None = None, has_preview: bool = True
) -> bytes:
    """A DNG whose preview is `picture`, as the sensor lay: `orientation` says how to turn it."""
    preview = io.BytesIO()
    picture.save(preview, "JPEG", quality=95, **({} if exif is None else {"exif": exif}))
    jpeg = preview.getvalue() if has_preview else b""
    mosaic = np.tile(np.array([[900, 500], [500, 200]], np.uint16), (picture.height // 2, picture.width // 2))
    header = struct.pack("<2sHI", b"II", 42, 8)
    size = 2048
    raw_at = 8 + 2 * size
    jpeg_at = raw_at + mosaic.nbytes
    thumbnail = [
        _entry(254, _LONG, [1]), _entry(256, _LONG, [picture.width]), _entry(257, _LONG, [picture.height]),
        _entry(258, _SHORT, [8, 8, 8]), _entry(259, _SHORT, [7]), _entry(262, _SHORT, [6]),
        _entry(273, _LONG, [jpeg_at]), _entry(277, _SHORT, [3]), _entry(278, _LONG, [picture.height]),
        _entry(279, _LONG, [len(jpeg)]),
    ] if has_preview else []  # fmt: skip
    first = [
        *thumbnail,
        _entry(271, _ASCII, b"Canon\0"), _entry(272, _ASCII, b"Canon EOS 80D\0"), _entry(274, _SHORT, [orientation]),
        _entry(306, _ASCII, b"2024:05:06 07:08:09\0"), _entry(330, _LONG, [8 + size]),
        _entry(50706, _BYTE, [1, 4, 0, 0]), _entry(50708, _ASCII, b"Canon EOS 80D\0"),
        _entry(50721, _SRATIONAL, [1, 0, 0, 0, 1, 0, 0, 0, 1]), _entry(50728, _RATIONAL, [1, 1, 1]),
        _entry(50778, _SHORT, [21]),
    ]  # fmt: skip
    raw = [
        _entry(254, _LONG, [0]), _entry(256, _LONG, [mosaic.shape[1]]), _entry(257, _LONG, [mosaic.shape[0]]),
        _entry(258, _SHORT, [16]), _entry(259, _SHORT, [1]), _entry(262, _SHORT, [32803]),
        _entry(273, _LONG, [raw_at]), _entry(277, _SHORT, [1]), _entry(278, _LONG, [mosaic.shape[0]]),
        _entry(279, _LONG, [mosaic.nbytes]), _entry(33421, _SHORT, [2, 2]), _entry(33422, _BYTE, [0, 1, 1, 2]),
        _entry(50717, _LONG, [1023]),
    ]  # fmt: skip
    content = header + _pack_ifd(first, 8).ljust(size, b"\0") + _pack_ifd(raw, 8 + size).ljust(size, b"\0")
    return content + mosaic.tobytes() + jpeg
