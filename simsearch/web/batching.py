"""One model for all requests: what is to be embedded while the engine is busy goes into its next batch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

_MOST_TOGETHER = 16

Batch = NDArray[np.uint8]
Vectors = NDArray[np.float32]


class Embeds(Protocol):
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
class _Request:
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

    def __init__(self, embedder: Embeds, on_batch: Callable[[int], None] = lambda _: None) -> None:
        self.model = embedder.model
        self.width = embedder.width
        self.engine = embedder.engine
        self.n_parallel = embedder.n_parallel
        self.notes = embedder.notes
        self._embedder = embedder
        self._on_batch = on_batch
        self._waiting: list[_Request] = []
        self._list = threading.Lock()
        self._engine = threading.Lock()

    def embed(self, batch: Batch) -> Vectors:
        """(n, side, side, 3) uint8 to (n, d) float32 unit rows, in whatever batch they are made."""
        mine = _Request(batch)
        with self._list:
            self._waiting.append(mine)
        while not mine.is_done:
            with self._engine:
                if not mine.is_done:  # else another thread's batch had room for it
                    self._embed_those_waiting()
        if mine.failure is not None:
            raise mine.failure
        assert mine.vectors is not None  # it is done, and did not fail
        return mine.vectors

    def _embed_those_waiting(self) -> None:
        with self._list:
            together, self._waiting = self._waiting[:_MOST_TOGETHER], self._waiting[_MOST_TOGETHER:]
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
        self._held: dict[str, BatchingEmbedder] = {}

    def __setitem__(self, fingerprint: str, embedder: Embeds) -> None:
        self._held.setdefault(fingerprint, BatchingEmbedder(embedder, self._on_batch))

    def __getitem__(self, fingerprint: str) -> BatchingEmbedder:
        return self._held[fingerprint]

    def __delitem__(self, fingerprint: str) -> None:
        del self._held[fingerprint]

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._held))

    def __len__(self) -> int:
        return len(self._held)
