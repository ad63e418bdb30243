"""Time spent in each stage of an ingest run."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")

_STAGES = ("read", "decode", "hash", "augment", "embed", "write", "index", "wait_decode", "wait_embed", "wait_write")


class StageClock:
    """Busy seconds of each stage, summed over threads, and seconds that one stage waited for another (`wait_...`)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.seconds = dict.fromkeys(_STAGES, 0.0)

    @contextlib.contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the time spent inside the context to a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - started)

    def add(self, stage: str, seconds: float) -> None:
        """Add seconds to a stage; threads may call it at the same time."""
        with self._lock:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def wait_for(self, future: Future[T], stage: str) -> T:
        """Return the result of a future, and add the time spent waiting to a stage. Raises what the future raises."""
        with self.measure(stage):
            return future.result()
