"""Dynamic batching: pictures that arrive while the model runs go together into its next batch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simsearch.models.embedder import Embedder

MAX_BATCH_REQUESTS = 16
"""The largest number of requests whose pictures are embedded in one batch."""

Batch = NDArray[np.uint8]
Vectors = NDArray[np.float32]


@dataclass(slots=True, eq=False)
class _PendingBatch:
    """Pictures of one request that wait for their vectors, or the error of embedding them."""

    batch: Batch
    vectors: Vectors | None = None
    failure: BaseException | None = None

    @property
    def is_done(self) -> bool:
        return self.vectors is not None or self.failure is not None


class BatchingEmbedder:
    """An embedder for several threads that combines the requests which arrive while the model runs.

    No request is delayed to wait for others: a single request runs at once, and under load the run time of one batch
    collects the next. `on_batch` is called with the number of pictures in each batch.
    """

    def __init__(self, embedder: Embedder, on_batch: Callable[[int], None] = lambda _: None) -> None:
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
        """Embed pictures (n, side, side, 3) uint8 to unit rows (n, d) float32, perhaps together with other requests."""
        request = _PendingBatch(batch)
        with self._queue_lock:
            self._waiting.append(request)
        while not request.is_done:
            with self._engine_lock:
                if not request.is_done:  # another thread may have embedded it in its batch
                    self._embed_waiting()
        if request.failure is not None:
            raise request.failure
        assert request.vectors is not None  # it is done and did not fail
        return request.vectors

    def _embed_waiting(self) -> None:
        with self._queue_lock:
            together, self._waiting = self._waiting[:MAX_BATCH_REQUESTS], self._waiting[MAX_BATCH_REQUESTS:]
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


class SharedEmbedders(MutableMapping[str, Embedder]):
    """Loaded models by fingerprint, shared by the collections of several threads. Each model is loaded once."""

    def __init__(self, on_batch: Callable[[int], None] = lambda _: None) -> None:
        self._on_batch = on_batch
        self._embedders: dict[str, BatchingEmbedder] = {}

    def __setitem__(self, fingerprint: str, embedder: Embedder) -> None:
        self._embedders.setdefault(fingerprint, BatchingEmbedder(embedder, self._on_batch))

    def __getitem__(self, fingerprint: str) -> BatchingEmbedder:
        return self._embedders[fingerprint]

    def __delitem__(self, fingerprint: str) -> None:
        del self._embedders[fingerprint]

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._embedders))

    def __len__(self) -> int:
        return len(self._embedders)
