"""File systems of sources, and whether the system sends change notifications for them."""

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
        *("9p", "drvfs", "virtiofs", "vboxsf", "vmhgfs", "prl_fs", "prl_fs_frame"),  # folders of a virtual host
        *("ceph", "glusterfs", "lustre", "gpfs", "beegfs", "orangefs", "pvfs2", "gfs2", "ocfs2"),  # clusters
    )
)
"""File system types, as in /proc/mounts, that other machines can change without a notification by this kernel."""

_LOCAL_FUSE = "fuseblk"
"""NTFS and exFAT on a local disk. Every other `fuse` type may be remote."""


def check_sources(sources: Sequence[str]) -> None:
    """Check that all sources exist and none is a list on stdin.

    Raises `UsageError`, `SourceError`.
    """
    if "-" in sources:
        problem = "cannot watch a list on stdin: it is read once"
        raise UsageError(problem, "write the list to a .txt file and give its name")
    for source in sources:
        if not (is_remote(source) or os.path.lexists(source)):
            raise SourceError(source, f"{source} does not exist", "check the path")


def explain_polling(source: str) -> str | None:
    """Return the reason why a source must be polled, or None where the system sends change notifications."""
    if is_remote(source):
        return "object stores and web addresses send no change notifications"
    if os.path.splitext(source)[1].lower() in LIST_EXTENSIONS and os.path.isfile(source):
        return "the paths in a list file can be anywhere"
    if sys.platform == "win32":
        return "a network drive sends no change notifications" if source.startswith("\\\\") else None
    try:
        mounts = _MOUNTS.read_text(errors="surrogateescape")
    except OSError:  # not Linux: the safety poll of every source finds what is not notified
        return None
    kind = find_filesystem(os.path.realpath(source), mounts)
    return f"{kind} sends no change notifications" if is_shared_filesystem(kind) else None


def find_filesystem(path: str, mounts: str) -> str:
    """Return the file system type of a canonical path, given a text in the format of /proc/mounts."""
    kind, longest = "", -1
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        mount_point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[1]).rstrip("/")
        is_below = path == mount_point or path.startswith(f"{mount_point}/")
        if is_below and len(mount_point) >= longest:  # of equal mount points the last one is on top
            kind, longest = fields[2], len(mount_point)
    return kind


def is_shared_filesystem(kind: str) -> bool:
    """Return whether other machines can change files on a file system of this type."""
    return kind in _SHARED_FILESYSTEMS or (kind.startswith("fuse") and kind != _LOCAL_FUSE)
