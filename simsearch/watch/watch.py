"""The watch itself: index, wait until something changed and rests again, index, for as long as nobody stops it."""

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
from simsearch.watch.filesystems import check_sources
from simsearch.watch.watcher import ChangeWatcher

if TYPE_CHECKING:
    from simsearch.collection import IngestReport

_MAX_SETTLE_FACTOR = 10
"""A run waits at most so many settle times for a source that never rests, and so many times as long as the last run."""

_BUSY_RETRY_S, _MAX_BUSY_RETRY_S = 0.5, 30.0
_FAILURE_RETRY_S, _MAX_FAILURE_RETRY_S = 5.0, 600.0
"""Seconds until the next try: the first, doubled each time up to the second."""


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """How long a source must rest before it is indexed, and how often it is looked at.

    With `poll_s` None the system tells of changes; only where it cannot are sources looked at, every ten seconds.
    """

    settle_s: float = 2.0
    poll_s: float | None = None


@dataclass(frozen=True, slots=True)
class WatchUpdate:
    """A run that changed something, or the first one.

    `n_added` files are new to the collection, moved ones among them; None in the first run, where it is not known.
    `new_skips` are those that the run before did not have.
    """

    report: IngestReport
    n_added: int | None
    new_skips: tuple[Skip, ...]


@dataclass(frozen=True, slots=True)
class WatchListener:
    """Whom the watch tells: of every turn, and in words of what a person should know."""

    on_update: Callable[[WatchUpdate], None]
    on_message: Callable[[str], None]


IngestSources = Callable[[Sequence[str]], "IngestReport"]
"""An ordinary `Collection.ingest` of some sources, those of them that hold pictures now."""

DEFAULT_WATCH_SETTINGS: Final = WatchSettings()


def watch(
    collection: str,
    sources: Sequence[str],
    run: IngestSources,
    ears: WatchListener,
    *,
    pace: WatchSettings = DEFAULT_WATCH_SETTINGS,
) -> NoReturn:
    """Keep `collection` current with `sources` until `KeyboardInterrupt`.

    What changed before the watch began is caught up by a first run. A source that is gone, or holds no picture any
    more, may have been unmounted: the collection keeps what it has of it. A run that fails is tried again, ever less
    often, and told once; only before the first success may a model that cannot be had, or the like, end the watch.

    Raises `UsageError`, `SourceError` when a source is not there at the start, or what the first run raises.
    """
    check_sources(sources)
    with contextlib.closing(ChangeWatcher(sources, collection, ears.on_message, poll_s=pace.poll_s)) as eyes:
        keeper = _WatchLoop(sources, run, ears, eyes)
        keeper.run_first()
        while True:
            keeper.run_next(pace.settle_s)


class _WatchLoop:
    def __init__(self, sources: Sequence[str], run: IngestSources, ears: WatchListener, eyes: ChangeWatcher) -> None:
        self._sources, self._ingest_sources, self._listener, self._watcher = list(sources), run, ears, eyes
        self._last_report: IngestReport | None = None
        self._run_s = 0.0
        self._absent: set[str] = set()
        self._n_failures = 0
        self._last_problem = ""
        self._retry_s: float | None = None

    def run_first(self) -> None:
        """The first run. Raises what shows that no later one can be better."""
        try:
            report = self._ingest()
        except CollectionBusy as error:
            self._schedule_retry(error, error.problem)
            return
        self._publish_update(report)

    def run_next(self, settle_s: float) -> None:
        """Wait for a change, or the time to try again; let it settle, and index."""
        report: IngestReport | None = None
        try:
            self._watcher.wait(self._retry_s)
            self._wait_until_settled(settle_s)
            report = self._ingest()
        except CollectionError as error:
            self._schedule_retry(error, error.problem)
        except SimsearchError as error:
            if self._last_report is None:  # no run has shown yet that the question is right
                raise
            self._schedule_retry(error, str(error))
        except Exception as error:  # what runs for weeks outlives a mistake of ours in one run, and says so
            self._schedule_retry(error, f"a run ended unexpectedly ({type(error).__name__}: {error})")
        self._publish_update(report)

    def _wait_until_settled(self, settle_s: float) -> None:
        """Wait until the sources rest, but not forever: where one file never does, others want to be found."""
        until = time.monotonic() + _MAX_SETTLE_FACTOR * max(settle_s, self._run_s)
        while not self._watcher.is_quiet_for(settle_s) and time.monotonic() < until:
            pass

    def _ingest(self) -> IngestReport | None:
        """A run over the sources that are there; None where none is."""
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
        """Whether a source holds a picture; of a single one the run itself finds out."""
        if len(self._sources) == 1:
            return True
        try:
            check_has_picture(scan_sources([source]), [source], compute_default_max_pixels())
        except SourceError as error:
            self._mark_absent(source, error)
            return False
        return True

    def _mark_absent(self, source: str, error: SourceError) -> None:
        self._retry_s, self._n_failures = None, 0  # the eyes see when it is back
        if source not in self._absent:
            self._absent.add(source)
            self._watcher.forget_state(source)
            self._listener.on_message(f"{error.problem}; the collection keeps what it has of it, and the watch goes on")

    def _mark_recovered(self, present: Sequence[str]) -> None:
        for source in self._absent.intersection(present):
            self._listener.on_message(f"{source} is there again")
        self._absent -= set(present)
        if self._last_problem:
            self._listener.on_message("indexing again")
        self._last_problem, self._retry_s, self._n_failures = "", None, 0

    def _schedule_retry(self, error: Exception, complaint: str) -> None:
        """Complain once, and say when to try again."""
        first_s, most_s = (
            (_BUSY_RETRY_S, _MAX_BUSY_RETRY_S)
            if isinstance(error, CollectionBusy)
            else (_FAILURE_RETRY_S, _MAX_FAILURE_RETRY_S)
        )
        self._retry_s = min(most_s, first_s * 2 ** min(self._n_failures, 20))
        self._n_failures += 1
        if complaint != self._last_problem:
            self._last_problem = complaint
            self._listener.on_message(f"{complaint}; the watch goes on and tries again")

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
