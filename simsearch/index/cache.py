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
from simsearch.images.decode import memory_bytes
from simsearch.index import WORKSHOP_PREFIX, AnnIndex, Ids, Index, Stamp, Vectors, is_intact, read_stamp
from simsearch.index.build import Material, build, extend
from simsearch.index.delta import LayeredIndex
from simsearch.index.exact import is_among
from simsearch.index.files import Seal, read_removed, read_seal
from simsearch.index.kinds import AUTO, KINDS, Kind, KindChoice
from simsearch.index.quantized import CodedIndex
from simsearch.store.catalog import Catalog, StoredModel
from simsearch.store.connection import disk_full
from simsearch.store.writer import CatalogWriter

_SUFFIX = ".faiss"
_RECENT = ".recent"
_MARK = "~"

_SETTING = "index_kind"
"""The setting that holds which kind of index is wanted, and its recall, as JSON."""

_REWRITTEN_BYTES = 64 << 20
"""An exact index of up to so many bytes is written anew for every change."""

_RECENT_SHARE = 0.01
_LEAST_RECENT = 1_000
_REMOVED_SHARE = 0.1
_SAMPLING = 0.01
"""By so much a measured recall may be off; `auto` stays exact where more is missing."""

_OUTGROWN = 2
"""An index that has grown so many times since it was trained is trained anew."""


@dataclass(frozen=True, slots=True, eq=False)
class Derivation:
    """What is made of a model's vectors before they are searched.

    `name` is part of the file's name and `digest` of its stamp: equal digests, equal vectors. `each` makes rows
    (n, width) of vectors (n, d), every row by itself, so that such an index can be caught up. `together`, where there
    is one, then makes rows of the same shape of those of all original views, in the order of their ids: such an index
    is made anew whenever the vectors have changed, and always exact.
    """

    name: str
    digest: str
    width: int
    each: Callable[[Vectors], Vectors]
    together: Callable[[Vectors], Vectors] | None = None

    @property
    def mark(self) -> str:
        """What a stamp calls it."""
        return f"{self.name} {self.digest}"


class Indexes(Protocol):
    """The indexes of a collection's models, each as the catalog has it now."""

    def index(self, fingerprint: str, derivation: Derivation | None = None) -> Index:
        """The index of a model's vectors, or of what is made of them."""
        ...

    def exact(self, fingerprint: str, derivation: Derivation | None = None) -> AnnIndex:
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

    def complaints(self, stored: StoredModel) -> list[str]:
        """What is wrong with what is kept of a model, a line each."""
        ...

    def describe(self, stored: StoredModel) -> dict[str, Any]:
        """What is searched: at least its `kind`."""
        ...

    def place(self, fingerprint: str) -> str:
        """Where a model's index is, for a person."""
        ...

    def close(self) -> None:
        """Let go of what is held open."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


@dataclass(frozen=True, slots=True, eq=False)
class _Source:
    """What an index is of: a model's vectors, or what is made of them, now."""

    stored: StoredModel
    derivation: Derivation | None
    stamp: Stamp
    file: Path

    @property
    def recent_file(self) -> Path:
        return self.file.with_suffix(_RECENT)

    @property
    def width(self) -> int:
        return self.stored.width if self.derivation is None else self.derivation.width

    @property
    def method(self) -> str:
        return "" if self.derivation is None else self.derivation.name

    def made_of(self, vectors: Vectors) -> Vectors:
        """What the index holds in the place of vectors (n, d): (n, width)."""
        return vectors if self.derivation is None else self.derivation.each(vectors)


@dataclass(frozen=True, slots=True, eq=False)
class _Made:
    """An index, and what is still to be written of it; `facts` are to be noted where it was built anew."""

    index: AnnIndex | CodedIndex | LayeredIndex
    save: Callable[[], None] = lambda: None
    facts: dict[str, Any] | None = None


class IndexCache:
    """The indexes of a collection's models in files of FAISS, each as the catalog has it now.

    `rewritten_bytes` is up to which size an exact index is written anew for every change.
    """

    def __init__(self, catalog: Catalog, *, rewritten_bytes: int = _REWRITTEN_BYTES) -> None:
        self._catalog = catalog
        self._folder = catalog.folder
        self._rewritten_bytes = rewritten_bytes
        self._held: dict[Path, tuple[Stamp, AnnIndex | CodedIndex | LayeredIndex]] = {}
        self._exact: dict[Path, tuple[Stamp, AnnIndex]] = {}

    def close(self) -> None:
        """Let go of the indexes that are open."""
        self._held.clear()
        self._exact.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def place(self, fingerprint: str) -> str:
        """The name of the file of a model's index."""
        return self.file(fingerprint).name

    def file(self, fingerprint: str, derivation: Derivation | None = None) -> Path:
        """Where the index of a model's vectors, or of what is made of them, lies."""
        name = fingerprint if derivation is None else f"{fingerprint}{_MARK}{derivation.name}"
        return self._folder / f"{name}{_SUFFIX}"

    def index(self, fingerprint: str, derivation: Derivation | None = None) -> Index:
        """The index of a model's vectors, or of what is made of them, brought up to date with the catalog.

        It is cached anew where the place can be written to. Raises `ModelNotIndexed`, `CollectionDamaged`.
        """
        with contextlib.suppress(OSError):  # a place that cannot be written to is asked all the same
            return self._current(fingerprint, derivation, must_save=False)
        return self._held[self.file(fingerprint, derivation)][1]

    def exact(self, fingerprint: str, derivation: Derivation | None = None) -> AnnIndex:
        """All vectors of a model, or what is made of them, as they are: mapped, or in memory where they lie in codes.

        Raises what `index` raises.
        """
        index = self.index(fingerprint, derivation)
        if isinstance(index, AnnIndex):
            return index
        file = self.file(fingerprint, derivation)
        stamp = self._held[file][0]
        if file not in self._exact or self._exact[file][0] != stamp:
            self._exact = {}  # one at a time: it may be large
            with self._catalog.snapshot():
                source = self._source(fingerprint, derivation)
                whole = AnnIndex.empty(source.width)
                self._fill(whole, source, self._catalog.vector_ids(source.stored.id))
            self._exact[file] = stamp, whole
        return self._exact[file][1]

    def refresh(self, fingerprint: str) -> None:
        """Bring the file up to date, after writing to the catalog. What is made of vectors is left to the next query.

        Raises `DiskFull`; another failure to write leaves the work to the next query.
        """
        for workshop in self._folder.glob(f"{WORKSHOP_PREFIX}*"):  # of runs that were killed while they wrote one
            workshop.unlink(missing_ok=True)
        try:
            self._current(fingerprint, None, must_save=True)
        except OSError as error:
            if error.errno == errno.ENOSPC or "No space" in str(error):
                raise disk_full(self._folder) from error

    def discard(self, fingerprint: str | None = None) -> None:
        """Delete the files of a model, or all files."""
        for file in self._folder.glob(f"*{_SUFFIX}"):
            if fingerprint is None or file == self.file(fingerprint) or _is_derived(file, fingerprint):
                self._unlink(file)
        self._held.clear()

    def discard_stale(self) -> None:
        """Delete what was made of vectors that the catalog has no more: the next query that needs it makes it anew."""
        for stored in self._catalog.models():
            for file in self._derived(stored.fingerprint):
                if not self._is_current(file, stored):
                    self._unlink(file)
        self._held.clear()

    def complaints(self, stored: StoredModel) -> list[str]:
        """What is wrong with the files of a model, a line each."""
        found = []
        remedy = "the next query, or `simsearch rebuild`, makes it anew"
        for file in (self.file(stored.fingerprint), *self._derived(stored.fingerprint)):
            recent = file.with_suffix(_RECENT)
            torn = [part.name for part in (file, recent) if not is_intact(part) and (part == file or part.exists())]
            if torn:
                found.append(f"{torn[0]} is missing or torn; {remedy}")
            elif not self._is_current(file, stored):
                found.append(f"{file.name} is not what the catalog has; {remedy}")
        return found

    def describe(self, stored: StoredModel) -> dict[str, Any]:
        """The kind of index that a model's vectors are searched by, how it was built, and what came since."""
        file = self.file(stored.fingerprint)
        seal, recent = read_seal(file), read_seal(file.with_suffix(_RECENT))
        facts = self._catalog.index_facts(stored.id, "") or {"kind": seal.stamp.kind if seal else KINDS["flat"].name}
        if seal is None or recent is None or recent.stamp.base != seal.digest:
            return facts | {"recent": 0, "removed": 0}
        n_recent = recent.stamp.n_vectors - seal.stamp.n_vectors + recent.n_removed
        return facts | {"recent": n_recent, "removed": recent.n_removed}

    def _derived(self, fingerprint: str) -> Iterator[Path]:
        return (file for file in sorted(self._folder.glob(f"*{_SUFFIX}")) if _is_derived(file, fingerprint))

    def _unlink(self, file: Path) -> None:
        for part in (file, file.with_suffix(_RECENT)):
            part.unlink(missing_ok=True)

    def _is_current(self, file: Path, stored: StoredModel) -> bool:
        """Whether a file, with the one beside it, is of the vectors as they are now, whatever was made of them."""
        seal = read_seal(file)
        return seal is not None and _is_whole(file, seal, self._stamp(stored, seal.stamp.derivation))

    def _stamp(self, stored: StoredModel, derivation: str) -> Stamp:
        n_vectors = self._catalog.n_vectors(stored.id)
        return Stamp(self._catalog.uuid, stored.fingerprint, stored.generation, n_vectors, derivation)

    def _source(self, fingerprint: str, derivation: Derivation | None) -> _Source:
        stored = self._find(fingerprint)
        stamp = self._stamp(stored, "" if derivation is None else derivation.mark)
        return _Source(stored, derivation, stamp, self.file(fingerprint, derivation))

    def _find(self, fingerprint: str) -> StoredModel:
        stored = self._catalog.find_model(fingerprint)
        if stored is None:
            raise ModelNotIndexed(str(self._folder), f"{fingerprint} was pruned from {self._folder}", "index again")
        return stored

    def _current(
        self, fingerprint: str, derivation: Derivation | None, *, must_save: bool
    ) -> AnnIndex | CodedIndex | LayeredIndex:
        with self._catalog.snapshot():
            if not must_save and (held := self._still_held(fingerprint, derivation)) is not None:
                return held
            source = self._source(fingerprint, derivation)
            made = self._opened(source) or self._brought_up(source)
        self._held[source.file] = (source.stamp, made.index)
        made.save()
        if made.facts is not None:
            self._note(source, made.facts)
        return made.index

    def _still_held(
        self, fingerprint: str, derivation: Derivation | None
    ) -> AnnIndex | CodedIndex | LayeredIndex | None:
        """The index that is open, if its vectors have not changed since: counting them anew would take longer."""
        held = self._held.get(self.file(fingerprint, derivation))
        if held is None:
            return None
        stamp, index = held
        meant = "" if derivation is None else derivation.mark
        now = (self._catalog.uuid, self._find(fingerprint).generation, meant)
        return index if (stamp.collection, stamp.generation, stamp.derivation) == now else None

    # From files

    def _opened(self, source: _Source) -> _Made | None:
        """The index in its files, mapped, if they are of now and the wanted kind."""
        seal = read_seal(source.file)
        if seal is None or not _is_whole(source.file, seal, source.stamp):
            return None
        with contextlib.suppress(RuntimeError, OSError):  # damaged inside, whatever its stamp says
            base = self._base(source, seal)
            recent = read_seal(source.recent_file)
            if seal.stamp.is_of_now(source.stamp) or recent is None:
                return _Made(base)
            removed = read_removed(source.recent_file, recent)
            return _Made(LayeredIndex(base, AnnIndex.map(source.recent_file), removed))
        return None

    def _base(self, source: _Source, seal: Seal) -> AnnIndex | CodedIndex:
        if seal.stamp.kind == "flat":
            return AnnIndex.map(source.file)
        return CodedIndex.map(source.file, seal, lambda ids: self._rows_of(source, ids))

    # From the catalog

    def _brought_up(self, source: _Source) -> _Made:
        """The index as the catalog has it now, from an older state of it where there is one."""
        if source.derivation is not None and source.derivation.together is not None:
            return self._together(source, source.derivation.together)
        wanted = self._catalog.vector_ids(source.stored.id)
        seal = read_seal(source.file)
        if seal is not None and seal.stamp.is_of_same(source.stamp):
            with contextlib.suppress(RuntimeError, OSError):  # damaged inside
                return self._caught_up(source, seal, wanted)
        return self._anew(source, wanted)

    def _caught_up(self, source: _Source, seal: Seal, wanted: Ids) -> _Made:
        """Add what the catalog has more, take out what it has less: a vector never changes under its id."""
        held = self._base(source, seal).ids
        missing, surplus = wanted[~is_among(wanted, np.sort(held))], held[~is_among(held, wanted)]
        is_small = seal.stamp.kind == "flat" and 4 * source.width * len(held) <= self._rewritten_bytes
        few = max(_LEAST_RECENT, int(_RECENT_SHARE * len(held)))
        if not is_small and len(missing) <= few and len(surplus) <= _REMOVED_SHARE * len(held):
            return self._layered(source, seal, missing, surplus)
        is_outgrown = seal.facts and len(wanted) > _OUTGROWN * seal.facts["n_trained"]
        kind = self._wanted_kind(source, len(wanted))
        if not is_intact(source.file) or kind.name != seal.stamp.kind or is_outgrown:
            return self._anew(source, wanted)
        if seal.stamp.kind == "flat":
            index = AnnIndex.read(source.file)
            if len(surplus):
                index.remove(surplus)
            self._fill(index, source, missing)
            return self._whole(source, index)
        if len(surplus) and kind.family == "hnsw":
            return self._anew(source, wanted)
        coded = CodedIndex.read(source.file, seal, lambda ids: self._rows_of(source, ids))
        coded = extend(coded, self._material(source, wanted), surplus)
        return self._whole(source, coded, dataclasses.asdict(coded.facts))

    def _layered(self, source: _Source, seal: Seal, missing: Ids, surplus: Ids) -> _Made:
        recent = AnnIndex.empty(source.width)
        self._fill(recent, source, missing)
        stamp = replace(source.stamp, base=seal.digest)
        index = LayeredIndex(self._base(source, seal), recent, surplus)
        return _Made(index, lambda: recent.save(source.recent_file, stamp, surplus))

    def _anew(self, source: _Source, ids: Ids) -> _Made:
        kind, choice = self._wanted_kind(source, len(ids)), self.choice
        if kind.is_coded:
            coded = build(kind, self._material(source, ids), choice.recall)
            if choice.name != AUTO or coded.facts.recall_at_10 >= choice.recall - _SAMPLING:
                return self._whole(source, coded, dataclasses.asdict(coded.facts))
        index = AnnIndex.empty(source.width)
        self._fill(index, source, ids)
        return self._whole(source, index, {"kind": "flat", "n_vectors": len(ids), "recall_at_10": 1.0})

    def _together(self, source: _Source, together: Callable[[Vectors], Vectors]) -> _Made:
        """All vectors' rows made at once."""
        ids = self._catalog.vector_ids(source.stored.id)
        rows = self._rows_of(source, ids)
        is_original = np.isin(ids, self._catalog.original_ids(source.stored.id), assume_unique=True)
        rows[is_original] = together(rows[is_original])
        index = AnnIndex.empty(source.width)
        index.add(ids, rows)
        return self._whole(source, index)

    def _whole(self, source: _Source, index: AnnIndex | CodedIndex, facts: dict[str, Any] | None = None) -> _Made:
        kind = index.kind.name if isinstance(index, CodedIndex) else "flat"

        def save() -> None:
            index.save(source.file, replace(source.stamp, kind=kind))
            source.recent_file.unlink(missing_ok=True)  # it was of the base that is gone

        return _Made(index, save, facts)

    def _fill(self, index: AnnIndex, source: _Source, ids: Ids) -> None:
        index.reserve(len(ids))
        for some, vectors in self._blocks(source, ids):
            index.add(some, vectors)

    def _material(self, source: _Source, ids: Ids) -> Material:
        return Material(ids, source.width, lambda: self._blocks(source, ids), lambda some: self._rows_of(source, some))

    def _blocks(self, source: _Source, ids: Ids) -> Iterator[tuple[Ids, Vectors]]:
        for some, vectors in self._catalog.vectors(source.stored, ids):
            yield some, source.made_of(vectors)

    def _rows_of(self, source: _Source, ids: Ids) -> Vectors:
        """What the index has of ids (m,), in their order; zeros where another process has just deleted one."""
        order = np.argsort(ids, kind="stable")
        rising, rows = ids[order], np.zeros((len(ids), source.width), np.float32)
        for some, vectors in self._blocks(source, ids):
            rows[order[np.searchsorted(rising, some)]] = vectors
        return rows

    # What is wanted, and what was reached

    @property
    def choice(self) -> KindChoice:
        """Which kind of index the collection's owner asks for."""
        return kind_choice(self._catalog)

    def _wanted_kind(self, source: _Source, n: int) -> Kind:
        return self.choice.kind_for(n, source.width, memory_bytes())

    def _note(self, source: _Source, facts: dict[str, Any]) -> None:
        """In the catalog, unless another process writes or the place cannot be written to."""
        if isinstance(self._catalog, CatalogWriter):
            with self._catalog.transaction():
                self._catalog.keep_index_facts(source.stored.id, source.method, facts)
            return
        with (
            contextlib.suppress(CollectionBusy, CollectionError),
            CatalogWriter.open_or_create(self._folder) as writer,
            writer.transaction(),
        ):
            if writer.find_model(source.stored.fingerprint) is not None:
                writer.keep_index_facts(source.stored.id, source.method, facts)


def kind_choice(catalog: Catalog) -> KindChoice:
    """Which kind of index a collection's owner asks for."""
    text = catalog.setting(_SETTING)
    return KindChoice() if text is None else KindChoice(**json.loads(text))


def choose_kind(writer: CatalogWriter, choice: KindChoice) -> bool:
    """Say which kind of index is wanted; whether that is news: then what there is, is to be discarded."""
    if choice == kind_choice(writer):
        return False
    with writer.transaction():
        writer.set_setting(_SETTING, None if choice == KindChoice() else json.dumps(dataclasses.asdict(choice)))
    return True


def _is_whole(file: Path, seal: Seal, now: Stamp) -> bool:
    """Whether a base, by itself or with what lies beside it, is of now."""
    if seal.stamp.is_of_now(now):
        return True
    recent = read_stamp(file.with_suffix(_RECENT))
    return seal.stamp.is_of_same(now) and recent is not None and recent.is_of_now(now) and recent.base == seal.digest


def _is_derived(file: Path, fingerprint: str) -> bool:
    return file.name.startswith(f"{fingerprint}{_MARK}")
