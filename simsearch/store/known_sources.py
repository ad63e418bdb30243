"""The sources that were indexed into a collection, and whether a folder that is empty now is one of them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from simsearch.sources.addresses import canonicalize_address, canonicalize_path, is_below, is_remote
from simsearch.store.catalog import Catalog
from simsearch.store.settings import SOURCES
from simsearch.store.writer import CatalogWriter

STDIN_SOURCE = "-"


def is_at_or_below(file: str, source: str) -> bool:
    """Whether a file is a source, or lies below it; both are canonical."""
    return file == source or (
        is_below(file, source) if is_remote(source) else file.startswith(os.path.join(source, ""))
    )


@dataclass(frozen=True, slots=True)
class FolderIdentity:
    """What tells a folder from another one under the same path: its inode, and whether a disk is mounted there."""

    inode: int
    is_mount: bool


def canonicalize_source(source: str) -> str:
    """Make one spelling of a source: an absolute path without links, or a canonical address."""
    if is_remote(source):
        return canonicalize_address(source)
    return os.path.realpath(source) if os.path.isdir(source) else canonicalize_path(source)


def identify_folder(folder: str) -> FolderIdentity | None:
    """Read the identity of a folder; None for anything else."""
    try:
        if not os.path.isdir(folder):
            return None
        return FolderIdentity(os.stat(folder).st_ino, os.path.ismount(folder))
    except OSError:
        return None


def read_sources(catalog: Catalog) -> dict[str, FolderIdentity | None]:
    """Read the sources of a collection, the first indexed first; none in a collection of an older simsearch."""
    try:
        stored = json.loads(catalog.read_setting(SOURCES) or "{}")
        return {path: None if facts is None else FolderIdentity(*facts) for path, facts in stored.items()}
    except (ValueError, TypeError, AttributeError):  # damaged: as if it were not known
        return {}


def remember_sources(writer: CatalogWriter, sources: Sequence[str]) -> None:
    """Add sources that were indexed; a folder that is empty now keeps the identity that it had.

    A folder that is not there any more, and of which the collection has no file, is forgotten.
    """
    known = read_sources(writer)
    before = dict(known)
    for source in sources:
        if source != STDIN_SOURCE:
            path = canonicalize_source(source)
            known[path] = None if is_remote(path) else _identify_filled_folder(path, known)
    for path in _list_missing_folders(known):
        if not any(is_at_or_below(file, path) for file in writer.iterate_paths()):
            del known[path]
    if known != before:
        writer.write_setting(SOURCES, _to_json(known))


def find_other_source(catalog: Catalog, source: str) -> str | None:
    """The first source of a collection, where `source` is none of them; None where it is one, or none is known.

    A folder to which one of them was moved is that source: the former folder is not there, and more than half of its
    files are in the other, with the same name and size. In a collection of an older simsearch, which does not know its
    sources, a file below the source counts.
    """
    path, known = canonicalize_source(source), read_sources(catalog)
    if path in known:
        return None
    if known:
        is_moved = any(_is_moved(catalog, former, path) for former in _list_missing_folders(known))
        return None if is_moved else next(iter(known))
    first = next(catalog.iterate_paths(), None)
    if first is None or any(is_at_or_below(file, path) for file in catalog.iterate_paths()):
        return None
    return first if is_remote(first) else os.path.dirname(first)


def find_moved_files(catalog: Catalog, source: str) -> dict[str, list[str]]:
    """Find the files of folders that are not there any more which are now in the folder `source`.

    They have the same name below the folder, and the same size. The result has their former paths by former folder.
    """
    path = canonicalize_source(source)
    if not os.path.isdir(path):
        return {}
    found = {former: _list_moved(catalog, former, path) for former in list_missing_folders(catalog)}
    return {former: files for former, files in found.items() if files}


def list_missing_folders(catalog: Catalog) -> list[str]:
    """List the folders that were indexed into a collection and are not there now."""
    return _list_missing_folders(read_sources(catalog))


def _list_missing_folders(known: Mapping[str, FolderIdentity | None]) -> list[str]:
    return [path for path, facts in known.items() if facts is not None and not os.path.lexists(path)]


def _is_moved(catalog: Catalog, former: str, current: str) -> bool:
    n_files = sum(is_at_or_below(file, former) for file in catalog.iterate_paths())
    return n_files > 0 and len(_list_moved(catalog, former, current)) > n_files / 2


def _list_moved(catalog: Catalog, former: str, current: str) -> list[str]:
    files = [file for file in catalog.iterate_paths() if is_at_or_below(file, former)]
    sizes = {file: known.size_bytes for file, known in catalog.find_known_files(files, 0).items()}
    return [file for file in files if _read_size(current + file.removeprefix(former)) == sizes[file]]


def _read_size(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except OSError:
        return None


def is_emptied_folder(catalog: Catalog, source: str) -> bool:
    """Whether a source without pictures is the very folder that was indexed: its pictures were deleted.

    An empty folder in its place, such as the mount point of a disk that is not mounted, is not.
    """
    if is_remote(source):
        return False
    path = canonicalize_source(source)
    known = read_sources(catalog).get(path)
    return known is not None and known == identify_folder(path)


def _identify_filled_folder(path: str, known: Mapping[str, FolderIdentity | None]) -> FolderIdentity | None:
    try:
        is_filled = os.path.isdir(path) and bool(os.listdir(path))
    except OSError:
        is_filled = False
    return identify_folder(path) if is_filled else known.get(path)


def _to_json(sources: Mapping[str, FolderIdentity | None]) -> str:
    return json.dumps({path: facts and [facts.inode, facts.is_mount] for path, facts in sources.items()})
