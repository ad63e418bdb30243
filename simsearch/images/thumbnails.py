"""Small pictures: read, shrunk, encoded as WebP, and cached. All thumbnails are made here."""

from __future__ import annotations

import base64
import contextlib
import io
import threading

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray
from PIL import Image

from simsearch.errors import ImageError
from simsearch.images.decode import compute_default_max_pixels, decode_image, read_raw_file

SIDE_PX = 120
_EMBEDDED_QUALITY = 72
_SERVED_QUALITY = 82
_MAX_CACHE_BYTES = 64_000_000


def read_small_image(path: str, side_px: int) -> Image.Image:
    """Read a picture as RGB, decoded at the smallest scale that keeps both sides at least `side_px` long.

    Raises `ImageError`.
    """
    limit = compute_default_max_pixels()
    raw = read_raw_file(path, has_picture_extension=True, max_pixels=limit)
    return decode_image(raw.data, path, max_pixels=limit, target_px=side_px).image


def make_thumbnail(path: str, side_px: int = SIDE_PX) -> str | None:
    """Make a data URL of the whole picture, at most `side_px` by `side_px`; None if the picture cannot be read."""
    try:
        image = read_small_image(path, side_px)
    except ImageError:
        return None
    image.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    return encode_data_url(image)


def render_thumbnail(data: bytes, name: str, side_px: int, max_pixels: int) -> bytes:
    """Render a picture as WebP of at most `side_px` by `side_px`, without metadata. Raises `ImageError`."""
    image = decode_image(data, name, max_pixels=max_pixels, target_px=side_px).image
    image.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    return _encode_webp(image, _SERVED_QUALITY, method=3)


def render_thumbnail_array(data: bytes, name: str, side_px: int, max_pixels: int) -> NDArray[np.uint8]:
    """Render a thumbnail as `render_thumbnail` does, as an array (n,) of its bytes, for `isolation.py`."""
    return np.frombuffer(render_thumbnail(data, name, side_px, max_pixels), np.uint8)


def encode_data_url(image: Image.Image) -> str:
    """Encode a picture as a data URL (WebP, with transparency)."""
    return f"data:image/webp;base64,{base64.b64encode(_encode_webp(image, _EMBEDDED_QUALITY)).decode()}"


def _encode_webp(image: Image.Image, quality: int, *, method: int = 4) -> bytes:
    """Encode a picture as WebP; `method` is the effort, from 0 (fast) to 6 (small)."""
    file = io.BytesIO()
    image.save(file, "WEBP", quality=quality, method=method)
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
