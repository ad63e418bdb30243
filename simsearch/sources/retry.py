"""What a store or a server answers, how it fails, and asking it again when that may help."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from simsearch.errors import ImageError, Unreadable

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class State:
    """What a store says of a content without sending it. `mtime_ns` is 0 where it does not say."""

    size_bytes: int
    mtime_ns: int
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes, whole or only the first of them, and the state of the whole as it was when they were sent."""

    data: bytes
    state: State


class Missing(Unreadable):
    """There is nothing at that address."""


class Denied(Unreadable):
    """It may be there, but not for whoever asks."""


class Passing(Unreadable):
    """The store is busy, broken or out of reach: the same question may be answered in a moment.

    `after_s` is how long it wishes to be left alone.
    """

    def __init__(self, path: str, problem: str, advice: str, after_s: float = 0.0) -> None:
        self.after_s = after_s
        super().__init__(path, problem, advice)


class TooLarge(ImageError):
    """There is more of it than was allowed; nothing, or not all, was read."""

    def __init__(self, path: str, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        super().__init__(path, f"it has {size_bytes / 1e6:.1f} MB", "save a smaller picture")


def cause_of(error: BaseException) -> str:
    """What a library said, in one line; many say nothing when a connection ends."""
    return " ".join(str(error).split()) or type(error).__name__


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a store is asked the same, and for how long altogether.

    Ten times within a dozen seconds of waiting: where half of all requests fail, one of a thousand objects fails ten
    times in a row, and it is tried again in the next run. Pauses double, and each is drawn from its upper half, so
    that many readers do not come back at the same moment.
    """

    most_attempts: int = 10
    first_pause_s: float = 0.1
    longest_pause_s: float = 3.0
    longest_wish_s: float = 30.0
    most_s: float = 120.0

    def pause_s(self, n_failed: int, after_s: float) -> float:
        """How long to wait after so many failures, when the store wishes to be left alone for `after_s`."""
        doubled = min(self.longest_pause_s, self.first_pause_s * 2.0 ** (n_failed - 1))
        return max(doubled * random.uniform(0.5, 1), min(after_s, self.longest_wish_s))


_N_OUT = 20
"""After so many failures to the last attempt, and no success between them, a store is out: one attempt is enough."""

_own = threading.local()


def heed(stop: threading.Event) -> None:
    """From here on nothing that this thread asks for is asked again after `stop` is set."""
    _own.stop = stop


class Retries:
    """Asks one store again when that may help. While it is out, a run ends in minutes and not in days."""

    def __init__(self, patience: Patience | None = None) -> None:
        self._patience = patience or Patience()
        self._n_lost = 0

    def __call__(self, attempt: Callable[[], T]) -> T:
        """What an attempt returns. Raises what it raises; `Passing` only when it was tried often enough."""
        deadline = time.monotonic() + self._patience.most_s
        n_failed = 0
        while True:
            try:
                found = attempt()
            except Passing as failure:
                n_failed += 1
                pause_s = self._patience.pause_s(n_failed, failure.after_s)
                if not self._goes_on(n_failed, deadline - pause_s) or _waits(pause_s):
                    self._n_lost += 1
                    raise self._told(failure, n_failed) from failure
            else:
                self._n_lost = 0
                return found

    def _goes_on(self, n_failed: int, until: float) -> bool:
        return n_failed < self._patience.most_attempts and self._n_lost < _N_OUT and time.monotonic() < until

    @staticmethod
    def _told(failure: Passing, n_failed: int) -> Passing:
        how_often = f" ({n_failed} times)" if n_failed > 1 else ""
        return Passing(failure.path, f"{failure.problem}{how_often}", failure.advice)


def _waits(pause_s: float) -> bool:
    """Wait, and tell whether it is time to stop instead."""
    stop: threading.Event = getattr(_own, "stop", _NEVER)
    return stop.wait(pause_s)


_NEVER = threading.Event()
