"""Bytes to upright RGB pixels, with limits. The only module that opens pictures.

Indexing and querying decode through the same functions, so that the same picture gives the same pixels.
"""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import BinaryIO

import numpy as np
import xxhash
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from simsearch.errors import ImageError, MissingExtra, NotAPicture, UnreadableFile
from simsearch.files import NotRegularFile, open_regular_file
from simsearch.images.color import convert_to_rgb
from simsearch.images.formats import (
    FORMATS,
    can_be_picture,
    has_picture_signature,
    make_unidentified_error,
    register_heif,
    silence_libtiff,
)
from simsearch.images.memory import DECODING_BUDGET, estimate_decoding_bytes, reserve_memory
from simsearch.images.metadata import ExifMetadata, read_metadata
from simsearch.images.raw_photos import RAW_FORMAT, extract_preview, is_raw_photo
from simsearch.images.resize import InputRule, JoinedRule
from simsearch.images.structure import MAX_HEADER_BYTES, check_ppm_header, check_scans, check_structure
from simsearch.images.work import check_work
from simsearch.machine import detect_memory_bytes
from simsearch.sources import remote
from simsearch.sources.addresses import is_remote
from simsearch.sources.retry import RemoteTooLarge
from simsearch.text import summarize_error

Pixels = NDArray[np.uint8]

Box = tuple[float, float, float, float]
"""A rectangle in an upright picture: left, top, right, bottom in px."""

_HEAD_BYTES = 16_384
"""Bytes that are read first of a remote object without a picture extension, to see whether it is a picture."""

_MIN_PIXELS_LIMIT = 100_000_000
_BYTES_PER_PIXEL = 8  # the widest pixel in a file: four channels of 16 bits

silence_libtiff()  # and metadata.py silences Pillow


@dataclass(frozen=True, slots=True)
class RawFile:
    """The bytes of a file, the digest of its content, and its size, time and ETag when it was read."""

    path: str
    data: bytes
    digest: str
    size_bytes: int
    mtime_ns: int
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """An upright RGB picture, possibly decoded at a reduced scale; `width` and `height` are its full size in px."""

    image: Image.Image
    width: int
    height: int
    format: str
    metadata: ExifMetadata = field(default_factory=ExifMetadata)

    def with_image(self, image: Image.Image) -> DecodedImage:
        """A picture with other pixels, such as a part of this one; its full size is that of the pixels."""
        return replace(self, image=image, width=image.width, height=image.height)


@functools.cache
def compute_default_max_pixels() -> int:
    """Compute the default pixel limit: 1/16 of the memory at 8 bytes per pixel, and at least 100 megapixels.

    The memory is read once per process: that takes ten files.
    """
    return max(_MIN_PIXELS_LIMIT, detect_memory_bytes() // 16 // _BYTES_PER_PIXEL)


def compute_digest(data: bytes) -> str:
    """Compute the content digest: xxh3_128 of all bytes, as 32 hexadecimal digits."""
    return xxhash.xxh3_128_hexdigest(data)


def read_raw_file(path: str, *, has_picture_extension: bool, max_pixels: int) -> RawFile:
    """Read a whole file, or the object at an address.

    Without `has_picture_extension` the beginning is checked first, so that a film is not read. Raises `ImageError` when
    the file cannot be read, is too large, or changed while it was read; `NotAPicture` when a file without a picture
    extension is no picture.
    """
    if is_remote(path):
        return _read_remote_file(path, has_picture_extension=has_picture_extension, max_pixels=max_pixels)
    try:
        with open_regular_file(path) as file:
            before = os.fstat(file.fileno())
            if not has_picture_extension:
                _check_beginning(file, path, max_pixels)
            if before.st_size > max_pixels * _BYTES_PER_PIXEL:
                raise _make_too_large_error(path, f"{before.st_size / 1e6:.0f} MB", max_pixels)
            data = file.read(before.st_size + 1) or b""  # an endless kernel file reports the size 0
            after = os.fstat(file.fileno())
    except NotRegularFile as error:
        raise UnreadableFile(path, str(error), "give the path of a picture file") from error
    except OSError as error:
        raise UnreadableFile(path, error.strerror or str(error), "check the path and its permissions") from error
    except ValueError as error:  # a NUL within the path
        raise UnreadableFile(path, str(error), "check the path") from error
    except MemoryError as error:
        problem = f"not enough memory to read {before.st_size / 1e6:.0f} MB"
        raise UnreadableFile(path, problem, "raise the memory limit of this process, or free memory") from error
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or len(data) != after.st_size:
        raise UnreadableFile(path, "the file changed while it was read", "run again when it is complete")
    if not has_picture_extension:
        _open_content(data, path, max_pixels)
    return RawFile(path, data, compute_digest(data), after.st_size, after.st_mtime_ns)


def _read_remote_file(path: str, *, has_picture_extension: bool, max_pixels: int) -> RawFile:
    max_bytes = max_pixels * _BYTES_PER_PIXEL
    try:
        content = (
            None if has_picture_extension else remote.read_content(path, head_bytes=_HEAD_BYTES, max_bytes=max_bytes)
        )
        if content is not None and content.data and not can_be_picture(content.data):
            raise make_unidentified_error(path, content.data[:64])
        if content is None or len(content.data) != content.state.size_bytes:
            content = remote.read_content(path, max_bytes=max_bytes)
    except RemoteTooLarge as error:
        raise _make_too_large_error(path, f"{error.size_bytes / 1e6:.0f} MB", max_pixels) from error
    except MissingExtra as error:
        raise UnreadableFile(path, error.problem, error.advice) from error
    if not has_picture_extension:
        _open_content(content.data, path, max_pixels)
    state = content.state
    return RawFile(path, content.data, compute_digest(content.data), state.size_bytes, state.mtime_ns, state.etag)


def decode_image(data: bytes, path: str, *, max_pixels: int, target_px: int | None = None) -> DecodedImage:
    """Decode a picture: first frame, upright by its EXIF orientation, RGB, transparency on white.

    With `target_px`, a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size as long as both sides stay at least that
    long. 16-bit gray is scaled by 1/257, wider or floating-point gray as in `color.py`. `path` is for messages.

    Raises `ImageError`, or `NotAPicture` when the content is not a picture.
    """
    with _decode(data, path, max_pixels, target_px) as picture:
        return picture


@contextmanager
def _decode(data: bytes, path: str, max_pixels: int, target_px: int | None) -> Iterator[DecodedImage]:
    """Decode as `decode_image` does. The memory is reserved until the block ends."""
    is_raw = is_raw_photo(data, path)
    if is_raw:
        data = extract_preview(data, path)
    image = _open_content(data, path, max_pixels)
    stored = image.size
    if image.format in ("JPEG", "MPO"):
        check_scans(data, stored, path)
    check_work(image, stored, data, path)
    with _translate_decoder_errors(image, path):
        is_reduced = target_px is not None and image.draft(None, (target_px, target_px)) is not None
    n_bytes = len(data) + estimate_decoding_bytes(image, stored)
    with reserve_memory(n_bytes, stored, path, DECODING_BUDGET):
        with _translate_decoder_errors(image, path):
            image.load()
            metadata = read_metadata(image)
            lies_on_its_side = _turn_upright(image)
            full = image.size
            if is_reduced:
                full = stored[::-1] if lies_on_its_side else stored
            format_name = RAW_FORMAT if is_raw else image.format or "unknown"
            picture = DecodedImage(convert_to_rgb(image), full[0], full[1], format_name, metadata)
            del image
        yield picture


@contextmanager
def _translate_decoder_errors(image: Image.Image, path: str) -> Iterator[None]:
    format_name = image.format
    del image
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # decoders raise errors of any kind; it is the failure of one file
        raise ImageError(path, f"damaged {format_name} ({summarize_error(error)})", "restore it from a copy") from error


def decode_square(
    raw: RawFile, rule: InputRule, *, max_pixels: int, box: Box | None = None
) -> tuple[DecodedImage, Pixels]:
    """Decode a picture, and resize it to the square input (side, side, 3) uint8 of a model.

    The picture is decoded at the smallest scale that loses nothing. With a `box` the square shows that part, decoded at
    full size. Indexing and querying both use this function. A joined rule decodes at the scale of each of its rules.
    Raises `ImageError`.
    """
    if isinstance(rule, JoinedRule) and box is None:
        decoded = [decode_square(raw, one, max_pixels=max_pixels) for one in rule.rules]
        return decoded[0][0], rule.join([square for _, square in decoded])
    target_px = None if box is not None or isinstance(rule, JoinedRule) else rule.target_px
    with _decode(raw.data, raw.path, max_pixels, target_px) as picture:
        part = picture if box is None else _crop_box(picture, box, raw.path)
        return picture, resize_to_square(part, rule)


def _crop_box(picture: DecodedImage, box: Box, path: str) -> DecodedImage:
    """Crop a picture that was decoded at full size to a box, clipped to the edges of the picture."""
    left, top = (max(0, round(edge)) for edge in box[:2])
    right, bottom = (min(length, round(edge)) for length, edge in zip(picture.image.size, box[2:], strict=True))
    if right <= left or bottom <= top:
        size = f"{picture.width} x {picture.height} px"
        raise ImageError(path, f"the box {box} lies outside the picture", f"choose a box within {size}")
    return picture.with_image(picture.image.crop((left, top, right, bottom)))


def resize_to_square(picture: DecodedImage, rule: InputRule) -> Pixels:
    """Resize a picture to a square (side, side, 3) uint8 RGB, or to the input (n_px, 3) of a joined rule."""
    return rule.apply(picture.image, (picture.width, picture.height))


def _check_beginning(file: BinaryIO, path: str, max_pixels: int) -> None:
    """Check that a file without a picture extension may be a picture, and go back to its beginning.

    Raises `ImageError`, or `NotAPicture`.
    """
    head = file.read(MAX_HEADER_BYTES + 1) or b""
    file.seek(0)
    if not has_picture_signature(head):
        check_ppm_header(head, path)
        _open_image(file, path, max_pixels)
        file.seek(0)


def _open_content(data: bytes, path: str, max_pixels: int) -> Image.Image:
    """Open a picture whose structure has no more parts than a decoder can walk through soon. Raises `ImageError`."""
    check_structure(data, path)
    return _open_image(io.BytesIO(data), path, max_pixels)


def _open_image(file: BinaryIO, path: str, max_pixels: int) -> Image.Image:
    head = file.read(64)
    file.seek(0)
    if not head:
        raise NotAPicture(path, "the file is empty", "restore it from a copy")
    # Pillow's own limit would reject pictures that the caller allows; our limit is checked below.
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels
    formats = (*FORMATS, *register_heif(head, path))
    try:
        image = Image.open(file, formats=formats)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _make_too_large_error(path, "picture", max_pixels) from error
    except MemoryError as error:
        advice = "raise the memory limit of this process, or free memory"
        raise ImageError(path, "not enough memory to open it", advice) from error
    except UnidentifiedImageError as error:
        raise make_unidentified_error(path, head) from error
    except Exception as error:  # as above: a damaged header may raise errors of any kind
        kind = ImageError if has_picture_signature(head) else NotAPicture  # texts begin with "BM" and "P5", too
        raise kind(path, f"damaged header ({summarize_error(error)})", "restore it from a copy") from error
    if image.width * image.height > max_pixels:
        raise _make_too_large_error(path, _format_size(image.size), max_pixels)
    return image


def _make_too_large_error(path: str, size: str, max_pixels: int) -> ImageError:
    return ImageError(
        path,
        f"{size} is more than the limit of {max_pixels / 1e6:.0f} megapixels",
        "raise it with --max-megapixels if you trust the file",
    )


def _format_size(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]} px"


def _turn_upright(image: Image.Image) -> bool:
    """Rotate and mirror in place by the EXIF orientation, and return whether width and height were swapped.

    Damaged EXIF counts as missing, as the pixels are not affected.
    """
    orientation = 1
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        ImageOps.exif_transpose(image, in_place=True)
    except MemoryError:
        raise
    except Exception:  # the EXIF reader raises errors of any kind
        pass
    return orientation in (5, 6, 7, 8)
