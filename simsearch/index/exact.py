"""Exact inner products: all vectors as they are, in memory or mapped from a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np
from numpy.typing import NDArray

from simsearch.index.files import IndexStamp, map_index, read_index, write_index
from simsearch.index.protocol import Ids, Searchable, Vectors, make_id_selector, range_search_faiss, search_faiss

if TYPE_CHECKING:
    from simsearch.filters import Condition

_COPY_LIMIT = 512
"""So many vectors are taken out of an index and searched by themselves; beyond that the index skips the others."""


class ExactIndex:
    """Exact inner products over unit vectors, known by the catalog's view ids."""

    notes: tuple[str, ...] = ()

    def __init__(self, index: faiss.IndexIDMap, *, is_mapped: bool = False) -> None:
        self._index = index
        self._is_mapped = is_mapped
        self._sorted_positions: tuple[Ids, NDArray[np.intp]] | None = None

    @classmethod
    def create_empty(cls, width: int) -> ExactIndex:
        """An index without vectors. IndexIDMap and not IDMap2: nothing here looks vectors up by id."""
        return cls(faiss.IndexIDMap(faiss.IndexFlatIP(width)))

    @classmethod
    def open_mapped(cls, file: Path) -> ExactIndex:
        """The index in `file`, mapped into memory and not read: to search only."""
        return cls(map_index(file), is_mapped=True)

    @classmethod
    def read(cls, file: Path) -> ExactIndex:
        """The index in `file`, read into memory: to be changed."""
        return cls(read_index(file))

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def ids(self) -> Ids:
        """The ids of the vectors, in the order in which they lie."""
        ids: Ids = faiss.vector_to_array(self._index.id_map)
        return ids

    @property
    def vectors(self) -> Vectors:
        """(n, d) float32 in the order of `ids`."""
        rows: Vectors = self._index.index.reconstruct_n(0, len(self))
        return rows

    @property
    def rows(self) -> Vectors:
        """(n, d) float32 in the order of `ids`, where they lie: not to be written to, nor kept when the index goes."""
        flat = faiss.downcast_index(self._index.index)
        if not len(self):
            return np.empty((0, flat.d), np.float32)
        rows: Vectors = faiss.rev_swig_ptr(flat.get_xb(), len(self) * flat.d).reshape(len(self), flat.d)
        rows.flags.writeable = False
        return rows

    def find_positions(self, ids: Ids) -> NDArray[np.intp]:
        """Where the vectors of those ids (m,), all of which are here, lie: positions (m,) in `rows`."""
        held, order = self._sort_ids()
        return order[np.searchsorted(held, ids)]

    def read_vectors(self, ids: Ids) -> Vectors:
        """The vectors (m, d) of ids (m,), all of which are here."""
        return self.rows[self.find_positions(ids)]

    def select_matching(self, _condition: Condition, ids: Callable[[], Ids]) -> Searchable:
        """As `Index` says."""
        return self.select(ids())

    def select(self, ids: Ids) -> Searchable:
        """The part that is of those ids (m,), as far as they are here; it lives no longer than the index."""
        held, _ = self._sort_ids()
        ids = ids[is_in_sorted(ids, held)]
        if len(ids) > _COPY_LIMIT:
            return _ExactSubset(self._index, ids)
        few = ExactIndex.create_empty(self._index.d)
        few.add(ids, self.read_vectors(ids))
        return few

    def exclude(self, ids: Ids) -> Searchable:
        """The part that is not of those ids (m,); it lives no longer than the index."""
        if not len(ids):
            return self
        return self.select(np.setdiff1d(self.ids, ids))

    def _sort_ids(self) -> tuple[Ids, NDArray[np.intp]]:
        """The ids in rising order, and where each lies."""
        if self._sorted_positions is None:
            held = self.ids
            order = np.argsort(held, kind="stable")
            self._sorted_positions = held[order], order
        return self._sorted_positions

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Add vectors (n, d) under ids (n,) that are not in the index yet."""
        self._check_changeable()
        self._sorted_positions = None
        self._index.add_with_ids(np.ascontiguousarray(vectors), ids)

    def reserve(self, n: int) -> None:
        """Make room for n more vectors in one step; growing block by block would hold the vectors twice."""
        self._check_changeable()
        flat = faiss.downcast_index(self._index.index)
        size = flat.codes.size()
        flat.codes.resize(size + n * flat.code_size)
        flat.codes.resize(size)  # the room stays

    def remove(self, ids: Ids) -> None:
        """Take vectors out."""
        self._check_changeable()
        self._sorted_positions = None
        self._index.remove_ids(ids)

    def search(self, queries: Vectors, n: int) -> tuple[Vectors, Ids]:
        """As `Searchable` says."""
        return search_faiss(self._index, queries, min(n, len(self)))

    def range_search(self, query: Vectors, least: float) -> tuple[Vectors, Ids]:
        """As `Searchable` says."""
        return range_search_faiss(self._index, query, least)

    def save(self, file: Path, stamp: IndexStamp, removed: Ids | None = None) -> None:
        """Write the index; the file appears whole or not at all. `removed` as `files.write` says.

        Raises `OSError`.
        """
        write_index(self._index, file, stamp, removed=removed)

    def _check_changeable(self) -> None:
        if self._is_mapped:  # FAISS 1.15 crashes the process here
            raise ValueError("a mapped index cannot be changed; read it")


class _ExactSubset:
    """Those vectors of an index that are of some ids; FAISS skips the others while it scans."""

    def __init__(self, index: Any, ids: Ids) -> None:
        self._index = index
        self._n = len(ids)
        self._parameters = faiss.SearchParameters(sel=make_id_selector(ids))

    def __len__(self) -> int:
        return self._n

    def search(self, queries: Vectors, n: int) -> tuple[Vectors, Ids]:
        return search_faiss(self._index, queries, min(n, self._n), self._parameters)

    def range_search(self, query: Vectors, least: float) -> tuple[Vectors, Ids]:
        return range_search_faiss(self._index, query, least, self._parameters)


def is_in_sorted(ids: Ids, held: Ids) -> NDArray[np.bool_]:
    """Which of ids (m,) are among the rising `held` (n,): (m,)."""
    if not len(held):
        return np.zeros(len(ids), np.bool_)
    places = np.searchsorted(held, ids)
    found: NDArray[np.bool_] = held[np.minimum(places, len(held) - 1)] == ids
    return found
