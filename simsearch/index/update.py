"""Bringing the index of a model's vectors up to date: open its files, catch up with the catalog, or rebuild it."""

from __future__ import annotations

import contextlib
import errno
import functools
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from simsearch.index.build import ReportShare, VectorSource, build_index, extend_index
from simsearch.index.delta import DeltaIndex
from simsearch.index.exact import ExactIndex, compare_ids, sort_ids
from simsearch.index.files import (
    IndexFooter,
    IndexStamp,
    is_current,
    is_intact,
    locate_delta,
    locate_vector_file,
    read_footer,
    read_removed_ids,
)
from simsearch.index.info import IndexDetails
from simsearch.index.integrity import check_damage
from simsearch.index.kinds import AUTO, AUTO_CANDIDATES, KINDS, IndexKind, read_kind_choice
from simsearch.index.protocol import Ids, Vectors, VectorTransform
from simsearch.index.quantized import QuantizedIndex, VectorReaders
from simsearch.index.trials import KindTrial, build_quickest
from simsearch.index.vector_file import VectorFile, VectorFileWriter
from simsearch.machine import detect_memory_bytes
from simsearch.sources.progress import find_listener
from simsearch.store.catalog import Catalog, StoredModel

_MAX_ADDED_SHARE = 0.01
_MIN_DELTA_CAPACITY = 1_000
_MAX_REMOVED_SHARE = 0.1
"""A delta file holds up to 1 % of added vectors (at least 1,000) and 10 % of removed ids; beyond that the base is
rewritten."""

_MAX_MEMORY_DIVISOR = 3
"""`auto` takes no kind that is larger than a third of the memory."""

_MIN_TOLD_VECTORS = 50_000
"""Building the index of so many vectors is told to the user."""

_RETRAIN_GROWTH = 2
"""An index is trained again when the collection has grown by this factor since the last training."""

_Mapped = TypeVar("_Mapped", ExactIndex, QuantizedIndex)

FaissIndex = ExactIndex | QuantizedIndex | DeltaIndex


@dataclass(frozen=True, slots=True, eq=False)
class IndexSpec:
    """Which index is wanted: a model's vectors, perhaps transformed, in the state of `stamp`, in a base `file`."""

    stored: StoredModel
    transform: VectorTransform | None
    stamp: IndexStamp
    file: Path

    @property
    def delta_file(self) -> Path:
        """The delta file beside the base file."""
        return locate_delta(self.file)

    @property
    def width(self) -> int:
        """The number of dimensions of the indexed vectors."""
        return self.stored.width if self.transform is None else self.transform.width

    @property
    def method(self) -> str:
        """The name of the transformation; empty where there is none."""
        return "" if self.transform is None else self.transform.name

    def transform_vectors(self, vectors: Vectors) -> Vectors:
        """Transform stored vectors (n, d) to the indexed vectors (n, width)."""
        return vectors if self.transform is None else self.transform.transform_rows(vectors)


@dataclass(frozen=True, slots=True, eq=False)
class UpdatedIndex:
    """An up-to-date index. `save` writes what is not in its files yet; `details` are new where it was built."""

    index: FaissIndex
    save: Callable[[], None] = lambda: None
    details: IndexDetails | None = None


@dataclass(frozen=True, slots=True, eq=False)
class PendingVectors:
    """The vector file of an index, None where it cannot be written, and the writer that has not published it yet."""

    vectors: VectorFile | None
    writer: VectorFileWriter | None = None

    def publish(self) -> None:
        """Give a new file its name. An index can do without: where that fails, the next one writes it again."""
        if self.writer is not None:
            with contextlib.suppress(OSError):
                self.writer.publish()


class IndexUpdater:
    """Opens, catches up and builds indexes from the catalog. To be called within a read transaction.

    An exact index of up to `rewrite_limit_bytes` is rewritten for every change instead of getting a delta file. Files
    of up to `background_limit_bytes` are compared with their digests before they are used, larger ones meanwhile.
    """

    def __init__(self, catalog: Catalog, rewrite_limit_bytes: int, background_limit_bytes: int) -> None:
        self._catalog = catalog
        self._rewrite_limit_bytes = rewrite_limit_bytes
        self._background_limit_bytes = background_limit_bytes

    def open_index(self, spec: IndexSpec) -> UpdatedIndex:
        """Open the index from its files where they are up to date; otherwise update or build it."""
        return self._open_files(spec) or self._update_index(spec)

    def find_kind(self, spec: IndexSpec) -> IndexKind:
        """Find the kind of the index in the file, or the kind that a new index would have."""
        footer = read_footer(spec.file)
        if footer is not None and footer.stamp.kind in KINDS and is_current(spec.file, footer, spec.stamp):
            return KINDS[footer.stamp.kind]
        if spec.transform is not None and spec.transform.transform_originals is not None:
            return KINDS["flat"]
        return self._select_kind(spec, spec.stamp.n_vectors)

    def read_all(self, spec: IndexSpec) -> ExactIndex:
        """Read all vectors into an exact index in memory."""
        index = ExactIndex.create_empty(spec.width)
        self._add_vectors(index, spec, self._catalog.list_vector_ids(spec.stored.id))
        return index

    # From files

    def _open_files(self, spec: IndexSpec) -> UpdatedIndex | None:
        """Open the memory-mapped index; None where its files are missing, damaged or not up to date."""
        footer = read_footer(spec.file)
        if footer is None or not is_current(spec.file, footer, spec.stamp):
            return None
        with contextlib.suppress(OSError):  # the content is damaged although the footer is valid
            base = self._open_base(spec, footer)
            delta = read_footer(spec.delta_file)
            if footer.stamp.has_same_state(spec.stamp) or delta is None:
                return UpdatedIndex(base)
            check_damage(spec.delta_file, self._background_limit_bytes)
            removed = read_removed_ids(spec.delta_file, delta)
            return UpdatedIndex(DeltaIndex(base, ExactIndex.open_mapped(spec.delta_file), removed))
        return None

    def _open_base(self, spec: IndexSpec, footer: IndexFooter) -> ExactIndex | QuantizedIndex:
        """Open the memory-mapped base. Raises `OSError` where it is damaged, as far as that is known already.

        A vector file that is missing, foreign, damaged or of another state is written again.
        """
        check = check_damage(spec.file, self._background_limit_bytes)
        if footer.stamp.kind == "flat":
            return self._check_width(spec, ExactIndex.open_mapped(spec.file, check))
        full = functools.partial(self._read_vectors, spec)
        index = QuantizedIndex.open_mapped(spec.file, footer, VectorReaders.from_file(full, None), check)
        if not index.kind.has_precise_codes:
            pending = self._prepare_vectors(spec, footer.stamp, lambda: index.ids)
            pending.publish()
            index.rank_by(full, pending.vectors)
        return self._check_width(spec, index)

    @staticmethod
    def _check_width(spec: IndexSpec, index: _Mapped) -> _Mapped:
        """Return an index whose file is not compared with its digest yet. Raises `OSError` on another width."""
        if index.width != spec.width:
            raise OSError(errno.EIO, "the content is damaged (its vectors have another width)", str(spec.file))
        return index

    # From the catalog

    def _update_index(self, spec: IndexSpec) -> UpdatedIndex:
        """Catch up from an older state of the index where there is one; otherwise rebuild it."""
        if spec.transform is not None and spec.transform.transform_originals is not None:
            return self._build_transformed(spec, spec.transform.transform_originals)
        wanted = self._catalog.list_vector_ids(spec.stored.id)
        footer = read_footer(spec.file)
        if footer is not None and self._can_catch_up(spec, footer):
            with contextlib.suppress(OSError):  # the content is damaged although the footer is valid
                return self._catch_up(spec, footer, wanted)
        return self._rebuild(spec, wanted)

    def _can_catch_up(self, spec: IndexSpec, footer: IndexFooter) -> bool:
        """Whether the base has an earlier state of the same vectors, and not one of another history of the catalog.

        After an older copy of a catalog is restored, the same ids are assigned to other pictures.
        """
        is_same = footer.stamp.has_same_source(spec.stamp)
        return is_same and self._catalog.has_had_state(spec.stored.id, footer.stamp.change_token)

    def _catch_up(self, spec: IndexSpec, footer: IndexFooter, wanted: Ids) -> UpdatedIndex:
        """Add and remove the vectors by which index and catalog differ; an id never gets another vector."""
        base = self._open_base(spec, footer)
        held = sort_ids(base.ids)
        missing, surplus = compare_ids(held, wanted)
        is_small = footer.stamp.kind == "flat" and 4 * spec.width * len(held) <= self._rewrite_limit_bytes
        delta_capacity = max(_MIN_DELTA_CAPACITY, int(_MAX_ADDED_SHARE * len(held)))
        if not is_small and len(missing) <= delta_capacity and len(surplus) <= _MAX_REMOVED_SHARE * len(held):
            return self._build_delta(spec, base, footer.digest, missing, surplus)
        must_retrain = bool(footer.facts) and len(wanted) > _RETRAIN_GROWTH * footer.facts["n_trained"]
        kind = self._select_kind(spec, len(wanted))
        if read_kind_choice(self._catalog).name == AUTO and {kind.name, footer.stamp.kind} <= set(AUTO_CANDIDATES):
            kind = KINDS[footer.stamp.kind]  # chosen by measured time
        if not is_intact(spec.file) or kind.name != footer.stamp.kind or must_retrain:
            return self._rebuild(spec, wanted)
        if len(surplus) and kind.family == "hnsw":  # a graph cannot remove vectors
            return self._rebuild(spec, wanted)
        if footer.stamp.kind != "flat":
            pending = self._prepare_vectors(spec, spec.stamp, lambda: wanted) if not kind.has_precise_codes else None
            source = self._make_vector_source(spec, wanted, pending)
            held_index = QuantizedIndex.read(spec.file, footer, source.readers)
            with _tell_building(len(wanted)) as report:
                index = extend_index(held_index, source, surplus, report)
            return self._finish_base(spec, index, index.details, pending)
        exact = ExactIndex.read(spec.file)
        if len(surplus):
            exact.remove(surplus)
        self._add_vectors(exact, spec, missing)
        return self._finish_base(spec, exact)

    def _build_delta(
        self, spec: IndexSpec, base: ExactIndex | QuantizedIndex, digest: str, missing: Ids, surplus: Ids
    ) -> UpdatedIndex:
        """Put the changes beside a base, whose file has this digest."""
        added = ExactIndex.create_empty(spec.width)
        self._add_vectors(added, spec, missing)
        stamp = replace(spec.stamp, base=digest)
        index = DeltaIndex(base, added, surplus)
        return UpdatedIndex(index, lambda: added.save(spec.delta_file, stamp, surplus))

    def _rebuild(self, spec: IndexSpec, ids: Ids) -> UpdatedIndex:
        kind, choice = self._select_kind(spec, len(ids)), read_kind_choice(self._catalog)
        if kind.is_approximate:
            with _tell_building(len(ids)) as report:
                pending = self._prepare_vectors(spec, spec.stamp, lambda: ids) if not kind.has_precise_codes else None
                source = self._make_vector_source(spec, ids, pending)
                if choice.name == AUTO and kind.name in AUTO_CANDIDATES:
                    index = _build_quickest(source, choice.recall, report)
                else:
                    index = build_index(kind, source, choice.recall, report)
            if index is not None and (choice.name != AUTO or index.details.has_wanted_recall):
                return self._finish_base(spec, index, index.details, pending)
        exact = ExactIndex.create_empty(spec.width)
        self._add_vectors(exact, spec, ids)
        return self._finish_base(spec, exact, IndexDetails("flat", len(ids)))

    def _build_transformed(self, spec: IndexSpec, transform_originals: Callable[[Vectors], Vectors]) -> UpdatedIndex:
        """Transform the rows of all original views at once."""
        ids = self._catalog.list_vector_ids(spec.stored.id)
        rows = self._read_vectors(spec, ids)
        is_original = np.isin(ids, self._catalog.list_original_ids(spec.stored.id), assume_unique=True)
        rows[is_original] = transform_originals(rows[is_original])
        index = ExactIndex.create_empty(spec.width)
        index.add(ids, rows)
        return self._finish_base(spec, index)

    def _finish_base(
        self,
        spec: IndexSpec,
        index: ExactIndex | QuantizedIndex,
        details: IndexDetails | None = None,
        pending: PendingVectors | None = None,
    ) -> UpdatedIndex:
        kind = index.kind.name if isinstance(index, QuantizedIndex) else "flat"

        def save() -> None:
            if pending is not None:
                pending.publish()
            index.save(spec.file, replace(spec.stamp, kind=kind))
            spec.delta_file.unlink(missing_ok=True)  # it belonged to the replaced base
            if pending is None:
                locate_vector_file(spec.file).unlink(missing_ok=True)

        return UpdatedIndex(index, save, details)

    # Vectors

    def _select_kind(self, spec: IndexSpec, n: int) -> IndexKind:
        return read_kind_choice(self._catalog).select_kind(n, spec.width, detect_memory_bytes())

    def _add_vectors(self, index: ExactIndex, spec: IndexSpec, ids: Ids) -> None:
        index.reserve(len(ids))
        for some, vectors in self._iterate_blocks(spec, ids):
            index.add(some, vectors)

    def _prepare_vectors(self, spec: IndexSpec, stamp: IndexStamp, list_ids: Callable[[], Ids]) -> PendingVectors:
        """Open the vector file with the vectors of a base with this stamp, or write one under a temporary name.

        Where it cannot be written, the vectors are read from the catalog.
        """
        file = locate_vector_file(spec.file)
        with contextlib.suppress(OSError):  # missing, incomplete, foreign or damaged
            vectors = VectorFile.open(file)
            if vectors.stamp.has_same_state(stamp) and vectors.width == spec.width:
                return PendingVectors(vectors)
        with contextlib.suppress(OSError):  # a read-only folder, a full disk
            writer = VectorFileWriter(file, spec.width)
            for some, rows in self._iterate_blocks(spec, list_ids()):
                writer.add(some, rows)
            return PendingVectors(writer.finish(stamp), writer)
        return PendingVectors(None)

    def _make_vector_source(self, spec: IndexSpec, ids: Ids, pending: PendingVectors | None) -> VectorSource:
        """The vectors of ids (m,), read from a vector file where there is one: that takes a tenth of the time."""
        full = functools.partial(self._read_vectors, spec)
        vectors = None if pending is None else pending.vectors
        if vectors is None:
            readers = VectorReaders.from_file(full, None)
            return VectorSource(ids, spec.width, lambda: self._iterate_blocks(spec, ids), readers)
        return VectorSource(ids, spec.width, vectors.iterate_blocks, VectorReaders.from_file(full, vectors))

    def _iterate_blocks(self, spec: IndexSpec, ids: Ids) -> Iterator[tuple[Ids, Vectors]]:
        """Read the indexed vectors of ascending ids, block by block."""
        for some, vectors in self._catalog.iterate_vectors(spec.stored, ids):
            yield some, spec.transform_vectors(vectors)

    def _read_vectors(self, spec: IndexSpec, ids: Ids) -> Vectors:
        """Read the indexed vectors of ids (m,), in their order; zeros where another process has just deleted one."""
        order = np.argsort(ids, kind="stable")
        ascending, rows = ids[order], np.zeros((len(ids), spec.width), np.float32)
        for some, vectors in self._iterate_blocks(spec, ids):
            rows[order[np.searchsorted(ascending, some)]] = vectors
        return rows


def _tell_building(n: int) -> AbstractContextManager[ReportShare]:
    """Tell that an index of n vectors is being built, where that takes seconds."""
    if n < _MIN_TOLD_VECTORS:
        return contextlib.nullcontext(lambda _: None)
    return find_listener().on_activity(f"building the index of {n:,} vectors")


def _build_quickest(source: VectorSource, recall: float, report: ReportShare) -> QuantizedIndex | None:
    """Build the quickest kind, with the table of their times; None where no kind reaches the recall."""
    kinds = [KINDS[name] for name in AUTO_CANDIDATES]
    max_bytes = detect_memory_bytes() // _MAX_MEMORY_DIVISOR or math.inf
    index, trials = build_quickest(kinds, source, recall, max_bytes, report=report)
    if index is not None:
        index.details = replace(index.details, trials=_to_table(trials))
    return index


def _to_table(trials: list[KindTrial]) -> dict[str, dict[str, float]]:
    """The trials as the details of an index keep them."""
    return {
        one.kind.name: {
            "query_ms": round(one.query_ms, 3),
            "build_s": round(one.build_s, 1),
            "bytes": round(one.n_bytes),
            "n_timed": one.n_timed,
        }
        for one in trials
    }
