"""Pictures of a collection by their id: what is known of them, their files, and renditions of any size."""

from __future__ import annotations

import datetime
import io
import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from simsearch.errors import ImageNotFound, UnreadableFile
from simsearch.images.decode import RawFile, decode_image, read_raw_file
from simsearch.sources.path_codec import decode_path
from simsearch.store.connection import CATALOG_NAME, connect_to_read, translate_errors

THUMBNAIL_SIDES = (160, 320, 640, 1600)
"""The sizes of renditions, in px: a few, so that they can be kept."""

_WEBP_QUALITY = 82
_MAX_CACHE_BYTES = 64_000_000


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of an image, as it was when it was indexed; `modified_at` is local time."""

    path: str
    size_bytes: int
    modified_at: str


@dataclass(frozen=True, slots=True)
class StoredImage:
    """What a collection knows of an image with a file: upright size in px, what its camera noted, its own columns."""

    image_id: int
    digest: str
    width: int
    height: int
    format: str
    taken_at: str | None
    camera: str | None
    files: tuple[StoredFile, ...]
    columns: dict[str, str | float]


def load_stored_images(folder: Path, image_ids: Sequence[int]) -> dict[int, StoredImage]:
    """Those of the images that have a file, by id; at most a few hundred are asked at once."""
    marks = ", ".join("?" * len(image_ids))
    with translate_errors(folder), closing(connect_to_read(folder / CATALOG_NAME)) as connection:
        connection.execute("BEGIN")
        facts = connection.execute(
            f"SELECT id, digest, width, height, format, taken_at, camera FROM images WHERE id IN ({marks})", image_ids
        ).fetchall()
        files: dict[int, list[StoredFile]] = {}
        for image_id, path, size_bytes, mtime_ns in connection.execute(
            f"SELECT image_id, path, size_bytes, mtime_ns FROM files WHERE image_id IN ({marks}) ORDER BY id", image_ids
        ):
            files.setdefault(image_id, []).append(StoredFile(decode_path(path), size_bytes, _format_mtime(mtime_ns)))
        columns: dict[int, dict[str, str | float]] = {}
        for image_id, name, value in connection.execute(
            f"SELECT image_id, name, value FROM annotations WHERE image_id IN ({marks}) ORDER BY name", image_ids
        ):
            columns.setdefault(image_id, {})[name] = value
    return {
        image_id: StoredImage(
            image_id,
            digest,
            width,
            height,
            format_,
            taken_at,
            camera,
            tuple(files[image_id]),
            columns.get(image_id, {}),
        )
        for image_id, digest, width, height, format_, taken_at, camera in facts
        if image_id in files
    }


def load_stored_image(folder: Path, image_id: int) -> StoredImage:
    """What is known of an image. Raises `ImageNotFound` when there is none of that id with a file."""
    found = load_stored_images(folder, [image_id]).get(image_id)
    if found is None:
        raise ImageNotFound(str(folder), f"there is no image {image_id}", "answers show the ids")
    return found


def sample_image_ids(folder: Path, n: int) -> list[int]:
    """At most n ids of images with a file, from all over the collection, rising."""
    with translate_errors(folder), closing(connect_to_read(folder / CATALOG_NAME)) as connection:
        first, last = connection.execute("SELECT min(image_id), max(image_id) FROM files").fetchone()
        if first is None:
            return []
        steps = [first + round(step * (last - first) / max(1, n - 1)) for step in range(n)]
        query = "SELECT min(image_id) FROM files WHERE image_id >= ?"
        return sorted({connection.execute(query, (step,)).fetchone()[0] for step in steps})


def read_original(image: StoredImage, max_pixels: int) -> RawFile:
    """The bytes of an image, from the first of its files that still has them.

    A file that holds something else by now is not it, whatever its name. Raises `ImageError`.
    """
    failure = None
    for file in image.files:
        try:
            raw = read_raw_file(file.path, has_picture_extension=True, max_pixels=max_pixels)
        except UnreadableFile as error:
            failure = error
            continue
        if raw.digest == image.digest:
            return raw
        failure = UnreadableFile(file.path, "it has changed since it was indexed", "run `simsearch index` again")
    assert failure is not None  # a stored image has a file
    raise failure


def render_thumbnail(data: bytes, name: str, side_px: int, max_pixels: int) -> bytes:
    """A picture, whole, as WebP of at most `side_px` a side, with nothing but its pixels. Raises `ImageError`."""
    image = decode_image(data, name, max_pixels=max_pixels, target_px=side_px).image
    image.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "WEBP", quality=_WEBP_QUALITY, method=3)
    return file.getvalue()


class ThumbnailCache:
    """Renditions that were made lately, up to a number of bytes, for several threads."""

    def __init__(self, most_bytes: int = _MAX_CACHE_BYTES) -> None:
        self._max_bytes = most_bytes
        self._n_bytes = 0
        self._thumbnails: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, digest: str, side_px: int) -> bytes | None:
        """A rendition of that content, if it is still here."""
        with self._lock:
            if (found := self._thumbnails.get((digest, side_px))) is not None:
                self._thumbnails.move_to_end((digest, side_px))
            return found

    def put(self, digest: str, side_px: int, data: bytes) -> None:
        """Keep a rendition in the place of those that were not asked for longest."""
        with self._lock:
            if (digest, side_px) in self._thumbnails:
                return
            self._thumbnails[digest, side_px] = data
            self._n_bytes += len(data)
            while self._n_bytes > self._max_bytes:
                self._n_bytes -= len(self._thumbnails.popitem(last=False)[1])


def _format_mtime(mtime_ns: int) -> str:
    try:
        return datetime.datetime.fromtimestamp(mtime_ns // 10**9).isoformat()
    except (OverflowError, ValueError, OSError):  # beyond what a calendar has
        return ""
