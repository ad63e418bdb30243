"""What a store or a server answers, how it fails, and asking it again when that may help."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from simsearch.errors import ImageError, UnreadableFile

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RemoteState:
    """What a store says of a content without sending it. `mtime_ns` is 0 where it does not say."""

    size_bytes: int
    mtime_ns: int
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class RemoteContent:
    """Bytes, whole or only the first of them, and the state of the whole as it was when they were sent."""

    data: bytes
    state: RemoteState


class RemoteNotFound(UnreadableFile):
    """There is nothing at that address."""


class AccessDenied(UnreadableFile):
    """It may be there, but not for whoever asks."""


class TemporaryFailure(UnreadableFile):
    """The store is busy, broken or out of reach: the same question may be answered in a moment.

    `after_s` is how long it wishes to be left alone.
    """

    def __init__(self, path: str, problem: str, advice: str, after_s: float = 0.0) -> None:
        self.retry_after_s = after_s
        super().__init__(path, problem, advice)


class RemoteTooLarge(ImageError):
    """There is more of it than was allowed; nothing, or not all, was read."""

    def __init__(self, path: str, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        super().__init__(path, f"it has {size_bytes / 1e6:.1f} MB", "save a smaller picture")


def summarize_error(error: BaseException) -> str:
    """What a library said, in one line; many say nothing when a connection ends."""
    return " ".join(str(error).split()) or type(error).__name__


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a store is asked the same, and for how long altogether.

    Ten times within a dozen seconds of waiting: where half of all requests fail, one of a thousand objects fails ten
    times in a row, and it is tried again in the next run. Pauses double, and each is drawn from its upper half, so
    that many readers do not come back at the same moment.
    """

    max_attempts: int = 10
    first_pause_s: float = 0.1
    max_pause_s: float = 3.0
    max_retry_after_s: float = 30.0
    max_total_s: float = 120.0

    def compute_pause_s(self, n_failed: int, after_s: float) -> float:
        """How long to wait after so many failures, when the store wishes to be left alone for `after_s`."""
        doubled = min(self.max_pause_s, self.first_pause_s * 2.0 ** (n_failed - 1))
        return max(doubled * random.uniform(0.5, 1), min(after_s, self.max_retry_after_s))


_MAX_CONSECUTIVE_FAILURES = 20
"""After so many failures to the last attempt, and no success between them, a store is out: one attempt is enough."""

_thread_local = threading.local()


def set_stop_event(stop: threading.Event) -> None:
    """From here on nothing that this thread asks for is asked again after `stop` is set."""
    _thread_local.stop = stop


class Retrier:
    """Asks one store again when that may help. While it is out, a run ends in minutes and not in days."""

    def __init__(self, policy: RetryPolicy | None = None) -> None:
        self._policy = policy or RetryPolicy()
        self._n_consecutive_failures = 0

    def __call__(self, attempt: Callable[[], T]) -> T:
        """What an attempt returns. Raises what it raises; `Passing` only when it was tried often enough."""
        deadline = time.monotonic() + self._policy.max_total_s
        n_failed = 0
        while True:
            try:
                found = attempt()
            except TemporaryFailure as failure:
                n_failed += 1
                pause_s = self._policy.compute_pause_s(n_failed, failure.retry_after_s)
                if not self._can_retry(n_failed, deadline - pause_s) or _wait_or_stop(pause_s):
                    self._n_consecutive_failures += 1
                    raise self._add_attempt_count(failure, n_failed) from failure
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
    """Wait, and tell whether it is time to stop instead."""
    stop: threading.Event = getattr(_thread_local, "stop", _NEVER_STOPPED)
    return stop.wait(pause_s)


_NEVER_STOPPED = threading.Event()
