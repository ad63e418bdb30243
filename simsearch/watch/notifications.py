"""What the system tells of changes in folders. The only import of watchfiles."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from watchfiles._rust_notify import RustNotify, WatchfilesRustInternalError

_DEBOUNCE_MS = 200
"""Changes are handed over when there was none for a step, at the latest after this."""

_STEP_MS = 50

_LIMIT_MESSAGE = "watch limit reached"
"""What the texts of watchfiles' errors say, of one type or another by its version, when inotify has no watch left."""


class NotificationsUnavailable(Exception):
    """The system refuses to tell of changes; the text says why, and what would help."""


class ChangeNotifications:
    """Changes in some folders and in all below them, from the making of this on, until it is closed.

    Links to folders are followed as they were when this was made. Raises `Unheard`, and `FileNotFoundError` when a
    folder went meanwhile.
    """

    def __init__(self, folders: Sequence[str]) -> None:
        self._rust = _open_notifier(list(folders))

    def wait(self, timeout_s: float) -> set[str] | None:
        """The paths that changed, as soon as some did; none after the time; None when nothing is told any more."""
        try:
            changes = self._rust.watch(_DEBOUNCE_MS, _STEP_MS, max(1, round(timeout_s * 1000)), None)
        except WatchfilesRustInternalError:  # for good, as after a name that is no UTF-8
            return None
        if changes == "signal":  # what the handler of the signal raised is swallowed there
            raise KeyboardInterrupt
        return {path for _, path in changes} if isinstance(changes, set) else set()

    def close(self) -> None:
        """Listen no more."""
        self._rust.close()


def _open_notifier(folders: list[str]) -> RustNotify:
    # Told to pass over folders that are closed to us, watchfiles 1.3 passes over every error, the limit's among them.
    try:
        try:
            return _create_notifier(folders, passes_over_closed=False)
        except PermissionError:
            return _create_notifier(folders, passes_over_closed=True)
    except (OSError, WatchfilesRustInternalError) as error:
        if isinstance(error, FileNotFoundError) and _LIMIT_MESSAGE not in str(error):
            raise
        raise NotificationsUnavailable(_explain_refusal(str(error))) from error


def _create_notifier(folders: list[str], *, passes_over_closed: bool) -> RustNotify:
    debug, force_polling, poll_delay_ms, recursive = False, False, 0, True
    return RustNotify(folders, debug, force_polling, poll_delay_ms, recursive, passes_over_closed)


def _explain_refusal(text: str) -> str:
    if _LIMIT_MESSAGE in text or os.strerror(errno.ENOSPC) in text:
        return f"the system watches no more folders ({_read_limit('max_user_watches')}; raise it to be told of changes)"
    if os.strerror(errno.EMFILE) in text:
        return (
            f"the system serves no more watchers ({_read_limit('max_user_instances')}; raise it to be told of changes)"
        )
    return f"the system does not tell of changes ({text})"


def _read_limit(name: str) -> str:
    try:
        return f"sysctl fs.inotify.{name} is {Path('/proc/sys/fs/inotify', name).read_text().strip()}"
    except OSError:
        return f"sysctl fs.inotify.{name}"
