"""Downloads of selected images: names, a table, JSON, or an archive of their files. They are made while being sent."""

from __future__ import annotations

import csv
import io
import json
import posixpath
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from simsearch.errors import SimsearchError
from simsearch.store.snapshot import StoredImage
from simsearch.text import clean_text, escape_formula
from simsearch.web.images import read_stored_images, read_stored_original
from simsearch.web.path_names import PathNames

ExportFormat = Literal["list", "csv", "json", "zip"]
EXPORT_TYPES: dict[ExportFormat, str] = {
    "list": "text/plain; charset=utf-8",
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
    "zip": "application/zip",
}

_CHUNK = 500
_FIELDS = ("image_id", "path", "width", "height", "format", "size_bytes", "taken", "camera")


def export_images(folder: Path, image_ids: Sequence[int], format: ExportFormat, paths: PathNames) -> Iterator[bytes]:
    """Write images of the collection in `folder`, in chunks of bytes. Images that it does not have are left out.

    An archive has the first file of each image, and a text about those that could not be read.
    """
    images = _iterate_images(folder, image_ids)
    if format == "zip":
        return _write_archive(images, paths)
    if format == "csv":
        return _write_table(images, paths)
    if format == "json":
        return _write_json(images, paths)
    return (paths.name(image.files[0].path).replace("\n", " ").encode() + b"\n" for image in images)


def _iterate_images(folder: Path, image_ids: Sequence[int]) -> Iterator[StoredImage]:
    for start in range(0, len(image_ids), _CHUNK):
        some = image_ids[start : start + _CHUNK]
        images = read_stored_images(folder, some)
        yield from (images[image_id] for image_id in some if image_id in images)


def _describe(image: StoredImage, paths: PathNames) -> dict[str, str | float | None]:
    return {
        "image_id": image.image_id,
        "path": paths.name(image.files[0].path),
        "width": image.width,
        "height": image.height,
        "format": image.format,
        "size_bytes": image.size_bytes,
        "taken": image.taken_at,
        "camera": image.camera,
    }


def _write_table(images: Iterator[StoredImage], paths: PathNames) -> Iterator[bytes]:
    """Write a CSV file. The columns of the user's own come last, as pairs of name and value in one cell."""
    line = io.StringIO()
    writer = csv.writer(line)
    writer.writerow([*_FIELDS, "columns"])
    for image in images:
        cells = [escape_formula(cell) if isinstance(cell, str) else cell for cell in _describe(image, paths).values()]
        columns = json.dumps(dict(image.columns), ensure_ascii=False) if image.columns else ""
        writer.writerow([*cells, columns])
        yield line.getvalue().encode()
        line.seek(0)
        line.truncate()
    yield line.getvalue().encode()


def _write_json(images: Iterator[StoredImage], paths: PathNames) -> Iterator[bytes]:
    yield b"["
    for number, image in enumerate(images):
        document = _describe(image, paths) | {"columns": dict(image.columns)}
        yield (b",\n" if number else b"\n") + json.dumps(document).encode()
    yield b"\n]\n"


class _ChunkedFile(io.RawIOBase):
    """A file to write to whose content is taken out as it grows, so that an archive is never in memory as a whole."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]  # zipfile writes bytes
        self._waiting += data
        return len(data)

    def take(self) -> bytes:
        """The bytes that were written since the last call."""
        data = bytes(self._waiting)
        self._waiting.clear()
        return data


def _write_archive(images: Iterator[StoredImage], paths: PathNames) -> Iterator[bytes]:
    file, names, missing = _ChunkedFile(), set[str](), []
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for image in images:
            try:
                data = read_stored_original(image).data
            except SimsearchError as error:
                missing.append(f"{error.problem}\n")
                continue
            name = _make_entry_name(PathNames(paths.root).name(image.files[0].path), image.image_id, names)
            names.add(name)
            archive.writestr(name, data)
            yield file.take()
        if missing:
            archive.writestr("missing-files.txt", "".join(missing))
    yield file.take()


def _make_entry_name(name: str, image_id: int, taken: set[str]) -> str:
    """A name in an archive that leads out of no folder and is no other entry's."""
    parts = [clean_text(part) for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    entry = "/".join(parts) or f"image-{image_id}"
    if entry in taken or entry == "missing-files.txt":
        stem, extension = posixpath.splitext(entry)
        return f"{stem}-{image_id}{extension}"
    return entry
