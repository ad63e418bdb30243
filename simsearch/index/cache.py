"""The FAISS index files of a collection, kept up to date with its catalog.

An index is one file, its base. A large index is not rewritten for every change: a delta file beside it holds added
vectors and removed ids, until there are so many that rewriting the base pays off. A missing, foreign or damaged file
is rebuilt from the catalog.
"""

from __future__ import annotations

import contextlib
import errno
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from simsearch.errors import CollectionBusy, CollectionError, CollectionNotWritable, ModelNotIndexed
from simsearch.index.exact import ExactIndex
from simsearch.index.files import (
    IndexStamp,
    delete_temporary_files,
    is_current,
    is_intact,
    locate_delta,
    locate_vector_file,
    read_footer,
    read_stamp,
)
from simsearch.index.info import FaissIndexInfo, IndexDetails
from simsearch.index.integrity import BACKGROUND_LIMIT_BYTES
from simsearch.index.protocol import Index, VectorTransform
from simsearch.index.update import FaissIndex, IndexSpec, IndexUpdater
from simsearch.store.catalog import Catalog, StoredModel
from simsearch.store.sqlite_errors import make_disk_full_error
from simsearch.store.writer import CatalogWriter

_INDEX_SUFFIX = ".faiss"
_TRANSFORM_SEPARATOR = "~"
_REWRITE_LIMIT_BYTES = 64 << 20


class IndexCache:
    """The indexes of a collection's models in FAISS files: an `IndexBackend`.

    An exact index of up to `rewrite_limit_bytes` is rewritten for every change instead of getting a delta file. Files
    of up to `background_limit_bytes` are compared with their digests before they are used, larger ones meanwhile.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        rewrite_limit_bytes: int = _REWRITE_LIMIT_BYTES,
        background_limit_bytes: int = BACKGROUND_LIMIT_BYTES,
    ) -> None:
        self._catalog = catalog
        self._folder = catalog.folder
        self._updater = IndexUpdater(catalog, rewrite_limit_bytes, background_limit_bytes)
        self._open_indexes: dict[str, tuple[IndexStamp, FaissIndex]] = {}
        self._exact_indexes: dict[Path, tuple[IndexStamp, ExactIndex]] = {}

    def close(self) -> None:
        """Release the open indexes."""
        self._open_indexes.clear()
        self._exact_indexes.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def locate_file(self, fingerprint: str, transform: VectorTransform | None = None) -> Path:
        """The base file of the index of a model's vectors, or of the transformed vectors."""
        return self._folder / _make_file_name(fingerprint, transform)

    def describe_location(self, fingerprint: str) -> str:
        """As `IndexBackend` says: the name of the base file."""
        return self.locate_file(fingerprint).name

    # Opening

    def open_index(self, fingerprint: str, transform: VectorTransform | None = None) -> Index:
        """Open the index of a model's vectors, or of the transformed vectors, brought up to date with the catalog.

        Its files are updated where the folder is writable. Raises `ModelNotIndexed`, `CollectionDamaged`.
        """
        if (found := self._find_open_index(fingerprint, transform)) is not None:
            return found
        with contextlib.suppress(OSError):  # a read-only folder can be searched too
            return self._open_current(fingerprint, transform, must_save=False)
        return self._open_indexes[_make_file_name(fingerprint, transform)][1]

    def open_exact_index(self, fingerprint: str, transform: VectorTransform | None = None) -> ExactIndex:
        """Open an index with all full vectors: memory-mapped, or read into memory where the file holds codes.

        No approximate index is built for it. Raises what `open_index` raises.
        """
        with self._catalog.read_transaction():
            spec = self._make_spec(fingerprint, transform)
            is_flat = self._updater.find_kind(spec).name == "flat"
        if is_flat and isinstance(index := self.open_index(fingerprint, transform), ExactIndex):
            return index
        file = spec.file
        if file not in self._exact_indexes or self._exact_indexes[file][0] != spec.stamp:
            self._exact_indexes = {}  # one at a time: it may be large
            with self._catalog.read_transaction():
                self._exact_indexes[file] = spec.stamp, self._updater.read_all(self._make_spec(fingerprint, transform))
        return self._exact_indexes[file][1]

    def _open_current(self, fingerprint: str, transform: VectorTransform | None, *, must_save: bool) -> FaissIndex:
        with self._catalog.read_transaction():
            if not must_save and (found := self._find_open_index(fingerprint, transform)) is not None:
                return found
            spec = self._make_spec(fingerprint, transform)
            updated = self._updater.open_index(spec)
        self._open_indexes[spec.file.name] = (spec.stamp, updated.index)
        updated.save()
        if updated.details is not None:
            self._write_details(spec, updated.details)
        return updated.index

    def _find_open_index(self, fingerprint: str, transform: VectorTransform | None) -> FaissIndex | None:
        """Find the open index if its vectors have not changed, by the token alone: counting them takes longer."""
        held = self._open_indexes.get(_make_file_name(fingerprint, transform))
        if held is None:
            return None
        stamp, index = held
        if index.is_damaged:
            return None
        label = "" if transform is None else transform.label
        now = (self._catalog.uuid, self._find_model(fingerprint).change_token, label)
        return index if (stamp.collection, stamp.change_token, stamp.derivation) == now else None

    def _make_spec(self, fingerprint: str, transform: VectorTransform | None) -> IndexSpec:
        stored = self._find_model(fingerprint)
        stamp = self._make_stamp(stored, "" if transform is None else transform.label)
        return IndexSpec(stored, transform, stamp, self.locate_file(fingerprint, transform))

    def _make_stamp(self, stored: StoredModel, derivation: str) -> IndexStamp:
        n_vectors = self._catalog.count_vectors(stored.id)
        return IndexStamp(self._catalog.uuid, stored.fingerprint, stored.change_token, n_vectors, derivation)

    def _find_model(self, fingerprint: str) -> StoredModel:
        stored = self._catalog.find_model(fingerprint)
        if stored is None:
            problem = f"the model {fingerprint} was pruned from {self._folder}"
            raise ModelNotIndexed(str(self._folder), problem, "run `simsearch index` again")
        return stored

    def _write_details(self, spec: IndexSpec, details: IndexDetails) -> None:
        """Store the details in the catalog, unless another process writes to it or the folder is read-only."""
        if isinstance(self._catalog, CatalogWriter):
            _store_details(self._catalog, spec, details)
            return
        with contextlib.suppress(CollectionBusy, CollectionError), CatalogWriter.open(self._folder) as writer:
            if writer.find_model(spec.stored.fingerprint) is not None:
                _store_details(writer, spec, details)

    # Maintenance

    def refresh(self, fingerprint: str, *, must_save: bool = False) -> None:
        """Bring the file of a model up to date after writing to the catalog; transformed vectors wait for a search.

        Raises `DiskFull`; after another write error the next search updates the file, or with `must_save`
        `CollectionNotWritable` is raised.
        """
        delete_temporary_files(self._folder)
        try:
            self._open_current(fingerprint, None, must_save=True)
        except OSError as error:
            if error.errno == errno.ENOSPC or "No space" in str(error):
                raise make_disk_full_error(self._folder) from error
            if must_save:
                problem = f"{self.locate_file(fingerprint)} cannot be written ({error.strerror or error})"
                advice = "check the permissions and the disk, then run `simsearch rebuild` again"
                raise CollectionNotWritable(str(self._folder), problem, advice) from error

    def discard(self, fingerprint: str | None = None) -> None:
        """Delete the index files of a model, or of all models, deleted ones included.

        Raises `CollectionNotWritable` where a file cannot be deleted.
        """
        self._open_indexes.clear()
        if fingerprint is not None:
            self._delete_model_files(fingerprint)
            return
        for stored in self._catalog.list_models():
            self._delete_model_files(stored.fingerprint)
        self._delete_files_of_deleted_models()

    def discard_stale(self) -> None:
        """Delete the files of transformed vectors that are not up to date, and those of deleted models.

        A search that needs one rebuilds it. Raises `CollectionNotWritable` where a file cannot be deleted.
        """
        self._delete_files_of_deleted_models()
        for stored in self._catalog.list_models():
            for file in self._find_transform_files(stored.fingerprint):
                if not self._is_file_current(file, stored):
                    self._delete_files(file)
        self._open_indexes.clear()

    def find_problems(self, stored: StoredModel) -> list[str]:
        """As `IndexBackend` says: files that are missing, incomplete or not up to date."""
        problems = []
        remedy = "the next query, or `simsearch rebuild`, rebuilds it"
        for file in self._list_model_files(stored.fingerprint):
            torn = [
                part.name for part in _list_parts(file) if read_footer(part) is None and (part == file or part.exists())
            ]
            if torn:
                problems.append(f"{torn[0]} is missing or incomplete; {remedy}")
            elif not self._is_file_current(file, stored):
                problems.append(f"{file.name} is not up to date with the catalog; {remedy}")
        return problems

    def find_damage(self, stored: StoredModel) -> list[str]:
        """As `IndexBackend` says: complete files whose content does not match their digest."""
        parts = [part for file in self._list_model_files(stored.fingerprint) for part in _list_parts(file)]
        damaged = [part.name for part in parts if read_footer(part) is not None and not is_intact(part)]
        return [f"the content of {name} is damaged; run `simsearch rebuild`" for name in damaged]

    def describe(self, stored: StoredModel) -> FaissIndexInfo:
        """As `IndexBackend` says."""
        file = self.locate_file(stored.fingerprint)
        footer, delta = read_footer(file), read_footer(locate_delta(file))
        details = None
        if (text := self._catalog.read_index_details(stored.id, "")) is not None:
            with contextlib.suppress(ValueError):  # damaged: a rebuild writes it again
                details = IndexDetails.from_json(text)
        kind = details.kind if details else footer.stamp.kind if footer else "flat"
        if footer is None or delta is None or delta.stamp.base != footer.digest:
            return FaissIndexInfo(kind, details)
        n_added = delta.stamp.n_vectors - footer.stamp.n_vectors + delta.n_removed
        return FaissIndexInfo(kind, details, n_added, delta.n_removed)

    def _delete_model_files(self, fingerprint: str) -> None:
        for file in self._list_model_files(fingerprint):
            self._delete_files(file)

    def _list_model_files(self, fingerprint: str) -> list[Path]:
        """The base files of a model: that of its vectors, which may be missing, and those of transformed vectors."""
        return [self.locate_file(fingerprint), *self._find_transform_files(fingerprint)]

    def _delete_files_of_deleted_models(self) -> None:
        """Delete what a prune left that was killed, or could not delete it. Files that are not ours stay."""
        uuid, kept = self._catalog.uuid, {stored.fingerprint for stored in self._catalog.list_models()}
        for file in self._folder.glob(f"*{_INDEX_SUFFIX}"):
            stamp = read_stamp(file)
            if stamp is not None and stamp.collection == uuid and stamp.fingerprint not in kept:
                self._delete_files(file)

    def _delete_files(self, file: Path) -> None:
        for part in _list_parts(file):
            try:
                part.unlink(missing_ok=True)
            except OSError as error:
                raise CollectionNotWritable(
                    str(self._folder),
                    f"the index file {part} cannot be deleted ({error.strerror or error})",
                    "remove it, or change its rights, then run `simsearch rebuild`",
                ) from error

    def _find_transform_files(self, fingerprint: str) -> Iterator[Path]:
        files = sorted(self._folder.glob(f"*{_INDEX_SUFFIX}"))
        return (file for file in files if _is_transform_file(file, fingerprint))

    def _is_file_current(self, file: Path, stored: StoredModel) -> bool:
        """Whether a base file, with its delta file, is up to date, whatever transformation it holds."""
        footer = read_footer(file)
        return footer is not None and is_current(file, footer, self._make_stamp(stored, footer.stamp.derivation))


def _make_file_name(fingerprint: str, transform: VectorTransform | None) -> str:
    name = fingerprint if transform is None else f"{fingerprint}{_TRANSFORM_SEPARATOR}{transform.name}"
    return f"{name}{_INDEX_SUFFIX}"


def _store_details(writer: CatalogWriter, spec: IndexSpec, details: IndexDetails) -> None:
    with writer.transaction():
        writer.write_index_details(spec.stored.id, spec.method, details.kind, json.dumps(details.to_dict()))


def _list_parts(file: Path) -> tuple[Path, ...]:
    """A base file and the files beside it."""
    return file, locate_delta(file), locate_vector_file(file)


def _is_transform_file(file: Path, fingerprint: str) -> bool:
    return file.name.startswith(f"{fingerprint}{_TRANSFORM_SEPARATOR}")
