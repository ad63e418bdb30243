"""Cache of converted and of compiled graphs in the user's cache folder: written atomically, verified by digest."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import xxhash

from simsearch.errors import SimsearchError
from simsearch.files import replace_file
from simsearch.models.weights import find_cache_folder, hash_file

_ATTEMPTS = 20
_DIGEST_SIZE = xxhash.xxh3_128().digest_size
_DEFINITION, _WEIGHTS, _DIGESTS = "graph.xml", "graph.bin", "seal.json"


def find(key: str) -> Path | None:
    """Find the definition file of the graph stored under `key`; None where there is none.

    Raises `ValueError` when the stored graph is damaged.
    """
    folder = _locate_folder(key)
    if not folder.is_dir():
        return None
    try:
        stored = json.loads((folder / _DIGESTS).read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder} has no readable {_DIGESTS}") from error
    if stored != _hash_files(folder):
        raise ValueError(f"the files in {folder} differ from their digests")
    return folder / _DEFINITION


def keep(key: str, save: Callable[[Path], None]) -> Path:
    """Store a graph: `save` writes it to the path of a definition file. Replaces a damaged one.

    Raises `OSError` when the cache cannot be written.
    """
    folder = _locate_folder(key)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".graph-", dir=folder.parent))
    try:
        save(temporary / _DEFINITION)
        (temporary / _DIGESTS).write_text(json.dumps(_hash_files(temporary)), encoding="ascii")
        _move(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder / _DEFINITION


def find_compiled(key: str) -> bytes | None:
    """Find the compiled graph stored under `key`; None where there is none, or it is damaged."""
    try:
        stored = _locate_compiled(key).read_bytes()
    except OSError:
        return None
    digest, compiled = stored[:_DIGEST_SIZE], stored[_DIGEST_SIZE:]
    return compiled if digest == xxhash.xxh3_128_digest(compiled) else None


def keep_compiled(key: str, compiled: bytes) -> None:
    """Store a compiled graph, in place of an earlier one.

    Raises `OSError` when the cache cannot be written.
    """
    file = _locate_compiled(key)
    file.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(file) as temporary:
        temporary.write_bytes(xxhash.xxh3_128_digest(compiled) + compiled)


def _move(temporary: Path, folder: Path) -> None:
    """Move a new graph into place. An intact graph that another process stored first is the same, and stays."""
    for attempt in range(_ATTEMPTS):
        try:
            os.rename(temporary, folder)
        except OSError:
            if _is_intact(folder):
                return
            if attempt == _ATTEMPTS - 1:
                raise
            damaged = Path(tempfile.mkdtemp(prefix=".damaged-", dir=folder.parent))
            with contextlib.suppress(OSError):  # another process moved it away first
                os.rename(folder, damaged)
            shutil.rmtree(damaged, ignore_errors=True)
        else:
            return


def _is_intact(folder: Path) -> bool:
    try:
        return find(folder.name) is not None
    except (ValueError, SimsearchError):  # damaged, or removed while it was read
        return False


def _locate_folder(key: str) -> Path:
    return find_cache_folder() / "graphs" / key


def _locate_compiled(key: str) -> Path:
    return find_cache_folder() / "compiled" / key


def _hash_files(folder: Path) -> dict[str, str]:
    return {name: hash_file(str(folder / name)) for name in (_DEFINITION, _WEIGHTS) if (folder / name).exists()}
