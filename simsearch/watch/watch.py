"""Watch sources: index, wait until something changed and settled, index again, until the user stops it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn

from simsearch.errors import CollectionBusy, CollectionError, SimsearchError, SourceError
from simsearch.images.decode import compute_default_max_pixels
from simsearch.ingest.plan import check_has_picture
from simsearch.sources.scan import Skip, scan_sources
from simsearch.watch.changes import ChangeWatcher
from simsearch.watch.filesystems import check_sources

if TYPE_CHECKING:
    from simsearch.ingest.run import IngestReport

_MAX_SETTLE_FACTOR = 10
"""A source that never settles delays a run by at most this many settle times, or durations of the last run."""

_BUSY_RETRY_S, _MAX_BUSY_RETRY_S = 0.5, 30.0
_FAILURE_RETRY_S, _MAX_FAILURE_RETRY_S = 5.0, 600.0
"""Seconds until the next try: the first value, doubled after each failure up to the second value."""


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """How long a source must be unchanged before it is indexed, and how often sources are polled, in seconds.

    With `poll_s` None the system's change notifications are used, and sources without them are polled every ten
    seconds.
    """

    settle_s: float = 2.0
    poll_s: float | None = None


@dataclass(frozen=True, slots=True)
class WatchUpdate:
    """A run that changed something, or the first run.

    `n_added` counts the files that are new to the collection, including moved ones; None in the first run, where it
    is unknown. `new_skips` are the skips that the previous run did not have.
    """

    report: IngestReport
    n_added: int | None
    new_skips: tuple[Skip, ...]


@dataclass(frozen=True, slots=True)
class WatchListener:
    """Callbacks of a watch: for every update, and for every message to the user."""

    on_update: Callable[[WatchUpdate], None]
    on_message: Callable[[str], None]


IngestSources = Callable[[Sequence[str]], "IngestReport"]
"""Ingests some sources into the collection: those that contain pictures now."""

DEFAULT_WATCH_SETTINGS: Final = WatchSettings()


def watch(
    collection: str,
    sources: Sequence[str],
    ingest_sources: IngestSources,
    listener: WatchListener,
    *,
    settings: WatchSettings = DEFAULT_WATCH_SETTINGS,
) -> NoReturn:
    """Keep `collection` current with `sources` until `KeyboardInterrupt`.

    A first run indexes what changed before the watch began. A source that is missing, or contains no picture any
    more, may have been unmounted: the collection keeps its pictures. A failed run is repeated with growing pauses,
    and its problem is reported once. Only before the first success does an error such as an unavailable model end
    the watch.

    Raises `UsageError`, `SourceError` when a source does not exist at the start, or the error of the first run.
    """
    check_sources(sources)
    with contextlib.closing(ChangeWatcher(sources, collection, listener.on_message, poll_s=settings.poll_s)) as watcher:
        loop = _WatchLoop(sources, ingest_sources, listener, watcher)
        loop.run_first()
        while True:
            loop.run_next(settings.settle_s)


class _WatchLoop:
    """The runs of a watch: which sources exist, what the last run reported, and when to retry after a failure."""

    def __init__(
        self, sources: Sequence[str], ingest_sources: IngestSources, listener: WatchListener, watcher: ChangeWatcher
    ) -> None:
        self._sources, self._ingest_sources = list(sources), ingest_sources
        self._listener, self._watcher = listener, watcher
        self._last_report: IngestReport | None = None
        self._run_s = 0.0
        self._absent: set[str] = set()
        self._n_failures = 0
        self._last_problem = ""
        self._retry_s: float | None = None

    def run_first(self) -> None:
        """Ingest for the first time. Raises every error that a retry cannot fix."""
        try:
            report = self._ingest()
        except CollectionBusy as error:
            self._schedule_retry(error, error.problem)
            return
        self._publish_update(report)

    def run_next(self, settle_s: float) -> None:
        """Wait for a change or the time of a retry, wait until the sources settle, and ingest."""
        report: IngestReport | None = None
        try:
            self._watcher.wait(self._retry_s)
            self._wait_until_settled(settle_s)
            report = self._ingest()
        except CollectionError as error:
            self._schedule_retry(error, error.problem)
        except SimsearchError as error:
            if self._last_report is None:  # no run has succeeded yet: the options may be wrong
                raise
            self._schedule_retry(error, error.message)
        except Exception as error:  # a process that runs for weeks survives a defect in one run, and reports it
            self._schedule_retry(error, f"a run ended unexpectedly ({type(error).__name__}: {error})")
        self._publish_update(report)

    def _wait_until_settled(self, settle_s: float) -> None:
        """Wait until the sources are unchanged for a while, with a limit: one busy file must not block the others."""
        until = time.monotonic() + _MAX_SETTLE_FACTOR * max(settle_s, self._run_s)
        while not self._watcher.is_quiet_for(settle_s) and time.monotonic() < until:
            pass

    def _ingest(self) -> IngestReport | None:
        """Ingest the sources that exist; None where there is none."""
        present = [source for source in self._sources if self._has_pictures(source)]
        if not present:
            return None
        started = time.monotonic()
        try:
            report = self._ingest_sources(present)
        except SourceError as error:
            self._mark_absent(error.source if error.source in present else present[0], error)
            return None
        self._run_s = time.monotonic() - started
        self._mark_recovered(present)
        return report

    def _has_pictures(self, source: str) -> bool:
        """Return whether a source contains a picture; for a single source the ingest itself checks this."""
        if len(self._sources) == 1:
            return True
        try:
            check_has_picture(scan_sources([source]), [source], compute_default_max_pixels())
        except SourceError as error:
            self._mark_absent(source, error)
            return False
        return True

    def _mark_absent(self, source: str, error: SourceError) -> None:
        self._retry_s, self._n_failures = None, 0  # the watcher notices when the source exists again
        if source not in self._absent:
            self._absent.add(source)
            self._watcher.forget_state(source)
            self._listener.on_message(f"{error.problem}; the collection keeps its pictures, and the watch continues")

    def _mark_recovered(self, present: Sequence[str]) -> None:
        for source in self._absent.intersection(present):
            self._listener.on_message(f"{source} is available again")
        self._absent -= set(present)
        if self._last_problem:
            self._listener.on_message("indexing again")
        self._last_problem, self._retry_s, self._n_failures = "", None, 0

    def _schedule_retry(self, error: Exception, problem: str) -> None:
        """Set the time of the next try, and report a new problem once."""
        is_busy = isinstance(error, CollectionBusy)
        first_s = _BUSY_RETRY_S if is_busy else _FAILURE_RETRY_S
        longest_s = _MAX_BUSY_RETRY_S if is_busy else _MAX_FAILURE_RETRY_S
        self._retry_s = min(longest_s, first_s * 2 ** min(self._n_failures, 20))
        self._n_failures += 1
        if problem != self._last_problem:
            self._last_problem = problem
            self._listener.on_message(f"{problem}; the watch continues and tries again")

    def _publish_update(self, report: IngestReport | None) -> None:
        if report is None:
            return
        last, self._last_report = self._last_report, report
        if last is None:
            self._listener.on_update(WatchUpdate(report, None, report.skips))
            return
        known = set(last.skips)
        new_skips = tuple(skip for skip in report.skips if skip not in known)
        changes = (report.n_embedded, report.n_gone, report.n_files - last.n_files, new_skips)
        if any(changes):
            n_added = max(0, report.n_files - last.n_files + report.n_gone)
            self._listener.on_update(WatchUpdate(report, n_added, new_skips))
