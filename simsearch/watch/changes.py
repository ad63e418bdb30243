"""Detect changes at sources: by notifications of the system, and by polling where there are none."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Sequence
from typing import Final

from simsearch.errors import SimsearchError
from simsearch.sources.scan import scan_sources
from simsearch.watch.filesystems import explain_polling
from simsearch.watch.notifications import ChangeNotifications, NotificationsUnavailable

DEFAULT_POLL_S: Final = 10.0
"""Seconds between two polls of a source without notifications, unless the user gives another interval."""

_IDENTITY_CHECK_S = 1.0
"""Seconds between two checks that a source is still the same folder: mounting or replacing one is not notified."""

_SAFETY_POLL_S = 600.0
"""Seconds between two polls of a source with notifications: some are lost when many changes happen at once."""

_POLL_REST_FACTOR = 10
"""After a poll, the pause is at least this many times as long as the poll took."""

_UNKNOWN: Final = object()

_SourceIdentity = tuple[int, ...] | None
_FILE_IDENTITY_LENGTH = 4


class ChangeWatcher:
    """Detects changes at sources from construction on. The collection's own folder is ignored.

    With `poll_s` every source is polled at this interval, and no notifications are used. `report` receives messages
    for the user.
    """

    def __init__(
        self, sources: Sequence[str], collection: str, report: Callable[[str], None], *, poll_s: float | None = None
    ) -> None:
        self._poll_s, self._report = poll_s, report
        self._interval_s = DEFAULT_POLL_S if poll_s is None else poll_s
        self._identity_check_s = min(_IDENTITY_CHECK_S, self._interval_s)
        self._collection_folder = os.path.join(os.path.realpath(collection), "")
        self._pollers = {source: _SourcePoller(source, self._collection_folder) for source in sources}
        self._reported: set[str] = set()
        self._notifications: ChangeNotifications | None = None
        self._polled: list[_SourcePoller] = []
        self._identities: dict[str, _SourceIdentity] = {}
        self._folders: list[str] = []
        self._rebuild_watches()

    def close(self) -> None:
        """Stop watching."""
        if self._notifications is not None:
            self._notifications.close()

    def wait(self, timeout_s: float | None = None) -> None:
        """Block until something may have changed, or `timeout_s` seconds have passed."""
        until = float("inf") if timeout_s is None else time.monotonic() + timeout_s
        while (left := until - time.monotonic()) > 0:
            if self._has_notified_change(min(left, self._identity_check_s)) or self._has_polled_change():
                return

    def is_quiet_for(self, duration_s: float) -> bool:
        """Block for `duration_s` seconds and return whether nothing changed; polled sources are checked at the end."""
        until = time.monotonic() + duration_s
        while (left := until - time.monotonic()) > 0:
            if self._has_notified_change(min(left, self._identity_check_s)):
                return False
        return not any(poller.poll() for poller in self._polled)

    def forget_state(self, source: str) -> None:
        """Count the next successful poll of a source as a change, because the last state could not be indexed."""
        self._pollers[source].forget_state()

    def _rebuild_watches(self) -> None:
        """Decide again which sources have notifications and which must be polled."""
        self._identities = {
            source: _read_identity(source) for source in self._pollers if self._has_notifications(source)
        }
        self._folders = sorted({os.path.realpath(source) for source in self._identities if os.path.isdir(source)})
        old, self._notifications = self._notifications, None
        try:
            self._notifications = ChangeNotifications(self._folders) if self._folders else None
        except NotificationsUnavailable as refusal:
            self._report_once(f"{refusal}: polling every {self._interval_s:g} s")
            self._identities = {}
        except FileNotFoundError:  # the next identity check finds that it is missing, or exists again
            self._identities = dict.fromkeys(self._identities, (0,))
        if old is not None:
            old.close()
        self._polled = [poller for source, poller in self._pollers.items() if source not in self._identities]
        for source, poller in self._pollers.items():
            is_polled = source not in self._identities
            poller.start(self._interval_s if is_polled else _SAFETY_POLL_S, is_polled=is_polled)

    def _has_notifications(self, source: str) -> bool:
        if self._poll_s is not None:
            return False
        if reason := explain_polling(source):
            self._report_once(f"{source}: {reason}: polling every {self._interval_s:g} s")
        return not reason

    def _report_once(self, message: str) -> None:
        if message not in self._reported:
            self._reported.add(message)
            self._report(message)

    def _has_notified_change(self, timeout_s: float) -> bool:
        if self._notifications is None:
            time.sleep(timeout_s)
            paths: set[str] | None = set()
        else:
            paths = self._notifications.wait(timeout_s)
        if paths is None or any(os.path.islink(path) and os.path.isdir(path) for path in paths):
            self._rebuild_watches()  # follows new links to folders from now on
            return True
        return self._has_replaced_source() or any(self._is_relevant(path) for path in paths)

    def _is_relevant(self, path: str) -> bool:
        """Return whether a scan would visit this path."""
        prefix = os.path.join(path, "")
        if prefix.startswith(self._collection_folder):
            return False
        if self._collection_folder.startswith(prefix):  # a folder that was created for the collection
            return False
        relative = [path[len(folder) :] for folder in self._folders if path.startswith(folder)]
        return any(not any(name.startswith(".") for name in below.split(os.sep)) for below in relative)

    def _has_replaced_source(self) -> bool:
        """Return whether a source disappeared, appeared, or was replaced."""
        before, self._identities = self._identities, {source: _read_identity(source) for source in self._identities}
        changed = [source for source, identity in self._identities.items() if identity != before[source]]
        if any(not (_is_file(before[source]) and _is_file(self._identities[source])) for source in changed):
            self._rebuild_watches()
        return bool(changed)

    def _has_polled_change(self) -> bool:
        return any(poller.poll() for poller in self._pollers.values() if poller.is_due)


class _SourcePoller:
    """The last known state of one source, and the time of the next poll."""

    def __init__(self, source: str, collection_folder: str) -> None:
        self._source, self._collection_folder = source, collection_folder
        self._last_state: object = _UNKNOWN
        self._interval_s = _SAFETY_POLL_S
        self._due = 0.0

    @property
    def is_due(self) -> bool:
        return time.monotonic() >= self._due

    def start(self, interval_s: float, *, is_polled: bool) -> None:
        """Poll at this interval from now on.

        A polled source is scanned at once: nothing else would notice a change before the first interval ends.
        """
        self._interval_s = interval_s
        if is_polled:
            self.poll()
        self._due = time.monotonic() + interval_s  # however long it took: the first scan also loads its libraries

    def forget_state(self) -> None:
        """Forget the last state, so that the next one counts as a change."""
        self._last_state = _UNKNOWN

    def poll(self) -> bool:
        """Scan the source and return whether its state differs from the last one."""
        started = time.monotonic()
        before, self._last_state = self._last_state, self._scan_state()
        ended = time.monotonic()
        is_reachable = self._last_state is not None  # an unreachable source is polled again without a longer pause
        pause_s = _POLL_REST_FACTOR * (ended - started) if is_reachable else 0.0
        self._due = ended + max(self._interval_s, pause_s)
        return self._last_state != before

    def _scan_state(self) -> int | None:
        """Return a number that stays the same while a scan finds the same; None where the source cannot be scanned."""
        try:
            found = scan_sources([self._source])
        except SimsearchError:
            return None
        files = tuple(file for file in found.files if not file.path.startswith(self._collection_folder))
        return hash((files, tuple(found.skips)))


def _is_file(identity: _SourceIdentity) -> bool:
    return identity is not None and len(identity) == _FILE_IDENTITY_LENGTH


def _read_identity(source: str) -> _SourceIdentity:
    """Return numbers that differ after a folder was replaced or a file was changed; None where it does not exist."""
    try:
        status = os.stat(source)
    except OSError:
        return None
    if stat.S_ISDIR(status.st_mode):
        return (status.st_dev, status.st_ino)
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
