"""Where requests wait their turn: threads with a collection each, models that they share, and an end to the queue."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from simsearch.collection import Collection
from simsearch.duplicates.results import DuplicateReport, Tier
from simsearch.errors import SimsearchError
from simsearch.images.decode import compute_default_max_pixels
from simsearch.models.weights import WeightsOptions
from simsearch.search.examples import Example
from simsearch.search.results import Answer
from simsearch.web.batching import SharedEmbedders
from simsearch.web.images import ThumbnailCache, load_stored_image, read_original, render_thumbnail
from simsearch.web.jobs import BackgroundJob, BackgroundJobs
from simsearch.web.metrics import ServerMetrics
from simsearch.web.settings import ServerSettings
from simsearch.web.uploads import UploadCache

T = TypeVar("T")

RETRY_AFTER_S = 1
_INFO_MAX_AGE_S = 1.0
_LOOKUP_THREADS = 2  # more would only take Python's lock from each other
_IMAGE_THREADS = 2
_MAX_WAITING_IMAGES = 512  # a page asks for dozens at once
_FETCH_THREADS, _MAX_WAITING_FETCHES = 4, 8


class ServerBusy(SimsearchError):
    """There are more requests than can wait; to be tried again in `RETRY_S` seconds."""


class RequestTimedOut(SimsearchError):
    """A request was not answered in the time that it may take."""


class ServerNotReady(SimsearchError):
    """The server cannot answer yet, or no more."""


class _BoundedPool:
    """Threads for one kind of work, and a bound on what waits for them."""

    def __init__(self, name: str, n_threads: int, n_waiting: int) -> None:
        self._pool = ThreadPoolExecutor(n_threads, thread_name_prefix=name)
        self._capacity = n_threads + n_waiting
        self._n_pending = 0
        self._lock = threading.Lock()

    @property
    def n_pending(self) -> int:
        """How much is being done or waits."""
        return self._n_pending

    async def run(self, work: Callable[[], T], limit_s: float) -> T:
        """The result of the work. Raises `Busy` at once when too much waits, `TooSlow` when it takes too long."""
        with self._lock:
            if self._n_pending >= self._capacity:
                raise ServerBusy("the server has more to do than it can", f"try again in {RETRY_AFTER_S} s")
            self._n_pending += 1
        future = self._pool.submit(work)
        future.add_done_callback(self._release_slot)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), limit_s)
        except TimeoutError as error:
            raise RequestTimedOut(f"there is no answer after {limit_s:g} s", "ask for less, or later") from error

    def _release_slot(self, _: Future[Any]) -> None:
        with self._lock:
            self._n_pending -= 1

    def close(self) -> None:
        """Finish what was begun, drop what waits."""
        self._pool.shutdown(wait=True, cancel_futures=True)


class SearchEngine:
    """A collection that answers many at once. Every thread has the collection open for itself; models are shared.

    A collection sees what another process indexes at its next search, so that nothing here needs to watch it.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.metrics = metrics = ServerMetrics()
        self.folder = Path(settings.collection)
        self.uploads = UploadCache()
        self.is_ready = False
        self._embedders = SharedEmbedders(metrics.count_batch)
        self._thumbnails = ThumbnailCache()
        self._thread_local = threading.local()
        self._collections: list[Collection] = []
        self._search_pool = _BoundedPool("ask", settings.n_workers, settings.max_waiting)
        self._lookup_pool = _BoundedPool("find", _LOOKUP_THREADS, settings.max_waiting)
        self._image_pool = _BoundedPool("paint", _IMAGE_THREADS, _MAX_WAITING_IMAGES)
        self._fetch_pool = _BoundedPool("fetch", _FETCH_THREADS, _MAX_WAITING_FETCHES)
        self._cached_info: tuple[float, dict[str, Any]] | None = None
        self._jobs = BackgroundJobs(settings)
        metrics.watch_queue(lambda: self._search_pool.n_pending + self._lookup_pool.n_pending)

    def start(self) -> None:
        """Load the model that most will ask, and run it once, so that the first visitor does not wait for it.

        Raises what opening a collection and a model raises.
        """
        with self._open_collection() as collection:
            if any(collection.info()["models"]):
                self._warm_up(collection, self.settings.backbone)
        self.is_ready = True

    def close(self) -> None:
        """Finish what was begun and close the collections."""
        self.is_ready = False
        self._search_pool.close()
        self._lookup_pool.close()
        self._image_pool.close()
        self._fetch_pool.close()
        self._jobs.close()
        for collection in self._collections:
            collection.close()

    # What is asked

    async def search(self, examples: list[Example], **options: Any) -> Answer:
        """`Collection.search`, in a thread. Raises what it raises, `Busy` and `TooSlow`."""

        def work() -> Answer:
            collection = self._open_thread_collection()
            order, limit = WeightsOptions(offline=self.settings.offline), self.settings.max_pixels
            return collection.search(examples, weights=order, max_pixels=limit, **options)

        is_stored = all(isinstance(example.picture, int) and example.crop is None for example in examples)
        lane = self._lookup_pool if is_stored else self._search_pool  # where nothing is to be decoded or embedded
        answer = await lane.run(work, self.settings.answer_timeout_s)
        self.metrics.observe_stages(answer.milliseconds)
        return answer

    async def run_lookup(self, work: Callable[[Collection], T]) -> T:
        """Anything else that is asked of the collection, in a thread."""
        return await self._lookup_pool.run(lambda: work(self._open_thread_collection()), self.settings.answer_timeout_s)

    async def run_image_work(self, work: Callable[[], T]) -> T:
        """What takes reading or decoding, but no collection, in a thread."""
        return await self._image_pool.run(work, self.settings.answer_timeout_s)

    async def run_fetch(self, work: Callable[[], T]) -> T:
        """What waits for another server, in a thread that holds up nobody else."""
        return await self._fetch_pool.run(work, self.settings.answer_timeout_s)

    async def load_info(self) -> dict[str, Any]:
        """`Collection.info`, at most a second old."""
        if self._cached_info is None or time.monotonic() - self._cached_info[0] > _INFO_MAX_AGE_S:
            self._cached_info = time.monotonic(), await self.run_lookup(Collection.info)
        return self._cached_info[1]

    async def load_thumbnail(self, image_id: int, side_px: int) -> tuple[str, bytes]:
        """The digest of a stored image and a rendition of it. Raises `ImageNotFound`, `ImageError`."""

        def work() -> tuple[str, bytes]:
            image = load_stored_image(self.folder, image_id)
            data = self._thumbnails.get(image.digest, side_px)
            if data is None:
                raw = read_original(image, compute_default_max_pixels())
                data = render_thumbnail(raw.data, raw.path, side_px, compute_default_max_pixels())
                self._thumbnails.put(image.digest, side_px, data)
            return image.digest, data

        return await self.run_image_work(work)

    async def find_duplicates(self, tier: Tier) -> BackgroundJob[DuplicateReport]:
        """Groups of duplicates, found or being looked for."""
        return await self.run_lookup(lambda collection: self._jobs.find_duplicates(collection, tier))

    async def draw_map(self) -> BackgroundJob[bytes]:
        """The map, made or being made."""
        return await self.run_lookup(self._jobs.draw_map)

    # Collections and models

    def _open_thread_collection(self) -> Collection:
        """This thread's own."""
        if not hasattr(self._thread_local, "collection"):
            self._thread_local.collection = self._open_collection()
            self._collections.append(self._thread_local.collection)
        collection: Collection = self._thread_local.collection
        return collection

    def _open_collection(self) -> Collection:
        return Collection.open(self.folder, embedders=self._embedders)

    def _warm_up(self, collection: Collection, backbone: str | None) -> None:
        """Ask with noise of each batch size that may come: graphs are fitted to a size when it first comes."""
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        order = WeightsOptions(offline=self.settings.offline)
        answer = collection.search(_as_ppm(noise), k=1, backbone=backbone, rerank="none", weights=order)
        embedder = self._embedders[answer.model]
        side_px = embedder.model.side_px
        for n in range(2, self.settings.n_workers + 1):
            embedder.embed(np.zeros((n, side_px, side_px, 3), np.uint8))


def _as_ppm(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    """Pixels (h, w, 3) as the bytes of a picture file."""
    height, width, _ = pixels.shape
    return b"P6 %d %d 255\n" % (width, height) + pixels.tobytes()
