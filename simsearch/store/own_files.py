"""The files of a collection's folder that simsearch made, by exact name. Nothing else in the folder is deleted."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from simsearch.store.connection import SHARDS_NAME
from simsearch.store.lock import LOCK_NAME
from simsearch.store.sqlite_errors import CATALOG_NAME

CATALOG_LOGS = tuple(f"{CATALOG_NAME}{suffix}" for suffix in ("-wal", "-shm", "-journal"))
"""The files that SQLite keeps beside a catalog while it is open, or after a killed process."""

_SHARD_FOLDER = re.compile(r".+-[0-9a-f]{16}")
_SHARD_FILE = re.compile(r"block-\d{6,}(-\d+)?\.parquet|\.shard-[0-9a-f]{16}\.parquet")


def find_foreign_entry(folder: Path) -> str | None:
    """Find the name of an entry of `folder` that simsearch did not make; None where all entries are its own.

    Its own are the files that a run leaves when it is killed while it creates a collection.
    """
    if not folder.is_dir():
        return None
    has_catalog = _is_plain_file(folder / CATALOG_NAME)
    for entry in sorted(folder.iterdir()):
        is_own = (
            (entry.name == CATALOG_NAME and has_catalog)
            or (entry.name in CATALOG_LOGS and has_catalog and _is_plain_file(entry))
            or (entry.name == LOCK_NAME and _is_plain_file(entry) and entry.stat().st_size == 0)
            or (entry.name == SHARDS_NAME and _holds_only_shards(entry))
        )
        if not is_own:
            return entry.name
    return None


def delete_catalog(folder: Path) -> None:
    """Delete the files of a closed catalog, and the shards beside it. Raises `OSError`."""
    delete_shards(folder)
    for name in (*CATALOG_LOGS, CATALOG_NAME):
        (folder / name).unlink(missing_ok=True)


def delete_shards(folder: Path) -> None:
    """Delete the shards in `folder` that killed runs on a cluster left, and the folders that are empty then."""
    shards = folder / SHARDS_NAME
    for place in _list_shard_folders(shards):
        for file in place.iterdir():
            if _is_shard(file):
                with contextlib.suppress(OSError):
                    file.unlink()
        with contextlib.suppress(OSError):  # other files are in it
            place.rmdir()
    with contextlib.suppress(OSError):  # other files are in it, or the folder does not exist
        shards.rmdir()


def _holds_only_shards(shards: Path) -> bool:
    if shards.is_symlink() or not shards.is_dir():
        return False
    places = list(_list_shard_folders(shards))
    return len(places) == len(list(shards.iterdir())) and all(
        _is_shard(file) for place in places for file in place.iterdir()
    )


def _list_shard_folders(shards: Path) -> Iterator[Path]:
    if shards.is_dir() and not shards.is_symlink():
        for place in list(shards.iterdir()):
            if _SHARD_FOLDER.fullmatch(place.name) and place.is_dir() and not place.is_symlink():
                yield place


def _is_shard(file: Path) -> bool:
    return _SHARD_FILE.fullmatch(file.name) is not None and _is_plain_file(file)


def _is_plain_file(file: Path) -> bool:
    return file.is_file() and not file.is_symlink()
