"""Many files read and worked on at once: as many from elsewhere as hide the network's delay, as many decoded as there
are processors."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Self, TypeVar

from simsearch.machine import count_cores
from simsearch.sources.addresses import is_remote
from simsearch.sources.remote import N_READERS
from simsearch.sources.retry import set_stop_event
from simsearch.sources.scan import FoundFile

R = TypeVar("R")
T = TypeVar("T")

_MAX_BYTES_HELD = 256_000_000


def choose_n_threads(paths: Iterable[str]) -> int:
    """How many threads may each read such files and make something small of them: some wait for a network."""
    return N_READERS if any(map(is_remote, paths)) else count_cores()


class ConcurrentReader:
    """Threads that read and threads that work on what was read.

    A file of this machine is read by the thread that works on it: a disk has no delay worth a second thread. What lies
    elsewhere is read by one of 32 others, which hands it on and waits, so that at most so many contents, and of those
    whose size was told 256 MB or one, are held at a time. To be closed by `with`: what was not begun is dropped.
    """

    def __init__(self, n_workers: int | None = None, n_readers: int = N_READERS) -> None:
        """`n_workers` is the number of processors where it is None."""
        self._stop = threading.Event()
        self._workers = ThreadPoolExecutor(n_workers or count_cores(), thread_name_prefix="decode")
        self._readers = ThreadPoolExecutor(
            n_readers, thread_name_prefix="read", initializer=set_stop_event, initargs=(self._stop,)
        )
        self._bytes_released = threading.Condition()
        self._n_bytes_held = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for pool in (self._readers, self._workers):
            pool.shutdown(wait=False, cancel_futures=True)
        for pool in (self._readers, self._workers):
            pool.shutdown()

    def submit(self, file: FoundFile, read: Callable[[], R], work: Callable[[R], T]) -> Future[T]:
        """Have a file read, and what `read` returns worked on."""
        if is_remote(file.path):
            return self._readers.submit(self._read_then_work, file.size_bytes, read, work)
        return self._workers.submit(lambda: work(read()))

    def _read_then_work(self, size_bytes: int, read: Callable[[], R], work: Callable[[R], T]) -> T:
        with self._reserve_bytes(size_bytes):
            return self._workers.submit(work, read()).result()

    @contextmanager
    def _reserve_bytes(self, n_bytes: int) -> Iterator[None]:
        """Wait until there is room for so many bytes; a content larger than all of it comes when it is alone."""
        with self._bytes_released:
            self._bytes_released.wait_for(
                lambda: not self._n_bytes_held or self._n_bytes_held + n_bytes <= _MAX_BYTES_HELD
            )
            self._n_bytes_held += n_bytes
        try:
            yield
        finally:
            with self._bytes_released:
                self._n_bytes_held -= n_bytes
                self._bytes_released.notify_all()
