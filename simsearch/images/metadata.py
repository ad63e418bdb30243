"""EXIF metadata of a picture: when it was taken, and with which camera."""

from __future__ import annotations

import datetime
import logging
import re
import warnings
from dataclasses import dataclass
from typing import Any

from PIL import ExifTags, Image

_EARLIEST_YEAR = 1826  # of the oldest known photograph
_CLOCK_TOLERANCE = datetime.timedelta(days=1)  # the camera clock may be in a time zone where it is the next day
_MAX_CAMERA_LENGTH = 100

_DATE_PATTERN = re.compile(
    r"([0-9]{4})[:/.-]([0-9]{1,2})[:/.-]([0-9]{1,2})(?:[ T]+([0-9]{1,2}):([0-9]{1,2})(?::([0-9]{1,2}))?)?"
)


# Pillow warns about every irregularity of a picture, even where the pixels are fine; what fails is an error.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())  # without any, Python writes its errors to stderr


@dataclass(frozen=True, slots=True)
class ExifMetadata:
    """`taken_at` (`YYYY-MM-DDTHH:MM:SS`, clock of the camera) and `camera` (make and model); None where unknown."""

    taken_at: str | None = None
    camera: str | None = None


def read_metadata(image: Image.Image) -> ExifMetadata:
    """Read the EXIF metadata of a picture; damaged or impossible values count as missing.

    Call it on the picture as it was opened: rotating or converting it drops the EXIF.
    """
    try:
        exif = image.getexif()
    except MemoryError:
        raise
    except Exception:  # the EXIF reader raises errors of any kind
        return ExifMetadata()
    if not exif:
        return ExifMetadata()
    return ExifMetadata(_find_taken_at(exif), _find_camera(exif))


def _find_taken_at(exif: Image.Exif) -> str | None:
    """Find the date of exposure, else of digitization, else of the file: CIPA DC-008, tags 0x9003, 0x9004, 0x0132."""
    details = _read_exif_ifd(exif)
    return (
        _parse_date(_read_text(details, ExifTags.Base.DateTimeOriginal))
        or _parse_date(_read_text(details, ExifTags.Base.DateTimeDigitized))
        or _parse_date(_read_text(exif, ExifTags.Base.DateTime))
    )


def _read_exif_ifd(exif: Image.Exif) -> Any:
    try:
        return exif.get_ifd(ExifTags.IFD.Exif)
    except MemoryError:
        raise
    except Exception:  # as above
        return {}


def _read_text(tags: Any, tag: int) -> str:
    """Read the text of a tag up to its first NUL, with single spaces; empty where the tag is missing."""
    try:
        value = tags.get(tag)
    except MemoryError:
        raise
    except Exception:  # values are read lazily, and a single value may be damaged
        return ""
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    if not isinstance(value, str):
        return ""
    text = value.lstrip("\0 ").partition("\0")[0]
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def _parse_date(text: str) -> str | None:
    """Parse `YYYY:MM:DD HH:MM:SS` and common variants of it; a date without a time is midnight."""
    if (found := _DATE_PATTERN.match(text)) is None:
        return None
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups())
    try:
        moment = datetime.datetime(year, month, day, hour, minute, second)
    except ValueError:
        return None
    is_impossible = year < _EARLIEST_YEAR or moment > datetime.datetime.now() + _CLOCK_TOLERANCE
    return None if is_impossible else moment.isoformat()


def _find_camera(exif: Image.Exif) -> str | None:
    """Join make and model; the make is left out where the model begins with its first word, as in `NIKON D90`."""
    make, model = _read_text(exif, ExifTags.Base.Make), _read_text(exif, ExifTags.Base.Model)
    names_make = bool(make) and model.casefold().startswith(make.split()[0].casefold())
    camera = model if names_make else f"{make} {model}".strip()
    return camera[:_MAX_CAMERA_LENGTH].rstrip() or None
