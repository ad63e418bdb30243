"""Dynamic batching: each request gets its own vectors, and waiting requests share a batch."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from simsearch.models.choice import ModelChoice, resolve_model
from simsearch.models.embedder import HistogramEmbedder
from simsearch.web.batching import BatchingEmbedder, SharedEmbedders


class _Held:
    """An embedder that blocks until it is released, and records its batch sizes."""

    model, width, engine, n_parallel, notes = None, 2, "numpy", 1, ()

    def __init__(self) -> None:
        self.begun, self.may_go = threading.Event(), threading.Event()
        self.batches: list[int] = []

    def embed(self, batch: np.ndarray) -> np.ndarray:
        self.begun.set()
        assert self.may_go.wait(20)
        self.batches.append(len(batch))
        if (batch == 255).any():
            raise ValueError("white")
        return batch.reshape(len(batch), -1)[:, :2].astype(np.float32)


def picture(number: int) -> np.ndarray:
    return np.full((1, 2, 2, 3), number, np.uint8)


def test_requests_that_arrive_while_the_model_runs_go_into_one_batch():
    held, told = _Held(), []
    embedder = BatchingEmbedder(held, told.append)
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(embedder.embed, picture(0))
        assert held.begun.wait(20)
        others = [pool.submit(embedder.embed, picture(number)) for number in range(1, 9)]
        while len(embedder._waiting) < 8:
            pass
        held.may_go.set()
        found = [future.result()[0, 0] for future in [first, *others]]
    assert found == list(range(9))
    assert held.batches == [1, 8]
    assert told == held.batches


def test_an_error_reaches_the_requests_of_its_batch_and_the_next_batch_works():
    held = _Held()
    held.may_go.set()
    embedder = BatchingEmbedder(held)
    with pytest.raises(ValueError, match="white"):
        embedder.embed(picture(255))
    assert embedder.embed(picture(7)).tolist() == [[7, 7]]


def test_under_load_every_request_gets_the_vector_of_its_own_picture():
    real = HistogramEmbedder(resolve_model(ModelChoice(backbone="histogram")))
    embedder, side = BatchingEmbedder(real), real.model.side_px
    pictures = np.random.default_rng(0).integers(0, 256, (200, 1, side, side, 3), dtype=np.uint8)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(embedder.embed, pictures))
    assert np.array_equal(np.concatenate(found), real.embed(np.concatenate(pictures)))


def test_the_first_of_two_concurrent_loads_of_a_model_is_kept():
    shared, held = SharedEmbedders(), _Held()
    shared["a"], shared["a"] = held, _Held()
    assert shared["a"]._embedder is held
    assert list(shared) == ["a"]
    del shared["a"]
    assert len(shared) == 0
