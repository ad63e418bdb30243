"""The lock for writing to a collection: one process at a time, released by the system when a process ends."""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import sys
import time
from pathlib import Path

from simsearch.store.sqlite_errors import make_busy_error, make_no_locks_error, make_not_writable_error

LOCK_NAME = "catalog.lock"

_MAX_ATTEMPTS = 5
_PATIENCE_S = 0.1
"""How long a held lock is tried again. A process that is killed while it starts another one leaves the lock to that one
until it runs its program: of 150 kills 5 did, for up to 8 ms."""
_PAUSE_S = 0.002

_HELD = frozenset({errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK, errno.EDEADLK})
_UNSUPPORTED = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL})


class CollectionLock:
    """The lock for writing, held until `release`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        """Release the lock; the file stays."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def acquire_lock(folder: Path) -> CollectionLock:
    """Acquire the lock for writing to the collection in `folder`; the caller releases it.

    A run that creates a collection and reads no picture deletes the lock file, too. A lock on a deleted file excludes
    no process: it is released, and acquired again on the current file.

    Raises `CollectionBusy` when another process holds it, `CollectionNotWritable`.
    """
    file = folder / LOCK_NAME
    for _ in range(_MAX_ATTEMPTS):
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_NONBLOCK", 0), 0o644)
        except OSError as error:
            raise make_not_writable_error(folder, error.strerror or str(error)) from error
        try:
            _lock_patiently(descriptor)
            if _is_file_at(descriptor, file):
                return CollectionLock(descriptor)
        except OSError as error:
            os.close(descriptor)
            if error.errno in _HELD:
                raise make_busy_error(folder) from error
            raise make_no_locks_error(folder, error.strerror or str(error)) from error
        os.close(descriptor)
    raise make_busy_error(folder)


def _lock_patiently(descriptor: int) -> None:
    """As `_lock_file`, and again for a moment where it is locked."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return _lock_file(descriptor)
        except OSError as error:
            if error.errno not in _HELD or time.monotonic() > deadline:
                raise
        time.sleep(_PAUSE_S)


def _is_file_at(descriptor: int, file: Path) -> bool:
    """Whether an open file is still the one at its path."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), os.stat(file))
    return False


if sys.platform == "win32":
    import msvcrt

    def _lock_file(descriptor: int) -> None:
        """Lock an open file until it is closed. Raises `OSError`, with an errno of `_HELD` where it is locked."""
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock_file(descriptor: int) -> None:
        """Lock an open file until it is closed. Raises `OSError`, with an errno of `_HELD` where it is locked.

        Some network and FUSE file systems have no `flock`, but the locks of open file descriptions. They are not lost
        when the process closes another descriptor of the file, as the older locks of POSIX are.
        """
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _UNSUPPORTED or sys.platform != "linux":
                raise
            whole_file = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)  # struct flock
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, whole_file)
