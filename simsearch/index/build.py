"""Building a quantized index: train on a sample, add vectors block by block, tune and measure the recall."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from simsearch.index.exact import exclude_ids, is_in_sorted
from simsearch.index.faiss_calls import train_faiss
from simsearch.index.info import IndexDetails
from simsearch.index.kinds import FETCH_NS, IndexKind, choose_n_lists
from simsearch.index.kmeans import fit_kmeans_in_two_levels
from simsearch.index.protocol import Ids, Vectors
from simsearch.index.quantized import CENTERS_EFFORT, MIN_CANDIDATES, QuantizedIndex, VectorReaders

_RECALL_DEPTH = 10
_N_TUNING_QUERIES, _N_RECALL_QUERIES = 300, 300
"""Numbers of held-out vectors for choosing the search effort, and of others for measuring the reported recall."""

_MIN_TRAINING_ROWS = 10_000
_TRAINING_ROWS_PER_LIST = 100
_MAX_TRAINING_BYTES = 1 << 30
"""The most that the sample for training may take, as float32."""

_BLOCK_ROWS = 16_384

_TRAINING_ROWS_PER_CODE = 1024
_REFINE_FACTORS = (1, 2, 3, 4, 6, 8, 12, 16)
_GRAPH_EFFORTS = (16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 192, 256, 384, 512, 768, 1024)
_CONSTRUCTION_EFFORT = 100
"""The number of candidates (efConstruction) among which the neighbors of a vector are chosen, for a graph. With FAISS's
40 a query needs half as much effort again for the same recall. With 64 that cannot be seen at 60,000 vectors; of a
million with 45 near copies of each, a graph then finds less (recall 0.967 instead of 0.972) and takes longer."""

_TRAINING_SHARE, _ADDING_SHARE = 0.15, 0.75
"""The shares of the time to build an index that training and adding take, about; tuning takes the rest."""

_MIN_RECALL_GAIN = 3e-4
"""The recall that twice an effort must add; with less, no higher one is tried. The next effort alone often adds none:
among near copies a query finds all ten neighbors or no neighbor, so that the recall of 300 queries rises by 0.003."""


ReportShare = Callable[[float], None]


@dataclass(frozen=True, slots=True, eq=False)
class VectorSource:
    """The vectors to index: ids (n,), the width of the vectors, and ways to read them.

    `block_reader` reads all of them as blocks of ids (b,) and vectors (b, d), in any order; `readers` read the vectors
    of given ids.
    """

    ids: Ids
    width: int
    block_reader: Callable[[], Iterator[tuple[Ids, Vectors]]]
    readers: VectorReaders


def build_index(
    kind: IndexKind, source: VectorSource, recall: float, report: ReportShare = lambda _: None
) -> QuantizedIndex:
    """Build a quantized index with the lowest search effort that reaches the recall@10, or the highest useful effort.

    The vectors are never in memory all at once: the quantizers are trained on a sample, then blocks are added. Each
    block is also compared with held-out vectors, to find the true neighbors for measuring the recall. `report` is
    called with the finished share, from 0 to 1.
    """
    started, n = time.perf_counter(), len(source.ids)
    held_out, others = _split_held_out(source.ids)
    factory = kind.to_factory_string(n, source.width)
    faiss_index = faiss.index_factory(source.width, factory, faiss.METRIC_INNER_PRODUCT)
    if kind.family == "hnsw":
        faiss.downcast_index(faiss_index.index).hnsw.efConstruction = _CONSTRUCTION_EFFORT
    _train(faiss_index, kind, source.readers.ranking(np.sort(others[: _choose_sample_size(n, source.width)])))
    report(_TRAINING_SHARE)
    details = IndexDetails(kind.name, n, n_trained=n, wanted=recall)
    index = QuantizedIndex(faiss_index, details, source.readers)
    return _fill_and_tune(index, held_out, source, source.ids, started, report)


def extend_index(
    index: QuantizedIndex, source: VectorSource, removed: Ids, report: ReportShare = lambda _: None
) -> QuantizedIndex:
    """Remove the ids `removed` from an index, add the vectors it lacks, then tune and measure its recall again.

    The index is not trained again. A graph cannot remove vectors: `removed` must be empty for it.
    """
    started = time.perf_counter()
    missing = exclude_ids(source.ids, index.ids)
    if len(removed):
        index.faiss_index.remove_ids(removed)
    is_enough = len(missing) >= 2 * (_N_TUNING_QUERIES + _N_RECALL_QUERIES)
    held_out, _ = _split_held_out(missing if index.kind.family == "hnsw" and is_enough else source.ids)
    details = replace(index.details, n_vectors=len(source.ids))
    extended = QuantizedIndex(index.faiss_index, details, source.readers)
    return _fill_and_tune(extended, held_out, source, missing, started, report)


def _split_held_out(ids: Ids) -> tuple[Ids, Ids]:
    """Split ids at random into held-out ones, for measuring recall, and others, for training."""
    mixed = np.random.default_rng(0).permutation(ids)
    n = len(mixed) // 10
    return mixed[: min(_N_TUNING_QUERIES + _N_RECALL_QUERIES, n)], mixed[n:]


def _fill_and_tune(
    index: QuantizedIndex, held_out: Ids, source: VectorSource, missing: Ids, started: float, report: ReportShare
) -> QuantizedIndex:
    """Read all vectors once: add the missing ones and find the true neighbors of the held-out ones; then tune.

    Held-out vectors are added to a graph after it is tuned: a vector that is in a graph leads to its own neighbors, so
    that these would be found more often than those of a new query.
    """
    rows = source.readers.ranking(held_out)
    truth = _GroundTruth(held_out, rows)
    waiting = np.sort(np.intersect1d(held_out, missing)) if index.kind.family == "hnsw" else missing[:0]
    n_seen = 0
    for ids, vectors in _merge_blocks(source.block_reader()):
        is_seen = ~is_in_sorted(ids, waiting)
        truth.update(ids[is_seen], vectors[is_seen])
        is_new = is_in_sorted(ids, missing) & is_seen
        if is_new.any():
            index.add(ids[is_new], vectors[is_new])
        n_seen += len(ids)
        report(_TRAINING_SHARE + _ADDING_SHARE * min(1.0, n_seen / len(source.ids)))
    n_tuning = _N_TUNING_QUERIES if len(held_out) > 2 * _N_TUNING_QUERIES else len(held_out) // 2
    tuning, measuring = truth.split(n_tuning)
    index.details = _tune(index, tuning)
    index.details = replace(
        index.details,
        recall_at_10=round(measuring.measure_recall(index), 4),
        n_queries=len(measuring),
    )
    if len(waiting):
        index.add(held_out[is_in_sorted(held_out, waiting)], rows[is_in_sorted(held_out, waiting)])
    index.details = replace(index.details, build_s=round(time.perf_counter() - started, 3))
    return index


def _choose_sample_size(n: int, width: int) -> int:
    rows = min(_TRAINING_ROWS_PER_LIST * choose_n_lists(n), _MAX_TRAINING_BYTES // (4 * width))
    return max(_MIN_TRAINING_ROWS, rows)


def _train(index: Any, kind: IndexKind, sample: Vectors) -> None:
    if kind.family == "ivf":
        lists = faiss.downcast_index(faiss.extract_index_ivf(index))
        centers = faiss.downcast_index(lists.quantizer)
        if isinstance(centers, faiss.IndexHNSW):
            centers.hnsw.efConstruction, centers.hnsw.efSearch = _CONSTRUCTION_EFFORT, CENTERS_EFFORT
        centers.add(fit_kmeans_in_two_levels(sample, lists.nlist))  # FAISS then trains the codes only
        if kind.name == "ivf-pq":
            settings = lists.pq.cp
            settings.niter, settings.min_points_per_centroid, settings.seed = 10, 1, 1234
            settings.max_points_per_centroid = _TRAINING_ROWS_PER_CODE
    train_faiss(index, sample)


def _merge_blocks(blocks: Iterator[tuple[Ids, Vectors]]) -> Iterator[tuple[Ids, Vectors]]:
    """Merge blocks into blocks of at least 16,384 rows, which FAISS adds faster."""
    while some := list(itertools.islice(blocks, 1)):
        n = len(some[0][0])
        while n < _BLOCK_ROWS and (block := next(blocks, None)) is not None:
            some.append(block)
            n += len(block[0])
        yield np.concatenate([ids for ids, _ in some]), np.concatenate([vectors for _, vectors in some])


class _GroundTruth:
    """The ten nearest others of held-out vectors, with their similarities, among all vectors seen."""

    def __init__(self, held: Ids, queries: Vectors) -> None:
        self.held_out, self.queries = held, queries
        self._similarities = np.full((len(held), _RECALL_DEPTH), -2, np.float32)
        self._ids = np.full((len(held), _RECALL_DEPTH), -1, np.int64)

    def update(self, ids: Ids, vectors: Vectors) -> None:
        """Take a block of vectors (b, d) with ids (b,) into account."""
        similarities = self.queries @ vectors.T
        similarities[ids == self.held_out[:, None]] = -2
        is_near = similarities > self._similarities.min(axis=1, keepdims=True)
        for row in np.flatnonzero(is_near.any(axis=1)).tolist():  # few others are near: no need to sort all of them
            near = np.flatnonzero(is_near[row])
            merged = np.concatenate([self._similarities[row], similarities[row, near]])
            order = np.argpartition(merged, -_RECALL_DEPTH)[-_RECALL_DEPTH:]
            self._similarities[row] = merged[order]
            self._ids[row] = np.concatenate([self._ids[row], ids[near]])[order]

    def __len__(self) -> int:
        return len(self.held_out)

    def split(self, n: int) -> tuple[_GroundTruth, _GroundTruth]:
        """Split into the first n held-out vectors and the others."""
        return self._take(slice(n)), self._take(slice(n, None))

    def _take(self, rows: slice) -> _GroundTruth:
        part = _GroundTruth(self.held_out[rows], self.queries[rows])
        part._similarities, part._ids = self._similarities[rows], self._ids[rows]
        return part

    def measure_recall(self, index: QuantizedIndex) -> float:
        """The share of the ten nearest others that the index finds; ties with the tenth count as found."""
        return float(self.measure_recalls(index).mean())

    def measure_recalls(self, index: QuantizedIndex) -> NDArray[np.float64]:
        """The same for each held-out vector (q,)."""
        similarities, ids = index.search(self.queries, _RECALL_DEPTH + 1)
        least = self._similarities.min(axis=1, keepdims=True) - 1e-6
        is_near = (similarities >= least) | (ids[:, :, None] == self._ids[:, None, :]).any(axis=2)
        n_found = (is_near & (ids != self.held_out[:, None])).sum(axis=1)
        recalls: NDArray[np.float64] = np.minimum(n_found, _RECALL_DEPTH) / _RECALL_DEPTH
        return recalls


def _tune(index: QuantizedIndex, truth: _GroundTruth) -> IndexDetails:
    """Find the cheapest refinement and effort that reach the wanted recall, or those with the best recall.

    The recall must exceed the wanted one by its standard error: the first effort that seems to reach it is often one
    that was lucky.
    """
    best = replace(index.details, recall_at_10=-1.0)
    reached: dict[int, list[tuple[int, float]]] = {refine: [] for refine in _REFINE_FACTORS}
    stalled: set[int] = set()
    refines = (1,) if index.kind.has_precise_codes else _REFINE_FACTORS
    for refine, effort in sorted(
        itertools.product(refines, _list_efforts(index)), key=lambda pair: _estimate_cost_ns(index, *pair)
    ):
        if refine in stalled:
            continue
        index.details = replace(index.details, refine=refine, effort=effort)
        recalls = truth.measure_recalls(index)
        recall = float(recalls.mean())
        if recall > best.recall_at_10:
            best = replace(index.details, recall_at_10=recall)
        if recall - recalls.std() / np.sqrt(max(1, len(recalls))) >= index.details.wanted:
            break
        with_half = max((before for half, before in reached[refine] if 2 * half <= effort), default=-1.0)
        if recall - with_half < _MIN_RECALL_GAIN:
            stalled.add(refine)  # more effort does not help: the codes are not precise enough
        reached[refine].append((effort, recall))
    return best


def _estimate_cost_ns(index: QuantizedIndex, refine: int, effort: int) -> float:
    """Estimate the cost of a query: dimensions scanned, and vectors read for re-ranking."""
    n, width, kind = len(index), int(index.faiss_index.d), index.kind
    n_lists = int(index.faiss_index.nlist) if kind.family == "ivf" else 1
    scanned = {"flat": n, "ivf": n * effort / n_lists, "hnsw": effort}[kind.family]
    return scanned * width * kind.scan_ns + FETCH_NS * MIN_CANDIDATES * refine


def _list_efforts(index: QuantizedIndex) -> Sequence[int]:
    """The efforts to try, ascending: for lists 1, 2, 3, 4, 6, ... up to all of them; a flat index has no effort."""
    if index.kind.family == "flat":
        return (1,)
    if index.kind.family == "ivf":
        most = int(index.faiss_index.nlist)
        steps = range(most.bit_length())
        return sorted({effort for step in steps for effort in (1 << step, 3 << step >> 1) if effort <= most})
    return _GRAPH_EFFORTS
