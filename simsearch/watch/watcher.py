"""Seeing that something changed at some sources: by being told, and by looking where nobody tells."""

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
"""How often a source is looked at of whose changes nobody tells, unless the user says."""

_IDENTITY_CHECK_S = 1.0
"""How often it is seen whether a source is still the same folder: nobody tells of one that is mounted or replaced."""

_SAFETY_POLL_S = 600.0
"""How often a source is looked at although its changes are told: of many changes at once some are not."""

_POLL_REST_FACTOR = 10
"""Looking takes at most one part in so many of the time."""

_UNKNOWN: Final = object()

_SourceIdentity = tuple[int, ...] | None
_FILE_IDENTITY_LENGTH = 4


class ChangeWatcher:
    """Watches sources from its making on. What lies in the collection's own folder is no change.

    With `poll_s` every source is looked at that often, and nobody is asked to tell.
    """

    def __init__(
        self, sources: Sequence[str], collection: str, tell: Callable[[str], None], *, poll_s: float | None = None
    ) -> None:
        self._poll_s, self._report = poll_s, tell
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
        """Watch no more."""
        if self._notifications is not None:
            self._notifications.close()

    def wait(self, timeout_s: float | None = None) -> None:
        """Return when something may have changed, or after the time."""
        until = float("inf") if timeout_s is None else time.monotonic() + timeout_s
        while (left := until - time.monotonic()) > 0:
            if self._has_notified_change(min(left, self._identity_check_s)) or self._has_polled_change():
                return

    def is_quiet_for(self, for_s: float) -> bool:
        """Whether nothing changes for so long; what nobody tells of is looked at when it has passed."""
        until = time.monotonic() + for_s
        while (left := until - time.monotonic()) > 0:
            if self._has_notified_change(min(left, self._identity_check_s)):
                return False
        return not any(look.poll() for look in self._polled)

    def forget_state(self, source: str) -> None:
        """Take whatever is seen next at a source for a change: what was seen last came to nothing."""
        self._pollers[source].forget_state()

    def _rebuild_watches(self) -> None:
        """Find out anew which sources are told of, and which are to be looked at."""
        self._identities = {
            source: _read_identity(source) for source in self._pollers if self._has_notifications(source)
        }
        self._folders = sorted({os.path.realpath(source) for source in self._identities if os.path.isdir(source)})
        old, self._notifications = self._notifications, None
        try:
            self._notifications = ChangeNotifications(self._folders) if self._folders else None
        except NotificationsUnavailable as refusal:
            self._report_once(f"{refusal}: looking every {self._interval_s:g} s")
            self._identities = {}
        except FileNotFoundError:  # the next glance sees that it is gone, or there again
            self._identities = dict.fromkeys(self._identities, (0,))
        if old is not None:
            old.close()
        self._polled = [look for source, look in self._pollers.items() if source not in self._identities]
        for source, look in self._pollers.items():
            look.start(
                _SAFETY_POLL_S if source in self._identities else self._interval_s,
                is_polled=source not in self._identities,
            )

    def _has_notifications(self, source: str) -> bool:
        if self._poll_s is not None:
            return False
        if reason := explain_polling(source):
            self._report_once(f"{source}: {reason}: looking every {self._interval_s:g} s")
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
            self._rebuild_watches()  # a link to a folder is followed from now on
            return True
        return self._has_replaced_source() or any(self._is_relevant(path) for path in paths)

    def _is_relevant(self, path: str) -> bool:
        """Whether a scan would come by there."""
        place = os.path.join(path, "")
        if place.startswith(self._collection_folder) or self._collection_folder.startswith(
            place
        ):  # or a folder that was made for it
            return False
        ways = [path[len(folder) :] for folder in self._folders if path.startswith(folder)]
        return any(not any(name.startswith(".") for name in way.split(os.sep)) for way in ways)

    def _has_replaced_source(self) -> bool:
        """Whether a source went, came, or became another one."""
        before, self._identities = self._identities, {source: _read_identity(source) for source in self._identities}
        changed = [source for source, mark in self._identities.items() if mark != before[source]]
        if any(not (_is_file(before[source]) and _is_file(self._identities[source])) for source in changed):
            self._rebuild_watches()
        return bool(changed)

    def _has_polled_change(self) -> bool:
        return any(look.poll() for look in self._pollers.values() if look.is_due)


class _SourcePoller:
    """What was last seen at one source, and when to look again."""

    def __init__(self, source: str, own: str) -> None:
        self._source, self._collection_folder = source, own
        self._last_state: object = _UNKNOWN
        self._interval_s = _SAFETY_POLL_S
        self._due = 0.0

    @property
    def is_due(self) -> bool:
        return time.monotonic() >= self._due

    def start(self, every_s: float, *, is_polled: bool) -> None:
        """Look that often from now on; what is polled is seen now, as nobody tells of what changes until then."""
        self._interval_s = every_s
        if is_polled:
            self.poll()
        self._due = time.monotonic() + every_s  # however long it took: the first look loads what it needs, too

    def forget_state(self) -> None:
        self._last_state = _UNKNOWN

    def poll(self) -> bool:
        """Look; whether there is anything else than the last time."""
        started = time.monotonic()
        before, self._last_state = self._last_state, self._scan_state()
        ended = time.monotonic()
        rest_s = (
            0.0 if self._last_state is None else _POLL_REST_FACTOR * (ended - started)
        )  # what is out of reach is soon asked again
        self._due = ended + max(self._interval_s, rest_s)
        return self._last_state != before

    def _scan_state(self) -> int | None:
        """A number that is the same as long as a scan finds the same; None where there is nothing to scan."""
        try:
            found = scan_sources([self._source])
        except SimsearchError:
            return None
        files = tuple(file for file in found.files if not file.path.startswith(self._collection_folder))
        return hash((files, tuple(found.skips)))


def _is_file(mark: _SourceIdentity) -> bool:
    return mark is not None and len(mark) == _FILE_IDENTITY_LENGTH


def _read_identity(source: str) -> _SourceIdentity:
    """What tells one folder from another that takes its place, and a file from a changed one; None where it is gone."""
    try:
        status = os.stat(source)
    except OSError:
        return None
    if stat.S_ISDIR(status.st_mode):
        return (status.st_dev, status.st_ino)
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
