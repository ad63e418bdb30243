"""The indexes of a collection with vectors in Milvus, synchronized with the catalog like those of `index.cache`."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from simsearch.errors import CollectionBusy, CollectionNotWritable, ModelNotIndexed, StoreUnavailable
from simsearch.index.cache import IndexCache
from simsearch.index.exact import ExactIndex
from simsearch.index.files import read_footer
from simsearch.index.milvus.client import MilvusConnection, MilvusTable
from simsearch.index.milvus.config import MilvusConfig, SyncRecord
from simsearch.index.milvus.expected_rows import open_expected_rows
from simsearch.index.milvus.index import MilvusIndex
from simsearch.index.milvus.sync import SyncProgress, count_differences, sync_table
from simsearch.index.protocol import Index, VectorTransform
from simsearch.store.catalog import Catalog, StoredModel
from simsearch.store.writer import CatalogWriter

_SAMPLE_SIZE = 200
"""The number of vectors of a model that `verify` compares."""

_VECTOR_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class MilvusIndexInfo:
    """Facts about a model's vectors in Milvus, for `simsearch info`.

    `index` is the index type in Milvus, None if there is no table. If the server cannot be reached, `problem` is
    set and all values but `uri` and `name` are None.
    """

    uri: str
    name: str
    n_vectors: int | None = None
    is_current: bool | None = None
    index: str | None = None
    problem: str | None = None

    @property
    def kind(self) -> str:
        """Implement `IndexInfo`."""
        return "milvus"

    @property
    def summary(self) -> str:
        """Implement `IndexInfo`."""
        if self.problem is not None:
            return f"Milvus at {self.uri}, unreachable: {self.problem}"
        return f"Milvus at {self.uri}" + ("" if self.is_current else ", out of date: the next query updates it")

    def to_dict(self) -> dict[str, Any]:
        """Implement `IndexInfo`."""
        known = {"index": self.index, "vectors": self.n_vectors, "is_current": self.is_current, "problem": self.problem}
        location = {"kind": self.kind, "uri": self.uri, "name": self.name}
        return location | {key: value for key, value in known.items() if value is not None}


class MilvusIndexCache:
    """The vectors of a collection's models in Milvus, synchronized with the catalog when an index is opened.

    Transformed vectors for re-ranking, and indexes that need all vectors in memory, stay in FAISS files. The server is
    connected to when an index is first opened; closing the cache, or leaving its context, disconnects.
    """

    def __init__(self, catalog: Catalog, config: MilvusConfig) -> None:
        self._catalog = catalog
        self._config = config
        self._files = IndexCache(catalog)
        self._connection: MilvusConnection | None = None
        self._cached_indexes: dict[str, tuple[SyncRecord, Index]] = {}
        self._cached_tables: dict[str, MilvusTable] = {}

    def open_index(self, fingerprint: str, transform: VectorTransform | None = None) -> Index:
        """Open the vectors in Milvus, synchronized with the catalog, or the FAISS file of transformed vectors.

        While another process writes to the collection, Milvus is searched without synchronization, with a note.

        Raises `ModelNotIndexed`, `CollectionDamaged`, `StoreUnavailable`.
        """
        if transform is not None:
            return self._files.open_index(fingerprint, transform)
        stored = self._find_model(fingerprint)
        held = self._cached_indexes.get(fingerprint)
        if held is not None and held[0].is_current(stored, self._catalog.find_last_change()):
            return held[1]
        table = self._open_table(stored)
        table.note_change()  # the catalog has changed, so another process may just have written to Milvus
        is_current = self._is_current(table, stored) or self._try_sync(stored)
        index = MilvusIndex(
            table, self._catalog, stored, is_current=is_current, notes=self._build_notes(table, is_current)
        )
        if is_current and (record := SyncRecord.from_catalog(self._catalog, fingerprint)) is not None:
            self._cached_indexes[fingerprint] = record, index
        return index

    def open_exact_index(self, fingerprint: str, transform: VectorTransform | None = None) -> ExactIndex:
        """Open all vectors as an exact index in memory, from a FAISS file."""
        return self._files.open_exact_index(fingerprint, transform)

    def refresh(self, fingerprint: str, *, must_save: bool = False) -> None:
        """Synchronize Milvus after writing to the catalog."""
        self.push(fingerprint, is_thorough=False)

    def push(self, fingerprint: str, *, is_thorough: bool = True, progress: SyncProgress = lambda *_: None) -> int:
        """Synchronize Milvus by comparing all rows, and return the number of vectors. The catalog must be a writer.

        Raises `ModelNotIndexed`, `StoreUnavailable`, `CollectionDamaged`.
        """
        stored = self._find_model(fingerprint)
        assert isinstance(self._catalog, CatalogWriter)
        table = self._open_table(stored)
        with open_expected_rows(self._catalog, stored) as wanted:
            sync_table(table, wanted, self._catalog, is_thorough=is_thorough, progress=progress)
            return len(wanted)

    def discard(self, fingerprint: str | None = None) -> None:
        """Delete the rows in Milvus and the files of a model, or of all models."""
        self._files.discard(fingerprint)
        self.drop(fingerprint)

    def drop(self, fingerprint: str | None = None) -> None:
        """Delete the rows in Milvus of a model, or of the whole collection."""
        every = self._open_connection().list_tables(self._build_table_name(""))
        self._drop_tables(
            [name for name in every if fingerprint is None or name == self._build_table_name(fingerprint)]
        )

    def discard_stale(self) -> None:
        """Delete files made from outdated vectors, and the rows in Milvus of models that no longer exist."""
        self._files.discard_stale()
        wanted = {self._build_table_name(stored.fingerprint) for stored in self._catalog.list_models()}
        self._drop_tables(
            [name for name in self._open_connection().list_tables(self._build_table_name("")) if name not in wanted]
        )

    def _drop_tables(self, names: Sequence[str]) -> None:
        self._cached_indexes.clear()
        self._cached_tables.clear()
        for name in names:
            self._open_connection().drop(name)

    def describe_location(self, fingerprint: str) -> str:
        """Describe the location of a model's index in a message."""
        return f"{self._build_table_name(fingerprint)} in {self._config.label}"

    def find_problems(self, stored: StoredModel) -> list[str]:
        """List the problems of a model in Milvus, one line each. All rows and a sample of vectors are compared."""
        try:
            if not self._open_connection().has_table(self._build_table_name(stored.fingerprint)):
                found, is_current = [f"{stored.fingerprint} is missing"], False
            else:
                table = self._open_table(stored)
                found, is_current = self._compare_rows(table, stored), self._is_current(table, stored)
        except StoreUnavailable as error:
            return [str(error), *self._check_files(stored)]
        remedy = "run `simsearch push` to repair it" if is_current else "the next query repairs it"
        return [f"{self._config.label}: {line}; {remedy}" for line in found] + self._check_files(stored)

    def find_damage(self, stored: StoredModel) -> list[str]:
        """As `IndexBackend` says: damaged files of transformed vectors."""
        return self._files.find_damage(stored)

    def describe(self, stored: StoredModel) -> MilvusIndexInfo:
        """Implement `IndexBackend`."""
        uri, name = self._config.uri, self._build_table_name(stored.fingerprint)
        try:
            if not self._open_connection().has_table(name):
                return MilvusIndexInfo(uri, name, n_vectors=0, is_current=False)
            table = self._open_table(stored)
            is_current = self._is_current(table, stored)
            return MilvusIndexInfo(uri, name, n_vectors=table.count(), is_current=is_current, index=table.kind)
        except StoreUnavailable as error:
            return MilvusIndexInfo(uri, name, problem=str(error))

    def close(self) -> None:
        """Disconnect from the server. The next call connects again."""
        self._cached_indexes.clear()
        self._cached_tables.clear()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> MilvusIndexCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _find_model(self, fingerprint: str) -> StoredModel:
        folder = self._catalog.folder
        stored = self._catalog.find_model(fingerprint)
        if stored is None:
            raise ModelNotIndexed(str(folder), f"the model {fingerprint} was pruned from {folder}", "index again")
        return stored

    def _is_current(self, table: MilvusTable, stored: StoredModel) -> bool:
        record = SyncRecord.from_catalog(self._catalog, stored.fingerprint)
        return (
            record is not None
            and record.is_current(stored, self._catalog.find_last_change())
            and table.token == record.token
        )

    def _try_sync(self, stored: StoredModel) -> bool:
        """Synchronize Milvus if the collection can be written to now, and return whether that was possible."""
        try:
            with contextlib.ExitStack() as stack:
                writer = self._catalog
                if not isinstance(writer, CatalogWriter):
                    writer = stack.enter_context(CatalogWriter.open(self._catalog.folder))
                with open_expected_rows(writer, stored) as wanted:
                    sync_table(self._open_table(stored), wanted, writer)
        except (CollectionBusy, CollectionNotWritable):
            return False
        return True

    def _build_notes(self, table: MilvusTable, is_current: bool) -> tuple[str, ...]:
        notes = []
        if not is_current:
            notes.append(
                f"{self._config.label} is behind the catalog, which another run writes to or which is read-only: new "
                "images are not among the results yet"
            )
        if not table.is_exact:
            notes.append(
                f"{self._config.label} uses an approximate index ({table.kind}), which may miss some neighbors"
            )
        return tuple(notes)

    def _compare_rows(self, table: MilvusTable, stored: StoredModel) -> list[str]:
        with open_expected_rows(self._catalog, stored) as wanted:
            missing, surplus, other = count_differences(table, wanted)
            ids, vectors = wanted.read_vectors(wanted.sample_ids(_SAMPLE_SIZE))
        held = table.read_vectors(ids.tolist())
        n_wrong = sum(
            view_id in held and bool(abs(held[view_id] - vector).max() > _VECTOR_TOLERANCE)
            for view_id, vector in zip(ids.tolist(), vectors, strict=True)
        )
        counts = {"are missing": missing, "are surplus": surplus, "differ from the catalog": other}
        lines = [f"{n:,} rows of {stored.fingerprint} {what}" for what, n in counts.items() if n]
        return lines + [f"{n_wrong:,} vectors of {stored.fingerprint} differ from the catalog"] * bool(n_wrong)

    def _check_files(self, stored: StoredModel) -> list[str]:
        """List incomplete files of transformed vectors. Outdated files are not damaged: the next query updates them."""
        found = sorted(self._catalog.folder.glob(f"{stored.fingerprint}[.~]*"))
        torn = [
            file.name
            for file in found
            if file.suffix in (".faiss", ".recent", ".vectors") and read_footer(file) is None
        ]
        return [f"{name} is incomplete; the next query that needs it rebuilds it" for name in torn]

    def _open_table(self, stored: StoredModel) -> MilvusTable:
        if stored.fingerprint not in self._cached_tables:
            self._cached_tables[stored.fingerprint] = self._open_connection().open_table(
                self._build_table_name(stored.fingerprint), stored.width
            )
        return self._cached_tables[stored.fingerprint]

    def connect(self) -> None:
        """Connect to the server. Raises `StoreUnavailable`, `MissingExtra`."""
        self._open_connection()

    def _open_connection(self) -> MilvusConnection:
        if self._connection is None:
            self._connection = MilvusConnection(self._config, self._catalog.folder)
        return self._connection

    def _build_table_name(self, fingerprint: str) -> str:
        """Build the name of a model in Milvus, which allows letters, digits and underscores."""
        return re.sub(r"\W", "_", f"simsearch_{self._catalog.uuid}_{fingerprint}", flags=re.ASCII)
