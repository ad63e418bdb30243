"""The folder that visitors with the write token add pictures to: each under the name of its content."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simsearch.errors import SimsearchError, UsageError
from simsearch.files import replace_file
from simsearch.images.decode import Pixels, compute_digest, decode_image
from simsearch.sources.list_files import is_broad_folder

EXTENSIONS = {
    "JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp", "AVIF": ".avif", "GIF": ".gif", "TIFF": ".tif",
    "BMP": ".bmp", "DIB": ".bmp", "JPEG2000": ".jp2", "PPM": ".ppm", "HEIF": ".heic",
}  # fmt: skip
"""The extension of each format that can be decoded."""

_NAME_PATTERN = re.compile(r"[0-9a-f]{32}\.[a-z0-9]+")
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class UploadFailed(SimsearchError):
    """A picture could not be written."""


class UploadFolderFull(SimsearchError):
    """The disk, or what uploads may take of it, is full."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A picture to store: its bytes, the digest of its content, and the name of its file."""

    data: bytes
    digest: str
    name: str


def identify_picture(data: bytes, name: str, max_pixels: int) -> Pixels:
    """Decode a picture completely, and return the name of its format as an array (n,) of bytes, for `isolation.py`.

    Raises `ImageError` if it is none, or is damaged.
    """
    found = decode_image(data, name, max_pixels=max_pixels)
    return np.frombuffer(found.format.encode(), np.uint8)


def name_upload(data: bytes, format: str) -> Upload:
    """Name a picture by its content and format. Raises `UsageError` for a format without an extension."""
    if format not in EXTENSIONS:
        raise UsageError(f"pictures of the format {format} are not stored", "convert it to JPEG or PNG")
    digest = compute_digest(data)
    return Upload(data, digest, digest + EXTENSIONS[format])


class UploadFolder:
    """A folder of pictures that visitors have added. Safe for several threads.

    `max_bytes` is the most that they may take together, and `min_free_bytes` what they leave of the disk, for the
    catalog and the index among others.
    """

    def __init__(self, folder: str, max_bytes: int, min_free_bytes: int) -> None:
        self.path = Path(os.path.abspath(folder))
        self._max_bytes, self._min_free_bytes = max_bytes, min_free_bytes
        self._lock = threading.Lock()
        self._n_bytes: int | None = None

    def check(self, collection: str) -> None:
        """Check that the folder can be written, and is a place for pictures only. Raises `UsageError`."""
        if not self.path.is_dir():
            raise UsageError(f"there is no folder {self.path}", "create it, or name another with --allow-upload")
        if is_broad_folder(os.path.realpath(self.path)):
            raise UsageError(f"{self.path} holds a whole disk or home folder", "name a folder for uploads only")
        if self.path.resolve().is_relative_to(Path(collection).resolve()):
            raise UsageError(f"{self.path} is in the folder of the collection", "name a folder of pictures")
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise UsageError(f"{self.path} cannot be written", "change its permissions, or name another folder")

    def store(self, uploads: Sequence[Upload]) -> list[str]:
        """Store pictures, all or none, and return the names of those that were not stored before.

        A file appears complete or not at all. Raises `UploadFolderFull` and `UploadFailed`.
        """
        with self._lock:
            new = {one.name: one for one in uploads if not (self.path / one.name).is_file()}
            self._check_space(sum(len(one.data) for one in new.values()))
            written: list[str] = []
            try:
                for one in new.values():
                    self._write(one)
                    written.append(one.name)
            except OSError as error:
                self._remove(written)
                if error.errno in _NO_SPACE:
                    raise _make_full_error("the disk of the server is full") from error
                problem = f"the picture cannot be stored ({error.strerror or error})"
                raise UploadFailed(problem, "tell the operator of the server") from error
            return written

    def remove(self, names: Sequence[str]) -> None:
        """Remove stored pictures, such as those that could not be indexed. Other files are never removed."""
        with self._lock:
            self._remove([name for name in names if _NAME_PATTERN.fullmatch(name)])

    def _write(self, upload: Upload) -> None:
        with replace_file(self.path / upload.name) as temporary, temporary.open("xb") as file:
            file.write(upload.data)
            file.flush()
            os.fsync(file.fileno())
        self._n_bytes = (self._n_bytes or 0) + len(upload.data)

    def _remove(self, names: Sequence[str]) -> None:
        for name in names:
            with contextlib.suppress(OSError):
                n_bytes = (self.path / name).stat().st_size
                (self.path / name).unlink()
                self._n_bytes = max(0, (self._n_bytes or 0) - n_bytes)

    def _check_space(self, n_bytes: int) -> None:
        if self._n_bytes is None:
            self._n_bytes = sum(self._list_sizes())
        if self._n_bytes + n_bytes > self._max_bytes:
            raise _make_full_error(f"the uploads of this server may take {self._max_bytes / 1e9:g} GB together")
        if n_bytes and shutil.disk_usage(self.path).free < n_bytes + self._min_free_bytes:
            raise _make_full_error("the disk of the server is almost full")

    def _list_sizes(self) -> Iterator[int]:
        with os.scandir(self.path) as entries:
            for entry in entries:
                if _NAME_PATTERN.fullmatch(entry.name):
                    with contextlib.suppress(OSError):
                        yield entry.stat().st_size


def _make_full_error(problem: str) -> UploadFolderFull:
    return UploadFolderFull(problem, "remove files from the folder of uploads, or raise --max-upload-gigabytes")
