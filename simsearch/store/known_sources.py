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
    """Add sources that were indexed; a folder that is empty now keeps the identity that it had."""
    known = read_sources(writer)
    before = dict(known)
    for source in sources:
        if source != STDIN_SOURCE:
            path = canonicalize_source(source)
            known[path] = None if is_remote(path) else _identify_filled_folder(path, known)
    if known != before:
        writer.write_setting(SOURCES, _to_json(known))


def find_other_source(catalog: Catalog, source: str) -> str | None:
    """The first source of a collection, where `source` is none of them; None where it is one, or none is known.

    In a collection of an older simsearch, which does not know its sources, a file below the source counts.
    """
    path, known = canonicalize_source(source), read_sources(catalog)
    if path in known:
        return None
    if known:
        return next(iter(known))
    first = next(catalog.iterate_paths(), None)
    if first is None or any(is_at_or_below(file, path) for file in catalog.iterate_paths()):
        return None
    return first if is_remote(first) else os.path.dirname(first)


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
