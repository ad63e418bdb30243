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

from simsearch.ingest.prepare import NO_PIXELS, Prepared, StageClock
from simsearch.ingest.record import NewViews
from simsearch.models.embedder import Embedder

BATCH_SIZE = 32
"""Views embedded at once; a batch is also what one transaction keeps and what a killed run may lose."""

BATCHES_WAITING = 2
"""So many batches may wait beyond those that the engine works on."""

_FILES_IN_BATCH = 512


@dataclass(frozen=True, slots=True)
class Embedding:
    """How files are embedded.

    `open_embedder` is called when the first pixels come. `is_known` says whether a content has all its vectors by now.
    `under_way` are the contents that have been taken in; whoever writes a batch may take out those that are written.
    """

    open_embedder: Callable[[], Embedder]
    is_known: Callable[[str], bool]
    clock: StageClock
    under_way: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class EmbeddedBatch:
    """Files that are recorded together, in their order, failures among them, and the new views of each content."""

    files: list[Prepared]
    new: Mapping[str, NewViews]


def embed_all(prepared: Iterable[Prepared], embedding: Embedding) -> Generator[EmbeddedBatch, None, None]:
    """All files in the order given, batch by batch; a content comes with its vectors the first time."""
    with _Engine(embedding) as engine:
        batch = _Batch()
        for one in prepared:
            if len(one.pixels) and (one.digest in embedding.under_way or embedding.is_known(one.digest)):
                one = replace(one, pixels=NO_PIXELS)  # a copy of it went on its way after this one was decoded
            batch.add(one)
            if len(one.pixels):
                embedding.under_way.add(one.digest)
            if batch.is_full:
                engine.take(batch)
                batch = _Batch()
                yield from engine.settled()
        if batch.files:
            engine.take(batch)
        yield from engine.settled(to_the_end=True)


@dataclass(slots=True)
class _Batch:
    """Files, and those of them that are to be embedded."""

    files: list[Prepared] = field(default_factory=list)
    new: list[Prepared] = field(default_factory=list)
    n_views: int = 0

    def add(self, prepared: Prepared) -> None:
        self.files.append(prepared)
        if len(prepared.pixels):
            self.new.append(prepared)
            self.n_views += len(prepared.pixels)

    @property
    def is_full(self) -> bool:
        return self.n_views >= BATCH_SIZE or len(self.files) >= _FILES_IN_BATCH


class _Engine:
    """The embedder with a thread for each batch that it takes at once; both come with the first pixels."""

    def __init__(self, embedding: Embedding) -> None:
        self._embedding = embedding
        self._embedder: Embedder | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._ahead: collections.deque[tuple[_Batch, Future[NDArray[np.float32]]]] = collections.deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def take(self, batch: _Batch) -> None:
        """Begin to embed a batch."""
        future: Future[NDArray[np.float32]] = Future()
        if batch.new:
            future = self._threads().submit(self._embed, batch)
        else:
            future.set_result(np.empty((0, 0), np.float32))
        self._ahead.append((batch, future))

    def settled(self, *, to_the_end: bool = False) -> Iterator[EmbeddedBatch]:
        """The batches that are done, and waits while too many are not; what failed in a thread is raised here."""
        n_parallel = self._embedder.n_parallel if self._embedder else 1
        n_left = 0 if to_the_end else n_parallel + BATCHES_WAITING
        while self._ahead and (len(self._ahead) > n_left or self._ahead[0][1].done()):
            batch, future = self._ahead.popleft()
            with self._embedding.clock.on("wait_embed"):
                rows = future.result()
            yield EmbeddedBatch(batch.files, _by_content(batch, rows))

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._embedder = self._embedding.open_embedder()
            self._pool = ThreadPoolExecutor(max_workers=self._embedder.n_parallel, thread_name_prefix="embed")
        return self._pool

    def _embed(self, batch: _Batch) -> NDArray[np.float32]:
        """The vectors (n, d) of the batch's new views, in their order."""
        assert self._embedder is not None  # it came with the threads
        with self._embedding.clock.on("embed"):
            return self._embedder.embed(np.concatenate([new.pixels for new in batch.new]))


def _by_content(batch: _Batch, rows: NDArray[np.float32]) -> dict[str, NewViews]:
    views: dict[str, NewViews] = {}
    start = 0
    for new in batch.new:
        views[new.digest] = NewViews(new.numbers, rows[start : start + len(new.numbers)])
        start += len(new.numbers)
    return views
