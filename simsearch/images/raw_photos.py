"""RAW photos of cameras: the preview that the camera embedded, upright, with the metadata of the photo.

The only module that imports rawpy (LibRaw), which the extra `raw` installs. The sensor data is never developed.
"""

from __future__ import annotations

import io
import os
from contextlib import suppress
from typing import Any

from PIL import ExifTags, Image

from simsearch.errors import ImageError, MissingExtra
from simsearch.images.formats import has_picture_signature
from simsearch.sources.addresses import extract_path
from simsearch.sources.scan import RAW_EXTENSIONS
from simsearch.text import summarize_error

RAW_FORMAT = "RAW"

_ORIENTATIONS = {3: 3, 5: 8, 6: 6}
"""LibRaw's `flip` as an EXIF orientation: half a turn, 90 degrees to the left, 90 degrees to the right."""

_SIDEWAYS = (5, 6, 7, 8)
_TEXT_TAGS = (ExifTags.Base.Make, ExifTags.Base.Model, ExifTags.Base.DateTime)
_START_OF_IMAGE, _APP0, _APP1, _EXIF = b"\xff\xd8", b"\xff\xe0", b"\xff\xe1", b"Exif\0\0"
_HEAD_BYTES = 64
_ADVICE = "convert it to JPEG or DNG with the software of the camera"


def is_raw_photo(data: bytes, path: str) -> bool:
    """Whether a file is a RAW photo, by its name, and not another picture under such a name."""
    extension = os.path.splitext(extract_path(path))[1].lower()
    return extension in RAW_EXTENSIONS and not has_picture_signature(data[:_HEAD_BYTES])


def extract_preview(data: bytes, path: str) -> bytes:
    """Extract the largest embedded preview of a RAW photo as a JPEG or PNG file, with orientation, date and camera.

    Raises `ImageError` without rawpy, for an unknown camera, or where there is no preview.
    """
    try:
        import rawpy
    except ImportError as error:
        missing = MissingExtra("reading RAW photos", "raw")
        raise ImageError(path, missing.problem, missing.advice) from error
    try:
        with rawpy.imread(io.BytesIO(data)) as photo:
            preview, sizes = photo.extract_thumb(), photo.sizes
    except rawpy.LibRawError as error:
        raise ImageError(path, f"no preview in this RAW photo ({summarize_error(error)})", _ADVICE) from error
    if preview.format == rawpy.ThumbFormat.JPEG:
        return _tag_jpeg(bytes(preview.data), data, sizes, path)
    picture = io.BytesIO()
    Image.fromarray(preview.data).save(picture, "PNG", exif=_build_exif(Image.Exif(), data, sizes, preview.data.shape))
    return picture.getvalue()


def _tag_jpeg(jpeg: bytes, data: bytes, sizes: Any, path: str) -> bytes:
    """Give a preview the metadata of its photo, without encoding it again."""
    segments, own = _split_exif(jpeg[len(_START_OF_IMAGE) :])
    try:
        with Image.open(io.BytesIO(_START_OF_IMAGE + segments), formats=("JPEG",)) as image:
            shape = (image.height, image.width)
    except Exception as error:  # decoders raise errors of any kind
        raise ImageError(path, f"damaged preview ({summarize_error(error)})", _ADVICE) from error
    content = _build_exif(own, data, sizes, shape).tobytes()
    segment = _APP1 + (len(content) + 2).to_bytes(2, "big") + content
    return _START_OF_IMAGE + segment + segments


def _split_exif(segments: bytes) -> tuple[bytes, Image.Exif]:
    """Take the EXIF segments out of the beginning of a JPEG, and read the last one.

    LibRaw puts one with the orientation of the photo in front, also where the preview has one of its own.
    """
    at, content = 0, b""
    while segments[at : at + 2] in (_APP0, _APP1):
        end = at + 2 + int.from_bytes(segments[at + 2 : at + 4], "big")
        if segments[at + 4 : at + 10] == _EXIF:
            content = segments[at + 4 : end]
            segments = segments[:at] + segments[end:]
        else:
            at = end
    return segments, _load_exif(content)


def _build_exif(own: Image.Exif, data: bytes, sizes: Any, shape: tuple[int, ...]) -> Image.Exif:
    """Build the metadata of a preview: its own orientation, else that of the photo; camera and date of the photo."""
    container = _load_exif(_EXIF + data)
    exif = Image.Exif()
    for tag in _TEXT_TAGS:
        if value := own.get(tag) or container.get(tag):
            exif[tag] = str(value)
    for source in (container, own):
        with suppress(Exception):  # the EXIF reader raises errors of any kind
            taken = source.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.DateTimeOriginal)
            if taken:
                exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = str(taken)
    exif[ExifTags.Base.Orientation] = _find_orientation(own.get(ExifTags.Base.Orientation), sizes, shape)
    return exif


def _load_exif(content: bytes) -> Image.Exif:
    """Read metadata: an EXIF segment, or a photo in a container of TIFF kind; empty where there is none."""
    exif = Image.Exif()
    with suppress(Exception):  # as above
        exif.load(content)
    return exif


def _find_orientation(own: int | None, sizes: Any, shape: tuple[int, ...]) -> int:
    """Find how a preview must be turned: as it says itself, else as the photo says.

    A preview that was stored upright is not turned again; its sides are then those of the sensor, swapped.
    """
    orientation = own or _ORIENTATIONS.get(sizes.flip, 1)
    is_portrait, sensor_is_portrait = shape[0] > shape[1], sizes.raw_height > sizes.raw_width
    if orientation in _SIDEWAYS and is_portrait != sensor_is_portrait:
        return 1
    return orientation
