"""Query pictures that visitors uploaded, held in memory so that a results page has a URL."""

from __future__ import annotations

import contextlib
import hashlib
import threading

from cachetools import LRUCache

_MAX_BYTES = 128_000_000
_NAME_LENGTH = 32


class UploadCache:
    """The pictures used last, up to a number of bytes, each under a name derived from its content.

    A name cannot be guessed without the picture. Nothing is written to disk. Safe for several threads.
    """

    def __init__(self, max_bytes: int = _MAX_BYTES) -> None:
        self._pictures: LRUCache[str, bytes] = LRUCache(max_bytes, getsizeof=len)
        self._lock = threading.Lock()

    def put(self, data: bytes) -> str:
        """Store a picture, in place of those used least recently, and return its name."""
        name = hashlib.sha256(data).hexdigest()[:_NAME_LENGTH]
        with self._lock, contextlib.suppress(ValueError):  # a picture larger than the whole cache is not stored
            self._pictures[name] = data
        return name

    def get(self, name: str) -> bytes | None:
        """Return the picture with this name, or None if it is no longer stored."""
        with self._lock:
            return self._pictures.get(name)
