"""RAW photos of cameras: read by their embedded preview, upright, and one picture with the JPEG beside them."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from simsearch import Collection, ModelChoice
from simsearch.errors import ImageError
from simsearch.images.decode import DecodedImage, decode_image
from simsearch.sources.scan import find_raw_twins, scan_sources
from tests.support.raw_photos import make_dng

pytest.importorskip("rawpy")
LIMIT = 10_000_000


def draw(seed: int = 0, size: tuple[int, int] = (320, 200)) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def turn(picture: Image.Image, orientation: int) -> Image.Image:
    """What a viewer shows of a picture with this EXIF orientation, by Pillow's own function."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    picture.save(file, "PNG", exif=exif)
    return ImageOps.exif_transpose(Image.open(file))


def decode(content: bytes, name: str = "photo.dng") -> DecodedImage:
    return decode_image(content, name, max_pixels=LIMIT)


def differ(a: Image.Image, b: Image.Image) -> float:
    return float(np.abs(np.asarray(a, np.int16) - np.asarray(b.convert("RGB"), np.int16)).mean())


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_raw_photo_is_its_preview_upright_with_date_and_camera(orientation: int):
    picture = draw()
    decoded = decode(make_dng(picture, orientation=orientation))
    expected = turn(picture, orientation)
    assert decoded.image.size == (decoded.width, decoded.height) == expected.size
    assert differ(decoded.image, expected) < 3  # JPEG
    assert decoded.format == "RAW"
    assert decoded.metadata.taken_at == "2024-05-06T07:08:09"
    assert "EOS 80D" in (decoded.metadata.camera or "")


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_the_orientation_of_the_preview_itself_counts(orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = draw()
    decoded = decode(make_dng(picture, orientation=1, exif=exif))
    assert differ(decoded.image, turn(picture, orientation)) < 3


def test_a_preview_that_is_upright_already_is_not_turned_again():
    """Some cameras turn the preview of a portrait and leave the sensor data as it lay."""
    lying = make_dng(draw(), orientation=6)
    upright = io.BytesIO()
    turn(draw(), 6).save(upright, "JPEG", quality=95)
    old = io.BytesIO()
    draw().save(old, "JPEG", quality=95)
    at = lying.index(old.getvalue())
    content = bytearray(lying[:at] + upright.getvalue())
    old_size, new_size = len(old.getvalue()).to_bytes(4, "little"), len(upright.getvalue()).to_bytes(4, "little")
    row = content.index(b"\x17\x01\x04\x00\x01\x00\x00\x00" + old_size)  # StripByteCounts of the first IFD
    content[row + 8 : row + 12] = new_size
    decoded = decode(bytes(content))
    assert decoded.image.size == (200, 320)
    assert differ(decoded.image, turn(draw(), 6)) < 3


def test_a_raw_photo_without_a_preview_and_a_damaged_one_are_errors_of_one_file():
    with pytest.raises(ImageError, match=r"no preview in this RAW photo \([A-Z]"):
        decode(make_dng(draw(), has_preview=False))
    with pytest.raises(ImageError):
        decode(b"II*\0" + bytes(200))
    content = make_dng(draw())
    random = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(content[: random.integers(100, len(content))])
        for at in random.integers(0, min(len(damaged), 4096), 12):
            damaged[at] = random.integers(256)
        with contextlib.suppress(ImageError):
            decode(bytes(damaged))


def test_another_picture_under_the_name_of_a_raw_photo_is_read_as_what_it_is():
    file = io.BytesIO()
    draw().save(file, "PNG")
    assert decode(file.getvalue()).format == "PNG"


def test_a_raw_photo_with_its_jpeg_is_one_picture(tmp_path: Path):
    for name in ("a.dng", "b.CR2", "d.nef"):
        (tmp_path / name).write_bytes(make_dng(draw(3)))
    for name in ("a.JPG", "b.heic", "c.jpg"):
        draw(4).save(tmp_path / name, "JPEG")
    found = [Path(file.path).name for file in scan_sources([str(tmp_path)]).files]
    assert found == ["a.JPG", "b.heic", "c.jpg", "d.nef"]
    assert [Path(file.path).name for file in scan_sources([str(tmp_path / "a.dng")]).files] == ["a.dng"]  # as named
    names = ["x/a.dng", "x/a.jpg", "y/a.dng", "b.arw", "b.txt"]
    assert find_raw_twins(names) == {"x/a.dng"}


def test_raw_photos_are_indexed_and_found_by_a_jpeg_of_the_same_picture(tmp_path: Path):
    for seed in range(4):
        target = tmp_path / "photos" / f"{seed}.dng"
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(make_dng(draw(seed), orientation=6 if seed == 2 else 1))
    turn(draw(2), 6).convert("RGB").save(tmp_path / "query.jpg", quality=90)
    with Collection.open(tmp_path / "c", create=True) as collection:
        report = collection.ingest([tmp_path / "photos"], ModelChoice(backbone="histogram"))
        assert (report.n_images, report.skips) == (4, ())
        assert collection.search(tmp_path / "query.jpg", k=1).hits[0].path.endswith("2.dng")


def test_without_the_extra_a_raw_photo_is_a_skip_that_names_the_package(tmp_path: Path):
    (tmp_path / "photo.dng").write_bytes(make_dng(draw()))
    draw(1).save(tmp_path / "other.png")
    words = ["simsearch", "index", str(tmp_path), "--into", str(tmp_path / "c"), "--backbone", "histogram"]
    code = (
        f"import sys\nsys.modules['rawpy'] = None\nsys.argv = {words!r}\nfrom simsearch.cli import main\n"
        "sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0
    assert (
        "photo.dng: reading RAW photos needs an optional package; install it: pip install 'rawpy>=0.24'" in done.stderr
    )
