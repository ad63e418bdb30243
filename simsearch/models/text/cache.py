"""A cache of the vectors of texts, in the user's cache folder: loading a text tower takes seconds, and much memory."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from simsearch.models.text_tower import TextTower
from simsearch.models.weights import find_cache_folder

MAX_FILES = 20_000
"""The most vectors of one text tower, about 60 MB; when there are more, the older half is deleted."""


class TextVectorCache:
    """The vectors of a text tower by text, one file each.

    The folder is named by the paths, sizes and times of the tower's files: a changed file has another folder.
    """

    def __init__(self, tower: TextTower) -> None:
        self._folder = find_cache_folder() / "texts" / _identify(tower)

    def find(self, text: str) -> NDArray[np.float32] | None:
        """Find the vector (1, d) of a text; None where it is not there, or not readable."""
        try:
            rows = np.load(self._locate(text), allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        is_unit = rows.ndim == 2 and rows.dtype == np.float32 and abs(np.linalg.norm(rows) - 1) < 1e-3
        return rows if is_unit else None

    def keep(self, text: str, rows: NDArray[np.float32]) -> None:
        """Store the vector of a text, atomically; skipped where the folder cannot be written to."""
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._delete_old()
            handle, temporary = tempfile.mkstemp(prefix=".text-", dir=self._folder)
            try:
                with os.fdopen(handle, "wb") as file:
                    np.save(file, rows, allow_pickle=False)
                os.replace(temporary, self._locate(text))
            except OSError:
                Path(temporary).unlink(missing_ok=True)
                raise

    def _locate(self, text: str) -> Path:
        return self._folder / f"{xxhash.xxh3_128_hexdigest(text.encode('utf-8', 'surrogatepass'))}.npy"

    def _delete_old(self) -> None:
        files = list(self._folder.glob("*.npy"))
        if len(files) >= MAX_FILES:
            for file in sorted(files, key=lambda one: one.stat().st_mtime)[: len(files) // 2]:
                file.unlink(missing_ok=True)


def _identify(tower: TextTower) -> str:
    hasher = xxhash.xxh3_128(repr(tower).encode("utf-8", "surrogatepass"))
    for path in (tower.graph, tower.tokenizer):
        with contextlib.suppress(OSError):
            stat = os.stat(path)
            hasher.update(
                f"{os.path.realpath(path)}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode(errors="surrogateescape")
            )
    return hasher.hexdigest()
