"""Pixels to vectors: files are collected into batches, and several batches are embedded at the same time."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import ImageError
from simsearch.images.decode import Pixels
from simsearch.images.views import NO_AUGMENTATION, Augmentation
from simsearch.ingest.prepare import NO_PIXELS, PreparedFile, decode_files
from simsearch.ingest.timing import StageClock
from simsearch.models.embedder import Embedder
from simsearch.sources.scan import FoundFile

BATCH_SIZE = 32
"""Views in one batch. One transaction writes one batch: a run that is killed loses at most the batches in progress."""

MAX_WAITING_BATCHES = 2
"""The most batches that wait beyond those that the engine is embedding."""

_MAX_FILES_IN_BATCH = 512


@dataclass(frozen=True, slots=True)
class NewViews:
    """The vectors (n, d) of views of one image; `numbers` (n) are the numbers of the views."""

    numbers: Sequence[int]
    vectors: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class EmbeddedFile:
    """A file with the vectors (n_views, d) of its views, original first, or with the error that reading it raised."""

    path: str
    digest: str
    vectors: NDArray[np.float32]
    failure: ImageError | None = None


@dataclass(frozen=True, slots=True)
class EmbeddedBatch:
    """Files to record together, in their order, failures included, and the new views of each image by digest."""

    files: list[PreparedFile]
    new_views: Mapping[str, NewViews]


@dataclass(frozen=True, slots=True)
class EmbeddingContext:
    """What embedding a stream of files needs.

    `open_embedder` is called when the first pixels arrive. `is_known(digest)` is true once all views of an image have a
    vector. `in_progress` are the digests that have been taken but are not written yet; the writer removes them.
    """

    open_embedder: Callable[[], Embedder]
    is_known: Callable[[str], bool]
    clock: StageClock
    in_progress: set[str] = field(default_factory=set)


def embed_files(
    files: Iterable[FoundFile], embedder: Embedder, augmentation: Augmentation = NO_AUGMENTATION, *, max_pixels: int
) -> Iterator[EmbeddedFile]:
    """Read, decode and embed files, and yield them in the order given with the vectors of all their views.

    Files with the same content are embedded once. A file that cannot be read or decoded has its error in `failure`.
    """
    embedded: dict[str, NDArray[np.float32]] = {}
    context = EmbeddingContext(lambda: embedder, lambda digest: digest in embedded, StageClock())
    with contextlib.closing(
        embed_batches(decode_files(files, embedder.model, augmentation, max_pixels=max_pixels), context)
    ) as batches:
        for batch in batches:
            embedded.update((digest, new.vectors) for digest, new in batch.new_views.items())
            for file in batch.files:
                vectors = embedded.get(file.digest, np.empty((0, embedder.width), np.float32))
                yield EmbeddedFile(file.file.path, file.digest, vectors, file.failure)


def embed_pixels(pixels: Sequence[Pixels] | Pixels, embedder: Embedder) -> NDArray[np.float32]:
    """Embed squares (n, side, side, 3) in batches, as many at the same time as the engine takes: (n, d) unit rows."""

    def embed_batch(start: int) -> NDArray[np.float32]:
        return embedder.embed(np.stack(list(pixels[start : start + BATCH_SIZE])))

    starts = range(0, len(pixels), BATCH_SIZE)
    if not starts:
        return np.empty((0, embedder.width), np.float32)
    with ThreadPoolExecutor(embedder.n_parallel, "embed") as pool:
        return np.concatenate(list(pool.map(embed_batch, starts)))


def embed_batches(prepared: Iterable[PreparedFile], context: EmbeddingContext) -> Generator[EmbeddedBatch, None, None]:
    """Embed prepared files, and yield them in the order given, batch by batch.

    The vectors of an image come with the first file of its content.
    """
    with _EmbeddingQueue(context) as queue:
        batch = _Batch()
        for file in prepared:
            if len(file.pixels) and (file.digest in context.in_progress or context.is_known(file.digest)):
                file = replace(file, pixels=NO_PIXELS)  # a copy was taken after this file had been decoded
            batch.add(file)
            if len(file.pixels):
                context.in_progress.add(file.digest)
            if batch.is_full:
                queue.submit(batch)
                batch = _Batch()
                yield from queue.collect_done()
        if batch.files:
            queue.submit(batch)
        yield from queue.collect_done(wait_for_all=True)


@dataclass(slots=True)
class _Batch:
    """Files, and those of them that have pixels to embed."""

    files: list[PreparedFile] = field(default_factory=list)
    new_files: list[PreparedFile] = field(default_factory=list)
    n_views: int = 0

    def add(self, file: PreparedFile) -> None:
        self.files.append(file)
        if len(file.pixels):
            self.new_files.append(file)
            self.n_views += len(file.pixels)

    @property
    def is_full(self) -> bool:
        return self.n_views >= BATCH_SIZE or len(self.files) >= _MAX_FILES_IN_BATCH


class _EmbeddingQueue:
    """The embedder, and a thread for each batch that it takes at the same time; created with the first pixels."""

    def __init__(self, context: EmbeddingContext) -> None:
        self._context = context
        self._embedder: Embedder | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._pending: collections.deque[tuple[_Batch, Future[NDArray[np.float32]]]] = collections.deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def submit(self, batch: _Batch) -> None:
        """Start to embed a batch."""
        future: Future[NDArray[np.float32]] = Future()
        if batch.new_files:
            future = self._open_pool().submit(self._embed, batch)
        else:
            future.set_result(np.empty((0, 0), np.float32))
        self._pending.append((batch, future))

    def collect_done(self, *, wait_for_all: bool = False) -> Iterator[EmbeddedBatch]:
        """Yield the batches that are done, and wait while too many are pending. Raises what an embedding raised."""
        n_parallel = self._embedder.n_parallel if self._embedder else 1
        n_left = 0 if wait_for_all else n_parallel + MAX_WAITING_BATCHES
        while self._pending and (len(self._pending) > n_left or self._pending[0][1].done()):
            batch, future = self._pending.popleft()
            rows = self._context.clock.wait_for(future, "wait_embed")
            yield EmbeddedBatch(batch.files, _group_by_content(batch, rows))

    def _open_pool(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._embedder = self._context.open_embedder()
            self._pool = ThreadPoolExecutor(max_workers=self._embedder.n_parallel, thread_name_prefix="embed")
        return self._pool

    def _embed(self, batch: _Batch) -> NDArray[np.float32]:
        """Embed the new views of a batch, in their order: (n, d)."""
        assert self._embedder is not None  # `_open_pool` set it
        with self._context.clock.measure("embed"):
            return self._embedder.embed(np.concatenate([file.pixels for file in batch.new_files]))


def _group_by_content(batch: _Batch, rows: NDArray[np.float32]) -> dict[str, NewViews]:
    views: dict[str, NewViews] = {}
    start = 0
    for file in batch.new_files:
        views[file.digest] = NewViews(file.numbers, rows[start : start + len(file.numbers)])
        start += len(file.numbers)
    return views
