"""What a camera wrote into a picture beside the pixels: when it was taken, and by what."""

from __future__ import annotations

import datetime
import re
import warnings
from dataclasses import dataclass
from typing import Any

from PIL import ExifTags, Image

_EARLIEST_YEAR = 1826  # of the oldest photograph there is
_CLOCK_TOLERANCE = datetime.timedelta(days=1)  # a clock may be in the zone of another day
_MAX_CAMERA_LENGTH = 100

_DATE_PATTERN = re.compile(
    r"([0-9]{4})[:/.-]([0-9]{1,2})[:/.-]([0-9]{1,2})(?:[ T]+([0-9]{1,2}):([0-9]{1,2})(?::([0-9]{1,2}))?)?"
)

# Pillow tells of every oddity in the metadata of a picture that is good all the same.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.TiffImagePlugin")


@dataclass(frozen=True, slots=True)
class ExifMetadata:
    """`taken_at`: `YYYY-MM-DDTHH:MM:SS` on the camera's own clock. `camera`: make and model. None: not known."""

    taken_at: str | None = None
    camera: str | None = None


def read_metadata(image: Image.Image) -> ExifMetadata:
    """What the EXIF of a picture tells; what is broken or absurd in it counts as missing.

    To be asked of a picture as it was opened: turning or converting it leaves the EXIF behind.
    """
    try:
        exif = image.getexif()
    except MemoryError:
        raise
    except Exception:  # the reader of EXIF raises whatever it stumbles over
        return ExifMetadata()
    if not exif:
        return ExifMetadata()
    return ExifMetadata(_find_taken_at(exif), _find_camera(exif))


def _find_taken_at(exif: Image.Exif) -> str | None:
    """The date of the exposure, else of digitising it, else of the file: CIPA DC-008, tags 0x9003, 0x9004, 0x0132."""
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
    """The text of a tag up to its first NUL, blanks put in order; empty where there is none."""
    try:
        value = tags.get(tag)
    except MemoryError:
        raise
    except Exception:  # a value is read when it is asked for, and may be broken by itself
        return ""
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    if not isinstance(value, str):
        return ""
    text = value.lstrip("\0 ").partition("\0")[0]
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def _parse_date(text: str) -> str | None:
    """EXIF's `YYYY:MM:DD HH:MM:SS` and what programs make of it; a date without a clock is its midnight."""
    if (found := _DATE_PATTERN.match(text)) is None:
        return None
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups())
    try:
        moment = datetime.datetime(year, month, day, hour, minute, second)
    except ValueError:
        return None
    is_absurd = year < _EARLIEST_YEAR or moment > datetime.datetime.now() + _CLOCK_TOLERANCE
    return None if is_absurd else moment.isoformat()


def _find_camera(exif: Image.Exif) -> str | None:
    """Make and model, the make left out where the model begins with its first word, as in `NIKON D90`."""
    make, model = _read_text(exif, ExifTags.Base.Make), _read_text(exif, ExifTags.Base.Model)
    names_make = bool(make) and model.casefold().startswith(make.split()[0].casefold())
    camera = model if names_make else f"{make} {model}".strip()
    return camera[:_MAX_CAMERA_LENGTH].rstrip() or None
