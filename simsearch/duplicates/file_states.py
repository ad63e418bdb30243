"""The files of an image as they are on the disk now: which names are one file, and which files are gone or changed.

A symbolic link and its target, and names with the same device and inode (hard links), are one file. Removing such a
name frees nothing, or loses the picture behind it.
"""

from __future__ import annotations

import os
from collections.abc import Hashable
from dataclasses import dataclass

from simsearch.sources.addresses import is_remote
from simsearch.store.snapshot import StoredFile


@dataclass(frozen=True, slots=True)
class FileState:
    """A file of an image that is unchanged since it was indexed.

    Files with the same `identity` are one file. `target` is the real path behind a symbolic link, of the file or of a
    folder above it; empty where there is none. `n_hard_links` counts the names of the file on its disk, those outside
    the collection included.
    """

    file: StoredFile
    identity: Hashable
    target: str = ""
    n_hard_links: int = 1

    @property
    def path(self) -> str:
        """The path or address in the catalog."""
        return self.file.path


def read_file_state(file: StoredFile) -> FileState | None:
    """Read the state of a file; None if it is missing, unreadable, or changed in size or time since it was indexed.

    A remote file is not looked up; its address is its identity.
    """
    if is_remote(file.path):
        return FileState(file, file.path)
    try:
        status = os.stat(file.path)
    except (OSError, ValueError):
        return None
    if (status.st_size, status.st_mtime_ns) != (file.size_bytes, file.mtime_ns):
        return None
    real_path = os.path.realpath(file.path)
    identity = (status.st_dev, status.st_ino) if status.st_ino else real_path  # 0: a file system without inodes
    return FileState(file, identity, "" if real_path == file.path else real_path, max(1, status.st_nlink))
