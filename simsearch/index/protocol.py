"""What every index can be asked, whatever it is made of, and FAISS asked for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import faiss
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from simsearch.filters import Condition

Vectors = NDArray[np.float32]
Ids = NDArray[np.int64]

VectorReader = Callable[[Ids], Vectors]
"""The vectors (m, d) of ids (m,), all of which there are, in their order."""

_N_THREADS = faiss.omp_get_max_threads()


class Searchable(Protocol):
    """Unit vectors known by id: an index, or the part of one that a filter leaves."""

    def __len__(self) -> int: ...

    def search(self, queries: Vectors, n: int) -> tuple[Vectors, Ids]:
        """The n nearest of each query: similarities and ids, (q, min(n, len)) each, falling similarity.

        Queries (q, d) are unit rows. Similarities are clipped to [-1, 1], which rounding may leave by 1e-7.
        """
        ...

    def range_search(self, query: Vectors, least: float) -> tuple[Vectors, Ids]:
        """All that are more similar to a query (d,) than `least`: similarities and ids, in no order."""
        ...


class Index(Searchable, Protocol):
    """All vectors of a model, or what is made of them, as the catalog has them now."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of its answers: nothing of exact ones."""
        ...

    def select_matching(self, condition: Condition, ids: Callable[[], Ids]) -> Searchable:
        """The part of which a condition holds; `ids` gives the view ids of which it does, for who cannot tell."""
        ...

    def read_vectors(self, ids: Ids) -> Vectors:
        """The vectors (m, d) of ids (m,), all of which are here."""
        ...


def search_faiss(index: Any, queries: Vectors, n: int, parameters: Any = None) -> tuple[Vectors, Ids]:
    """The n nearest of each query in a FAISS index, as `Searchable` says; the id -1 where an index found fewer."""
    if n == 0:
        return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
    # One query is faster in one thread: FAISS 1.15 shares its scan out at a cost (bench/RESULTS.md, Query).
    faiss.omp_set_num_threads(1 if len(queries) == 1 else _N_THREADS)
    similarities, ids = index.search(np.ascontiguousarray(queries), n, params=parameters)
    return np.clip(similarities, -1, 1), ids


def range_search_faiss(index: Any, query: Vectors, least: float, parameters: Any = None) -> tuple[Vectors, Ids]:
    """All in a FAISS index that are more similar to a query (d,) than `least`, as `Searchable` says."""
    faiss.omp_set_num_threads(1)
    _, similarities, ids = index.range_search(np.ascontiguousarray(query[None]), least, params=parameters)
    return np.clip(similarities, -1, 1), ids


def make_id_selector(ids: Ids, n_bits: int | None = None) -> Any:
    """What lets FAISS see those ids (m,), m > 0, and no others."""
    bits = np.zeros((n_bits or int(ids.max())) // 8 * 8 + 8, np.bool_)
    bits[ids] = True
    return faiss.IDSelectorBitmap(np.packbits(bits, bitorder="little"))
