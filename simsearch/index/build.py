"""Building a coded index: trained on a sample, filled block by block, tuned to a recall that is measured."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import faiss
import numpy as np

from simsearch.index.exact import is_among
from simsearch.index.kinds import FETCH_NS, POINTS_PER_LIST, Kind, n_lists
from simsearch.index.protocol import Ids, RowsOf, Vectors
from simsearch.index.quantized import LEAST_ASKED, CodedIndex, Facts

_DEPTH = 10
_N_TUNED, _N_MEASURED = 200, 300
"""With so many held-back vectors the effort is chosen, and with so many others the recall measured that is told."""

_LEAST_SAMPLE = 10_000
_BLOCK = 16_384

_POINTS_PER_CODE = 1024
_REFINES = (1, 2, 3, 4, 6, 8, 12, 16)
_STALLED = 1e-3
"""What doubling the effort must add to the recall to be worth going on."""


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """What an index is built of: ids (n,), their vectors' width, and two ways to the vectors.

    `blocks` gives all of them, ids (b,) and vectors (b, d), in any order; `rows_of` those of some ids.
    """

    ids: Ids
    width: int
    blocks: Callable[[], Iterator[tuple[Ids, Vectors]]]
    rows_of: RowsOf


def build(kind: Kind, material: Material, recall: float) -> CodedIndex:
    """A coded index of a kind, with the least effort that finds a recall@10, or the most that helps.

    The vectors are never in memory as a whole: of a sample the quantizers are trained, then blocks are added, and
    meanwhile compared with held-back vectors, whose true neighbours the recall is measured by.
    """
    started, n = time.perf_counter(), len(material.ids)
    held, rest = _held_back(material.ids)
    index = faiss.index_factory(material.width, kind.recipe(n, material.width), faiss.METRIC_INNER_PRODUCT)
    _train(index, kind, material.rows_of(np.sort(rest[: _n_sample(n)])))
    made = CodedIndex(index, Facts(kind.name, n, n_trained=n, wanted=recall), material.rows_of)
    return _completed(made, held, material, material.ids, started)


def extend(made: CodedIndex, material: Material, removed: Ids) -> CodedIndex:
    """Bring an index that was read to the material: what is `removed` goes, what is missing comes, what it was trained
    to stays, and the recall is tuned and measured anew.

    A graph cannot forget: `removed` must be empty there.
    """
    started = time.perf_counter()
    missing = np.setdiff1d(material.ids, made.ids)
    if len(removed):
        made.faiss.remove_ids(removed)
    held, _ = _held_back(material.ids)
    extended = CodedIndex(made.faiss, replace(made.facts, n_vectors=len(material.ids)), material.rows_of)
    return _completed(extended, held, material, missing, started)


def _held_back(ids: Ids) -> tuple[Ids, Ids]:
    """The ids, in any order, of the vectors that recall is measured with, and of others, to train on."""
    mixed = np.random.default_rng(0).permutation(ids)
    n = len(mixed) // 10
    return mixed[: min(_N_TUNED + _N_MEASURED, n)], mixed[n:]


def _completed(made: CodedIndex, held: Ids, material: Material, missing: Ids, started: float) -> CodedIndex:
    """Add what is missing, while all goes by, and tune."""
    truth = _Truth(held, material.rows_of(held))
    for ids, vectors in _gathered(material.blocks()):
        truth.see(ids, vectors)
        is_new = is_among(ids, missing)
        if is_new.any():
            made.faiss.add_with_ids(np.ascontiguousarray(vectors[is_new]), ids[is_new])
    chosen, measured = truth.split(_N_TUNED if len(held) > 2 * _N_TUNED else len(held) // 2)
    made.facts = _tuned(made, chosen)
    made.facts = replace(
        made.facts, recall_at_10=round(measured.recall(made), 4), n_queries=len(measured),
        build_s=round(time.perf_counter() - started, 3),
    )  # fmt: skip
    return made


def _n_sample(n: int) -> int:
    return max(_LEAST_SAMPLE, POINTS_PER_LIST * n_lists(n))


def _train(index: Any, kind: Kind, sample: Vectors) -> None:
    if kind.family == "ivf":
        lists = faiss.extract_index_ivf(index)
        # A sample of this size was chosen for it: without the first FAISS draws another, without the second it warns.
        settings = [lists.cp] + ([faiss.downcast_index(lists).pq.cp] if kind.name == "ivf-pq" else [])
        for clustering in settings:
            clustering.niter, clustering.min_points_per_centroid, clustering.seed = 10, 1, 1234
        lists.cp.max_points_per_centroid = len(sample)
        if kind.name == "ivf-pq":
            settings[1].max_points_per_centroid = _POINTS_PER_CODE
    index.train(np.ascontiguousarray(sample))


def _gathered(blocks: Iterator[tuple[Ids, Vectors]]) -> Iterator[tuple[Ids, Vectors]]:
    """The same in blocks of at least 16,384, which FAISS adds faster."""
    while some := list(itertools.islice(blocks, 1)):
        n = len(some[0][0])
        while n < _BLOCK and (block := next(blocks, None)) is not None:
            some.append(block)
            n += len(block[0])
        yield np.concatenate([ids for ids, _ in some]), np.concatenate([vectors for _, vectors in some])


class _Truth:
    """How similar the ten nearest others of held-back vectors are, of all that were seen."""

    def __init__(self, held: Ids, queries: Vectors) -> None:
        self.held, self.queries = held, queries
        self._similarities = np.full((len(held), _DEPTH), -2, np.float32)

    def see(self, ids: Ids, vectors: Vectors) -> None:
        similarities = self.queries @ vectors.T
        similarities[ids == self.held[:, None]] = -2
        similarities = np.concatenate([self._similarities, similarities], axis=1)
        self._similarities = np.partition(similarities, -_DEPTH, axis=1)[:, -_DEPTH:]

    def __len__(self) -> int:
        return len(self.held)

    def split(self, n: int) -> tuple[_Truth, _Truth]:
        """The first n held-back vectors, and the others."""
        return self._part(slice(n)), self._part(slice(n, None))

    def _part(self, rows: slice) -> _Truth:
        part = _Truth(self.held[rows], self.queries[rows])
        part._similarities = self._similarities[rows]
        return part

    def recall(self, index: CodedIndex) -> float:
        """The share of the ten nearest others that the index finds. One as similar as the tenth counts as found."""
        similarities, ids = index.search(self.queries, _DEPTH + 1)
        least = self._similarities.min(axis=1, keepdims=True) - 1e-6
        n_found = ((similarities >= least) & (ids != self.held[:, None])).sum(axis=1)
        return float(np.minimum(n_found, _DEPTH).mean() / _DEPTH)


def _tuned(made: CodedIndex, truth: _Truth) -> Facts:
    """The facts with the cheapest refinement and effort that reach the wanted recall, or with the best that was met."""
    best = replace(made.facts, recall_at_10=-1.0)
    reached: dict[int, float] = {}
    stalled: set[int] = set()
    refines = (1,) if made.kind.holds_vectors else _REFINES
    for refine, effort in sorted(itertools.product(refines, _efforts(made)), key=lambda pair: _cost_ns(made, *pair)):
        if refine in stalled:
            continue
        made.facts = replace(made.facts, refine=refine, effort=effort)
        recall = truth.recall(made)
        if recall > best.recall_at_10:
            best = replace(made.facts, recall_at_10=recall)
        if recall >= made.facts.wanted:
            break
        if recall - reached.get(refine, -1.0) < _STALLED:
            stalled.add(refine)  # the codes hold no more, however far they are searched
        reached[refine] = recall
    return best


def _cost_ns(made: CodedIndex, refine: int, effort: int) -> float:
    """About what a query costs: numbers scanned, and vectors fetched."""
    n, width, kind = len(made), int(made.faiss.d), made.kind
    scanned = {"flat": n, "ivf": n * effort / n_lists(n), "hnsw": effort}[kind.family]
    return scanned * width * kind.scan_ns + FETCH_NS * LEAST_ASKED * refine


def _efforts(made: CodedIndex) -> Sequence[int]:
    """1, 2, 4 and so on, up to everything; a flat scan knows no effort."""
    if made.kind.family == "flat":
        return (1,)
    first, most = (1, made.faiss.nlist) if made.kind.family == "ivf" else (16, 1024)
    return [first << step for step in range(most.bit_length()) if first << step <= most]
