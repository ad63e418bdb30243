"""Change notifications of the operating system for folders. The only module that imports watchfiles."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Generator, Sequence
from pathlib import Path

from watchfiles import Change
from watchfiles import watch as watch_folders

_DEBOUNCE_MS = 200
"""Changes are delivered when a step passed without a new one, and at the latest after this time."""

_STEP_MS = 50

_WAIT_MS = 100
"""The longest time in one call of watchfiles, so that `ChangeNotifications.wait` can end on time."""

_LIMIT_MESSAGE = "watch limit reached"
"""Part of the error text of watchfiles when inotify has no watch left; the type of the error depends on its version."""

_WATCHER_ERRORS = (OSError, RuntimeError)
"""watchfiles documents no error type of its own: it raises an `OSError` where the system refuses, and a subclass of
`RuntimeError` for every other failure of its native part."""


class NotificationsUnavailable(Exception):
    """The system cannot send change notifications; the text gives the reason and the remedy."""


class ChangeNotifications:
    """Changes in some folders and everything below them, from construction until `close`.

    Symbolic links to folders are followed as they were at construction. Raises `NotificationsUnavailable`, and
    `FileNotFoundError` when a folder disappeared in the meantime.
    """

    def __init__(self, folders: Sequence[str]) -> None:
        self._pending: set[str] = set()
        self._changes = self._start(list(folders))

    def wait(self, timeout_s: float) -> set[str] | None:
        """Return the changed paths as soon as there are some.

        The set is empty after `timeout_s` seconds without a change. None means that no further notification will
        come.
        """
        until = time.monotonic() + timeout_s
        paths, self._pending = self._pending, set()
        while not paths:
            try:
                changes = next(self._changes)
            except (StopIteration, *_WATCHER_ERRORS):  # ended for good, for example after a name that is not UTF-8
                return None
            paths = {path for _, path in changes}
            if time.monotonic() >= until:
                break
        return paths

    def close(self) -> None:
        """Stop listening."""
        self._changes.close()

    def _start(self, folders: list[str]) -> Generator[set[tuple[Change, str]], None, None]:
        # With ignore_permission_denied, watchfiles 1.3 ignores every error, also that of an exhausted limit. It is
        # therefore only set after a folder was found to be unreadable.
        try:
            try:
                return self._open(folders, ignores_unreadable=False)
            except PermissionError:
                return self._open(folders, ignores_unreadable=True)
        except _WATCHER_ERRORS as error:
            if isinstance(error, FileNotFoundError) and _LIMIT_MESSAGE not in str(error):
                raise
            raise NotificationsUnavailable(_explain_refusal(str(error))) from error

    def _open(self, folders: list[str], *, ignores_unreadable: bool) -> Generator[set[tuple[Change, str]], None, None]:
        """Begin to listen. The generator of watchfiles opens the watches at its first step, which is taken here."""
        changes = watch_folders(
            *folders,
            watch_filter=None,
            debounce=_DEBOUNCE_MS,
            step=_STEP_MS,
            rust_timeout=_WAIT_MS,
            yield_on_timeout=True,
            debug=False,
            force_polling=False,
            ignore_permission_denied=ignores_unreadable,
        )
        self._pending = {path for _, path in next(changes)}
        return changes


def _explain_refusal(text: str) -> str:
    if _LIMIT_MESSAGE in text or os.strerror(errno.ENOSPC) in text:
        return f"the system has no folder watches left ({_read_limit('max_user_watches')}; raise it)"
    if os.strerror(errno.EMFILE) in text:
        return f"the system has no watcher instances left ({_read_limit('max_user_instances')}; raise it)"
    return f"the system cannot send change notifications ({text})"


def _read_limit(name: str) -> str:
    try:
        return f"sysctl fs.inotify.{name} is {Path('/proc/sys/fs/inotify', name).read_text().strip()}"
    except OSError:
        return f"sysctl fs.inotify.{name}"
