"""Worker threads of the server, with a time limit for stopping them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

T = TypeVar("T")


class WorkerThreads:
    """A thread pool that records its unfinished calls.

    Python cannot stop a thread: where calls are still running after `close`, only the end of the process ends them.
    """

    def __init__(self, name: str, n_threads: int) -> None:
        self._pool = ThreadPoolExecutor(n_threads, thread_name_prefix=name)
        self._unfinished: set[Future[object]] = set()
        self._lock = threading.Lock()

    @property
    def n_unfinished(self) -> int:
        """The number of calls that run or wait."""
        return len(self._unfinished)

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Schedule a function."""
        future = self._pool.submit(work)
        with self._lock:
            self._unfinished.add(future)  # type: ignore[arg-type]  # only whether it is done matters here
        future.add_done_callback(self._forget)
        return future

    def close(self, end: float) -> bool:
        """Drop waiting calls, and wait for running ones until the time `end` of `time.monotonic()`.

        Returns whether all calls have finished.
        """
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            unfinished = set(self._unfinished)
        running = wait(unfinished, max(0.0, end - time.monotonic())).not_done
        if not running:
            self._pool.shutdown()
        return not running

    def _forget(self, future: Future[T]) -> None:
        with self._lock, contextlib.suppress(KeyError):
            self._unfinished.remove(future)  # type: ignore[arg-type]
