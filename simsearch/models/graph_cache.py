"""Converted graphs in the user's cache: written whole or not at all, used only while they are what was written."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from simsearch.errors import SimsearchError
from simsearch.models.weights import find_cache_folder, hash_file

_ATTEMPTS = 20
_DEFINITION, _WEIGHTS, _SEAL = "graph.xml", "graph.bin", "seal.json"


def find(key: str) -> Path | None:
    """The definition of the graph kept under `key`, or None where there is none.

    Raises `ValueError` when what is there is damaged.
    """
    folder = _locate_folder(key)
    if not folder.is_dir():
        return None
    try:
        sealed = json.loads((folder / _SEAL).read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder} has no readable seal") from error
    if sealed != _hash_files(folder):
        raise ValueError(f"{folder} is not what was written")
    return folder / _DEFINITION


def keep(key: str, save: Callable[[Path], None]) -> Path:
    """Keep the graph that `save` writes to a definition's path; a damaged or older one gives way.

    Raises `OSError` when the cache cannot be written to.
    """
    folder = _locate_folder(key)
    folder.parent.mkdir(parents=True, exist_ok=True)
    workshop = Path(tempfile.mkdtemp(prefix=".graph-", dir=folder.parent))
    try:
        save(workshop / _DEFINITION)
        (workshop / _SEAL).write_text(json.dumps(_hash_files(workshop)), encoding="ascii")
        _move(workshop, folder)
    finally:
        shutil.rmtree(workshop, ignore_errors=True)
    return folder / _DEFINITION


def _move(workshop: Path, folder: Path) -> None:
    """Put a new graph in its place, unless another process put a whole one there meanwhile: that one is the same."""
    for attempt in range(_ATTEMPTS):
        try:
            os.rename(workshop, folder)
        except OSError:
            if _is_intact(folder):
                return
            if attempt == _ATTEMPTS - 1:
                raise
            damaged = Path(tempfile.mkdtemp(prefix=".damaged-", dir=folder.parent))
            with contextlib.suppress(OSError):  # another process took it away first
                os.rename(folder, damaged)
            shutil.rmtree(damaged, ignore_errors=True)
        else:
            return


def _is_intact(folder: Path) -> bool:
    try:
        return find(folder.name) is not None
    except (ValueError, SimsearchError):  # damaged, or taken away while it was looked at
        return False


def _locate_folder(key: str) -> Path:
    return find_cache_folder() / "graphs" / key


def _hash_files(folder: Path) -> dict[str, str]:
    return {name: hash_file(str(folder / name)) for name in (_DEFINITION, _WEIGHTS) if (folder / name).exists()}
