"""Seeing that something changed at some sources: by being told, and by looking where nobody tells."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Sequence
from typing import Final

from simsearch.errors import SimsearchError
from simsearch.sources.scan import scan
from simsearch.watch.filesystems import why_unheard
from simsearch.watch.notifications import Notices, Unheard

POLL_S: Final = 10.0
"""How often a source is looked at of whose changes nobody tells, unless the user says."""

_GLANCE_S = 1.0
"""How often it is seen whether a source is still the same folder: nobody tells of one that is mounted or replaced."""

_SAFETY_S = 600.0
"""How often a source is looked at although its changes are told: of many changes at once some are not."""

_SHARE = 10
"""Looking takes at most one part in so many of the time."""

_UNKNOWN: Final = object()

_Mark = tuple[int, ...] | None
_N_OF_FILE = 4


class Eyes:
    """Watches sources from its making on. What lies in the collection's own folder is no change.

    With `poll_s` every source is looked at that often, and nobody is asked to tell.
    """

    def __init__(
        self, sources: Sequence[str], collection: str, tell: Callable[[str], None], *, poll_s: float | None = None
    ) -> None:
        self._poll_s, self._tell = poll_s, tell
        self._interval_s = POLL_S if poll_s is None else poll_s
        self._glance_s = min(_GLANCE_S, self._interval_s)
        self._own = os.path.join(os.path.realpath(collection), "")
        self._looks = {source: _Look(source, self._own) for source in sources}
        self._said: set[str] = set()
        self._notices: Notices | None = None
        self._polled: list[_Look] = []
        self._marks: dict[str, _Mark] = {}
        self._folders: list[str] = []
        self._open()

    def close(self) -> None:
        """Watch no more."""
        if self._notices is not None:
            self._notices.close()

    def wait(self, timeout_s: float | None = None) -> None:
        """Return when something may have changed, or after the time."""
        until = float("inf") if timeout_s is None else time.monotonic() + timeout_s
        while (left := until - time.monotonic()) > 0:
            if self._is_told_within(min(left, self._glance_s)) or self._has_seen_change():
                return

    def rests(self, for_s: float) -> bool:
        """Whether nothing changes for so long; what nobody tells of is looked at when it has passed."""
        until = time.monotonic() + for_s
        while (left := until - time.monotonic()) > 0:
            if self._is_told_within(min(left, self._glance_s)):
                return False
        return not any(look.differs() for look in self._polled)

    def distrust(self, source: str) -> None:
        """Take whatever is seen next at a source for a change: what was seen last came to nothing."""
        self._looks[source].forget()

    def _open(self) -> None:
        """Find out anew which sources are told of, and which are to be looked at."""
        self._marks = {source: _mark(source) for source in self._looks if self._is_heard(source)}
        self._folders = sorted({os.path.realpath(source) for source in self._marks if os.path.isdir(source)})
        old, self._notices = self._notices, None
        try:
            self._notices = Notices(self._folders) if self._folders else None
        except Unheard as refusal:
            self._say(f"{refusal}: looking every {self._interval_s:g} s")
            self._marks = {}
        except FileNotFoundError:  # the next glance sees that it is gone, or there again
            self._marks = dict.fromkeys(self._marks, (0,))
        if old is not None:
            old.close()
        self._polled = [look for source, look in self._looks.items() if source not in self._marks]
        for source, look in self._looks.items():
            look.begin(_SAFETY_S if source in self._marks else self._interval_s, is_polled=source not in self._marks)

    def _is_heard(self, source: str) -> bool:
        if self._poll_s is not None:
            return False
        if reason := why_unheard(source):
            self._say(f"{source}: {reason}: looking every {self._interval_s:g} s")
        return not reason

    def _say(self, message: str) -> None:
        if message not in self._said:
            self._said.add(message)
            self._tell(message)

    def _is_told_within(self, timeout_s: float) -> bool:
        if self._notices is None:
            time.sleep(timeout_s)
            paths: set[str] | None = set()
        else:
            paths = self._notices.wait(timeout_s)
        if paths is None or any(os.path.islink(path) and os.path.isdir(path) for path in paths):
            self._open()  # a link to a folder is followed from now on
            return True
        return self._has_other_marks() or any(self._is_of_interest(path) for path in paths)

    def _is_of_interest(self, path: str) -> bool:
        """Whether a scan would come by there."""
        place = os.path.join(path, "")
        if place.startswith(self._own) or self._own.startswith(place):  # or a folder that was made for it
            return False
        ways = [path[len(folder) :] for folder in self._folders if path.startswith(folder)]
        return any(not any(name.startswith(".") for name in way.split(os.sep)) for way in ways)

    def _has_other_marks(self) -> bool:
        """Whether a source went, came, or became another one."""
        before, self._marks = self._marks, {source: _mark(source) for source in self._marks}
        changed = [source for source, mark in self._marks.items() if mark != before[source]]
        if any(not (_is_file(before[source]) and _is_file(self._marks[source])) for source in changed):
            self._open()
        return bool(changed)

    def _has_seen_change(self) -> bool:
        return any(look.differs() for look in self._looks.values() if look.is_due)


class _Look:
    """What was last seen at one source, and when to look again."""

    def __init__(self, source: str, own: str) -> None:
        self._source, self._own = source, own
        self._seen: object = _UNKNOWN
        self._every_s = _SAFETY_S
        self._due = 0.0

    @property
    def is_due(self) -> bool:
        return time.monotonic() >= self._due

    def begin(self, every_s: float, *, is_polled: bool) -> None:
        """Look that often from now on; what is polled is seen now, as nobody tells of what changes until then."""
        self._every_s = every_s
        if is_polled:
            self.differs()
        self._due = time.monotonic() + every_s  # however long it took: the first look loads what it needs, too

    def forget(self) -> None:
        self._seen = _UNKNOWN

    def differs(self) -> bool:
        """Look; whether there is anything else than the last time."""
        started = time.monotonic()
        before, self._seen = self._seen, self._state()
        ended = time.monotonic()
        rest_s = 0.0 if self._seen is None else _SHARE * (ended - started)  # what is out of reach is soon asked again
        self._due = ended + max(self._every_s, rest_s)
        return self._seen != before

    def _state(self) -> int | None:
        """A number that is the same as long as a scan finds the same; None where there is nothing to scan."""
        try:
            found = scan([self._source])
        except SimsearchError:
            return None
        files = tuple(file for file in found.files if not file.path.startswith(self._own))
        return hash((files, tuple(found.skips)))


def _is_file(mark: _Mark) -> bool:
    return mark is not None and len(mark) == _N_OF_FILE


def _mark(source: str) -> _Mark:
    """What tells one folder from another that takes its place, and a file from a changed one; None where it is gone."""
    try:
        status = os.stat(source)
    except OSError:
        return None
    if stat.S_ISDIR(status.st_mode):
        return (status.st_dev, status.st_ino)
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
