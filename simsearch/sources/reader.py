"""Read and process many files in parallel: enough readers to hide the network's delay, one worker per processor."""

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
    """Choose the number of threads that read and process files: more for remote files, which wait for the network."""
    return N_READERS if any(map(is_remote, paths)) else count_cores()


class ConcurrentReader:
    """A pool of threads that read files, and a pool of threads that process them.

    A local file is read by the thread that processes it, because a disk has no delay worth a second thread. A remote
    file is read by one of 32 reader threads, which passes it to a worker and waits for the result. So at most 32
    contents are in memory, and at most 256 MB (or one larger file) of those whose size is known. Use it with `with`;
    on exit, files that were not started are dropped.
    """

    def __init__(self, n_workers: int | None = None, n_readers: int = N_READERS) -> None:
        """`n_workers` None means the number of processors."""
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
        """Schedule `work(read())` for a file."""
        if is_remote(file.path):
            return self._readers.submit(self._read_then_work, file.size_bytes, read, work)
        return self._workers.submit(lambda: work(read()))

    def _read_then_work(self, size_bytes: int, read: Callable[[], R], work: Callable[[R], T]) -> T:
        with self._reserve_bytes(size_bytes):
            return self._workers.submit(work, read()).result()

    @contextmanager
    def _reserve_bytes(self, n_bytes: int) -> Iterator[None]:
        """Wait until so many bytes may be held; a file above the limit waits until no other is held."""
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
