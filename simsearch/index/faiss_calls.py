"""Calls of FAISS with the right number of threads, and filters by id."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np

from simsearch.index.protocol import Ids, Vectors
from simsearch.machine import count_cores

_MAX_THREADS = faiss.omp_get_max_threads()


def use_all_threads() -> None:
    """Let the next calls of FAISS use all threads: a search of one query leaves the process with one."""
    faiss.omp_set_num_threads(_count_threads())


def train_faiss(index: Any, sample: Vectors) -> None:
    """Train a FAISS index on vectors (m, d), in all threads."""
    use_all_threads()
    index.train(np.ascontiguousarray(sample))


def add_to_faiss(index: Any, ids: Ids, vectors: Vectors) -> None:
    """Add vectors (n, d) with their ids (n,) to a FAISS index, in all threads."""
    use_all_threads()
    index.add_with_ids(np.ascontiguousarray(vectors), ids)


def search_faiss(index: Any, queries: Vectors, n: int, parameters: Any = None) -> tuple[Vectors, Ids]:
    """Search a FAISS index as `Searchable.search` says; the id is -1 where the index found fewer than n."""
    if n == 0:
        return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
    # One query is faster in one thread: FAISS 1.15 splits its scan at a cost (bench/RESULTS.md, Query).
    faiss.omp_set_num_threads(1 if len(queries) == 1 else _count_threads())
    similarities, ids = index.search(np.ascontiguousarray(queries), n, params=parameters)
    return np.clip(similarities, -1, 1), ids


def range_search_faiss(
    index: Any, query: Vectors, min_similarity: float, parameters: Any = None
) -> tuple[Vectors, Ids]:
    """Search a FAISS index as `Searchable.range_search` says."""
    faiss.omp_set_num_threads(1)
    _, similarities, ids = index.range_search(np.ascontiguousarray(query[None]), min_similarity, params=parameters)
    return np.clip(similarities, -1, 1), ids


def make_id_selector(ids: Ids) -> Any:
    """Make a FAISS selector that admits only these ids (m,), m > 0."""
    bits = np.zeros(int(ids.max()) // 8 * 8 + 8, np.bool_)
    bits[ids] = True
    return faiss.IDSelectorBitmap(np.packbits(bits, bitorder="little"))


def make_excluding_selector(ids: Ids) -> Any:
    """Make a FAISS selector that admits all but these ids (m,), m > 0."""
    return faiss.IDSelectorNot(make_id_selector(ids))


def _count_threads() -> int:
    """All threads, or as many as `limit_cores` allows now."""
    return int(min(_MAX_THREADS, count_cores()))
