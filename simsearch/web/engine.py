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

from simsearch.collection import Answer, Collection, Example, WeightsOrder
from simsearch.duplicates.results import DuplicateReport, Tier
from simsearch.errors import SimsearchError
from simsearch.images.decode import default_max_pixels
from simsearch.web.batching import SharedEmbedders
from simsearch.web.images import Renditions, original, rendition, stored_image
from simsearch.web.jobs import Making, Overviews
from simsearch.web.metrics import Metrics
from simsearch.web.settings import Settings
from simsearch.web.uploads import Uploads

T = TypeVar("T")

RETRY_S = 1
_FRESH_S = 1.0
_N_FINDERS = 2  # more would only take Python's lock from each other
_N_PAINTERS = 2
_N_WAITING_PICTURES = 512  # a page asks for dozens at once
_N_FETCHERS, _N_WAITING_FETCHES = 4, 8


class Busy(SimsearchError):
    """There are more requests than can wait; to be tried again in `RETRY_S` seconds."""


class TooSlow(SimsearchError):
    """A request was not answered in the time that it may take."""


class NotReady(SimsearchError):
    """The server cannot answer yet, or no more."""


class _Lane:
    """Threads for one kind of work, and a bound on what waits for them."""

    def __init__(self, name: str, n_threads: int, n_waiting: int) -> None:
        self._pool = ThreadPoolExecutor(n_threads, thread_name_prefix=name)
        self._most = n_threads + n_waiting
        self._n = 0
        self._lock = threading.Lock()

    @property
    def n(self) -> int:
        """How much is being done or waits."""
        return self._n

    async def run(self, work: Callable[[], T], limit_s: float) -> T:
        """The result of the work. Raises `Busy` at once when too much waits, `TooSlow` when it takes too long."""
        with self._lock:
            if self._n >= self._most:
                raise Busy("the server has more to do than it can", f"try again in {RETRY_S} s")
            self._n += 1
        future = self._pool.submit(work)
        future.add_done_callback(self._leave)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), limit_s)
        except TimeoutError as error:
            raise TooSlow(f"there is no answer after {limit_s:g} s", "ask for less, or later") from error

    def _leave(self, _: Future[Any]) -> None:
        with self._lock:
            self._n -= 1

    def close(self) -> None:
        """Finish what was begun, drop what waits."""
        self._pool.shutdown(wait=True, cancel_futures=True)


class Engine:
    """A collection that answers many at once. Every thread has the collection open for itself; models are shared.

    A collection sees what another process indexes at its next search, so that nothing here needs to watch it.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = metrics = Metrics()
        self.folder = Path(settings.collection)
        self.uploads = Uploads()
        self.is_ready = False
        self._embedders = SharedEmbedders(metrics.count_batch)
        self._renditions = Renditions()
        self._own = threading.local()
        self._opened: list[Collection] = []
        self._askers = _Lane("ask", settings.n_workers, settings.n_waiting)
        self._finders = _Lane("find", _N_FINDERS, settings.n_waiting)
        self._painters = _Lane("paint", _N_PAINTERS, _N_WAITING_PICTURES)
        self._fetchers = _Lane("fetch", _N_FETCHERS, _N_WAITING_FETCHES)
        self._told: tuple[float, dict[str, Any]] | None = None
        self._overviews = Overviews(settings)
        metrics.watch_queue(lambda: self._askers.n + self._finders.n)

    def start(self) -> None:
        """Load the model that most will ask, and run it once, so that the first visitor does not wait for it.

        Raises what opening a collection and a model raises.
        """
        with self._open() as collection:
            if any(collection.info()["models"]):
                self._load(collection, self.settings.backbone)
        self.is_ready = True

    def close(self) -> None:
        """Finish what was begun and close the collections."""
        self.is_ready = False
        self._askers.close()
        self._finders.close()
        self._painters.close()
        self._fetchers.close()
        self._overviews.close()
        for collection in self._opened:
            collection.close()

    # What is asked

    async def search(self, examples: list[Example], **options: Any) -> Answer:
        """`Collection.search`, in a thread. Raises what it raises, `Busy` and `TooSlow`."""

        def work() -> Answer:
            collection = self._collection()
            order, limit = WeightsOrder(offline=self.settings.offline), self.settings.max_pixels
            return collection.search(examples, weights=order, max_pixels=limit, **options)

        is_stored = all(isinstance(example.picture, int) and example.crop is None for example in examples)
        lane = self._finders if is_stored else self._askers  # where nothing is to be decoded or embedded
        answer = await lane.run(work, self.settings.answer_s)
        self.metrics.time_stages(answer.milliseconds)
        return answer

    async def call(self, work: Callable[[Collection], T]) -> T:
        """Anything else that is asked of the collection, in a thread."""
        return await self._finders.run(lambda: work(self._collection()), self.settings.answer_s)

    async def read(self, work: Callable[[], T]) -> T:
        """What takes reading or decoding, but no collection, in a thread."""
        return await self._painters.run(work, self.settings.answer_s)

    async def wait_for(self, work: Callable[[], T]) -> T:
        """What waits for another server, in a thread that holds up nobody else."""
        return await self._fetchers.run(work, self.settings.answer_s)

    async def info(self) -> dict[str, Any]:
        """`Collection.info`, at most a second old."""
        if self._told is None or time.monotonic() - self._told[0] > _FRESH_S:
            self._told = time.monotonic(), await self.call(Collection.info)
        return self._told[1]

    async def thumbnail(self, image_id: int, side_px: int) -> tuple[str, bytes]:
        """The digest of a stored image and a rendition of it. Raises `ImageNotFound`, `ImageError`."""

        def work() -> tuple[str, bytes]:
            image = stored_image(self.folder, image_id)
            data = self._renditions.get(image.digest, side_px)
            if data is None:
                raw = original(image, default_max_pixels())
                data = rendition(raw.data, raw.path, side_px, default_max_pixels())
                self._renditions.keep(image.digest, side_px, data)
            return image.digest, data

        return await self.read(work)

    async def duplicates(self, tier: Tier) -> Making[DuplicateReport]:
        """Groups of duplicates, found or being looked for."""
        return await self.call(lambda collection: self._overviews.duplicates(collection, tier))

    async def map_page(self) -> Making[bytes]:
        """The map, made or being made."""
        return await self.call(self._overviews.map_page)

    # Collections and models

    def _collection(self) -> Collection:
        """This thread's own."""
        if not hasattr(self._own, "collection"):
            self._own.collection = self._open()
            self._opened.append(self._own.collection)
        collection: Collection = self._own.collection
        return collection

    def _open(self) -> Collection:
        collection = Collection.open(self.folder)
        collection._embedders = self._embedders  # type: ignore[assignment]
        return collection

    def _load(self, collection: Collection, backbone: str | None) -> None:
        """Ask with noise of each batch size that may come: graphs are fitted to a size when it first comes."""
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        order = WeightsOrder(offline=self.settings.offline)
        answer = collection.search(_as_ppm(noise), k=1, backbone=backbone, rerank="none", weights=order)
        embedder = self._embedders[answer.model]
        side_px = embedder.model.side_px
        for n in range(2, self.settings.n_workers + 1):
            embedder.embed(np.zeros((n, side_px, side_px, 3), np.uint8))


def _as_ppm(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    """Pixels (h, w, 3) as the bytes of a picture file."""
    height, width, _ = pixels.shape
    return b"P6 %d %d 255\n" % (width, height) + pixels.tobytes()
