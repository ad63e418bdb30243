"""Comparing index files with their digests, once for each file that a process opens."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

from simsearch.index.files import is_intact

BACKGROUND_LIMIT_BYTES = 512 << 20
"""A file up to this size is compared before it is used, which takes about 0.1 s; a larger one in a thread."""

_MAX_CHECKS = 256
"""How many checks are remembered; the oldest are forgotten."""

_FileState = tuple[int, int, int, int]

_checks: dict[_FileState, FileCheck] = {}
_lock = threading.Lock()


class FileCheck:
    """The comparison of one index file with the digest in its footer."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._is_intact: bool | None = None
        self._done = threading.Event()

    @property
    def is_damaged(self) -> bool:
        """Whether the file is known to be damaged."""
        return self._is_intact is False

    @property
    def notes(self) -> tuple[str, ...]:
        """A note for the user about results from a file that is not compared yet, or is damaged."""
        if self._is_intact:
            return ()
        if self.is_damaged:
            return (f"{self._file.name} is damaged, so results may be wrong; search again, or run `simsearch rebuild`",)
        return (f"{self._file.name} is still being checked for damage; `simsearch verify` waits for the result",)

    def run(self) -> None:
        """Compare the file with its digest."""
        try:
            self.set_result(is_intact=is_intact(self._file))
        except OSError:  # it cannot be read
            self.set_result(is_intact=False)

    def set_result(self, *, is_intact: bool) -> None:
        """Set the result of the comparison."""
        self._is_intact = is_intact
        self._done.set()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the comparison has ended; return whether it has."""
        return self._done.wait(timeout_s)


def check_file(file: Path, background_limit_bytes: int = BACKGROUND_LIMIT_BYTES) -> FileCheck:
    """Return the check of an index file in its present state: a known one, or a new one.

    Files above the limit are compared in a thread. Raises `OSError`.
    """
    status = os.stat(file)
    key = _read_state(status)
    with _lock:
        known = _checks.get(key)
        check = known or _remember(key, FileCheck(file))
    if known is None and status.st_size > background_limit_bytes:
        threading.Thread(target=check.run, name="index-check", daemon=True).start()
    elif known is None:
        check.run()
    elif status.st_size <= background_limit_bytes:
        check.wait()
    return check


def mark_damaged(descriptor: int) -> None:
    """Remember that an open file, in its present state, is damaged. Raises `OSError`."""
    check = FileCheck(Path())
    check.set_result(is_intact=False)
    with _lock:
        _remember(_read_state(os.fstat(descriptor)), check)


def has_known_damage(descriptor: int) -> bool:
    """Whether an open file, in its present state, is known to be damaged; it is not compared. Raises `OSError`."""
    with _lock:
        check = _checks.get(_read_state(os.fstat(descriptor)))
    return check is not None and check.is_damaged


def _read_state(status: os.stat_result) -> _FileState:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _remember(key: _FileState, check: FileCheck) -> FileCheck:
    _checks[key] = check
    while len(_checks) > _MAX_CHECKS:
        del _checks[next(iter(_checks))]
    return check


def check_damage(file: Path, background_limit_bytes: int = BACKGROUND_LIMIT_BYTES) -> FileCheck:
    """Return the check of an index file that is not known to be damaged. Raises `OSError` where it is."""
    check = check_file(file, background_limit_bytes)
    if check.is_damaged:
        raise OSError(errno.EIO, "the content does not match its digest", str(file))
    return check
