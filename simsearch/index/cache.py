"""Keeps the index files of each model in step with the catalog. A missing, foreign or torn one is made anew.

An index is one file, its base; a large one is not written anew for every change, but has a second file beside it with
what came since and what is no longer meant, until that is so much that it pays to write the base again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from simsearch.errors import CollectionBusy, CollectionError, ModelNotIndexed
from simsearch.index import TEMPORARY_PREFIX, ExactIndex, Ids, Index, IndexStamp, Vectors, is_intact, read_stamp
from simsearch.index.build import VectorSource, build_index, extend_index
from simsearch.index.delta import DeltaIndex
from simsearch.index.exact import is_in_sorted
from simsearch.index.files import IndexFooter, read_footer, read_removed_ids
from simsearch.index.kinds import AUTO, KINDS, IndexKind, IndexKindChoice
from simsearch.index.quantized import QuantizedIndex
from simsearch.machine import detect_memory_bytes
from simsearch.store.catalog import Catalog, StoredModel
from simsearch.store.connection import make_disk_full_error
from simsearch.store.writer import CatalogWriter

_INDEX_SUFFIX = ".faiss"
_DELTA_SUFFIX = ".recent"
_TRANSFORM_SEPARATOR = "~"

_KIND_SETTING = "index_kind"
"""The setting that holds which kind of index is wanted, and its recall, as JSON."""

_REWRITE_LIMIT_BYTES = 64 << 20
"""An exact index of up to so many bytes is written anew for every change."""

_MAX_ADDED_SHARE = 0.01
_MIN_DELTA_CAPACITY = 1_000
_MAX_REMOVED_SHARE = 0.1
_RECALL_TOLERANCE = 0.01
"""By so much a measured recall may be off; `auto` stays exact where more is missing."""

_RETRAIN_GROWTH = 2
"""An index that has grown so many times since it was trained is trained anew."""


@dataclass(frozen=True, slots=True, eq=False)
class VectorTransform:
    """What is made of a model's vectors before they are searched.

    `name` is part of the file's name and `digest` of its stamp: equal digests, equal vectors. `each` makes rows
    (n, width) of vectors (n, d), every row by itself, so that such an index can be caught up. `together`, where there
    is one, then makes rows of the same shape of those of all original views, in the order of their ids: such an index
    is made anew whenever the vectors have changed, and always exact.
    """

    name: str
    digest: str
    width: int
    transform_rows: Callable[[Vectors], Vectors]
    transform_originals: Callable[[Vectors], Vectors] | None = None

    @property
    def label(self) -> str:
        """What a stamp calls it."""
        return f"{self.name} {self.digest}"


class IndexBackend(Protocol):
    """The indexes of a collection's models, each as the catalog has it now."""

    def open_index(self, fingerprint: str, derivation: VectorTransform | None = None) -> Index:
        """The index of a model's vectors, or of what is made of them."""
        ...

    def open_exact_index(self, fingerprint: str, derivation: VectorTransform | None = None) -> ExactIndex:
        """All vectors of a model, or what is made of them, as they are and at hand."""
        ...

    def refresh(self, fingerprint: str) -> None:
        """Bring what is searched up to date, after writing to the catalog."""
        ...

    def discard(self, fingerprint: str | None = None) -> None:
        """Delete what is kept of a model, or of all models."""
        ...

    def discard_stale(self) -> None:
        """Delete what was made of vectors that the catalog has no more."""
        ...

    def find_problems(self, stored: StoredModel) -> list[str]:
        """What is wrong with what is kept of a model, a line each."""
        ...

    def describe(self, stored: StoredModel) -> dict[str, Any]:
        """What is searched: at least its `kind`."""
        ...

    def describe_location(self, fingerprint: str) -> str:
        """Where a model's index is, for a person."""
        ...

    def close(self) -> None:
        """Let go of what is held open."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


@dataclass(frozen=True, slots=True, eq=False)
class _IndexSpec:
    """What an index is of: a model's vectors, or what is made of them, now."""

    stored: StoredModel
    derivation: VectorTransform | None
    stamp: IndexStamp
    file: Path

    @property
    def delta_file(self) -> Path:
        return self.file.with_suffix(_DELTA_SUFFIX)

    @property
    def width(self) -> int:
        return self.stored.width if self.derivation is None else self.derivation.width

    @property
    def method(self) -> str:
        return "" if self.derivation is None else self.derivation.name

    def transform_vectors(self, vectors: Vectors) -> Vectors:
        """What the index holds in the place of vectors (n, d): (n, width)."""
        return vectors if self.derivation is None else self.derivation.transform_rows(vectors)


@dataclass(frozen=True, slots=True, eq=False)
class _OpenedIndex:
    """An index, and what is still to be written of it; `facts` are to be noted where it was built anew."""

    index: ExactIndex | QuantizedIndex | DeltaIndex
    save: Callable[[], None] = lambda: None
    details: dict[str, Any] | None = None


class IndexCache:
    """The indexes of a collection's models in files of FAISS, each as the catalog has it now.

    `rewritten_bytes` is up to which size an exact index is written anew for every change.
    """

    def __init__(self, catalog: Catalog, *, rewrite_limit_bytes: int = _REWRITE_LIMIT_BYTES) -> None:
        self._catalog = catalog
        self._folder = catalog.folder
        self._rewrite_limit_bytes = rewrite_limit_bytes
        self._open_indexes: dict[Path, tuple[IndexStamp, ExactIndex | QuantizedIndex | DeltaIndex]] = {}
        self._exact_indexes: dict[Path, tuple[IndexStamp, ExactIndex]] = {}

    def close(self) -> None:
        """Let go of the indexes that are open."""
        self._open_indexes.clear()
        self._exact_indexes.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def describe_location(self, fingerprint: str) -> str:
        """The name of the file of a model's index."""
        return self.locate_file(fingerprint).name

    def locate_file(self, fingerprint: str, derivation: VectorTransform | None = None) -> Path:
        """Where the index of a model's vectors, or of what is made of them, lies."""
        name = fingerprint if derivation is None else f"{fingerprint}{_TRANSFORM_SEPARATOR}{derivation.name}"
        return self._folder / f"{name}{_INDEX_SUFFIX}"

    def open_index(self, fingerprint: str, derivation: VectorTransform | None = None) -> Index:
        """The index of a model's vectors, or of what is made of them, brought up to date with the catalog.

        It is cached anew where the place can be written to. Raises `ModelNotIndexed`, `CollectionDamaged`.
        """
        with contextlib.suppress(OSError):  # a place that cannot be written to is asked all the same
            return self._open_current(fingerprint, derivation, must_save=False)
        return self._open_indexes[self.locate_file(fingerprint, derivation)][1]

    def open_exact_index(self, fingerprint: str, derivation: VectorTransform | None = None) -> ExactIndex:
        """All vectors of a model, or what is made of them, as they are: mapped, or in memory where they lie in codes.

        Raises what `index` raises.
        """
        index = self.open_index(fingerprint, derivation)
        if isinstance(index, ExactIndex):
            return index
        file = self.locate_file(fingerprint, derivation)
        stamp = self._open_indexes[file][0]
        if file not in self._exact_indexes or self._exact_indexes[file][0] != stamp:
            self._exact_indexes = {}  # one at a time: it may be large
            with self._catalog.read_transaction():
                source = self._make_spec(fingerprint, derivation)
                whole = ExactIndex.create_empty(source.width)
                self._add_vectors(whole, source, self._catalog.list_vector_ids(source.stored.id))
            self._exact_indexes[file] = stamp, whole
        return self._exact_indexes[file][1]

    def refresh(self, fingerprint: str) -> None:
        """Bring the file up to date, after writing to the catalog. What is made of vectors is left to the next query.

        Raises `DiskFull`; another failure to write leaves the work to the next query.
        """
        for workshop in self._folder.glob(f"{TEMPORARY_PREFIX}*"):  # of runs that were killed while they wrote one
            workshop.unlink(missing_ok=True)
        try:
            self._open_current(fingerprint, None, must_save=True)
        except OSError as error:
            if error.errno == errno.ENOSPC or "No space" in str(error):
                raise make_disk_full_error(self._folder) from error

    def discard(self, fingerprint: str | None = None) -> None:
        """Delete the files of a model, or all files."""
        for file in self._folder.glob(f"*{_INDEX_SUFFIX}"):
            if fingerprint is None or file == self.locate_file(fingerprint) or _is_transform_file(file, fingerprint):
                self._delete_files(file)
        self._open_indexes.clear()

    def discard_stale(self) -> None:
        """Delete what was made of vectors that the catalog has no more: the next query that needs it makes it anew."""
        for stored in self._catalog.list_models():
            for file in self._find_transform_files(stored.fingerprint):
                if not self._is_file_current(file, stored):
                    self._delete_files(file)
        self._open_indexes.clear()

    def find_problems(self, stored: StoredModel) -> list[str]:
        """What is wrong with the files of a model, a line each."""
        found = []
        remedy = "the next query, or `simsearch rebuild`, makes it anew"
        for file in (self.locate_file(stored.fingerprint), *self._find_transform_files(stored.fingerprint)):
            recent = file.with_suffix(_DELTA_SUFFIX)
            torn = [part.name for part in (file, recent) if not is_intact(part) and (part == file or part.exists())]
            if torn:
                found.append(f"{torn[0]} is missing or torn; {remedy}")
            elif not self._is_file_current(file, stored):
                found.append(f"{file.name} is not what the catalog has; {remedy}")
        return found

    def describe(self, stored: StoredModel) -> dict[str, Any]:
        """The kind of index that a model's vectors are searched by, how it was built, and what came since."""
        file = self.locate_file(stored.fingerprint)
        seal, recent = read_footer(file), read_footer(file.with_suffix(_DELTA_SUFFIX))
        text = self._catalog.read_index_details(stored.id, "")
        facts = json.loads(text) if text else {"kind": seal.stamp.kind if seal else KINDS["flat"].name}
        if seal is None or recent is None or recent.stamp.base != seal.digest:
            return facts | {"recent": 0, "removed": 0}
        n_recent = recent.stamp.n_vectors - seal.stamp.n_vectors + recent.n_removed
        return facts | {"recent": n_recent, "removed": recent.n_removed}

    def _find_transform_files(self, fingerprint: str) -> Iterator[Path]:
        return (
            file for file in sorted(self._folder.glob(f"*{_INDEX_SUFFIX}")) if _is_transform_file(file, fingerprint)
        )

    def _delete_files(self, file: Path) -> None:
        for part in (file, file.with_suffix(_DELTA_SUFFIX)):
            part.unlink(missing_ok=True)

    def _is_file_current(self, file: Path, stored: StoredModel) -> bool:
        """Whether a file, with the one beside it, is of the vectors as they are now, whatever was made of them."""
        seal = read_footer(file)
        return seal is not None and _is_up_to_date(file, seal, self._make_stamp(stored, seal.stamp.derivation))

    def _make_stamp(self, stored: StoredModel, derivation: str) -> IndexStamp:
        n_vectors = self._catalog.count_vectors(stored.id)
        return IndexStamp(self._catalog.uuid, stored.fingerprint, stored.generation, n_vectors, derivation)

    def _make_spec(self, fingerprint: str, derivation: VectorTransform | None) -> _IndexSpec:
        stored = self._find_model(fingerprint)
        stamp = self._make_stamp(stored, "" if derivation is None else derivation.label)
        return _IndexSpec(stored, derivation, stamp, self.locate_file(fingerprint, derivation))

    def _find_model(self, fingerprint: str) -> StoredModel:
        stored = self._catalog.find_model(fingerprint)
        if stored is None:
            raise ModelNotIndexed(str(self._folder), f"{fingerprint} was pruned from {self._folder}", "index again")
        return stored

    def _open_current(
        self, fingerprint: str, derivation: VectorTransform | None, *, must_save: bool
    ) -> ExactIndex | QuantizedIndex | DeltaIndex:
        with self._catalog.read_transaction():
            if not must_save and (held := self._find_open_index(fingerprint, derivation)) is not None:
                return held
            source = self._make_spec(fingerprint, derivation)
            made = self._open_files(source) or self._update_index(source)
        self._open_indexes[source.file] = (source.stamp, made.index)
        made.save()
        if made.details is not None:
            self._write_details(source, made.details)
        return made.index

    def _find_open_index(
        self, fingerprint: str, derivation: VectorTransform | None
    ) -> ExactIndex | QuantizedIndex | DeltaIndex | None:
        """The index that is open, if its vectors have not changed since: counting them anew would take longer."""
        held = self._open_indexes.get(self.locate_file(fingerprint, derivation))
        if held is None:
            return None
        stamp, index = held
        meant = "" if derivation is None else derivation.label
        now = (self._catalog.uuid, self._find_model(fingerprint).generation, meant)
        return index if (stamp.collection, stamp.generation, stamp.derivation) == now else None

    # From files

    def _open_files(self, source: _IndexSpec) -> _OpenedIndex | None:
        """The index in its files, mapped, if they are of now and the wanted kind."""
        seal = read_footer(source.file)
        if seal is None or not _is_up_to_date(source.file, seal, source.stamp):
            return None
        with contextlib.suppress(RuntimeError, OSError):  # damaged inside, whatever its stamp says
            base = self._open_base(source, seal)
            recent = read_footer(source.delta_file)
            if seal.stamp.has_same_state(source.stamp) or recent is None:
                return _OpenedIndex(base)
            removed = read_removed_ids(source.delta_file, recent)
            return _OpenedIndex(DeltaIndex(base, ExactIndex.open_mapped(source.delta_file), removed))
        return None

    def _open_base(self, source: _IndexSpec, seal: IndexFooter) -> ExactIndex | QuantizedIndex:
        if seal.stamp.kind == "flat":
            return ExactIndex.open_mapped(source.file)
        return QuantizedIndex.open_mapped(source.file, seal, lambda ids: self._read_vectors(source, ids))

    # From the catalog

    def _update_index(self, source: _IndexSpec) -> _OpenedIndex:
        """The index as the catalog has it now, from an older state of it where there is one."""
        if source.derivation is not None and source.derivation.transform_originals is not None:
            return self._build_transformed(source, source.derivation.transform_originals)
        wanted = self._catalog.list_vector_ids(source.stored.id)
        seal = read_footer(source.file)
        if seal is not None and seal.stamp.has_same_source(source.stamp):
            with contextlib.suppress(RuntimeError, OSError):  # damaged inside
                return self._catch_up(source, seal, wanted)
        return self._rebuild(source, wanted)

    def _catch_up(self, source: _IndexSpec, seal: IndexFooter, wanted: Ids) -> _OpenedIndex:
        """Add what the catalog has more, take out what it has less: a vector never changes under its id."""
        held = self._open_base(source, seal).ids
        missing, surplus = wanted[~is_in_sorted(wanted, np.sort(held))], held[~is_in_sorted(held, wanted)]
        is_small = seal.stamp.kind == "flat" and 4 * source.width * len(held) <= self._rewrite_limit_bytes
        few = max(_MIN_DELTA_CAPACITY, int(_MAX_ADDED_SHARE * len(held)))
        if not is_small and len(missing) <= few and len(surplus) <= _MAX_REMOVED_SHARE * len(held):
            return self._build_delta(source, seal, missing, surplus)
        is_outgrown = seal.facts and len(wanted) > _RETRAIN_GROWTH * seal.facts["n_trained"]
        kind = self._select_kind(source, len(wanted))
        if not is_intact(source.file) or kind.name != seal.stamp.kind or is_outgrown:
            return self._rebuild(source, wanted)
        if seal.stamp.kind == "flat":
            index = ExactIndex.read(source.file)
            if len(surplus):
                index.remove(surplus)
            self._add_vectors(index, source, missing)
            return self._finish_base(source, index)
        if len(surplus) and kind.family == "hnsw":
            return self._rebuild(source, wanted)
        coded = QuantizedIndex.read(source.file, seal, lambda ids: self._read_vectors(source, ids))
        coded = extend_index(coded, self._make_vector_source(source, wanted), surplus)
        return self._finish_base(source, coded, dataclasses.asdict(coded.details))

    def _build_delta(self, source: _IndexSpec, seal: IndexFooter, missing: Ids, surplus: Ids) -> _OpenedIndex:
        recent = ExactIndex.create_empty(source.width)
        self._add_vectors(recent, source, missing)
        stamp = replace(source.stamp, base=seal.digest)
        index = DeltaIndex(self._open_base(source, seal), recent, surplus)
        return _OpenedIndex(index, lambda: recent.save(source.delta_file, stamp, surplus))

    def _rebuild(self, source: _IndexSpec, ids: Ids) -> _OpenedIndex:
        kind, choice = self._select_kind(source, len(ids)), self.kind_choice
        if kind.is_approximate:
            coded = build_index(kind, self._make_vector_source(source, ids), choice.recall)
            if choice.name != AUTO or coded.details.recall_at_10 >= choice.recall - _RECALL_TOLERANCE:
                return self._finish_base(source, coded, dataclasses.asdict(coded.details))
        index = ExactIndex.create_empty(source.width)
        self._add_vectors(index, source, ids)
        return self._finish_base(source, index, {"kind": "flat", "n_vectors": len(ids), "recall_at_10": 1.0})

    def _build_transformed(self, source: _IndexSpec, together: Callable[[Vectors], Vectors]) -> _OpenedIndex:
        """All vectors' rows made at once."""
        ids = self._catalog.list_vector_ids(source.stored.id)
        rows = self._read_vectors(source, ids)
        is_original = np.isin(ids, self._catalog.list_original_ids(source.stored.id), assume_unique=True)
        rows[is_original] = together(rows[is_original])
        index = ExactIndex.create_empty(source.width)
        index.add(ids, rows)
        return self._finish_base(source, index)

    def _finish_base(
        self, source: _IndexSpec, index: ExactIndex | QuantizedIndex, facts: dict[str, Any] | None = None
    ) -> _OpenedIndex:
        kind = index.kind.name if isinstance(index, QuantizedIndex) else "flat"

        def save() -> None:
            index.save(source.file, replace(source.stamp, kind=kind))
            source.delta_file.unlink(missing_ok=True)  # it was of the base that is gone

        return _OpenedIndex(index, save, facts)

    def _add_vectors(self, index: ExactIndex, source: _IndexSpec, ids: Ids) -> None:
        index.reserve(len(ids))
        for some, vectors in self._iterate_blocks(source, ids):
            index.add(some, vectors)

    def _make_vector_source(self, source: _IndexSpec, ids: Ids) -> VectorSource:
        return VectorSource(
            ids, source.width, lambda: self._iterate_blocks(source, ids), lambda some: self._read_vectors(source, some)
        )

    def _iterate_blocks(self, source: _IndexSpec, ids: Ids) -> Iterator[tuple[Ids, Vectors]]:
        for some, vectors in self._catalog.iterate_vectors(source.stored, ids):
            yield some, source.transform_vectors(vectors)

    def _read_vectors(self, source: _IndexSpec, ids: Ids) -> Vectors:
        """What the index has of ids (m,), in their order; zeros where another process has just deleted one."""
        order = np.argsort(ids, kind="stable")
        rising, rows = ids[order], np.zeros((len(ids), source.width), np.float32)
        for some, vectors in self._iterate_blocks(source, ids):
            rows[order[np.searchsorted(rising, some)]] = vectors
        return rows

    # What is wanted, and what was reached

    @property
    def kind_choice(self) -> IndexKindChoice:
        """Which kind of index the collection's owner asks for."""
        return read_kind_choice(self._catalog)

    def _select_kind(self, source: _IndexSpec, n: int) -> IndexKind:
        return self.kind_choice.select_kind(n, source.width, detect_memory_bytes())

    def _write_details(self, source: _IndexSpec, facts: dict[str, Any]) -> None:
        """In the catalog, unless another process writes or the place cannot be written to."""
        if isinstance(self._catalog, CatalogWriter):
            with self._catalog.transaction():
                self._catalog.write_index_details(source.stored.id, source.method, facts["kind"], json.dumps(facts))
            return
        with (
            contextlib.suppress(CollectionBusy, CollectionError),
            CatalogWriter.open(self._folder) as writer,
            writer.transaction(),
        ):
            if writer.find_model(source.stored.fingerprint) is not None:
                writer.write_index_details(source.stored.id, source.method, facts["kind"], json.dumps(facts))


def read_kind_choice(catalog: Catalog) -> IndexKindChoice:
    """Which kind of index a collection's owner asks for."""
    text = catalog.read_setting(_KIND_SETTING)
    return IndexKindChoice() if text is None else IndexKindChoice(**json.loads(text))


def write_kind_choice(writer: CatalogWriter, choice: IndexKindChoice) -> bool:
    """Say which kind of index is wanted; whether that is news: then what there is, is to be discarded."""
    if choice == read_kind_choice(writer):
        return False
    with writer.transaction():
        writer.write_setting(
            _KIND_SETTING, None if choice == IndexKindChoice() else json.dumps(dataclasses.asdict(choice))
        )
    return True


def _is_up_to_date(file: Path, seal: IndexFooter, now: IndexStamp) -> bool:
    """Whether a base, by itself or with what lies beside it, is of now."""
    if seal.stamp.has_same_state(now):
        return True
    recent = read_stamp(file.with_suffix(_DELTA_SUFFIX))
    return (
        seal.stamp.has_same_source(now)
        and recent is not None
        and recent.has_same_state(now)
        and recent.base == seal.digest
    )


def _is_transform_file(file: Path, fingerprint: str) -> bool:
    return file.name.startswith(f"{fingerprint}{_TRANSFORM_SEPARATOR}")
