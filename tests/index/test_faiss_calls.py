"""How many threads FAISS uses."""

from __future__ import annotations

from collections.abc import Iterator

import faiss
import numpy as np
import pytest

from simsearch.index import faiss_calls
from simsearch.machine import count_cores, limit_cores


@pytest.fixture(autouse=True)
def four_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """FAISS may use four threads, as on a machine with four cores."""
    before = faiss.omp_get_max_threads()
    monkeypatch.setattr(faiss_calls, "_MAX_THREADS", 4)
    yield
    limit_cores(None)
    faiss.omp_set_num_threads(before)


def add_and_search(n_queries: int) -> int:
    """Add vectors, then search; return the number of threads that adding used."""
    rows = np.eye(8, dtype=np.float32)
    index = faiss.IndexIDMap(faiss.IndexFlatIP(8))
    faiss_calls.add_to_faiss(index, np.arange(8), rows)
    used = int(faiss.omp_get_max_threads())
    faiss_calls.search_faiss(index, rows[:n_queries], 3)
    return used


def test_a_limit_of_cores_that_is_set_later_holds_for_faiss_too():
    assert add_and_search(2) == min(4, count_cores())
    limit_cores(1)
    assert add_and_search(2) == 1
    assert faiss.omp_get_max_threads() == 1


def test_one_query_is_searched_in_one_thread_and_the_next_vectors_are_added_in_all():
    add_and_search(1)
    assert faiss.omp_get_max_threads() == 1
    assert add_and_search(1) == min(4, count_cores())
