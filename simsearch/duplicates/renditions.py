"""Renditions of images for the comparison of pairs, read from their files on demand, and kept within a bound."""

from __future__ import annotations

import threading

from cachetools import LRUCache

from simsearch.duplicates.pictures import read_image
from simsearch.machine import detect_memory_bytes
from simsearch.matching.features import DECODE_PX, PictureRendition, render_for_matching
from simsearch.store.snapshot import StoredImage

_RENDITION_BYTES = 150_000
_MIN_KEPT, _MAX_KEPT, _MEMORY_SHARE = 3_000, 5_000, 16


def _choose_max_kept() -> int:
    """The number of renditions that fit into a sixteenth of the memory, from 3,000 (450 MB) to 5,000 (750 MB)."""
    fitting = detect_memory_bytes() // _MEMORY_SHARE // _RENDITION_BYTES
    return min(_MAX_KEPT, max(_MIN_KEPT, fitting))


class RenditionCache:
    """The renditions of images by id, within a bound on memory. Threads may share it.

    `unread` maps the ids of images that cannot be read to their first file.
    """

    def __init__(self, max_pixels: int) -> None:
        self.unread: dict[int, str] = {}
        self._max_pixels = max_pixels
        self._renditions: LRUCache[int, PictureRendition] = LRUCache(_choose_max_kept())
        self._lock = threading.Lock()

    def load(self, image: StoredImage) -> PictureRendition | None:
        """Load the rendition of an image; None if its files cannot be read now, or have other contents."""
        with self._lock:
            if image.image_id in self.unread:
                return None
            rendition = self._renditions.get(image.image_id)
        if rendition is None:
            picture = read_image(image, DECODE_PX, self._max_pixels)
            if picture is None:
                with self._lock:
                    self.unread[image.image_id] = image.files[0].path
                return None
            rendition = render_for_matching(picture)
            with self._lock:
                self._renditions[image.image_id] = rendition
        return rendition
