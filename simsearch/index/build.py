"""Building a coded index: trained on a sample, filled block by block, tuned to a recall that is measured."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import faiss
import numpy as np

from simsearch.index.exact import is_in_sorted
from simsearch.index.kinds import FETCH_NS, POINTS_PER_LIST, IndexKind, choose_n_lists
from simsearch.index.protocol import Ids, VectorReader, Vectors
from simsearch.index.quantized import MIN_CANDIDATES, IndexDetails, QuantizedIndex

_RECALL_DEPTH = 10
_N_TUNING_QUERIES, _N_RECALL_QUERIES = 200, 300
"""With so many held-back vectors the effort is chosen, and with so many others the recall measured that is told."""

_MIN_TRAINING_ROWS = 10_000
_BLOCK_ROWS = 16_384

_TRAINING_ROWS_PER_CODE = 1024
_REFINE_FACTORS = (1, 2, 3, 4, 6, 8, 12, 16)
_MIN_RECALL_GAIN = 1e-3
"""What doubling the effort must add to the recall to be worth going on."""


@dataclass(frozen=True, slots=True, eq=False)
class VectorSource:
    """What an index is built of: ids (n,), their vectors' width, and two ways to the vectors.

    `blocks` gives all of them, ids (b,) and vectors (b, d), in any order; `rows_of` those of some ids.
    """

    ids: Ids
    width: int
    block_reader: Callable[[], Iterator[tuple[Ids, Vectors]]]
    vector_reader: VectorReader


def build_index(kind: IndexKind, material: VectorSource, recall: float) -> QuantizedIndex:
    """A coded index of a kind, with the least effort that finds a recall@10, or the most that helps.

    The vectors are never in memory as a whole: of a sample the quantizers are trained, then blocks are added, and
    meanwhile compared with held-back vectors, whose true neighbours the recall is measured by.
    """
    started, n = time.perf_counter(), len(material.ids)
    held, rest = _split_held_out(material.ids)
    index = faiss.index_factory(material.width, kind.to_factory_string(n, material.width), faiss.METRIC_INNER_PRODUCT)
    _train(index, kind, material.vector_reader(np.sort(rest[: _choose_sample_size(n)])))
    made = QuantizedIndex(index, IndexDetails(kind.name, n, n_trained=n, wanted=recall), material.vector_reader)
    return _fill_and_tune(made, held, material, material.ids, started)


def extend_index(made: QuantizedIndex, material: VectorSource, removed: Ids) -> QuantizedIndex:
    """Bring an index that was read to the material: what is `removed` goes, what is missing comes, what it was trained
    to stays, and the recall is tuned and measured anew.

    A graph cannot forget: `removed` must be empty there.
    """
    started = time.perf_counter()
    missing = np.setdiff1d(material.ids, made.ids)
    if len(removed):
        made.faiss_index.remove_ids(removed)
    held, _ = _split_held_out(material.ids)
    extended = QuantizedIndex(
        made.faiss_index, replace(made.details, n_vectors=len(material.ids)), material.vector_reader
    )
    return _fill_and_tune(extended, held, material, missing, started)


def _split_held_out(ids: Ids) -> tuple[Ids, Ids]:
    """The ids, in any order, of the vectors that recall is measured with, and of others, to train on."""
    mixed = np.random.default_rng(0).permutation(ids)
    n = len(mixed) // 10
    return mixed[: min(_N_TUNING_QUERIES + _N_RECALL_QUERIES, n)], mixed[n:]


def _fill_and_tune(
    made: QuantizedIndex, held: Ids, material: VectorSource, missing: Ids, started: float
) -> QuantizedIndex:
    """Add what is missing, while all goes by, and tune."""
    truth = _GroundTruth(held, material.vector_reader(held))
    for ids, vectors in _merge_blocks(material.block_reader()):
        truth.update(ids, vectors)
        is_new = is_in_sorted(ids, missing)
        if is_new.any():
            made.faiss_index.add_with_ids(np.ascontiguousarray(vectors[is_new]), ids[is_new])
    chosen, measured = truth.split(_N_TUNING_QUERIES if len(held) > 2 * _N_TUNING_QUERIES else len(held) // 2)
    made.details = _tune(made, chosen)
    made.details = replace(
        made.details, recall_at_10=round(measured.measure_recall(made), 4), n_queries=len(measured),
        build_s=round(time.perf_counter() - started, 3),
    )  # fmt: skip
    return made


def _choose_sample_size(n: int) -> int:
    return max(_MIN_TRAINING_ROWS, POINTS_PER_LIST * choose_n_lists(n))


def _train(index: Any, kind: IndexKind, sample: Vectors) -> None:
    if kind.family == "ivf":
        lists = faiss.extract_index_ivf(index)
        # A sample of this size was chosen for it: without the first FAISS draws another, without the second it warns.
        settings = [lists.cp] + ([faiss.downcast_index(lists).pq.cp] if kind.name == "ivf-pq" else [])
        for clustering in settings:
            clustering.niter, clustering.min_points_per_centroid, clustering.seed = 10, 1, 1234
        lists.cp.max_points_per_centroid = len(sample)
        if kind.name == "ivf-pq":
            settings[1].max_points_per_centroid = _TRAINING_ROWS_PER_CODE
    index.train(np.ascontiguousarray(sample))


def _merge_blocks(blocks: Iterator[tuple[Ids, Vectors]]) -> Iterator[tuple[Ids, Vectors]]:
    """The same in blocks of at least 16,384, which FAISS adds faster."""
    while some := list(itertools.islice(blocks, 1)):
        n = len(some[0][0])
        while n < _BLOCK_ROWS and (block := next(blocks, None)) is not None:
            some.append(block)
            n += len(block[0])
        yield np.concatenate([ids for ids, _ in some]), np.concatenate([vectors for _, vectors in some])


class _GroundTruth:
    """How similar the ten nearest others of held-back vectors are, of all that were seen."""

    def __init__(self, held: Ids, queries: Vectors) -> None:
        self.held_out, self.queries = held, queries
        self._similarities = np.full((len(held), _RECALL_DEPTH), -2, np.float32)

    def update(self, ids: Ids, vectors: Vectors) -> None:
        similarities = self.queries @ vectors.T
        similarities[ids == self.held_out[:, None]] = -2
        similarities = np.concatenate([self._similarities, similarities], axis=1)
        self._similarities = np.partition(similarities, -_RECALL_DEPTH, axis=1)[:, -_RECALL_DEPTH:]

    def __len__(self) -> int:
        return len(self.held_out)

    def split(self, n: int) -> tuple[_GroundTruth, _GroundTruth]:
        """The first n held-back vectors, and the others."""
        return self._take(slice(n)), self._take(slice(n, None))

    def _take(self, rows: slice) -> _GroundTruth:
        part = _GroundTruth(self.held_out[rows], self.queries[rows])
        part._similarities = self._similarities[rows]
        return part

    def measure_recall(self, index: QuantizedIndex) -> float:
        """The share of the ten nearest others that the index finds. One as similar as the tenth counts as found."""
        similarities, ids = index.search(self.queries, _RECALL_DEPTH + 1)
        least = self._similarities.min(axis=1, keepdims=True) - 1e-6
        n_found = ((similarities >= least) & (ids != self.held_out[:, None])).sum(axis=1)
        return float(np.minimum(n_found, _RECALL_DEPTH).mean() / _RECALL_DEPTH)


def _tune(made: QuantizedIndex, truth: _GroundTruth) -> IndexDetails:
    """The facts with the cheapest refinement and effort that reach the wanted recall, or with the best that was met."""
    best = replace(made.details, recall_at_10=-1.0)
    reached: dict[int, float] = {}
    stalled: set[int] = set()
    refines = (1,) if made.kind.has_full_vectors else _REFINE_FACTORS
    for refine, effort in sorted(
        itertools.product(refines, _list_efforts(made)), key=lambda pair: _estimate_cost_ns(made, *pair)
    ):
        if refine in stalled:
            continue
        made.details = replace(made.details, refine=refine, effort=effort)
        recall = truth.measure_recall(made)
        if recall > best.recall_at_10:
            best = replace(made.details, recall_at_10=recall)
        if recall >= made.details.wanted:
            break
        if recall - reached.get(refine, -1.0) < _MIN_RECALL_GAIN:
            stalled.add(refine)  # the codes hold no more, however far they are searched
        reached[refine] = recall
    return best


def _estimate_cost_ns(made: QuantizedIndex, refine: int, effort: int) -> float:
    """About what a query costs: numbers scanned, and vectors fetched."""
    n, width, kind = len(made), int(made.faiss_index.d), made.kind
    scanned = {"flat": n, "ivf": n * effort / choose_n_lists(n), "hnsw": effort}[kind.family]
    return scanned * width * kind.scan_ns + FETCH_NS * MIN_CANDIDATES * refine


def _list_efforts(made: QuantizedIndex) -> Sequence[int]:
    """1, 2, 4 and so on, up to everything; a flat scan knows no effort."""
    if made.kind.family == "flat":
        return (1,)
    first, most = (1, made.faiss_index.nlist) if made.kind.family == "ivf" else (16, 1024)
    return [first << step for step in range(most.bit_length()) if first << step <= most]
