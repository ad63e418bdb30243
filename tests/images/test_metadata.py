"""Date and camera from EXIF, also where the EXIF is damaged or impossible."""

from __future__ import annotations

import datetime
import io
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from simsearch.images.metadata import ExifMetadata, read_metadata
from tests.support.pictures import FUZZ, encode, photo

ORIGINAL, DIGITIZED, CHANGED = 0x9003, 0x9004, 0x0132
MAKE, MODEL = 0x010F, 0x0110


def exif_of(tags: dict[int, object]) -> Image.Exif:
    exif = Image.Exif()
    for tag, value in tags.items():
        (exif.get_ifd(0x8769) if tag in (ORIGINAL, DIGITIZED) else exif)[tag] = value
    return exif


def facts_of(exif: Image.Exif | bytes, name: str = "PNG") -> ExifMetadata:
    """The facts of a picture that was written and opened again."""
    data = exif if isinstance(exif, bytes) else exif.tobytes()
    with Image.open(io.BytesIO(encode(photo(16, 12), name, exif=data))) as image:
        image.load()
        return read_metadata(image)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
def test_every_format_with_exif_yields_date_and_camera(name: str):
    exif = exif_of({ORIGINAL: "2024:05:01 10:30:59", MAKE: "FUJIFILM", MODEL: "X100V"})
    assert facts_of(exif, name) == ExifMetadata("2024-05-01T10:30:59", "FUJIFILM X100V")


def test_heic_yields_date_and_camera(heif):
    exif = exif_of({ORIGINAL: "2024:05:01 10:30:59", MAKE: "Apple", MODEL: "iPhone 15"})
    assert facts_of(exif, "HEIF") == ExifMetadata("2024-05-01T10:30:59", "Apple iPhone 15")


@pytest.mark.parametrize("name", ["JPEG", "PNG", "GIF", "BMP", "PPM"])
def test_a_picture_without_exif_has_no_metadata(name: str):
    assert read_metadata(Image.open(io.BytesIO(encode(photo(16, 12), name)))) == ExifMetadata(None, None)


def test_a_jpeg_decoded_at_a_reduced_scale_has_the_same_metadata():
    data = encode(photo(640, 480), "JPEG", exif=exif_of({ORIGINAL: "2024:05:01 10:30:59"}).tobytes())
    with Image.open(io.BytesIO(data)) as image:
        image.draft(None, (80, 60))
        image.load()
        assert image.size == (80, 60)
        assert read_metadata(image).taken_at == "2024-05-01T10:30:59"


@pytest.mark.parametrize(
    ("tags", "taken_at"),
    [
        ({ORIGINAL: "2001:01:01 00:00:01", DIGITIZED: "2002:01:01 00:00:00"}, "2001-01-01T00:00:01"),
        ({DIGITIZED: "2002:01:01 00:00:00", CHANGED: "2003:01:01 00:00:00"}, "2002-01-01T00:00:00"),
        ({CHANGED: "2003:01:01 00:00:00"}, "2003-01-01T00:00:00"),
        ({ORIGINAL: "0000:00:00 00:00:00", CHANGED: "2003:01:01 00:00:00"}, "2003-01-01T00:00:00"),
        ({ORIGINAL: "", DIGITIZED: "2002:01:01 00:00:00"}, "2002-01-01T00:00:00"),
    ],
)
def test_the_date_of_exposure_is_preferred_to_that_of_a_scan_or_a_change(tags: dict[int, str], taken_at: str):
    assert facts_of(exif_of(tags)).taken_at == taken_at


@pytest.mark.parametrize(
    ("written", "taken_at"),
    [
        ("2024:05:01 10:30:59\0", "2024-05-01T10:30:59"),
        ("  2024:05:01 10:30:59  ", "2024-05-01T10:30:59"),
        ("2024:05:01 10:30:59\0\0garbage", "2024-05-01T10:30:59"),
        ("2024-05-01T10:30:59+02:00", "2024-05-01T10:30:59"),
        ("2024/05/01 10:30", "2024-05-01T10:30:00"),
        ("2024:05:01", "2024-05-01T00:00:00"),
        ("2024:05:01  9:05:07", "2024-05-01T09:05:07"),
        ("1826:06:01 12:00:00", "1826-06-01T12:00:00"),
        ("1825:06:01 12:00:00", None),
        ("0001:01:01 00:00:00", None),
        ("0000:00:00 00:00:00", None),
        ("    :  :     :  :  ", None),
        ("2023:02:29 10:30:59", None),
        ("2024:05:01 25:00:00", None),
        ("9999:12:31 23:59:59", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_common_date_formats_are_read_and_impossible_dates_are_not(written: str, taken_at: str | None):
    assert facts_of(exif_of({ORIGINAL: written})).taken_at == taken_at


def test_a_date_in_the_future_is_accepted_up_to_one_day():
    now = datetime.datetime.now().replace(microsecond=0)
    near, far = now + datetime.timedelta(hours=12), now + datetime.timedelta(days=3)
    assert facts_of(exif_of({ORIGINAL: f"{near:%Y:%m:%d %H:%M:%S}"})).taken_at == near.isoformat()
    assert facts_of(exif_of({ORIGINAL: f"{far:%Y:%m:%d %H:%M:%S}"})).taken_at is None


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [
        ("FUJIFILM", "X100V", "FUJIFILM X100V"),
        ("Canon", "Canon EOS 5D", "Canon EOS 5D"),
        ("NIKON CORPORATION", "NIKON D90", "NIKON D90"),
        ("Canon\0", "EOS  5D \0\0", "Canon EOS 5D"),
        ("SONY", "SONY", "SONY"),
        ("SONY", None, "SONY"),
        (None, "X100V", "X100V"),
        ("", " \0", None),
        (None, None, None),
        ("LEICA", "M\n6\x1b[31m", "LEICA M 6 [31m"),
        ("A", "x" * 1000, "A " + "x" * 98),
    ],
)
def test_a_camera_is_make_and_model_without_a_repeated_make(make: str | None, model: str | None, camera: str):
    tags = {tag: value for tag, value in ((MAKE, make), (MODEL, model)) if value is not None}
    assert facts_of(exif_of(tags)).camera == camera


def test_a_damaged_date_keeps_the_camera_and_a_damaged_camera_the_date():
    assert facts_of(exif_of({ORIGINAL: "?", MODEL: "X100V"})) == ExifMetadata(None, "X100V")
    number_for_a_name = struct.pack("<HHII", MODEL, 5, 1, 38)  # a fraction, whose parts come after the directory
    date = struct.pack("<HHII", CHANGED, 2, 20, 46)
    tags = number_for_a_name + date + struct.pack("<III", 0, 1, 1) + b"2024:05:01 10:30:59\0"
    assert facts_of(b"Exif\0\0II*\0\x08\0\0\0\x02\0" + tags) == ExifMetadata("2024-05-01T10:30:59", None)
    name = struct.pack("<HHI4s", MODEL, 2, 4, b"M10\0")
    dates_beyond_the_end = struct.pack("<HHII", 0x8769, 4, 1, 0xFFFFFF)
    assert facts_of(b"Exif\0\0II*\0\x08\0\0\0\x02\0" + name + dates_beyond_the_end + bytes(4)) == ExifMetadata(
        None, "M10"
    )


def full_exif() -> bytes:
    tags = {
        ORIGINAL: "2024:05:01 10:30:59",
        CHANGED: "2024:05:01 10:30:59",
        MAKE: "FUJIFILM",
        MODEL: "X100V",
        0x011A: 72.0,
    }
    return exif_of(tags).tobytes()


@FUZZ
@given(st.lists(st.tuples(st.integers(6, len(full_exif()) - 1), st.integers(0, 255)), max_size=8), st.integers(0, 60))
def test_random_exif_yields_valid_or_missing_metadata(changes: list[tuple[int, int]], cut: int):
    exif = bytearray(full_exif())
    for place, value in changes:
        exif[place] = value
    found = facts_of(bytes(exif[: len(exif) - cut]))
    if found.taken_at is not None:
        assert 1826 <= datetime.datetime.fromisoformat(found.taken_at).year <= datetime.date.today().year + 1
        assert len(found.taken_at) == 19
    if found.camera is not None:
        assert found.camera.isprintable()
        assert 0 < len(found.camera) <= 100
        assert found.camera == found.camera.strip()


def test_damaged_exif_is_ignored_without_output(tmp_path: Path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(encode(photo(16, 12), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(24)))
    code = (
        "import sys\nfrom PIL import Image\nfrom simsearch.images.metadata import read_metadata\n"
        "print(read_metadata(Image.open(sys.argv[1])))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(broken)], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == (str(ExifMetadata(None, None)), "")
