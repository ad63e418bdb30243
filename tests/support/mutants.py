"""Picture files of many formats, changed at random: bits, lengths, sizes in headers, chunks, ends."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from tests.support.pictures import encode, orientation_exif, photo

_EXTREMES = (0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFF)
_SIZES = (0, 1, 3, 255, 4096, 9999, 16383, 30000, 65535, 65536, 0x7FFFFFFF, 0xFFFFFFFF)
_HEADER_BYTES = 96


def make_originals() -> dict[str, bytes]:
    """Small pictures by file name without number, such as `lossless.webp`."""
    color, small = Image.fromarray(photo(61, 47)), Image.fromarray(photo(23, 17, 1))
    gray, clear = color.convert("L"), color.copy()
    clear.putalpha(gray)
    wide = Image.fromarray(np.arange(61 * 47, dtype=np.uint16).reshape(47, 61) * 20)
    exif = orientation_exif(6)
    exif[0x0110] = "A camera"
    frames = [color, color.rotate(90), color.rotate(180)]
    animated = {"save_all": True, "append_images": frames[1:], "duration": 50}
    pictures = {
        "baseline.jpg": encode(color, "JPEG", exif=exif), "progressive.jpg": encode(color, "JPEG", progressive=True),
        "gray.jpg": encode(gray, "JPEG"), "cmyk.jpg": encode(color.convert("CMYK"), "JPEG"),
        "color.png": encode(color, "PNG"), "alpha.png": encode(clear, "PNG"), "wide.png": encode(wide, "PNG"),
        "palette.png": encode(color.convert("P"), "PNG"), "animated.png": encode(color, "PNG", **animated),
        "still.gif": encode(color.convert("P"), "GIF"), "animated.gif": encode(color, "GIF", **animated),
        "lossy.webp": encode(color, "WEBP"), "lossless.webp": encode(clear, "WEBP", lossless=True),
        "animated.webp": encode(color, "WEBP", **animated), "color.avif": encode(color, "AVIF"),
        "animated.avif": encode(color, "AVIF", **animated), "raw.tif": encode(color, "TIFF"),
        "lzw.tif": encode(color, "TIFF", compression="tiff_lzw"), "wide.tif": encode(wide, "TIFF"),
        "deflate.tif": encode(clear, "TIFF", compression="tiff_deflate"),
        "jpeg.tif": encode(color, "TIFF", compression="jpeg"), "gray.pgm": encode(gray, "PPM"),
        "fax.tif": encode(gray.convert("1"), "TIFF", compression="group4"), "color.bmp": encode(color, "BMP"),
        "palette.bmp": encode(color.convert("P"), "BMP"), "color.ppm": encode(color, "PPM"),
        "bits.pbm": encode(gray.convert("1"), "PPM"), "text.ppm": b"P3\n# text\n9 7\n255\n" + b"12 200 7 " * 63,
        "boxed.jp2": encode(color, "JPEG2000"), "stream.jp2": encode(clear, "JPEG2000", no_jp2=True),
        "tiled.jp2": encode(color, "JPEG2000", tile_size=(16, 16)), "icon.bmp": encode(small, "ICO"),
    }  # fmt: skip
    try:
        import pillow_heif
    except ImportError:
        return pictures
    file = io.BytesIO()
    pillow_heif.from_pillow(color).save(file, quality=60)
    return pictures | {"color.heic": file.getvalue()}


def make_mutants(n: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield n changed pictures with their names, a name for each; the same for the same seed."""
    choice, originals = random.Random(seed), make_originals()
    names = sorted(originals)
    for number in range(n):
        name = names[number % len(names)]
        data = originals[name]
        for _ in range(choice.choice((1, 1, 1, 2, 3))):
            data = choice.choice(_MUTATIONS)(data, choice, originals)
        stem, _, extension = name.rpartition(".")
        yield f"{number:05}_{stem}.{extension}", data


_Originals = dict[str, bytes]
_Mutation = Callable[[bytes, random.Random, _Originals], bytes]


def _truncate(data: bytes, choice: random.Random, _: _Originals) -> bytes:
    return data[: choice.randrange(len(data) + 1)]


def _flip_bits(data: bytes, choice: random.Random, _: _Originals) -> bytes:
    changed = bytearray(data)
    for _number in range(choice.choice((1, 3, 30)) if changed else 0):
        changed[choice.randrange(len(changed))] ^= 1 << choice.randrange(8)
    return bytes(changed)


def _set_number(data: bytes, choice: random.Random, _: _Originals) -> bytes:
    """Set a number of one to four bytes to an extreme value, mostly in the header."""
    order, (code, width) = choice.choice("<>"), choice.choice((("B", 1), ("H", 2), ("I", 4)))
    end = min(len(data), _HEADER_BYTES) if choice.random() < 0.7 else len(data)
    if end <= width:
        return data
    at, value = choice.randrange(end - width), choice.choice(_EXTREMES) % (1 << 8 * width)
    return data[:at] + struct.pack(order + code, value) + data[at + width :]


def _repeat_part(data: bytes, choice: random.Random, _: _Originals) -> bytes:
    start, length = choice.randrange(len(data) + 1), choice.choice((1, 4, 12, 50, 400))
    return data[:start] + data[start : start + length] * choice.choice((2, 10, 300)) + data[start + length :]


def _delete_part(data: bytes, choice: random.Random, _: _Originals) -> bytes:
    start = choice.randrange(len(data) + 1)
    return data[:start] + data[start + choice.choice((1, 2, 4, 13, 100)) :]


def _splice(data: bytes, choice: random.Random, originals: _Originals) -> bytes:
    other = originals[choice.choice(sorted(originals))]
    return data[: choice.randrange(len(data) + 1)] + other[choice.randrange(len(other)) :]


def _change_size(data: bytes, choice: random.Random, _: _Originals) -> bytes:
    """Let the header tell another width and height, with a right checksum."""
    width, height = choice.choice(_SIZES), choice.choice(_SIZES)
    if data.startswith(b"\x89PNG") and len(data) > 33:
        head = b"IHDR" + struct.pack(">II", width, height) + data[24:29]
        return data[:12] + head + struct.pack(">I", zlib.crc32(head)) + data[33:]
    if data.startswith(b"\xff\xd8"):
        for mark in (b"\xff\xc0", b"\xff\xc2"):
            at = data.find(mark) + 5
            if at > 5:
                return data[:at] + struct.pack(">HH", height & 0xFFFF, width & 0xFFFF) + data[at + 4 :]
    if data.startswith(b"GIF8"):
        return data[:6] + struct.pack("<HH", width & 0xFFFF, height & 0xFFFF) + data[10:]
    if data.startswith(b"BM"):
        return data[:18] + struct.pack("<II", width, height) + data[26:]
    if data[:2] in (b"P3", b"P4", b"P5", b"P6"):
        return data[:2] + b"\n%d %d\n" % (width, height) + data.partition(b"\n")[2].partition(b"\n")[2]
    for mark, order, shift in ((b"ispe", ">", 8), (b"ihdr", ">", 4), (b"\xff\x51", ">", 6), (b"VP8X", "<", 12)):
        at = data.find(mark) + shift
        if at > shift:
            return data[:at] + struct.pack(order + "II", width, height) + data[at + 8 :]
    return data


def _change_chunks(data: bytes, choice: random.Random, _: _Originals) -> bytes:
    """Repeat, drop or exchange whole chunks of a PNG or RIFF, segments of a JPEG, boxes of the others."""
    if data.startswith(b"\x89PNG"):
        parts, at = [data[:8]], 8
        while at + 8 <= len(data):
            length = int.from_bytes(data[at : at + 4]) + 12
            parts.append(data[at : at + length])
            at += length
    elif data.startswith(b"\xff\xd8"):
        parts = [b"\xff" + part for part in data.split(b"\xff")[1:]]
    else:
        parts, at = [], 0
        while at + 8 <= len(data):
            length = max(8, int.from_bytes(data[at : at + 4]) & 0xFFFF)
            parts.append(data[at : at + length])
            at += length
    if len(parts) < 3:
        return data
    first, second = choice.randrange(1, len(parts)), choice.randrange(1, len(parts))
    kind = choice.randrange(3)
    if kind == 0:
        parts[first] *= choice.choice((2, 50, 2000))
    elif kind == 1:
        del parts[first]
    else:
        parts[first], parts[second] = parts[second], parts[first]
    return b"".join(parts)


_MUTATIONS: tuple[_Mutation, ...] = (
    _truncate, _flip_bits, _flip_bits, _set_number, _set_number, _set_number, _repeat_part, _delete_part, _splice,
    _change_size, _change_size, _change_chunks,
)  # fmt: skip
