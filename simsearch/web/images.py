"""Stored images for the web server: their catalog entries, original files, and thumbnails."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Sequence
from pathlib import Path

from cachetools import LRUCache
from PIL import Image

from simsearch.errors import UnreadableFile
from simsearch.images.decode import RawFile, decode_image, read_raw_file
from simsearch.store.snapshot import StoredImage, open_snapshot

THUMBNAIL_SIDES = (160, 320, 640, 1600)
"""The sizes of thumbnails, in px: a few, so that they can be cached."""

_WEBP_QUALITY = 82
_MAX_CACHE_BYTES = 64_000_000


def read_stored_images(folder: Path, image_ids: Sequence[int]) -> dict[int, StoredImage]:
    """Read those of the images that have a file from the catalog, by id."""
    with open_snapshot(folder) as snapshot:
        return snapshot.read_images(image_ids)


def read_stored_image(folder: Path, image_id: int) -> StoredImage:
    """Read an image from the catalog. Raises `ImageNotFound` if no image with a file has this id."""
    with open_snapshot(folder) as snapshot:
        return snapshot.read_image(image_id)


def read_original(image: StoredImage, max_pixels: int) -> RawFile:
    """Read the bytes of an image from the first of its files whose content is unchanged.

    Raises `ImageError` if no file can be read or all have another content now.
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
        failure = UnreadableFile(file.path, "the file has changed since it was indexed", "run `simsearch index` again")
    assert failure is not None  # a stored image has a file
    raise failure


def render_thumbnail(data: bytes, name: str, side_px: int, max_pixels: int) -> bytes:
    """Render a picture as WebP of at most `side_px` by `side_px`, without metadata. Raises `ImageError`."""
    image = decode_image(data, name, max_pixels=max_pixels, target_px=side_px).image
    image.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "WEBP", quality=_WEBP_QUALITY, method=3)
    return file.getvalue()


class ThumbnailCache:
    """The thumbnails used last, by content and size, up to a number of bytes. Safe for several threads."""

    def __init__(self, max_bytes: int = _MAX_CACHE_BYTES) -> None:
        self._thumbnails: LRUCache[tuple[str, int], bytes] = LRUCache(max_bytes, getsizeof=len)
        self._lock = threading.Lock()

    def get(self, digest: str, side_px: int) -> bytes | None:
        """Return the thumbnail of a content, or None if it is not cached."""
        with self._lock:
            return self._thumbnails.get((digest, side_px))

    def put(self, digest: str, side_px: int, data: bytes) -> None:
        """Store a thumbnail in place of those used least recently."""
        with self._lock, contextlib.suppress(ValueError):  # a thumbnail larger than the whole cache is not stored
            self._thumbnails[digest, side_px] = data
