"""The exact index: all vectors unquantized, in memory or memory-mapped from a file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np
from numpy.typing import NDArray

from simsearch.index.faiss_calls import make_id_selector, range_search_faiss, search_faiss
from simsearch.index.files import IndexStamp, map_index, read_index, write_index
from simsearch.index.int8_scan import Int8Scan, share_scan
from simsearch.index.integrity import FileCheck
from simsearch.index.protocol import Ids, Searchable, Vectors

if TYPE_CHECKING:
    from simsearch.filters import Condition

_COPY_LIMIT = 512
"""A subset of up to this many vectors is copied into an index of its own; for a larger one FAISS skips the others."""


_MIN_SCAN_ROWS, _MAX_SCAN_BYTES = 10_000, 256 << 20
"""An index of so many vectors, up to so many dimensions in all, gets int8 codes with its second query: four times as
fast, for a byte of memory a dimension. One query alone is sooner answered without them."""


class ExactIndex:
    """Exact inner-product search over unit vectors with the catalog's view ids."""

    def __init__(
        self, index: faiss.IndexIDMap, *, is_mapped: bool = False, file_check: FileCheck | None = None
    ) -> None:
        self._index = index
        self._file_check = file_check
        self._is_mapped = is_mapped
        self._sorted_positions: tuple[Ids, NDArray[np.intp]] | None = None
        self._n_searches = 0
        self._scan: tuple[Int8Scan, Ids] | None = None
        self._file_state: tuple[int, ...] | None = None

    @classmethod
    def create_empty(cls, width: int) -> ExactIndex:
        """Create an index without vectors. IndexIDMap suffices: IndexIDMap2 would also find a vector by its id."""
        return cls(faiss.IndexIDMap(faiss.IndexFlatIP(width)))

    @classmethod
    def open_mapped(cls, file: Path, file_check: FileCheck | None = None) -> ExactIndex:
        """Open the index in `file` memory-mapped, for searching only."""
        state = _read_state(file)
        opened = cls(map_index(file), is_mapped=True, file_check=file_check)
        opened._file_state = state if _read_state(file) == state else None  # it may have been replaced meanwhile
        return opened

    @classmethod
    def read(cls, file: Path) -> ExactIndex:
        """Read the index in `file` into memory, for changing it."""
        return cls(read_index(file))

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def width(self) -> int:
        """The number of dimensions of the vectors."""
        return int(self._index.d)

    @property
    def notes(self) -> tuple[str, ...]:
        """As `Index` says."""
        return () if self._file_check is None else self._file_check.notes

    @property
    def is_damaged(self) -> bool:
        """Whether the file of the index is known to be damaged."""
        return self._file_check is not None and self._file_check.is_damaged

    @property
    def ids(self) -> Ids:
        """The ids of the vectors, in the order of `rows`."""
        ids: Ids = faiss.vector_to_array(self._index.id_map)
        return ids

    @property
    def vectors(self) -> Vectors:
        """A copy of the vectors (n, d), float32, in the order of `ids`."""
        rows: Vectors = self._index.index.reconstruct_n(0, len(self))
        return rows

    @property
    def rows(self) -> Vectors:
        """A read-only view of the vectors (n, d), float32, in the order of `ids`; valid as long as the index lives."""
        flat = faiss.downcast_index(self._index.index)
        if not len(self):
            return np.empty((0, flat.d), np.float32)
        rows: Vectors = faiss.rev_swig_ptr(flat.get_xb(), len(self) * flat.d).reshape(len(self), flat.d)
        rows.flags.writeable = False
        return rows

    def find_positions(self, ids: Ids) -> NDArray[np.intp]:
        """Find the positions (m,) in `rows` of ids (m,), all of which are in the index."""
        held, order = self._sort_ids()
        return order[np.searchsorted(held, ids)]

    def read_vectors(self, ids: Ids) -> Vectors:
        """Read the vectors (m, d) of ids (m,), all of which are in the index."""
        return self.rows[self.find_positions(ids)]

    def select_matching(self, _condition: Condition, find_ids: Callable[[], Ids]) -> Searchable:
        """As `Index` says."""
        return self.select(find_ids())

    def select(self, ids: Ids) -> Searchable:
        """Select the vectors with these ids (m,); unknown ids are ignored. Valid as long as the index lives."""
        held, _ = self._sort_ids()
        ids = ids[is_in_sorted(ids, held)]
        if len(ids) > _COPY_LIMIT:
            return _ExactSubset(self._index, ids)
        few = ExactIndex.create_empty(self._index.d)
        few.add(ids, self.read_vectors(ids))
        return few

    def exclude(self, ids: Ids) -> Searchable:
        """Select the vectors without those of these ids (m,). Valid as long as the index lives."""
        if not len(ids):
            return self
        return self.select(exclude_ids(sort_ids(self.ids), ids))

    def _sort_ids(self) -> tuple[Ids, NDArray[np.intp]]:
        """The ids in ascending order, and the position of each in `rows`."""
        if self._sorted_positions is None:
            held = self.ids
            order = np.argsort(held, kind="stable")
            self._sorted_positions = held[order], order
        return self._sorted_positions

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Add vectors (n, d) with ids (n,) that are not in the index yet."""
        self._check_changeable()
        self._sorted_positions = None
        self._index.add_with_ids(np.ascontiguousarray(vectors), ids)

    def reserve(self, n: int) -> None:
        """Reserve memory for n more vectors at once; growing block by block would hold the vectors twice."""
        self._check_changeable()
        flat = faiss.downcast_index(self._index.index)
        size = flat.codes.size()
        flat.codes.resize(size + n * flat.code_size)
        flat.codes.resize(size)  # the memory stays allocated

    def remove(self, ids: Ids) -> None:
        """Remove vectors by id."""
        self._check_changeable()
        self._sorted_positions = None
        self._index.remove_ids(ids)

    def search(self, queries: Vectors, n: int) -> tuple[Vectors, Ids]:
        """As `Searchable` says."""
        n = min(n, len(self))
        if n and len(queries) == 1 and (scan := self._find_scan()) is not None:
            codes, ids = scan
            found = codes.search(np.ascontiguousarray(queries[0]), n, self.rows)
            if found is not None:
                similarities, positions = found
                return similarities[None].clip(-1, 1), ids[positions][None]
        return search_faiss(self._index, queries, n)

    def _find_scan(self) -> tuple[Int8Scan, Ids] | None:
        """The codes of the vectors with their ids; None where they do not pay. They are made for the second query."""
        self._n_searches += 1
        if self._scan is not None and len(self._scan[1]) == len(self):
            return self._scan if self._scan[0].is_useful else None
        n = len(self)
        if self._n_searches < 2 or n < _MIN_SCAN_ROWS or n * self.width > _MAX_SCAN_BYTES or not self._is_mapped:
            return None
        codes = Int8Scan(self.rows) if self._file_state is None else share_scan(self._file_state, self.rows)
        self._scan = codes, self.ids
        return self._scan

    def range_search(self, query: Vectors, min_similarity: float) -> tuple[Vectors, Ids]:
        """As `Searchable` says."""
        return range_search_faiss(self._index, query, min_similarity)

    def save(self, file: Path, stamp: IndexStamp, removed: Ids | None = None) -> None:
        """Write the index to a file, atomically; `removed` as `files.write_index` says.

        Raises `OSError`.
        """
        write_index(self._index, file, stamp, removed=removed)

    def _check_changeable(self) -> None:
        if self._is_mapped:  # FAISS 1.15 crashes the process here
            raise ValueError("a memory-mapped index cannot be changed; open it with read()")


def _read_state(file: Path) -> tuple[int, ...]:
    status = os.stat(file)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class _ExactSubset:
    """The vectors of an index with given ids; FAISS skips the others during its scan."""

    def __init__(self, index: Any, ids: Ids) -> None:
        self._index = index
        self._n = len(ids)
        self._parameters = faiss.SearchParameters(sel=make_id_selector(ids))

    def __len__(self) -> int:
        return self._n

    def search(self, queries: Vectors, n: int) -> tuple[Vectors, Ids]:
        return search_faiss(self._index, queries, min(n, self._n), self._parameters)

    def range_search(self, query: Vectors, min_similarity: float) -> tuple[Vectors, Ids]:
        return range_search_faiss(self._index, query, min_similarity, self._parameters)


def is_in_sorted(ids: Ids, sorted_ids: Ids) -> NDArray[np.bool_]:
    """Whether each of ids (m,) is among the ascending `sorted_ids` (n,): booleans (m,)."""
    if not len(sorted_ids):
        return np.zeros(len(ids), np.bool_)
    positions = np.searchsorted(sorted_ids, ids)
    found: NDArray[np.bool_] = sorted_ids[np.minimum(positions, len(sorted_ids) - 1)] == ids
    return found


def exclude_ids(ids: Ids, excluded: Ids) -> Ids:
    """The ids (n,) that are not among some others (m,), in their order; `np.setdiff1d` takes ten times as long."""
    return ids[~is_in_sorted(ids, sort_ids(excluded))]


def sort_ids(ids: Ids) -> Ids:
    """The ids (n,) ascending; mostly they are already, which a tenth of the time of sorting shows."""
    return ids if (ids[1:] >= ids[:-1]).all() else np.sort(ids)


def compare_ids(held: Ids, wanted: Ids) -> tuple[Ids, Ids]:
    """Find the wanted ids that are not held, and the held ids that are not wanted; both arrays ascend."""
    n = min(len(held), len(wanted))
    differs = held[:n] != wanted[:n]
    start = int(differs.argmax()) if differs.any() else n  # mostly ids are added at the end
    held, wanted = held[start:], wanted[start:]
    return exclude_ids(wanted, held), exclude_ids(held, wanted)
