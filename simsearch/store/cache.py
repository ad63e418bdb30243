"""Keeps the FAISS files of each model in step with the catalog. A missing, foreign or torn one is made anew."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simsearch.errors import ModelNotIndexed
from simsearch.store.ann import WORKSHOP_PREFIX, AnnIndex, Ids, Stamp, Vectors, is_intact, read_stamp
from simsearch.store.catalog import Catalog, StoredModel
from simsearch.store.connection import disk_full

_SUFFIX = ".faiss"
_MARK = "~"


@dataclass(frozen=True, slots=True, eq=False)
class Derivation:
    """What is made of a model's vectors before they are searched.

    `name` is part of the file's name and `digest` of its stamp: equal digests, equal vectors. `each` makes rows
    (n, width) of vectors (n, d), every row by itself, so that such an index can be caught up. `together`, where there
    is one, then makes rows of the same shape of those of all original views, in the order of their ids: such an index
    is made anew whenever the vectors have changed.
    """

    name: str
    digest: str
    width: int
    each: Callable[[Vectors], Vectors]
    together: Callable[[Vectors], Vectors] | None = None


class IndexCache:
    """The indexes of a collection's models, each as the catalog has it now."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._folder = catalog.folder
        self._held: dict[Path, tuple[Stamp, AnnIndex]] = {}

    def file(self, fingerprint: str, derivation: Derivation | None = None) -> Path:
        """Where the index of a model's vectors, or of what is made of them, lies."""
        name = fingerprint if derivation is None else f"{fingerprint}{_MARK}{derivation.name}"
        return self._folder / f"{name}{_SUFFIX}"

    def index(self, fingerprint: str, derivation: Derivation | None = None) -> AnnIndex:
        """The index of a model's vectors, or of what is made of them, brought up to date with the catalog.

        It is cached anew where the place can be written to. Raises `ModelNotIndexed`, `CollectionDamaged`.
        """
        with contextlib.suppress(OSError):  # a place that cannot be written to is asked all the same
            return self._current(fingerprint, derivation, must_save=False)
        return self._held[self.file(fingerprint, derivation)][1]

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
                file.unlink(missing_ok=True)
        self._held.clear()

    def discard_stale(self) -> None:
        """Delete what was made of vectors that the catalog has no more: the next query that needs it makes it anew."""
        for stored in self._catalog.models():
            for file in self._derived(stored.fingerprint):
                if not self._is_current(file, stored):
                    file.unlink(missing_ok=True)
        self._held.clear()

    def complaints(self, stored: StoredModel) -> list[str]:
        """What is wrong with the files of a model, a line each."""
        found = []
        remedy = "the next query, or `simsearch rebuild`, makes it anew"
        for file in (self.file(stored.fingerprint), *self._derived(stored.fingerprint)):
            if not is_intact(file):
                found.append(f"{file.name} is missing or torn; {remedy}")
            elif not self._is_current(file, stored):
                found.append(f"{file.name} is not what the catalog has; {remedy}")
        return found

    def _derived(self, fingerprint: str) -> Iterator[Path]:
        return (file for file in sorted(self._folder.glob(f"*{_SUFFIX}")) if _is_derived(file, fingerprint))

    def _is_current(self, file: Path, stored: StoredModel) -> bool:
        """Whether a file is of the vectors as they are now, whatever was made of them."""
        stamp = read_stamp(file)
        return stamp is not None and stamp == self._stamp(stored, stamp.derivation)

    def _stamp(self, stored: StoredModel, derivation: str) -> Stamp:
        n_vectors = self._catalog.n_vectors(stored.id)
        return Stamp(self._catalog.uuid, stored.fingerprint, stored.generation, n_vectors, derivation)

    def _current(self, fingerprint: str, derivation: Derivation | None, *, must_save: bool) -> AnnIndex:
        file = self.file(fingerprint, derivation)
        with self._catalog.snapshot():
            stored = self._catalog.find_model(fingerprint)
            if stored is None:
                raise ModelNotIndexed(str(self._folder), f"{fingerprint} was pruned from {self._folder}", "index again")
            stamp = self._stamp(stored, "" if derivation is None else f"{derivation.name} {derivation.digest}")
            held = self._held.get(file)
            if held is not None and held[0] == stamp and not must_save:
                return held[1]
            if read_stamp(file) == stamp:
                with contextlib.suppress(RuntimeError, OSError):  # damaged inside, whatever its stamp says
                    self._held[file] = (stamp, AnnIndex.map(file))
                    return self._held[file][1]
            index = self._made(file, stamp, stored, derivation)
        self._held[file] = (stamp, index)
        index.save(file, stamp)
        return index

    def _made(self, file: Path, stamp: Stamp, stored: StoredModel, derivation: Derivation | None) -> AnnIndex:
        width = stored.width if derivation is None else derivation.width
        if derivation is not None and derivation.together is not None:
            index = AnnIndex.empty(width)
            index.add(*self._together(stored, derivation, derivation.together))
            return index
        index = self._related(file, stamp) or AnnIndex.empty(width)
        self._catch_up(index, stored, derivation)
        return index

    def _together(
        self, stored: StoredModel, derivation: Derivation, together: Callable[[Vectors], Vectors]
    ) -> tuple[Ids, Vectors]:
        """The ids of all vectors, and the rows that are made of them."""
        ids = self._catalog.vector_ids(stored.id)
        rows = np.empty((len(ids), derivation.width), np.float32)
        for some, vectors in self._catalog.vectors(stored, ids):
            rows[np.searchsorted(ids, some)] = derivation.each(vectors)
        is_original = np.isin(ids, self._catalog.original_ids(stored.id), assume_unique=True)
        if is_original.all():
            return ids, together(rows)
        rows[is_original] = together(rows[is_original])
        return ids, rows

    def _related(self, file: Path, stamp: Stamp) -> AnnIndex | None:
        """The index in the file, if it is an older or newer state of the same one."""
        found = read_stamp(file)
        kept = (stamp.collection, stamp.fingerprint, stamp.derivation)
        if found is None or (found.collection, found.fingerprint, found.derivation) != kept:
            return None
        if not is_intact(file):
            return None
        with contextlib.suppress(RuntimeError, OSError):
            return AnnIndex.read(file)
        return None

    def _catch_up(self, index: AnnIndex, stored: StoredModel, derivation: Derivation | None) -> None:
        """Add what the catalog has more, take out what it has less: a vector never changes under its id."""
        wanted, held = self._catalog.vector_ids(stored.id), index.ids
        if len(surplus := np.setdiff1d(held, wanted)):
            index.remove(surplus)
        missing = np.setdiff1d(wanted, held)
        index.reserve(len(missing))
        for ids, vectors in self._catalog.vectors(stored, missing):
            index.add(ids, vectors if derivation is None else derivation.each(vectors))


def _is_derived(file: Path, fingerprint: str) -> bool:
    return file.name.startswith(f"{fingerprint}{_MARK}")
