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

from simsearch.index.exact import is_among
from simsearch.index.files import Seal, Stamp, map_index, read_index, write
from simsearch.index.kinds import KINDS, Kind
from simsearch.index.protocol import Ids, RowsOf, Searchable, Vectors, bitmap, search

if TYPE_CHECKING:
    from simsearch.filters import Condition

_FEW = 512
"""So many vectors are compared as they are."""

_BLOCK = 16_384
_SPARSE = 0.1
"""A filter that leaves less than this share breaks a graph apart: its codes are scanned instead."""

_MOST_EFFORT = 4_096

LEAST_ASKED = 18
"""Candidates are found for so many answers at least: what a query for ten asks for (`search.hits`)."""


@dataclass(frozen=True, slots=True)
class Facts:
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


class CodedIndex:
    """Unit vectors known by id, of which codes are held. `rows_of` gives the vectors themselves."""

    def __init__(self, index: Any, facts: Facts, rows_of: RowsOf) -> None:
        self.faiss = index
        self.facts = facts
        self.kind: Kind = KINDS[facts.kind]
        self.rows_of = rows_of
        self._sorted_ids: Ids | None = None

    @classmethod
    def map(cls, file: Path, seal: Seal, rows_of: RowsOf) -> CodedIndex:
        """The index in `file`, mapped into memory and not read: to search only."""
        return cls(map_index(file), Facts(**seal.facts), rows_of)

    @classmethod
    def read(cls, file: Path, seal: Seal, rows_of: RowsOf) -> CodedIndex:
        """The index in `file`, read into memory: to be extended."""
        return cls(read_index(file), Facts(**seal.facts), rows_of)

    def save(self, file: Path, stamp: Stamp) -> None:
        """Write the index; the file appears whole or not at all. Raises `OSError`."""
        write(self.faiss, file, stamp, facts=dataclasses.asdict(self.facts))

    def __len__(self) -> int:
        return int(self.faiss.ntotal)

    @property
    def ids(self) -> Ids:
        """The ids of the vectors, rising."""
        if self._sorted_ids is None:
            self._sorted_ids = np.sort(self._ids_in_lists() if self.kind.family == "ivf" else self._ids_in_order())
        return self._sorted_ids

    @property
    def notes(self) -> tuple[str, ...]:
        """That its answers are approximate, and how much so."""
        facts = self.facts
        return (
            f"approximate: {facts.kind} index, recall@10 {facts.recall_at_10:.3f} (measured with {facts.n_queries} of "
            f"{facts.n_vectors:,} vectors); exact: `simsearch rebuild --index-kind flat`",
        )

    def vectors_of(self, ids: Ids) -> Vectors:
        """The vectors (m, d) of ids (m,), all of which are here."""
        return self.rows_of(ids)

    def matching(self, _condition: Condition, ids: Callable[[], Ids]) -> Searchable:
        """As `Index` says."""
        return self.only(ids())

    def only(self, ids: Ids) -> Searchable:
        """The part that is of those ids (m,), as far as they are here."""
        return CodedPart(self, ids[is_among(ids, self.ids)])

    def without(self, ids: Ids) -> Searchable:
        """The part that is not of those ids (m,)."""
        return CodedPart(self, np.setdiff1d(self.ids, ids)) if len(ids) else self

    def search(self, queries: Vectors, n: int) -> tuple[Vectors, Ids]:
        """As `Searchable` says, but that neighbours may be missed."""
        return self.search_part(queries, n, None)

    def within(self, query: Vectors, least: float) -> tuple[Vectors, Ids]:
        """As `Searchable` says, none missed: all vectors are read for it, block by block."""
        return within_rows(query, least, self.ids, self.rows_of)

    def search_part(self, queries: Vectors, n: int, part: CodedPart | None) -> tuple[Vectors, Ids]:
        """The n nearest of a part, or of all: exact where few are left or many are wanted."""
        n_there = len(self) if part is None else len(part)
        n, n_candidates = min(n, n_there), max(n, LEAST_ASKED) * self.facts.refine
        if n_there > _FEW and 2 * n_candidates < n_there:
            similarities, candidates = self._candidates(queries, n_candidates, part)
            if (candidates >= 0).all():  # else a graph that a filter broke apart
                if self.kind.holds_vectors:
                    return similarities[:, :n], candidates[:, :n]
                return self._in_order(queries, candidates, n)
        return nearest_rows(queries, n, self.ids if part is None else part.ids, self.rows_of)

    def _candidates(self, queries: Vectors, n: int, part: CodedPart | None) -> tuple[Vectors, Ids]:
        """What the codes say is nearest, (q, n) each; the id -1 where fewer were found with all effort."""
        if self.kind.family == "flat":
            return search(self.faiss, queries, n, _plain(part))
        share = 1.0 if part is None else len(part) / len(self)
        if part is not None and self.kind.family == "hnsw" and share < _SPARSE:
            return self._scanned(queries, n, part)
        # As many candidates pass the filter as there would be without one.
        return self._with_effort(queries, n, part, int(np.ceil(self.facts.effort / share)))

    def _with_effort(self, queries: Vectors, n: int, part: CodedPart | None, effort: int) -> tuple[Vectors, Ids]:
        """As `_candidates`; queries that find fewer than n are asked again with more effort, and they alone."""
        effort = min(effort, self._most_effort)
        similarities, ids = search(self.faiss, queries, n, self._parameters(effort, part))
        short = (ids < 0).any(axis=1)
        if short.any() and effort < self._most_effort:
            similarities[short], ids[short] = self._with_effort(queries[short], n, part, 4 * effort)
        return similarities, ids

    @property
    def _most_effort(self) -> int:
        return int(self.faiss.nlist) if self.kind.family == "ivf" else _MOST_EFFORT

    def _parameters(self, effort: int, part: CodedPart | None) -> Any:
        selector = None if part is None else part.selector
        if self.kind.family == "ivf":
            return faiss.SearchParametersIVF(nprobe=effort, sel=selector)
        return faiss.SearchParametersHNSW(efSearch=effort, sel=selector)

    def _scanned(self, queries: Vectors, n: int, part: CodedPart) -> tuple[Vectors, Ids]:
        """As `_candidates`, over the codes that a graph joins."""
        ids = self._ids_in_order()
        seen = faiss.SearchParameters(sel=bitmap(np.flatnonzero(is_among(ids, part.ids))))
        similarities, found = search(faiss.downcast_index(self.faiss.index).storage, queries, n, seen)
        return similarities, np.where(found < 0, -1, ids[found])

    def _in_order(self, queries: Vectors, candidates: Ids, n: int) -> tuple[Vectors, Ids]:
        similarities, ids = np.empty((len(queries), n), np.float32), np.empty((len(queries), n), np.int64)
        for row, (query, some) in enumerate(zip(queries, candidates, strict=True)):
            exact = (self.rows_of(some) @ query).clip(-1, 1)
            order = np.argsort(-exact, kind="stable")[:n]
            similarities[row], ids[row] = exact[order], some[order]
        return similarities, ids

    def _ids_in_order(self) -> Ids:
        ids: Ids = faiss.vector_to_array(self.faiss.id_map)
        return ids

    def _ids_in_lists(self) -> Ids:
        lists = self.faiss.invlists
        sizes = [lists.list_size(at) for at in range(lists.nlist)]
        parts = [faiss.rev_swig_ptr(lists.get_ids(at), size) for at, size in enumerate(sizes) if size]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)


class CodedPart:
    """Those vectors of a coded index that are of some rising ids."""

    def __init__(self, index: CodedIndex, ids: Ids) -> None:
        self._index = index
        self.ids = ids
        self.selector = bitmap(ids) if len(ids) else None

    def __len__(self) -> int:
        return len(self.ids)

    def search(self, queries: Vectors, n: int) -> tuple[Vectors, Ids]:
        """As `Searchable` says, but that neighbours may be missed."""
        return self._index.search_part(queries, n, self)

    def within(self, query: Vectors, least: float) -> tuple[Vectors, Ids]:
        """As `Searchable` says, none missed."""
        return within_rows(query, least, self.ids, self._index.rows_of)


def _plain(part: CodedPart | None) -> Any:
    return None if part is None else faiss.SearchParameters(sel=part.selector)


def nearest_rows(queries: Vectors, n: int, ids: Ids, rows_of: RowsOf) -> tuple[Vectors, Ids]:
    """The n nearest of ids (m,), exactly, the vectors read block by block; as `Searchable.search` says."""
    similarities = np.empty((len(queries), len(ids)), np.float32)
    for start, rows in _blocks(ids, rows_of):
        similarities[:, start : start + len(rows)] = queries @ rows.T
    order = _highest(similarities, n)
    return np.take_along_axis(similarities, order, 1).clip(-1, 1), ids[order]


def within_rows(query: Vectors, least: float, ids: Ids, rows_of: RowsOf) -> tuple[Vectors, Ids]:
    """Those of ids (m,) that are more similar to a query (d,) than `least`; as `Searchable.within` says."""
    similarities = np.empty(len(ids), np.float32)
    for start, rows in _blocks(ids, rows_of):
        similarities[start : start + len(rows)] = rows @ query
    above = similarities > least
    return similarities[above].clip(-1, 1), ids[above]


def _blocks(ids: Ids, rows_of: RowsOf) -> Iterator[tuple[int, Vectors]]:
    for start in range(0, len(ids), _BLOCK):
        yield start, rows_of(ids[start : start + _BLOCK])


def _highest(similarities: Vectors, n: int) -> NDArray[np.intp]:
    """The columns (q, n) of the highest similarities of each row, falling."""
    if n < similarities.shape[1]:
        few = np.argpartition(-similarities, n - 1, axis=1)[:, :n] if n else np.empty((len(similarities), 0), np.intp)
    else:
        few = np.broadcast_to(np.arange(similarities.shape[1]), similarities.shape)
    order = np.argsort(-np.take_along_axis(similarities, few, 1), axis=1, kind="stable")
    return np.take_along_axis(few, order, 1)
