"""Indexes of codes: they find candidates, and the vectors themselves put them in order.

So every similarity is the exact one, whatever the codes are; what may be missing is a neighbour.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np
from numpy.typing import NDArray

from simsearch.index.exact import is_in_sorted
from simsearch.index.files import IndexFooter, IndexStamp, map_index, read_index, write_index
from simsearch.index.kinds import KINDS, IndexKind
from simsearch.index.protocol import Ids, Searchable, VectorReader, Vectors, make_id_selector, search_faiss

if TYPE_CHECKING:
    from simsearch.filters import Condition

_SCAN_LIMIT = 512
"""So many vectors are compared as they are."""

_BLOCK_ROWS = 16_384
_MIN_GRAPH_SHARE = 0.1
"""A filter that leaves less than this share breaks a graph apart: its codes are scanned instead."""

_MAX_GRAPH_EFFORT = 4_096

MIN_CANDIDATES = 18
"""Candidates are found for so many answers at least: what a query for ten asks for (`search.hits`)."""


@dataclass(frozen=True, slots=True)
class IndexDetails:
    """How a coded index was built, and what it reached.

    `effort` is how many lists are looked into, or candidates a graph is walked with; `refine` how many candidates an
    answer is chosen from. `recall_at_10` is the share of the ten nearest others of `n_queries` vectors of the
    collection that is found when there were `n_vectors`; `wanted` the one that was asked for. The index
    was trained when there were `n_trained`.
    """

    kind: str
    n_vectors: int
    n_trained: int = 0
    effort: int = 1
    refine: int = 1
    wanted: float = 1.0
    recall_at_10: float = 1.0
    n_queries: int = 0
    build_s: float = 0.0


class QuantizedIndex:
    """Unit vectors known by id, of which codes are held. `rows_of` gives the vectors themselves."""

    def __init__(self, index: Any, facts: IndexDetails, rows_of: VectorReader) -> None:
        self.faiss_index = index
        self.details = facts
        self.kind: IndexKind = KINDS[facts.kind]
        self.vector_reader = rows_of
        self._sorted_ids: Ids | None = None

    @classmethod
    def open_mapped(cls, file: Path, seal: IndexFooter, rows_of: VectorReader) -> QuantizedIndex:
        """The index in `file`, mapped into memory and not read: to search only."""
        return cls(map_index(file), IndexDetails(**seal.facts), rows_of)

    @classmethod
    def read(cls, file: Path, seal: IndexFooter, rows_of: VectorReader) -> QuantizedIndex:
        """The index in `file`, read into memory: to be extended."""
        return cls(read_index(file), IndexDetails(**seal.facts), rows_of)

    def save(self, file: Path, stamp: IndexStamp) -> None:
        """Write the index; the file appears whole or not at all. Raises `OSError`."""
        write_index(self.faiss_index, file, stamp, facts=dataclasses.asdict(self.details))

    def __len__(self) -> int:
        return int(self.faiss_index.ntotal)

    @property
    def ids(self) -> Ids:
        """The ids of the vectors, rising."""
        if self._sorted_ids is None:
            self._sorted_ids = np.sort(self._read_list_ids() if self.kind.family == "ivf" else self._read_id_map())
        return self._sorted_ids

    @property
    def notes(self) -> tuple[str, ...]:
        """That its answers are approximate, and how much so."""
        facts = self.details
        return (
            f"approximate: {facts.kind} index, recall@10 {facts.recall_at_10:.3f} (measured with {facts.n_queries} of "
            f"{facts.n_vectors:,} vectors); exact: `simsearch rebuild --index-kind flat`",
        )

    def read_vectors(self, ids: Ids) -> Vectors:
        """The vectors (m, d) of ids (m,), all of which are here."""
        return self.vector_reader(ids)

    def select_matching(self, _condition: Condition, ids: Callable[[], Ids]) -> Searchable:
        """As `Index` says."""
        return self.select(ids())

    def select(self, ids: Ids) -> Searchable:
        """The part that is of those ids (m,), as far as they are here."""
        return QuantizedSubset(self, ids[is_in_sorted(ids, self.ids)])

    def exclude(self, ids: Ids) -> Searchable:
        """The part that is not of those ids (m,)."""
        return QuantizedSubset(self, np.setdiff1d(self.ids, ids)) if len(ids) else self

    def search(self, queries: Vectors, n: int) -> tuple[Vectors, Ids]:
        """As `Searchable` says, but that neighbours may be missed."""
        return self.search_subset(queries, n, None)

    def range_search(self, query: Vectors, least: float) -> tuple[Vectors, Ids]:
        """As `Searchable` says, none missed: all vectors are read for it, block by block."""
        return range_search_vectors(query, least, self.ids, self.vector_reader)

    def search_subset(self, queries: Vectors, n: int, part: QuantizedSubset | None) -> tuple[Vectors, Ids]:
        """The n nearest of a part, or of all: exact where few are left or many are wanted."""
        n_there = len(self) if part is None else len(part)
        n, n_candidates = min(n, n_there), max(n, MIN_CANDIDATES) * self.details.refine
        if n_there > _SCAN_LIMIT and 2 * n_candidates < n_there:
            similarities, candidates = self._find_candidates(queries, n_candidates, part)
            if (candidates >= 0).all():  # else a graph that a filter broke apart
                if self.kind.has_full_vectors:
                    return similarities[:, :n], candidates[:, :n]
                return self._rank_candidates(queries, candidates, n)
        return search_vectors(queries, n, self.ids if part is None else part.ids, self.vector_reader)

    def _find_candidates(self, queries: Vectors, n: int, part: QuantizedSubset | None) -> tuple[Vectors, Ids]:
        """What the codes say is nearest, (q, n) each; the id -1 where fewer were found with all effort."""
        if self.kind.family == "flat":
            return search_faiss(self.faiss_index, queries, n, _make_flat_parameters(part))
        share = 1.0 if part is None else len(part) / len(self)
        if part is not None and self.kind.family == "hnsw" and share < _MIN_GRAPH_SHARE:
            return self._scan_codes(queries, n, part)
        # As many candidates pass the filter as there would be without one.
        return self._search_with_effort(queries, n, part, int(np.ceil(self.details.effort / share)))

    def _search_with_effort(
        self, queries: Vectors, n: int, part: QuantizedSubset | None, effort: int
    ) -> tuple[Vectors, Ids]:
        """As `_candidates`; queries that find fewer than n are asked again with more effort, and they alone."""
        effort = min(effort, self._max_effort)
        similarities, ids = search_faiss(self.faiss_index, queries, n, self._make_parameters(effort, part))
        short = (ids < 0).any(axis=1)
        if short.any() and effort < self._max_effort:
            similarities[short], ids[short] = self._search_with_effort(queries[short], n, part, 4 * effort)
        return similarities, ids

    @property
    def _max_effort(self) -> int:
        return int(self.faiss_index.nlist) if self.kind.family == "ivf" else _MAX_GRAPH_EFFORT

    def _make_parameters(self, effort: int, part: QuantizedSubset | None) -> Any:
        selector = None if part is None else part.selector
        if self.kind.family == "ivf":
            return faiss.SearchParametersIVF(nprobe=effort, sel=selector)
        return faiss.SearchParametersHNSW(efSearch=effort, sel=selector)

    def _scan_codes(self, queries: Vectors, n: int, part: QuantizedSubset) -> tuple[Vectors, Ids]:
        """As `_candidates`, over the codes that a graph joins."""
        ids = self._read_id_map()
        seen = faiss.SearchParameters(sel=make_id_selector(np.flatnonzero(is_in_sorted(ids, part.ids))))
        similarities, found = search_faiss(faiss.downcast_index(self.faiss_index.index).storage, queries, n, seen)
        return similarities, np.where(found < 0, -1, ids[found])

    def _rank_candidates(self, queries: Vectors, candidates: Ids, n: int) -> tuple[Vectors, Ids]:
        similarities, ids = np.empty((len(queries), n), np.float32), np.empty((len(queries), n), np.int64)
        for row, (query, some) in enumerate(zip(queries, candidates, strict=True)):
            exact = (self.vector_reader(some) @ query).clip(-1, 1)
            order = np.argsort(-exact, kind="stable")[:n]
            similarities[row], ids[row] = exact[order], some[order]
        return similarities, ids

    def _read_id_map(self) -> Ids:
        ids: Ids = faiss.vector_to_array(self.faiss_index.id_map)
        return ids

    def _read_list_ids(self) -> Ids:
        lists = self.faiss_index.invlists
        sizes = [lists.list_size(at) for at in range(lists.nlist)]
        parts = [faiss.rev_swig_ptr(lists.get_ids(at), size) for at, size in enumerate(sizes) if size]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)


class QuantizedSubset:
    """Those vectors of a coded index that are of some rising ids."""

    def __init__(self, index: QuantizedIndex, ids: Ids) -> None:
        self._index = index
        self.ids = ids
        self.selector = make_id_selector(ids) if len(ids) else None

    def __len__(self) -> int:
        return len(self.ids)

    def search(self, queries: Vectors, n: int) -> tuple[Vectors, Ids]:
        """As `Searchable` says, but that neighbours may be missed."""
        return self._index.search_subset(queries, n, self)

    def range_search(self, query: Vectors, least: float) -> tuple[Vectors, Ids]:
        """As `Searchable` says, none missed."""
        return range_search_vectors(query, least, self.ids, self._index.vector_reader)


def _make_flat_parameters(part: QuantizedSubset | None) -> Any:
    return None if part is None else faiss.SearchParameters(sel=part.selector)


def search_vectors(queries: Vectors, n: int, ids: Ids, rows_of: VectorReader) -> tuple[Vectors, Ids]:
    """The n nearest of ids (m,), exactly, the vectors read block by block; as `Searchable.search` says."""
    similarities = np.empty((len(queries), len(ids)), np.float32)
    for start, rows in _iterate_blocks(ids, rows_of):
        similarities[:, start : start + len(rows)] = queries @ rows.T
    order = _find_highest(similarities, n)
    return np.take_along_axis(similarities, order, 1).clip(-1, 1), ids[order]


def range_search_vectors(query: Vectors, least: float, ids: Ids, rows_of: VectorReader) -> tuple[Vectors, Ids]:
    """Those of ids (m,) that are more similar to a query (d,) than `least`; as `Searchable.within` says."""
    similarities = np.empty(len(ids), np.float32)
    for start, rows in _iterate_blocks(ids, rows_of):
        similarities[start : start + len(rows)] = rows @ query
    above = similarities > least
    return similarities[above].clip(-1, 1), ids[above]


def _iterate_blocks(ids: Ids, rows_of: VectorReader) -> Iterator[tuple[int, Vectors]]:
    for start in range(0, len(ids), _BLOCK_ROWS):
        yield start, rows_of(ids[start : start + _BLOCK_ROWS])


def _find_highest(similarities: Vectors, n: int) -> NDArray[np.intp]:
    """The columns (q, n) of the highest similarities of each row, falling."""
    if n < similarities.shape[1]:
        few = np.argpartition(-similarities, n - 1, axis=1)[:, :n] if n else np.empty((len(similarities), 0), np.intp)
    else:
        few = np.broadcast_to(np.arange(similarities.shape[1]), similarities.shape)
    order = np.argsort(-np.take_along_axis(similarities, few, 1), axis=1, kind="stable")
    return np.take_along_axis(few, order, 1)
