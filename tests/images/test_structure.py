"""Small files that ask for minutes of work are refused before they are decoded; real pictures are not."""

from __future__ import annotations

import os

import pytest
from PIL import Image

from simsearch.errors import ImageError
from simsearch.images.decode import read_raw_file
from simsearch.images.structure import MAX_CHUNKS, MAX_SCANS, MAX_TEXT_BYTES, check_scans, count_scans
from tests.support.pictures import LIMIT, encode, failure_of, photo, picture_of, png_chunk


def with_scans(side_px: int, n: int) -> bytes:
    """A progressive JPEG whose last scan is repeated until there are `n`."""
    data = encode(Image.new("RGB", (side_px, side_px), (90, 120, 40)), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + scan * (n - data.count(b"\xff\xda")) + b"\xff\xd9"


def with_chunks(n: int) -> bytes:
    data = encode(photo(8, 8), "PNG")
    return data[:33] + png_chunk(b"teSt", b"") * n + data[33:]


def test_a_jpeg_of_many_scans_is_refused():
    failure = failure_of(with_scans(1000, MAX_SCANS + 1))
    assert failure.reason == f"JPEG with more than {MAX_SCANS} scans; open it in an image editor and save it again"


def test_a_large_jpeg_of_many_scans_is_refused_by_its_size_and_scans_together():
    failure = failure_of(with_scans(4000, 63))
    assert failure.problem == "JPEG with more than 62 scans of 16 megapixels"
    assert picture_of(with_scans(500, 200)).width == 500


def test_the_scans_that_encoders_write_pass_at_any_size():
    data = with_scans(64, 20)
    check_scans(data, (60_000, 60_000), "a.jpg")
    with pytest.raises(ImageError):
        check_scans(with_scans(64, 21), (60_000, 60_000), "a.jpg")


def test_scans_of_embedded_previews_do_not_count():
    preview = with_scans(16, 600)
    comment = b"\xff\xfe" + (len(preview) + 2).to_bytes(2) + preview
    data = encode(photo(), "JPEG", progressive=True)
    data = data[:2] + comment + data[2:]
    assert data.count(b"\xff\xda") > MAX_SCANS
    assert count_scans(data, MAX_SCANS) == 10
    assert picture_of(data).format == "JPEG"


@pytest.mark.parametrize("filler", [b"\xff\xfe\0\2", b"\xff\xe5\0\2", b"\xff", b"\xff\0"])
def test_a_jpeg_of_many_segments_is_refused(filler: bytes):
    data = encode(photo(), "JPEG")
    assert "more than 10,000 segments" in failure_of(data[:2] + filler * 10_001 + data[2:]).problem


def test_a_png_of_many_chunks_is_refused():
    assert failure_of(with_chunks(MAX_CHUNKS)).problem == "PNG with more than 100,000 chunks"
    assert picture_of(with_chunks(1000)).format == "PNG"


@pytest.mark.parametrize("extension", [b"!\xfe\1a\0" * 60_000, b"!\xfe" + b"\1a" * 100_001 + b"\0"])
def test_a_gif_of_many_blocks_is_refused(extension: bytes):
    data = encode(Image.new("P", (8, 8)), "GIF")
    start = 13 + (3 << ((data[10] & 7) + 1))
    assert failure_of(data[:start] + extension + data[start:]).problem.startswith("GIF with more than 100,000 blocks")
    assert picture_of(data[:start] + extension[:40] + b"\0" + data[start:]).format == "GIF"


@pytest.mark.parametrize("kind", [b"P2", b"P5", b"P6"])
@pytest.mark.parametrize("blanks", [b" " * 70_000, b"\n#" + b"x" * 70_000 + b"\n"])
def test_a_ppm_with_a_long_header_is_refused(kind: bytes, blanks: bytes, tmp_path):
    data = kind + b"\n2" + blanks + b"1 255\n" + b"1 1 1 1 1 1"
    assert failure_of(data).problem == "PPM with more than 65,536 bytes in its header"
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(ImageError, match="in its header"):
        read_raw_file(os.fspath(tmp_path / "a"), has_picture_extension=False, max_pixels=LIMIT)


def test_a_ppm_with_comments_is_read():
    assert picture_of(b"P3 # by hand\n# twice\n2 1 # size\n255\n1 2 3 4 5 6").width == 2


def test_a_ppm_of_text_has_a_limit_of_its_own():
    failure = failure_of(b"P3 9000 9000 255\n" + b"1 " * (MAX_TEXT_BYTES // 2))
    assert failure.reason == "PPM written as text, of 32 MB; the limit is 32 MB; convert it to PNG"
