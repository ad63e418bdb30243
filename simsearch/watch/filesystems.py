"""Where sources lie, and whether the system tells of changes there."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from simsearch.errors import SourceError, UsageError
from simsearch.sources.addresses import is_remote
from simsearch.sources.scan import LIST_EXTENSIONS

_MOUNTS = Path("/proc/self/mounts")

_SHARED_FILESYSTEMS = frozenset(
    (
        *("nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "ncpfs", "afs", "coda", "davfs"),  # network shares
        *("9p", "drvfs", "virtiofs", "vboxsf", "vmhgfs", "prl_fs", "prl_fs_frame"),  # a folder of the host's
        *("ceph", "glusterfs", "lustre", "gpfs", "beegfs", "orangefs", "pvfs2", "gfs2", "ocfs2"),  # clusters
    )
)
"""File systems, as /proc/mounts names them, that others change without this kernel's knowing."""

_LOCAL_FUSE = "fuseblk"
"""NTFS and exFAT on a disk of this machine. Every other `fuse` may be a door to somewhere else."""


def check_sources(sources: Sequence[str]) -> None:
    """See that the sources can be watched: all are there, and none is a list on stdin.

    Raises `UsageError`, `SourceError`.
    """
    if "-" in sources:
        problem = "a list on stdin ends, and there is nothing to watch then"
        raise UsageError(problem, "write the list into a .txt file and name that")
    for source in sources:
        if not (is_remote(source) or os.path.lexists(source)):
            raise SourceError(source, f"{source} does not exist", "check the path")


def explain_polling(source: str) -> str | None:
    """Why nobody would tell of changes at a source, so that it must be looked at; None where somebody does."""
    if is_remote(source):
        return "nobody tells of changes there"
    if os.path.splitext(source)[1].lower() in LIST_EXTENSIONS and os.path.isfile(source):
        return "what a list names may lie anywhere"
    if sys.platform == "win32":
        return "a network drive tells of no changes" if source.startswith("\\\\") else None
    try:
        mounts = _MOUNTS.read_text(errors="surrogateescape")
    except OSError:  # no Linux: what the system does not tell, the look that always follows after a while sees
        return None
    kind = find_filesystem(os.path.realpath(source), mounts)
    return f"{kind} tells of no changes" if is_shared_filesystem(kind) else None


def find_filesystem(path: str, mounts: str) -> str:
    """The type of the file system that a canonical path lies on, by a text in the form of /proc/mounts."""
    kind, longest = "", -1
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        place = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[1]).rstrip("/")
        if len(place) >= longest and (path == place or path.startswith(f"{place}/")):  # of equals the last is on top
            kind, longest = fields[2], len(place)
    return kind


def is_shared_filesystem(kind: str) -> bool:
    """Whether others may change what lies on a file system of that type."""
    return kind in _SHARED_FILESYSTEMS or (kind.startswith("fuse") and kind != _LOCAL_FUSE)
