"""Which files of a source are indexed, by patterns of names and paths."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Sequence
from dataclasses import dataclass

from simsearch.sources.addresses import is_below, is_remote


@dataclass(frozen=True, slots=True)
class PathFilter:
    """Patterns with `*`, `?` and `[...]`, as in a shell.

    A pattern without a slash is compared with the name of the file and of every folder between it and its source; one
    with a slash with the whole path below the source. Without `include` all files are wanted but those of `exclude`.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether it leaves out nothing."""
        return not (self.include or self.exclude)

    def accepts(self, path: str, folders: Sequence[str]) -> bool:
        """Whether a file is wanted; `folders` are the sources that were listed."""
        inner = _find_inner_path(path, folders)
        if any(_matches(inner, pattern, with_folders=True) for pattern in self.exclude):
            return False
        return not self.include or any(_matches(inner, pattern, with_folders=False) for pattern in self.include)


def _find_inner_path(path: str, folders: Sequence[str]) -> str:
    """The path below the longest of the folders that hold it; the name of a file that is a source itself."""
    holding = [folder for folder in folders if _is_in(path, folder)]
    if not holding:
        return path.rstrip("/").rsplit("/", 1)[-1]
    return path[len(max(holding, key=len)) :].lstrip("/" + os.sep)


def _is_in(path: str, folder: str) -> bool:
    return is_below(path, folder) if is_remote(folder) else path.startswith(os.path.join(folder, ""))


def _matches(inner: str, pattern: str, *, with_folders: bool) -> bool:
    if "/" in pattern.rstrip("/"):
        return fnmatch.fnmatchcase(inner, pattern.strip("/"))
    names = inner.replace(os.sep, "/").split("/")
    return any(fnmatch.fnmatchcase(name, pattern.rstrip("/")) for name in (names if with_folders else names[-1:]))
