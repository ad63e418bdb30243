"""One model for all requests: what is to be embedded while the engine is busy goes into its next batch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

_MAX_REQUESTS_PER_BATCH = 16

Batch = NDArray[np.uint8]
Vectors = NDArray[np.float32]


class EmbedderLike(Protocol):
    """A model, loaded, as `simsearch.models.embedder.Embedder` says."""

    model: Any
    width: int
    engine: str
    n_parallel: int
    notes: tuple[str, ...]

    def embed(self, batch: Batch) -> Vectors:
        """(n, side, side, 3) uint8 to (n, d) float32."""
        ...


@dataclass(slots=True, eq=False)
class _PendingBatch:
    """A batch that waits for its vectors, or for what went wrong with it."""

    batch: Batch
    vectors: Vectors | None = None
    failure: BaseException | None = None

    @property
    def is_done(self) -> bool:
        return self.vectors is not None or self.failure is not None


class BatchingEmbedder:
    """An embedder for several threads at once, which embeds together what they ask while it is busy.

    There is no time that a request is held back for others to come: alone it goes at once, and under load the time
    that the engine needs for one batch collects the next. `on_batch` is told the number of pictures of each.
    """

    def __init__(self, embedder: EmbedderLike, on_batch: Callable[[int], None] = lambda _: None) -> None:
        self.model = embedder.model
        self.width = embedder.width
        self.engine = embedder.engine
        self.n_parallel = embedder.n_parallel
        self.notes = embedder.notes
        self._embedder = embedder
        self._on_batch = on_batch
        self._waiting: list[_PendingBatch] = []
        self._queue_lock = threading.Lock()
        self._engine_lock = threading.Lock()

    def embed(self, batch: Batch) -> Vectors:
        """(n, side, side, 3) uint8 to (n, d) float32 unit rows, in whatever batch they are made."""
        mine = _PendingBatch(batch)
        with self._queue_lock:
            self._waiting.append(mine)
        while not mine.is_done:
            with self._engine_lock:
                if not mine.is_done:  # else another thread's batch had room for it
                    self._embed_waiting()
        if mine.failure is not None:
            raise mine.failure
        assert mine.vectors is not None  # it is done, and did not fail
        return mine.vectors

    def _embed_waiting(self) -> None:
        with self._queue_lock:
            together, self._waiting = self._waiting[:_MAX_REQUESTS_PER_BATCH], self._waiting[_MAX_REQUESTS_PER_BATCH:]
        try:
            vectors = self._embedder.embed(np.concatenate([request.batch for request in together]))
        except BaseException as error:
            for request in together:
                request.failure = error
            return
        self._on_batch(len(vectors))
        ends = np.cumsum([len(request.batch) for request in together])
        for request, rows in zip(together, np.split(vectors, ends[:-1]), strict=True):
            request.vectors = rows


class SharedEmbedders(MutableMapping[str, Any]):
    """The models that are loaded, by fingerprint, for collections opened by several threads: each model once."""

    def __init__(self, on_batch: Callable[[int], None] = lambda _: None) -> None:
        self._on_batch = on_batch
        self._embedders: dict[str, BatchingEmbedder] = {}

    def __setitem__(self, fingerprint: str, embedder: EmbedderLike) -> None:
        self._embedders.setdefault(fingerprint, BatchingEmbedder(embedder, self._on_batch))

    def __getitem__(self, fingerprint: str) -> BatchingEmbedder:
        return self._embedders[fingerprint]

    def __delitem__(self, fingerprint: str) -> None:
        del self._embedders[fingerprint]

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._embedders))

    def __len__(self) -> int:
        return len(self._embedders)
