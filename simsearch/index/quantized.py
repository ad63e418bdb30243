"""Quantized indexes: their codes find candidates, and the vectors in 16 bits a dimension rank the candidates.

Every similarity is therefore precise to about 3e-6, whatever the codes are; only a neighbor may be missing. Full
vectors, and a graph of float16, rank by themselves: float16 changes a similarity by up to 5e-4, typically by 2e-5.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import faiss
import numpy as np
from numpy.typing import NDArray

from simsearch.index.exact import exclude_ids, is_in_sorted
from simsearch.index.faiss_calls import add_to_faiss, make_excluding_selector, make_id_selector, search_faiss
from simsearch.index.files import IndexFooter, IndexStamp, map_index, read_index, write_index
from simsearch.index.info import IndexDetails
from simsearch.index.integrity import FileCheck
from simsearch.index.kinds import KINDS, IndexKind
from simsearch.index.protocol import Ids, Searchable, VectorReader, Vectors
from simsearch.index.vector_file import CandidateReader, VectorFile

if TYPE_CHECKING:
    from simsearch.filters import Condition

_SCAN_LIMIT = 512
"""Up to this number of vectors is searched exactly with the vectors."""

_BLOCK_ROWS = 16_384
_MIN_GRAPH_SHARE = 0.1
"""A filter that admits less than this share disconnects a graph: its codes are scanned instead."""

_MAX_GRAPH_EFFORT = 4_096

CENTERS_EFFORT = 32
"""The search effort of the graph that finds the lists of a vector, where there is one. With FAISS's 16 vectors are put
into lists in which no query looks for them: of a million in 4,096 lists at most 0.975 of the neighbors were found. Of
40,000 vectors 0.997 came into the list of the nearest of 16,384 centers, in half the time of a scan of the centers."""

_CENTERS_EFFORT_PER_LIST = 2
"""The same for the lists of a query. FAISS's graph finds hardly more than its effort: with 32 a query that asked for
1,600 of 4,096 lists got 240 of them, and a filter that admits 0.5 % found 0.963 of its neighbors instead of 0.999."""

MIN_CANDIDATES = 18
"""Candidates are found for at least this many results: what `search.ranking` requests for ten hits."""


@dataclass(frozen=True, slots=True)
class VectorReaders:
    """Two ways to read the vectors (m, d) of ids (m,).

    `full` reads them from the catalog as they were recorded, `ranking` what candidates are ranked by.
    """

    full: VectorReader
    ranking: VectorReader

    @classmethod
    def from_file(cls, full: VectorReader, vectors: VectorFile | None) -> Self:
        """Rank by the rows of a vector file, or by the full vectors where there is none."""
        return cls(full, full if vectors is None else CandidateReader(vectors, full))

    @property
    def is_damaged(self) -> bool:
        """Whether the vector file is known to be damaged."""
        return isinstance(self.ranking, CandidateReader) and self.ranking.vectors.is_damaged


class QuantizedIndex:
    """Unit vectors with ids, held as codes."""

    def __init__(
        self, faiss_index: Any, details: IndexDetails, readers: VectorReaders, file_check: FileCheck | None = None
    ) -> None:
        self.faiss_index = faiss_index
        self.details = details
        self.kind: IndexKind = KINDS[details.kind]
        self.readers = readers
        self._file_check = file_check
        self._sorted_ids: Ids | None = None
        self._vector_file: VectorFile | None = None
        self._usual_parameters: tuple[int, Any] | None = None

    @classmethod
    def open_mapped(
        cls, file: Path, footer: IndexFooter, readers: VectorReaders, file_check: FileCheck | None = None
    ) -> QuantizedIndex:
        """Open the index in `file` memory-mapped, for searching only."""
        return cls(map_index(file), IndexDetails(**footer.facts), readers, file_check)

    @classmethod
    def read(cls, file: Path, footer: IndexFooter, readers: VectorReaders) -> QuantizedIndex:
        """Read the index in `file` into memory, for extending it."""
        return cls(read_index(file), IndexDetails(**footer.facts), readers)

    def rank_by(self, full: VectorReader, vectors: VectorFile | None) -> None:
        """Rank candidates by a vector file of the same vectors; it lists their ids, too, if they are consecutive."""
        self.readers = VectorReaders.from_file(full, vectors)
        self._vector_file = vectors if vectors is not None and vectors.has_consecutive_ids else None

    def save(self, file: Path, stamp: IndexStamp) -> None:
        """Write the index to a file, atomically. Raises `OSError`."""
        write_index(self.faiss_index, file, stamp, facts=asdict(self.details))

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Add vectors (n, d) with ids (n,) that are not in the index yet; its file must not be mapped."""
        self._sorted_ids, self._vector_file = None, None
        add_to_faiss(self.faiss_index, ids, vectors)

    def measure_bytes(self) -> int:
        """The size of its file, of an index that is small."""
        return len(faiss.serialize_index(self.faiss_index))

    def __len__(self) -> int:
        return int(self.faiss_index.ntotal)

    @property
    def width(self) -> int:
        """The number of dimensions of the vectors."""
        return int(self.faiss_index.d)

    @property
    def ids(self) -> Ids:
        """The ids of the vectors, ascending."""
        if self._sorted_ids is None and self._vector_file is not None:
            self._sorted_ids = self._vector_file.ids
        elif self._sorted_ids is None:
            self._sorted_ids = np.sort(self._read_list_ids() if self.kind.family == "ivf" else self._read_id_map())
        return self._sorted_ids

    @property
    def notes(self) -> tuple[str, ...]:
        """A note that results are approximate, with the measured recall, and a note about the file where it is due."""
        details = self.details
        return (
            *(() if self._file_check is None else self._file_check.notes),
            f"approximate: {details.kind} index, recall@10 {details.recall_at_10:.3f} (measured with "
            f"{details.n_queries} of {details.n_vectors:,} vectors); exact: `simsearch rebuild --index-kind flat`",
        )

    @property
    def is_damaged(self) -> bool:
        """Whether a file of the index is known to be damaged."""
        return (self._file_check is not None and self._file_check.is_damaged) or self.readers.is_damaged

    def read_vectors(self, ids: Ids) -> Vectors:
        """Read the vectors (m, d) of ids (m,), all of which are in the index."""
        return self.readers.full(ids)

    def select_matching(self, _condition: Condition, find_ids: Callable[[], Ids]) -> Searchable:
        """As `Index` says."""
        return self.select(find_ids())

    def select(self, ids: Ids) -> Searchable:
        """Select the vectors with these ids (m,); ids that are not in the index are ignored."""
        ids = ids[is_in_sorted(ids, self.ids)]
        return QuantizedSubset(self, len(ids), make_id_selector(ids) if len(ids) else None, lambda: ids)

    def exclude(self, ids: Ids) -> Searchable:
        """Select the vectors without those of these ids (m,), all of which are in the index."""
        if not len(ids):
            return self
        selector = make_excluding_selector(ids)
        return QuantizedSubset(self, len(self) - len(ids), selector, lambda: exclude_ids(self.ids, ids))

    def search(self, queries: Vectors, n: int) -> tuple[Vectors, Ids]:
        """As `Searchable` says, except that neighbors may be missing."""
        return self.search_subset(queries, n, None)

    def range_search(self, query: Vectors, min_similarity: float) -> tuple[Vectors, Ids]:
        """As `Searchable` says, complete: all vectors are read, block by block."""
        return range_search_vectors(query, min_similarity, self.ids, self.readers.ranking)

    def search_subset(self, queries: Vectors, n: int, subset: QuantizedSubset | None) -> tuple[Vectors, Ids]:
        """Search a subset, or the whole index (None); exactly where the subset is small or many results are wanted."""
        n_vectors = len(self) if subset is None else len(subset)
        n, n_candidates = min(n, n_vectors), max(n, MIN_CANDIDATES) * self.details.refine
        if n_vectors > _SCAN_LIMIT and 2 * n_candidates < n_vectors:
            similarities, candidates = self._find_candidates(queries, n_candidates, subset)
            if (candidates[:, -1] >= 0).all():  # otherwise the filter has disconnected the graph
                if self.kind.has_precise_codes:
                    return similarities[:, :n], candidates[:, :n]
                return self._rank_candidates(queries, candidates, n)
        return search_vectors(queries, n, self.ids if subset is None else subset.ids, self.readers.ranking)

    def _find_candidates(self, queries: Vectors, n: int, subset: QuantizedSubset | None) -> tuple[Vectors, Ids]:
        """Find the n nearest by their codes, (q, n) each; the id is -1 where even the highest effort finds fewer."""
        if self.kind.family == "flat":
            return search_faiss(self.faiss_index, queries, n, _make_flat_parameters(subset))
        share = 1.0 if subset is None else len(subset) / len(self)
        if subset is not None and self.kind.family == "hnsw" and share < _MIN_GRAPH_SHARE:
            return self._scan_codes(queries, n, subset)
        # With this effort as many candidates pass the filter as without a filter.
        return self._search_with_effort(queries, n, subset, int(np.ceil(self.details.effort / share)))

    def _search_with_effort(
        self, queries: Vectors, n: int, subset: QuantizedSubset | None, effort: int
    ) -> tuple[Vectors, Ids]:
        """As `_find_candidates`; queries that find fewer than n are searched again with a higher effort."""
        effort = min(effort, self._max_effort)
        similarities, ids = search_faiss(self.faiss_index, queries, n, self._make_parameters(effort, subset))
        if effort < self._max_effort and (short := ids[:, -1] < 0).any():  # FAISS fills up with -1
            similarities[short], ids[short] = self._search_with_effort(queries[short], n, subset, 4 * effort)
        return similarities, ids

    @property
    def _max_effort(self) -> int:
        return int(self.faiss_index.nlist) if self.kind.family == "ivf" else _MAX_GRAPH_EFFORT

    def _make_parameters(self, effort: int, subset: QuantizedSubset | None) -> Any:
        """Make the parameters of a search; those without a filter are kept, as making them takes 10 us."""
        if subset is None and self._usual_parameters is not None and self._usual_parameters[0] == effort:
            return self._usual_parameters[1]
        selector = None if subset is None else subset.selector
        if self.kind.family == "ivf":
            made = faiss.SearchParametersIVF(nprobe=effort, sel=selector, **self._make_centers_parameters(effort))
        else:
            made = faiss.SearchParametersHNSW(efSearch=effort, sel=selector)
        if subset is None:
            self._usual_parameters = effort, made
        return made

    def _make_centers_parameters(self, n_lists: int) -> dict[str, Any]:
        """Make the parameters of the search for the nearest lists, where a graph finds them."""
        if not self._has_graph_of_centers:
            return {}
        return {
            "quantizer_params": faiss.SearchParametersHNSW(
                efSearch=max(CENTERS_EFFORT, _CENTERS_EFFORT_PER_LIST * n_lists)
            )
        }

    @functools.cached_property
    def _has_graph_of_centers(self) -> bool:
        return isinstance(faiss.downcast_index(self.faiss_index.quantizer), faiss.IndexHNSW)

    def _scan_codes(self, queries: Vectors, n: int, subset: QuantizedSubset) -> tuple[Vectors, Ids]:
        """As `_find_candidates`, by a scan of the codes that a graph index stores."""
        ids = self._read_id_map()
        seen = faiss.SearchParameters(sel=make_id_selector(np.flatnonzero(is_in_sorted(ids, subset.ids))))
        similarities, found = search_faiss(faiss.downcast_index(self.faiss_index.index).storage, queries, n, seen)
        return similarities, np.where(found < 0, -1, ids[found])

    def _rank_candidates(self, queries: Vectors, candidates: Ids, n: int) -> tuple[Vectors, Ids]:
        """Rank candidates (q, m) by the vectors and keep the first n."""
        similarities, ids = np.empty((len(queries), n), np.float32), np.empty((len(queries), n), np.int64)
        for row, (query, some) in enumerate(zip(queries, candidates, strict=True)):
            found = self.readers.ranking(some) @ query
            order = (-found).argsort(kind="stable")[:n]
            similarities[row], ids[row] = found[order], some[order]
        return similarities.clip(-1, 1, out=similarities), ids

    def _read_id_map(self) -> Ids:
        ids: Ids = faiss.vector_to_array(self.faiss_index.id_map)
        return ids

    def _read_list_ids(self) -> Ids:
        lists = self.faiss_index.invlists
        sizes = [lists.list_size(at) for at in range(lists.nlist)]
        parts = [faiss.rev_swig_ptr(lists.get_ids(at), size) for at, size in enumerate(sizes) if size]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)


class QuantizedSubset:
    """A part of a quantized index: n vectors, which a FAISS selector admits (None where n is 0).

    `list_ids` lists their ids, ascending; for all but a few of ten million vectors that takes seconds.
    """

    def __init__(self, index: QuantizedIndex, n: int, selector: Any, list_ids: Callable[[], Ids]) -> None:
        self._index, self._n = index, n
        self.selector = selector
        self._list_ids = list_ids

    def __len__(self) -> int:
        return self._n

    @functools.cached_property
    def ids(self) -> Ids:
        """The ids of the vectors, ascending."""
        return self._list_ids()

    def search(self, queries: Vectors, n: int) -> tuple[Vectors, Ids]:
        """As `Searchable` says, except that neighbors may be missing."""
        return self._index.search_subset(queries, n, self)

    def range_search(self, query: Vectors, min_similarity: float) -> tuple[Vectors, Ids]:
        """As `Searchable` says, complete."""
        return range_search_vectors(query, min_similarity, self.ids, self._index.readers.ranking)


def _make_flat_parameters(subset: QuantizedSubset | None) -> Any:
    return None if subset is None else faiss.SearchParameters(sel=subset.selector)


def search_vectors(queries: Vectors, n: int, ids: Ids, vector_reader: VectorReader) -> tuple[Vectors, Ids]:
    """Search the vectors of ids (m,) exactly, block by block; as `Searchable.search` says."""
    similarities = np.empty((len(queries), len(ids)), np.float32)
    for start, rows in _iterate_blocks(ids, vector_reader):
        similarities[:, start : start + len(rows)] = queries @ rows.T
    order = _find_highest(similarities, n)
    return np.take_along_axis(similarities, order, 1).clip(-1, 1), ids[order]


def range_search_vectors(
    query: Vectors, min_similarity: float, ids: Ids, vector_reader: VectorReader
) -> tuple[Vectors, Ids]:
    """Search the vectors of ids (m,) exactly, block by block; as `Searchable.range_search` says."""
    similarities = np.empty(len(ids), np.float32)
    for start, rows in _iterate_blocks(ids, vector_reader):
        similarities[start : start + len(rows)] = rows @ query
    above = similarities > min_similarity
    return similarities[above].clip(-1, 1), ids[above]


def _iterate_blocks(ids: Ids, vector_reader: VectorReader) -> Iterator[tuple[int, Vectors]]:
    for start in range(0, len(ids), _BLOCK_ROWS):
        yield start, vector_reader(ids[start : start + _BLOCK_ROWS])


def _find_highest(similarities: Vectors, n: int) -> NDArray[np.intp]:
    """Find the columns (q, n) of the n highest similarities of each row, highest first."""
    if n < similarities.shape[1]:
        few = np.argpartition(-similarities, n - 1, axis=1)[:, :n] if n else np.empty((len(similarities), 0), np.intp)
    else:
        few = np.broadcast_to(np.arange(similarities.shape[1]), similarities.shape)
    order = np.argsort(-np.take_along_axis(similarities, few, 1), axis=1, kind="stable")
    return np.take_along_axis(few, order, 1)
