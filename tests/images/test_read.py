"""Files become bytes with a digest, or an `ImageError`."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import xxhash

from simsearch.errors import ImageError, NotAPicture, UnreadableFile
from simsearch.images.decode import compute_digest, decode_image, read_raw_file
from tests.conftest import as_bound_user
from tests.support.pictures import (
    LIMIT,
    encode,
    photo,
)


def write(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def unreadable(path: str) -> UnreadableFile:
    with pytest.raises(UnreadableFile) as caught:
        read_raw_file(path, has_picture_extension=True, max_pixels=LIMIT)
    return caught.value


@pytest.mark.parametrize("content", [b"", b"x", bytes(100_000), encode(photo(), "PNG")], ids=len)
def test_a_file_is_read_whole_and_named_by_its_digest(tmp_path: Path, content: bytes):
    path = write(tmp_path / "a.jpg", content)
    raw = read_raw_file(path, has_picture_extension=True, max_pixels=LIMIT)
    assert (raw.path, raw.data, raw.size_bytes) == (path, content, len(content))
    assert raw.mtime_ns == os.stat(path).st_mtime_ns
    assert raw.digest == compute_digest(content) == xxhash.xxh3_128(content).hexdigest()
    assert len(raw.digest) == 32


def test_the_content_decides_what_a_file_is(tmp_path: Path):
    pixels = photo()
    for name in ("really.jpg", "really.webp", "really.svg", "really"):
        raw = read_raw_file(
            write(tmp_path / name, encode(pixels, "PNG")), has_picture_extension="." in name, max_pixels=LIMIT
        )
        picture = decode_image(raw.data, raw.path, max_pixels=LIMIT)
        assert picture.format == "PNG"
        assert np.array_equal(np.asarray(picture.image), pixels)


def test_a_missing_file_is_unreadable(tmp_path: Path):
    assert unreadable(str(tmp_path / "a.jpg")).reason == "No such file or directory; check the path and its permissions"


def test_a_file_without_permission_is_unreadable(open_folder: Path):
    path = write(open_folder / "a.jpg", encode(photo(), "JPEG"))
    os.chmod(path, 0)
    with as_bound_user():
        assert unreadable(path).reason == "Permission denied; check the path and its permissions"


def test_a_folder_is_unreadable(tmp_path: Path):
    assert unreadable(str(tmp_path)).reason == "the path is a folder; give the path of a picture file"


@pytest.mark.parametrize("path", ["nul\0.jpg", "n" * 5000, ""])
def test_an_invalid_path_is_unreadable(path: str):
    assert "; check the path" in unreadable(path).reason


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_unreadable_and_is_not_opened(tmp_path: Path):
    os.mkfifo(tmp_path / "a.jpg")
    code = (
        "import sys; from simsearch.images.decode import read_raw_file; "
        "read_raw_file(sys.argv[1], has_picture_extension=True, max_pixels=9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.jpg")], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr.rstrip().endswith("the path is not a regular file; give the path of a picture file")


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="this system has no endless file")
def test_a_device_is_unreadable():
    assert "not a regular file" in unreadable("/dev/zero").reason


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="this system has no file of changing length")
def test_a_file_that_changes_while_it_is_read_is_unreadable():
    assert "the file changed while it was read" in unreadable("/proc/self/status").reason


@pytest.mark.skipif(not os.access("/proc/kmsg", os.R_OK), reason="the log of the kernel cannot be read here")
def test_a_file_of_the_kernel_that_never_ends_is_unreadable_at_once(tmp_path: Path):
    os.symlink("/proc/kmsg", tmp_path / "a.jpg")
    code = (
        "import sys; from simsearch.images.decode import read_raw_file; "
        "read_raw_file(sys.argv[1], has_picture_extension=True, max_pixels=9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.jpg")], capture_output=True, text=True, timeout=30, check=False
    )
    assert "UnreadableFile: cannot read" in done.stderr


@pytest.mark.parametrize("claims_picture", [True, False])
def test_a_file_of_more_bytes_than_the_limit_allows_is_refused(tmp_path: Path, claims_picture: bool):
    path = write(tmp_path / "a", encode(photo(10, 10), "PNG") + bytes(8000))
    with pytest.raises(ImageError, match="--max-megapixels") as caught:
        read_raw_file(path, has_picture_extension=claims_picture, max_pixels=1000)
    assert not isinstance(caught.value, NotAPicture | UnreadableFile)
    assert read_raw_file(path, has_picture_extension=claims_picture, max_pixels=1100).size_bytes > 8000


OTHERS = {
    "text": b"dear diary\n",
    "a long film": b"\0\0\0\x18ftypmp42\0\0\0\0isommp42" + bytes(9000),
    "a text like a BMP": b"BMW is a make of cars\n",
    "a text like a PPM": b"P3 follows P2\n",
    "empty": b"",
}


@pytest.mark.parametrize("content", OTHERS.values(), ids=OTHERS)
def test_a_file_without_picture_extension_or_content_is_not_a_picture(tmp_path: Path, content: bytes):
    with pytest.raises(NotAPicture):
        read_raw_file(write(tmp_path / "notes", content), has_picture_extension=False, max_pixels=1000)


def test_a_damaged_picture_without_extension_is_distinguished_from_a_text(tmp_path: Path):
    with pytest.raises(ImageError) as caught:
        read_raw_file(
            write(tmp_path / "a", encode(photo(), "JPEG")[:24]), has_picture_extension=False, max_pixels=LIMIT
        )
    assert not isinstance(caught.value, NotAPicture)


def test_a_file_of_the_same_size_that_changes_while_it_is_read_is_unreadable(tmp_path: Path):
    """Another thread changes the time of the file again and again; its size stays."""
    path, is_over = tmp_path / "rewritten.png", threading.Event()
    path.write_bytes(bytes(16_000_000))

    def change() -> None:
        for number in itertools.count():
            if is_over.is_set():
                return
            os.utime(path, ns=(number, number))

    changing = threading.Thread(target=change)
    changing.start()
    try:
        with pytest.raises(UnreadableFile, match="the file changed while it was read"):  # noqa: PT012
            for _ in range(200):  # one of these readings meets a change
                read_raw_file(str(path), has_picture_extension=True, max_pixels=10**8)
    finally:
        is_over.set()
        changing.join()
