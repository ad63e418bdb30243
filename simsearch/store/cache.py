"""Keeps the FAISS file of each model in step with the catalog. A missing, foreign or torn one is made anew."""

from __future__ import annotations

import contextlib
import errno
from pathlib import Path

import numpy as np

from simsearch.errors import ModelNotIndexed
from simsearch.store.ann import WORKSHOP_PREFIX, AnnIndex, Stamp, is_intact, read_stamp
from simsearch.store.catalog import Catalog, StoredModel
from simsearch.store.connection import disk_full


class IndexCache:
    """The indexes of a collection's models, each as the catalog has it now."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._folder = catalog.folder
        self._held: dict[str, tuple[Stamp, AnnIndex]] = {}

    def file(self, fingerprint: str) -> Path:
        """Where the model's cache lies."""
        return self._folder / f"{fingerprint}.faiss"

    def index(self, fingerprint: str) -> AnnIndex:
        """The index of a model, brought up to date with the catalog if it is behind.

        It is cached anew where the place can be written to. Raises `ModelNotIndexed`, `CollectionDamaged`.
        """
        with contextlib.suppress(OSError):  # a place that cannot be written to is asked all the same
            return self._current(fingerprint, must_save=False)
        return self._held[fingerprint][1]

    def refresh(self, fingerprint: str) -> None:
        """Bring the file up to date, after writing to the catalog.

        Raises `DiskFull`; another failure to write leaves the work to the next query.
        """
        for workshop in self._folder.glob(f"{WORKSHOP_PREFIX}*"):  # of runs that were killed while they wrote one
            workshop.unlink(missing_ok=True)
        try:
            self._current(fingerprint, must_save=True)
        except OSError as error:
            if error.errno == errno.ENOSPC or "No space" in str(error):
                raise disk_full(self._folder) from error

    def discard(self, fingerprint: str | None = None) -> None:
        """Delete the file of a model, or all files."""
        for file in [self.file(fingerprint)] if fingerprint else self._folder.glob("*.faiss"):
            file.unlink(missing_ok=True)
        self._held.clear()

    def complaint(self, stored: StoredModel) -> str | None:
        """What is wrong with a model's file, if anything is."""
        file = self.file(stored.fingerprint)
        remedy = "the next query, or `simsearch rebuild`, makes it anew"
        if not is_intact(file):
            return f"{file.name} is missing or torn; {remedy}"
        if read_stamp(file) != self._stamp(stored):
            return f"{file.name} is not what the catalog has; {remedy}"
        return None

    def _stamp(self, stored: StoredModel) -> Stamp:
        n_vectors = self._catalog.n_vectors(stored.id)
        return Stamp(self._catalog.uuid, stored.fingerprint, stored.generation, n_vectors)

    def _current(self, fingerprint: str, *, must_save: bool) -> AnnIndex:
        with self._catalog.snapshot():
            stored = self._catalog.find_model(fingerprint)
            if stored is None:
                raise ModelNotIndexed(str(self._folder), f"{fingerprint} was pruned from {self._folder}", "index again")
            stamp = self._stamp(stored)
            held = self._held.get(fingerprint)
            if held is not None and held[0] == stamp and not must_save:
                return held[1]
            file = self.file(fingerprint)
            if read_stamp(file) == stamp:
                with contextlib.suppress(RuntimeError, OSError):  # damaged inside, whatever its stamp says
                    self._held[fingerprint] = (stamp, AnnIndex.map(file))
                    return self._held[fingerprint][1]
            index = self._related(file, stamp) or AnnIndex.empty(stored.width)
            self._catch_up(index, stored)
        self._held[fingerprint] = (stamp, index)
        index.save(file, stamp)
        return index

    def _related(self, file: Path, stamp: Stamp) -> AnnIndex | None:
        """The index in the file, if it is an older or newer state of the same one."""
        found = read_stamp(file)
        if found is None or (found.collection, found.fingerprint) != (stamp.collection, stamp.fingerprint):
            return None
        if not is_intact(file):
            return None
        with contextlib.suppress(RuntimeError, OSError):
            return AnnIndex.read(file)
        return None

    def _catch_up(self, index: AnnIndex, stored: StoredModel) -> None:
        """Add what the catalog has more, take out what it has less: a vector never changes under its id."""
        wanted, held = self._catalog.vector_ids(stored.id), index.ids
        if len(surplus := np.setdiff1d(held, wanted)):
            index.remove(surplus)
        missing = np.setdiff1d(wanted, held)
        index.reserve(len(missing))
        for ids, vectors in self._catalog.vectors(stored, missing):
            index.add(ids, vectors)
