"""What the collections of a server share: threads, decoding processes, loaded models, caches and metrics."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from simsearch.errors import SimsearchError
from simsearch.images.isolation import DecodingProcesses
from simsearch.images.thumbnails import ThumbnailCache
from simsearch.models.text.encoder import TextEncoder
from simsearch.web.batching import SharedEmbedders
from simsearch.web.metrics import ServerMetrics
from simsearch.web.settings import ServerSettings
from simsearch.web.threads import WorkerThreads
from simsearch.web.uploads import UploadCache

T = TypeVar("T")

RETRY_AFTER_S = 1
CLOSE_GRACE_S = 2.0  # together with the grace of requests, less than the 10 s that service managers allow
_LOOKUP_THREADS = 2  # more threads would only compete for the GIL
_IMAGE_THREADS = 2
_MAX_WAITING_IMAGES = 512  # one page requests dozens of thumbnails at once
_FETCH_THREADS, _MAX_WAITING_FETCHES = 4, 8


class ServerBusy(SimsearchError):
    """The queue is full. The client can retry after `RETRY_AFTER_S` seconds."""


class RequestTimedOut(SimsearchError):
    """A request was not answered within its time limit."""


class BoundedPool:
    """A thread pool for one kind of work, with a limit on the number of waiting calls."""

    def __init__(self, name: str, n_threads: int, max_waiting: int) -> None:
        self._threads = WorkerThreads(name, n_threads)
        self._capacity = n_threads + max_waiting
        self._n_pending = 0
        self._lock = threading.Lock()

    @property
    def n_pending(self) -> int:
        """The number of calls that run or wait."""
        return self._n_pending

    async def run(self, work: Callable[[], T], timeout_s: float) -> T:
        """Run a function in a thread and return its result.

        Raises `ServerBusy` at once if the queue is full, `RequestTimedOut` if the result takes too long.
        """
        with self._lock:
            if self._n_pending >= self._capacity:
                raise ServerBusy("the server is overloaded", f"try again in {RETRY_AFTER_S} s")
            self._n_pending += 1
        future = self._threads.submit(work)
        future.add_done_callback(self._release_slot)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), timeout_s)
        except TimeoutError as error:
            raise RequestTimedOut(
                f"the request took longer than {timeout_s:g} s", "request fewer results, or try again later"
            ) from error

    def _release_slot(self, _: Future[Any]) -> None:
        with self._lock:
            self._n_pending -= 1

    def close(self, end: float) -> bool:
        """Close the threads, as `WorkerThreads.close` does."""
        return self._threads.close(end)


class ServerResources:
    """What the collections of a server share.

    The limits hold for the whole server, and a model that several collections use is loaded once.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.metrics = ServerMetrics()
        self.embedders = SharedEmbedders(self.metrics.count_batch)
        self.text_encoders: dict[str, TextEncoder] = {}
        self.thumbnails = ThumbnailCache()
        self.uploads = UploadCache()
        self.search_pool = BoundedPool("search", settings.n_workers, settings.max_waiting)
        self.lookup_pool = BoundedPool("lookup", _LOOKUP_THREADS, settings.max_waiting)
        self.image_pool = BoundedPool("image", _IMAGE_THREADS, _MAX_WAITING_IMAGES)
        self.fetch_pool = BoundedPool("fetch", _FETCH_THREADS, _MAX_WAITING_FETCHES)
        self.job_threads = WorkerThreads("job", 1)
        self.index_threads = WorkerThreads("index", 1)
        self.decoding = DecodingProcesses(wall_limit_s=settings.answer_timeout_s)
        self._has_ended: bool | None = None
        self.metrics.watch_queue(lambda: self.search_pool.n_pending + self.lookup_pool.n_pending)

    def close(self, grace_s: float = CLOSE_GRACE_S) -> bool:
        """Drop waiting calls, and wait `grace_s` for running ones. Returns whether all have ended.

        A later call returns what the first one did.
        """
        if self._has_ended is None:
            end = time.monotonic() + grace_s
            pools = (
                self.search_pool, self.lookup_pool, self.image_pool, self.fetch_pool, self.job_threads,
                self.index_threads,
            )  # fmt: skip
            for pool in pools:  # each of them drops what waits
                pool.close(end - grace_s / 2)
            self.decoding.close()  # threads that wait for it go on
            endings = [pool.close(end) for pool in pools]
            self._has_ended = all(endings)
        return self._has_ended
