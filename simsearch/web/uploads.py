"""Pictures that visitors asked with, kept in memory for a while so that an answer has an address."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict

_MAX_BYTES = 128_000_000
_NAME_LENGTH = 32


class UploadCache:
    """The last pictures that were asked with, up to a number of bytes, each under a name that follows from its bytes.

    Whoever knows the name had the picture, or was given its address. Nothing is written to disk.
    """

    def __init__(self, most_bytes: int = _MAX_BYTES) -> None:
        self._max_bytes = most_bytes
        self._n_bytes = 0
        self._pictures: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, data: bytes) -> str:
        """Keep a picture, and forget those that were not asked for longest; its name."""
        name = hashlib.sha256(data).hexdigest()[:_NAME_LENGTH]
        with self._lock:
            self._n_bytes += 0 if name in self._pictures else len(data)
            self._pictures[name] = data
            self._pictures.move_to_end(name)
            while self._n_bytes > self._max_bytes and len(self._pictures) > 1:
                self._n_bytes -= len(self._pictures.popitem(last=False)[1])
        return name

    def get(self, name: str) -> bytes | None:
        """The picture of that name, if it is still here."""
        with self._lock:
            if (found := self._pictures.get(name)) is not None:
                self._pictures.move_to_end(name)
            return found
