"""Converted graphs in the user's cache: written whole or not at all, used only while they are what was written."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from simsearch.models.weights import cache_folder, digest_of_file

_DEFINITION, _WEIGHTS, _SEAL = "graph.xml", "graph.bin", "seal.json"


def find(key: str) -> Path | None:
    """The definition of the graph kept under `key`, or None where there is none.

    Raises `ValueError` when what is there is damaged.
    """
    folder = _folder(key)
    if not folder.is_dir():
        return None
    try:
        sealed = json.loads((folder / _SEAL).read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder} has no readable seal") from error
    if sealed != _seal(folder):
        raise ValueError(f"{folder} is not what was written")
    return folder / _DEFINITION


def keep(key: str, save: Callable[[Path], None]) -> Path:
    """Keep the graph that `save` writes to a definition's path; a damaged or older one gives way.

    Raises `OSError` when the cache cannot be written to.
    """
    folder = _folder(key)
    folder.parent.mkdir(parents=True, exist_ok=True)
    workshop = Path(tempfile.mkdtemp(prefix=".graph-", dir=folder.parent))
    try:
        save(workshop / _DEFINITION)
        (workshop / _SEAL).write_text(json.dumps(_seal(workshop)), encoding="ascii")
        if folder.exists():
            shutil.rmtree(folder, ignore_errors=True)
        try:
            os.replace(workshop, folder)
        except OSError:
            if not folder.is_dir():  # else another process was first: its graph is the same
                raise
    finally:
        shutil.rmtree(workshop, ignore_errors=True)
    return folder / _DEFINITION


def _folder(key: str) -> Path:
    return cache_folder() / "graphs" / key


def _seal(folder: Path) -> dict[str, str]:
    return {name: digest_of_file(str(folder / name)) for name in (_DEFINITION, _WEIGHTS) if (folder / name).exists()}
