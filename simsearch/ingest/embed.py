"""Pixels to vectors: files gathered into batches, embedded as many at once as the engine takes, handed out in order."""

from __future__ import annotations

import collections
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from simsearch.ingest.prepare import NO_PIXELS, PreparedFile, StageClock
from simsearch.ingest.record import NewViews
from simsearch.models.embedder import Embedder

BATCH_SIZE = 32
"""Views embedded at once; a batch is also what one transaction keeps and what a killed run may lose."""

MAX_WAITING_BATCHES = 2
"""So many batches may wait beyond those that the engine works on."""

_MAX_FILES_IN_BATCH = 512


@dataclass(frozen=True, slots=True)
class EmbeddingContext:
    """How files are embedded.

    `open_embedder` is called when the first pixels come. `is_known` says whether a content has all its vectors by now.
    `under_way` are the contents that have been taken in; whoever writes a batch may take out those that are written.
    """

    open_embedder: Callable[[], Embedder]
    is_known: Callable[[str], bool]
    clock: StageClock
    in_progress: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class EmbeddedBatch:
    """Files that are recorded together, in their order, failures among them, and the new views of each content."""

    files: list[PreparedFile]
    new_views: Mapping[str, NewViews]


def embed_batches(
    prepared: Iterable[PreparedFile], embedding: EmbeddingContext
) -> Generator[EmbeddedBatch, None, None]:
    """All files in the order given, batch by batch; a content comes with its vectors the first time."""
    with _EmbeddingQueue(embedding) as engine:
        batch = _Batch()
        for one in prepared:
            if len(one.pixels) and (one.digest in embedding.in_progress or embedding.is_known(one.digest)):
                one = replace(one, pixels=NO_PIXELS)  # a copy of it went on its way after this one was decoded
            batch.add(one)
            if len(one.pixels):
                embedding.in_progress.add(one.digest)
            if batch.is_full:
                engine.submit(batch)
                batch = _Batch()
                yield from engine.collect_done()
        if batch.files:
            engine.submit(batch)
        yield from engine.collect_done(to_the_end=True)


@dataclass(slots=True)
class _Batch:
    """Files, and those of them that are to be embedded."""

    files: list[PreparedFile] = field(default_factory=list)
    new_files: list[PreparedFile] = field(default_factory=list)
    n_views: int = 0

    def add(self, prepared: PreparedFile) -> None:
        self.files.append(prepared)
        if len(prepared.pixels):
            self.new_files.append(prepared)
            self.n_views += len(prepared.pixels)

    @property
    def is_full(self) -> bool:
        return self.n_views >= BATCH_SIZE or len(self.files) >= _MAX_FILES_IN_BATCH


class _EmbeddingQueue:
    """The embedder with a thread for each batch that it takes at once; both come with the first pixels."""

    def __init__(self, embedding: EmbeddingContext) -> None:
        self._embedding = embedding
        self._embedder: Embedder | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._pending: collections.deque[tuple[_Batch, Future[NDArray[np.float32]]]] = collections.deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def submit(self, batch: _Batch) -> None:
        """Begin to embed a batch."""
        future: Future[NDArray[np.float32]] = Future()
        if batch.new_files:
            future = self._open_pool().submit(self._embed, batch)
        else:
            future.set_result(np.empty((0, 0), np.float32))
        self._pending.append((batch, future))

    def collect_done(self, *, to_the_end: bool = False) -> Iterator[EmbeddedBatch]:
        """The batches that are done, and waits while too many are not; what failed in a thread is raised here."""
        n_parallel = self._embedder.n_parallel if self._embedder else 1
        n_left = 0 if to_the_end else n_parallel + MAX_WAITING_BATCHES
        while self._pending and (len(self._pending) > n_left or self._pending[0][1].done()):
            batch, future = self._pending.popleft()
            with self._embedding.clock.measure("wait_embed"):
                rows = future.result()
            yield EmbeddedBatch(batch.files, _group_by_content(batch, rows))

    def _open_pool(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._embedder = self._embedding.open_embedder()
            self._pool = ThreadPoolExecutor(max_workers=self._embedder.n_parallel, thread_name_prefix="embed")
        return self._pool

    def _embed(self, batch: _Batch) -> NDArray[np.float32]:
        """The vectors (n, d) of the batch's new views, in their order."""
        assert self._embedder is not None  # it came with the threads
        with self._embedding.clock.measure("embed"):
            return self._embedder.embed(np.concatenate([new.pixels for new in batch.new_files]))


def _group_by_content(batch: _Batch, rows: NDArray[np.float32]) -> dict[str, NewViews]:
    views: dict[str, NewViews] = {}
    start = 0
    for new in batch.new_files:
        views[new.digest] = NewViews(new.numbers, rows[start : start + len(new.numbers)])
        start += len(new.numbers)
    return views
