"""Converted and compiled graphs that are kept between runs of the tests, in a folder of their own."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import shutil
import time
from pathlib import Path

import platformdirs

import simsearch

VARIABLE = "SIMSEARCH_TEST_GRAPHS"
"""Environment variable with the folder; by default it is in the user's cache. Empty: nothing is kept."""

_PACKAGES = ("openvino", "tensorflow", "keras", "numpy")
_CACHES = ("graphs", "compiled")
_MAX_AGE_S = 14 * 24 * 3600


def share_graphs(cache: Path) -> None:
    """Let the graph caches in `cache`, a new and empty folder, be ones that all workers and later runs share.

    The shared folder is named by a digest of the package's sources and the versions of what converts: after a change to
    one of them every graph is converted and compiled again. The names of compiled graphs tell the processor, too. Where
    the folder cannot be written, graphs are kept for this run only.
    """
    root = _find_root()
    if root is None:
        return
    with contextlib.suppress(OSError):
        _remove_old_folders(root)
        folder = root / _hash_sources()
        for name in _CACHES:
            (folder / name).mkdir(parents=True, exist_ok=True)
            (cache / name).symlink_to(folder / name, target_is_directory=True)
        os.utime(folder)  # used now


def _find_root() -> Path | None:
    wanted = os.environ.get(VARIABLE)
    if wanted is not None:
        return Path(wanted) if wanted else None
    return platformdirs.user_cache_path("simsearch-tests") / "graphs"


def _hash_sources() -> str:
    models = Path(simsearch.__file__).parent / "models"
    digest = hashlib.sha256()
    for name in _PACKAGES:
        digest.update(f"{name} {importlib.metadata.version(name)}\n".encode())
    for file in sorted(models.rglob("*.py")):
        digest.update(f"{file.relative_to(models)}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def _remove_old_folders(root: Path) -> None:
    """Remove the graphs of other sources that no run has used for two weeks, and single graphs older than that."""
    oldest = time.time() - _MAX_AGE_S
    for place in [*root.glob("*"), *root.glob("*/*/*")]:
        with contextlib.suppress(OSError):  # another run removed it
            if place.stat().st_mtime < oldest:
                shutil.rmtree(place) if place.is_dir() else place.unlink()
