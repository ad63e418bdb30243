"""The search engine behind the web server: a collection per thread, shared models, and bounded queues."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from simsearch.collection import Collection
from simsearch.duplicates.options import Tier
from simsearch.duplicates.rejections import join_pairs
from simsearch.duplicates.results import DuplicateReport
from simsearch.errors import SimsearchError, UsageError
from simsearch.images.decode import compute_default_max_pixels
from simsearch.images.thumbnails import render_thumbnail, render_thumbnail_array
from simsearch.maintenance import CollectionInfo
from simsearch.models.weights import WeightsOptions
from simsearch.quality.results import QualityReport
from simsearch.search.query import Query
from simsearch.search.query_vectors import ExampleDecoder, decode_example_square
from simsearch.search.results import Answer
from simsearch.store.database import read_again
from simsearch.visualization.overview import Clustering, CollectionLayout
from simsearch.web.browse import CollectionBrowser
from simsearch.web.images import find_image_ids, read_stored_image, read_stored_original
from simsearch.web.indexing import IndexedUploads, UploadIndexer
from simsearch.web.jobs import BackgroundJob, BackgroundJobs, SuggestionList
from simsearch.web.path_names import PathNames
from simsearch.web.resources import CLOSE_GRACE_S, ServerResources
from simsearch.web.settings import ServerSettings
from simsearch.web.upload_folder import Upload, UploadFolder, identify_picture, name_upload

T = TypeVar("T")

_UPLOAD_NAME = "the uploaded picture"
_INFO_MAX_AGE_S = 1.0


class ServerNotReady(SimsearchError):
    """The server is starting or stopping."""


@dataclass(frozen=True, slots=True)
class AddedPictures:
    """Pictures that were added: ids by digest of those in the collection, and reasons by name of those left out.

    `job` indexes the new ones; None where all were in the collection before.
    """

    uploads: tuple[Upload, ...]
    image_ids: dict[str, int]
    job: BackgroundJob[IndexedUploads] | None
    reasons: dict[str, str]


class SearchEngine:
    """A collection that serves many requests at once. Each thread opens the collection; models are shared.

    A collection sees the changes of other processes at its next search, so the engine does not watch for them.
    `resources` are shared with the engines of other collections of the server.
    """

    def __init__(self, settings: ServerSettings, resources: ServerResources | None = None) -> None:
        self.settings = settings
        self.resources = resources = resources or ServerResources(settings)
        self.metrics = resources.metrics.for_collection(settings.name)
        self.folder = Path(settings.collection)
        self.root = settings.root
        self.uploads = resources.uploads
        self.browser = CollectionBrowser(self.folder)
        self.paths = PathNames("", settings.show_paths)
        self.is_ready = False
        self._thread_local = threading.local()
        self._collections: list[Collection] = []
        self._cached_info: tuple[float, tuple[object, ...], CollectionInfo] | None = None
        self.jobs = BackgroundJobs(settings, resources.job_threads)
        self._uploads_to: tuple[UploadFolder, UploadIndexer] | None = None
        if settings.allow_upload is not None:
            folder = UploadFolder(settings.allow_upload, settings.max_upload_bytes, settings.min_free_bytes)
            self._uploads_to = folder, UploadIndexer(settings, folder)
        self._has_closed = False

    def start(self) -> None:
        """Load the default model and run it once, so that the first request does not wait for it.

        Raises the errors of opening a collection and a model.
        """
        if self._uploads_to is not None:
            self._uploads_to[0].check(self.settings.collection)
        with self._open_collection(fuses=True) as collection:  # the operator names the backbone, not a visitor
            if collection.info().models:
                self._warm_up(collection)
        self.refresh_paths()
        self.is_ready = True

    def close(self, grace_s: float = CLOSE_GRACE_S) -> None:
        """Drop waiting requests, wait `grace_s` for running ones, and close the collections.

        What runs on after that keeps its collection open; see `has_running_work`. The resources are closed with the
        first of the engines that share them.
        """
        self.is_ready = False
        if self._uploads_to is not None:
            self._uploads_to[1].end()
        self._has_closed = self.resources.close(grace_s)
        if self._has_closed:
            for collection in self._collections:
                collection.close()

    def refresh_paths(self) -> None:
        """Read the table of images, and find the folder that paths are shown from, where the collection changed."""
        self.paths = PathNames(self.browser.load_table().root, self.settings.show_paths)

    @property
    def has_running_work(self) -> bool:
        """Whether threads run that the end of the interpreter would wait for."""
        return not self._has_closed

    # Requests

    async def search(self, query: Query) -> Answer:
        """Run a query in a thread. Raises the errors of `Collection.run_query`, `ServerBusy` and `RequestTimedOut`."""
        is_stored = not query.texts and all(
            isinstance(example.picture, int) and example.crop is None for example in query.pictures
        )
        pool = (
            self.resources.lookup_pool if is_stored else self.resources.search_pool
        )  # stored vectors: nothing to decode or embed
        answer = await pool.run(lambda: self._open_thread_collection().run_query(query), self.settings.answer_timeout_s)
        self.metrics.observe_stages(answer.milliseconds)
        return answer

    async def embed(
        self, pictures: Sequence[int | bytes], texts: Sequence[str], backbone: str | None
    ) -> tuple[str, NDArray[np.float32]]:
        """Embed pictures (bytes), stored images (ids) and texts: the name of the backbone, and unit rows (n, d)."""

        def run() -> tuple[str, NDArray[np.float32]]:
            collection, name = self._open_thread_collection(), backbone or self.settings.backbone
            options = WeightsOptions(offline=self.settings.offline)
            limit, parts = self.settings.max_pixels, list[NDArray[np.float32]]()
            if pictures:
                parts.append(collection.embed(list(pictures), backbone=name, weights=options, max_pixels=limit))
            if texts:
                parts.append(collection.embed_texts(texts, backbone=name, weights=options))
            return collection.model(name).model.backbone, np.concatenate(parts)

        return await self.resources.search_pool.run(run, self.settings.answer_timeout_s)

    async def add_pictures(self, pictures: Sequence[bytes], wait_s: float) -> AddedPictures:
        """Store pictures that the collection does not have, and index them; wait at most `wait_s` for the end of it.

        Raises `UsageError` where the server takes none, `UploadFolderFull`, `UploadFailed`, `IndexingFailed`, and
        `ImageError` where one is no picture; then none is stored.
        """
        if self._uploads_to is None:
            raise UsageError("this server stores no pictures", "start it with --allow-upload FOLDER")
        folder, indexer = self._uploads_to
        uploads = []
        for data in pictures:
            identify = functools.partial(
                self.resources.decoding.call, identify_picture, data, _UPLOAD_NAME, self.settings.max_pixels
            )
            found = await self.resources.search_pool.run(identify, self.settings.answer_timeout_s)
            uploads.append(name_upload(data, found.tobytes().decode()))
        digests = [one.digest for one in uploads]
        known = await self.run_image_work(lambda: find_image_ids(self.folder, digests))
        unknown = [one for one in uploads if one.digest not in known]
        if not unknown:
            return AddedPictures(tuple(uploads), known, None, {})
        new_names = await self.run_image_work(lambda: folder.store(unknown))
        indexer.add(new_names)
        job = self.jobs.index_uploads(indexer, self.resources.index_threads)
        await job.wait(wait_s)
        reasons = job.result().skipped if job.is_done else {}
        return AddedPictures(
            tuple(uploads), await self.run_image_work(lambda: find_image_ids(self.folder, digests)), job, reasons
        )

    async def run_lookup(self, work: Callable[[Collection], T]) -> T:
        """Run a short function on this thread's collection."""
        return await self.resources.lookup_pool.run(
            lambda: work(self._open_thread_collection()), self.settings.answer_timeout_s
        )

    async def run_image_work(self, work: Callable[[], T]) -> T:
        """Run a function that reads or decodes files, without a collection."""
        return await self.resources.image_pool.run(lambda: read_again(work), self.settings.answer_timeout_s)

    async def run_fetch(self, work: Callable[[], T]) -> T:
        """Run a function that waits for another server, in threads of their own."""
        return await self.resources.fetch_pool.run(work, self.settings.answer_timeout_s)

    async def render_upload(self, data: bytes, side_px: int) -> bytes:
        """Render an uploaded picture as WebP of at most `side_px` by `side_px`. Raises `ImageError`."""
        work = functools.partial(
            self.resources.decoding.call, render_thumbnail_array, data, _UPLOAD_NAME, side_px, self.settings.max_pixels
        )
        return (await self.resources.search_pool.run(work, self.settings.answer_timeout_s)).tobytes()

    async def load_info(self) -> CollectionInfo:
        """Load `Collection.info`, at most a second old; it is counted again where the collection has changed."""
        cached = self._cached_info
        if cached is not None and time.monotonic() - cached[0] <= _INFO_MAX_AGE_S:
            return cached[2]

        def load(collection: Collection) -> tuple[tuple[object, ...], CollectionInfo]:
            catalog = collection.catalog
            state = (catalog.change_token, *((one.id, one.change_token) for one in catalog.list_models()))
            is_same = cached is not None and cached[1] == state
            return state, cached[2] if cached is not None and is_same else collection.info()

        state, info = await self.run_lookup(load)
        self._cached_info = time.monotonic(), state, info
        return info

    async def run_browse(self, work: Callable[[CollectionBrowser], T]) -> T:
        """Run a function on the table of images, which is read again where the collection has changed."""

        def run() -> T:
            result = work(self.browser)
            self.refresh_paths()
            return result

        return await self.resources.lookup_pool.run(run, self.settings.answer_timeout_s)

    async def change(self, work: Callable[[Collection], T]) -> T:
        """Run a function that writes to the collection, on a collection of its own."""

        def run() -> T:
            with self._open_collection() as collection:
                return work(collection)

        return await self.resources.lookup_pool.run(run, self.settings.answer_timeout_s)

    async def load_thumbnail(self, image_id: int, side_px: int) -> tuple[str, bytes]:
        """Load the digest of a stored image and its thumbnail as WebP. Raises `ImageNotFound`, `ImageError`."""

        def load() -> tuple[str, bytes]:
            image = read_stored_image(self.folder, image_id)
            data = self.resources.thumbnails.get(image.digest, side_px)
            if data is None:
                original = read_stored_original(image)
                data = render_thumbnail(original.data, original.path, side_px, compute_default_max_pixels())
                self.resources.thumbnails.put(image.digest, side_px, data)
            return image.digest, data

        return await self.run_image_work(load)

    async def find_duplicates(self, tier: Tier) -> BackgroundJob[DuplicateReport]:
        """Start the search for duplicates, or return the job that already runs or is done."""
        return await self.run_lookup(lambda collection: self.jobs.find_duplicates(collection, tier))

    async def check_quality(self) -> BackgroundJob[QualityReport]:
        """Start the check of the pictures' quality, or return the job that already runs or is done."""
        return await self.run_lookup(lambda collection: self.jobs.check_quality(collection))

    async def cluster(self, k: int | None, where: str | None) -> BackgroundJob[Clustering]:
        """Start clustering the images that match a filter, or return the job that already runs or is done."""
        return await self.run_lookup(lambda collection: self.jobs.cluster(collection, k, where))

    async def suggest_labels(self, column: str, n: int) -> BackgroundJob[SuggestionList]:
        """Start looking for n images to label next in a column, or return the job that already runs or is done."""
        return await self.run_lookup(lambda collection: self.jobs.suggest_labels(collection, column, n))

    async def lay_out(self) -> BackgroundJob[CollectionLayout]:
        """Start laying out the map, or return the job that already runs or is done."""
        return await self.run_lookup(lambda collection: self.jobs.lay_out(collection))

    async def reject_duplicates(self, image_ids: Sequence[int]) -> None:
        """Mark images as no duplicates of each other. Raises `UsageError`, `ImageNotFound` or a `CollectionError`."""
        await self.run_lookup(lambda collection: self.jobs.reject_duplicates(collection, image_ids))

    async def unreject_duplicates(self, image_ids: Sequence[int]) -> None:
        """Undo `reject_duplicates`."""
        await self.run_lookup(lambda _: self.jobs.unreject_duplicates(image_ids))

    async def list_rejected_groups(self) -> list[list[int]]:
        """List the ids of images that are marked as no duplicates of each other, connected ones together."""
        pairs = await self.run_lookup(lambda collection: collection.catalog.list_rejected_pairs())
        return join_pairs(pairs)

    async def draw_map(self) -> BackgroundJob[bytes]:
        """Start drawing the map, or return the job that already runs or is done."""
        return await self.run_lookup(self.jobs.draw_map)

    # Collections and models

    def _open_thread_collection(self) -> Collection:
        """Open the collection of this thread when it is first needed."""
        if not hasattr(self._thread_local, "collection"):
            decode = functools.partial(self.resources.decoding.call, decode_example_square)
            self._thread_local.collection = self._open_collection(decode)
            self._collections.append(self._thread_local.collection)
        collection: Collection = self._thread_local.collection
        return collection

    def _open_collection(self, decode: ExampleDecoder = decode_example_square, *, fuses: bool = False) -> Collection:
        return Collection.open(
            self.folder,
            embedders=self.resources.embedders,
            text_encoders=self.resources.text_encoders,
            decode=decode,
            fuses=fuses,
        )

    def _warm_up(self, collection: Collection) -> None:
        """Embed noise in every batch size that can occur, because a graph is compiled when a size first occurs."""
        random = np.random.default_rng(0)
        stored = collection.model(self.settings.backbone)
        if stored.model.runtime == "imported":  # nothing is embedded with it: only the index is opened
            vector = random.standard_normal(stored.width)
            collection.search(vector, k=1, backbone=stored.fingerprint, rerank="none")
            return
        noise = random.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        answer = collection.search(
            _encode_ppm(noise), k=1, backbone=self.settings.backbone, rerank="none",
            weights=WeightsOptions(offline=self.settings.offline),
        )  # fmt: skip
        embedder = self.resources.embedders[answer.model]
        for n in range(2, self.settings.n_workers + 1):
            embedder.embed(np.zeros((n, *embedder.model.input_shape), np.uint8))


def _encode_ppm(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    """Encode pixels (h, w, 3) as a PPM file."""
    height, width, _ = pixels.shape
    return b"P6 %d %d 255\n" % (width, height) + pixels.tobytes()
