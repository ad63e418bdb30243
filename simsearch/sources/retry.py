"""Retries of requests to object stores and web servers; their results and errors."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from simsearch.errors import ImageError, UnreadableFile

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RemoteState:
    """The metadata of a remote object. `size_bytes` and `mtime_ns` are 0 where the server does not report them."""

    size_bytes: int
    mtime_ns: int
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class RemoteContent:
    """The content of a remote object, whole or its first bytes, and the state of the object at the time of the read."""

    data: bytes
    state: RemoteState


class RemoteNotFound(UnreadableFile):
    """Nothing exists at the address."""


class AccessDenied(UnreadableFile):
    """The credentials do not allow access; the object may exist."""


class TemporaryFailure(UnreadableFile):
    """The server is overloaded, failing or unreachable; a retry may succeed.

    `retry_after_s` is the pause that the server requests before the next attempt.
    """

    def __init__(self, path: str, problem: str, advice: str, retry_after_s: float = 0.0) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(path, problem, advice)


class RemoteTooLarge(ImageError):
    """The object is larger than allowed; it was not read, or only in part."""

    def __init__(self, path: str, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        super().__init__(path, f"the file has {size_bytes / 1e6:.1f} MB", "use a smaller picture")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The number of attempts of a request, and the pauses between them.

    Ten attempts with about 12 s of pauses: if half of all requests fail, one object in a thousand fails ten times in a
    row, and the next run tries it again. Pauses double; each is drawn from the upper half of its range, so that many
    readers do not retry at the same moment.
    """

    max_attempts: int = 10
    first_pause_s: float = 0.1
    max_pause_s: float = 3.0
    max_retry_after_s: float = 30.0
    max_total_s: float = 120.0

    def compute_pause_s(self, n_failed: int, retry_after_s: float) -> float:
        """The pause after `n_failed` failures; at least the `retry_after_s` that the server requests, up to a limit."""
        doubled = min(self.max_pause_s, self.first_pause_s * 2.0 ** (n_failed - 1))
        return max(doubled * random.uniform(0.5, 1), min(retry_after_s, self.max_retry_after_s))


_MAX_CONSECUTIVE_FAILURES = 20
"""After so many requests in a row that failed, the server counts as down, and a request has one attempt only."""

_thread_local = threading.local()


def set_stop_event(stop: threading.Event) -> None:
    """Make requests of this thread stop retrying once `stop` is set."""
    _thread_local.stop = stop


class _Patience:
    """How long the requests of a thread may wait for servers, and the servers that have failed meanwhile."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.failures: dict[Retrier, TemporaryFailure] = {}


@contextmanager
def limit_patience(seconds: float) -> Iterator[None]:
    """Give up on a server of which a request of this thread has waited for so long; later requests to it fail at once.

    For pictures that somebody waits for, and that are not necessary. Within another such block its limit holds.
    """
    with _set_patience(_find_patience() or _Patience(seconds)):
        yield


def keep_patience(request: Callable[P, T]) -> Callable[P, T]:
    """Return a function that waits, in any thread, as requests of this thread do now (see `limit_patience`)."""
    patience = _find_patience()

    def run(*arguments: P.args, **options: P.kwargs) -> T:
        with _set_patience(patience):
            return request(*arguments, **options)

    return run


@contextmanager
def _set_patience(patience: _Patience | None) -> Iterator[None]:
    before, _thread_local.patience = _find_patience(), patience
    try:
        yield
    finally:
        _thread_local.patience = before


def limit_timeout(timeout_s: float) -> float:
    """The time that one request of this thread may take: `timeout_s`, or less within `limit_patience`."""
    patience = _find_patience()
    return timeout_s if patience is None else min(timeout_s, patience.seconds)


def _find_patience() -> _Patience | None:
    return getattr(_thread_local, "patience", None)


class Retrier:
    """Retry requests to one server. While it is down, a request has one attempt: a run ends in minutes, not in days."""

    def __init__(self, policy: RetryPolicy | None = None) -> None:
        self._policy = policy or RetryPolicy()
        self._n_consecutive_failures = 0

    def __call__(self, attempt: Callable[[], T]) -> T:
        """Call `attempt` until it succeeds; return its result. Retries `TemporaryFailure` only; raises the last one."""
        patience = _find_patience()
        if patience is not None and self in patience.failures:
            raise patience.failures[self]
        deadline = time.monotonic() + limit_timeout(self._policy.max_total_s)
        n_failed = 0
        while True:
            try:
                found = attempt()
            except TemporaryFailure as failure:
                n_failed += 1
                pause_s = self._policy.compute_pause_s(n_failed, failure.retry_after_s)
                if not self._can_retry(n_failed, deadline - pause_s) or _wait_or_stop(pause_s):
                    self._n_consecutive_failures += 1
                    counted = self._add_attempt_count(failure, n_failed)
                    if patience is not None:
                        patience.failures[self] = counted
                    raise counted from failure
            else:
                self._n_consecutive_failures = 0
                return found

    def _can_retry(self, n_failed: int, until: float) -> bool:
        return (
            n_failed < self._policy.max_attempts
            and self._n_consecutive_failures < _MAX_CONSECUTIVE_FAILURES
            and time.monotonic() < until
        )

    @staticmethod
    def _add_attempt_count(failure: TemporaryFailure, n_failed: int) -> TemporaryFailure:
        how_often = f" ({n_failed} times)" if n_failed > 1 else ""
        return TemporaryFailure(failure.path, f"{failure.problem}{how_often}", failure.advice)


def _wait_or_stop(pause_s: float) -> bool:
    """Wait; return True at once when the stop event is set."""
    stop: threading.Event = getattr(_thread_local, "stop", _NEVER_STOPPED)
    return stop.wait(pause_s)


_NEVER_STOPPED = threading.Event()
