"""Exact inner products: all vectors as they are, in memory or mapped from a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np
from numpy.typing import NDArray

from simsearch.index.files import Stamp, map_index, read_index, write
from simsearch.index.protocol import Ids, Searchable, Vectors, bitmap, search, within

if TYPE_CHECKING:
    from simsearch.filters import Condition

_FEW = 512
"""So many vectors are taken out of an index and searched by themselves; beyond that the index skips the others."""


class AnnIndex:
    """Exact inner products over unit vectors, known by the catalog's view ids."""

    notes: tuple[str, ...] = ()

    def __init__(self, index: faiss.IndexIDMap, *, is_mapped: bool = False) -> None:
        self._index = index
        self._is_mapped = is_mapped
        self._places: tuple[Ids, NDArray[np.intp]] | None = None

    @classmethod
    def empty(cls, width: int) -> AnnIndex:
        """An index without vectors. IndexIDMap and not IDMap2: nothing here looks vectors up by id."""
        return cls(faiss.IndexIDMap(faiss.IndexFlatIP(width)))

    @classmethod
    def map(cls, file: Path) -> AnnIndex:
        """The index in `file`, mapped into memory and not read: to search only."""
        return cls(map_index(file), is_mapped=True)

    @classmethod
    def read(cls, file: Path) -> AnnIndex:
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

    def positions_of(self, ids: Ids) -> NDArray[np.intp]:
        """Where the vectors of those ids (m,), all of which are here, lie: positions (m,) in `rows`."""
        held, order = self._sorted()
        return order[np.searchsorted(held, ids)]

    def vectors_of(self, ids: Ids) -> Vectors:
        """The vectors (m, d) of ids (m,), all of which are here."""
        return self.rows[self.positions_of(ids)]

    def matching(self, _condition: Condition, ids: Callable[[], Ids]) -> Searchable:
        """As `Index` says."""
        return self.only(ids())

    def only(self, ids: Ids) -> Searchable:
        """The part that is of those ids (m,), as far as they are here; it lives no longer than the index."""
        held, _ = self._sorted()
        ids = ids[is_among(ids, held)]
        if len(ids) > _FEW:
            return _Part(self._index, ids)
        few = AnnIndex.empty(self._index.d)
        few.add(ids, self.vectors_of(ids))
        return few

    def without(self, ids: Ids) -> Searchable:
        """The part that is not of those ids (m,); it lives no longer than the index."""
        if not len(ids):
            return self
        return self.only(np.setdiff1d(self.ids, ids))

    def _sorted(self) -> tuple[Ids, NDArray[np.intp]]:
        """The ids in rising order, and where each lies."""
        if self._places is None:
            held = self.ids
            order = np.argsort(held, kind="stable")
            self._places = held[order], order
        return self._places

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Add vectors (n, d) under ids (n,) that are not in the index yet."""
        self._check_changeable()
        self._places = None
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
        self._places = None
        self._index.remove_ids(ids)

    def search(self, queries: Vectors, n: int) -> tuple[Vectors, Ids]:
        """As `Searchable` says."""
        return search(self._index, queries, min(n, len(self)))

    def within(self, query: Vectors, least: float) -> tuple[Vectors, Ids]:
        """As `Searchable` says."""
        return within(self._index, query, least)

    def save(self, file: Path, stamp: Stamp, removed: Ids | None = None) -> None:
        """Write the index; the file appears whole or not at all. `removed` as `files.write` says.

        Raises `OSError`.
        """
        write(self._index, file, stamp, removed=removed)

    def _check_changeable(self) -> None:
        if self._is_mapped:  # FAISS 1.15 crashes the process here
            raise ValueError("a mapped index cannot be changed; read it")


class _Part:
    """Those vectors of an index that are of some ids; FAISS skips the others while it scans."""

    def __init__(self, index: Any, ids: Ids) -> None:
        self._index = index
        self._n = len(ids)
        self._parameters = faiss.SearchParameters(sel=bitmap(ids))

    def __len__(self) -> int:
        return self._n

    def search(self, queries: Vectors, n: int) -> tuple[Vectors, Ids]:
        return search(self._index, queries, min(n, self._n), self._parameters)

    def within(self, query: Vectors, least: float) -> tuple[Vectors, Ids]:
        return within(self._index, query, least, self._parameters)


def is_among(ids: Ids, held: Ids) -> NDArray[np.bool_]:
    """Which of ids (m,) are among the rising `held` (n,): (m,)."""
    if not len(held):
        return np.zeros(len(ids), np.bool_)
    places = np.searchsorted(held, ids)
    found: NDArray[np.bool_] = held[np.minimum(places, len(held) - 1)] == ids
    return found
