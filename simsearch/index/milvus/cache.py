"""The indexes of a collection that is searched in Milvus: as `store.cache` has them, and in step in the same way."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from typing import Any

from simsearch.errors import CollectionBusy, CollectionNotWritable, ModelNotIndexed, StoreUnavailable
from simsearch.index import ExactIndex, Index, is_intact
from simsearch.index.cache import IndexCache, VectorTransform
from simsearch.index.milvus.client import MilvusConnection, MilvusTable
from simsearch.index.milvus.config import MilvusConfig, SyncRecord
from simsearch.index.milvus.expected_rows import open_expected_rows
from simsearch.index.milvus.index import MilvusIndex
from simsearch.index.milvus.sync import SyncProgress, count_differences, sync_table
from simsearch.store.catalog import Catalog, StoredModel
from simsearch.store.writer import CatalogWriter

_SAMPLE_SIZE = 200
"""So many vectors of a model `verify` compares one by one."""

_VECTOR_TOLERANCE = 1e-6


class MilvusIndexCache:
    """The vectors of a collection's models in Milvus, each model's as the catalog has them now.

    What re-ranking makes of vectors, and what must have all of them at hand, stays in FAISS files. Milvus is asked,
    and the server connected to, when an index is first wanted. Closed, or as a context, it lets go of the server.
    """

    def __init__(self, catalog: Catalog, place: MilvusConfig) -> None:
        self._catalog = catalog
        self._config = place
        self._files = IndexCache(catalog)
        self._connection: MilvusConnection | None = None
        self._cached_indexes: dict[str, tuple[SyncRecord, Index]] = {}
        self._cached_tables: dict[str, MilvusTable] = {}

    def open_index(self, fingerprint: str, derivation: VectorTransform | None = None) -> Index:
        """What is searched: the vectors in Milvus, brought in step with the catalog, or a FAISS file of a derivation.

        While another process writes to the collection, Milvus is asked as it is, and a note tells.

        Raises `ModelNotIndexed`, `CollectionDamaged`, `StoreUnavailable`.
        """
        if derivation is not None:
            return self._files.open_index(fingerprint, derivation)
        stored = self._find_model(fingerprint)
        held = self._cached_indexes.get(fingerprint)
        if held is not None and held[0].is_current(stored, self._catalog.find_last_change()):
            return held[1]
        table = self._open_table(stored)
        is_current = self._is_current(table, stored) or self._try_sync(stored)
        index = MilvusIndex(
            table, self._catalog, stored, is_current=is_current, notes=self._build_notes(table, is_current)
        )
        if is_current and (record := SyncRecord.from_catalog(self._catalog, fingerprint)) is not None:
            self._cached_indexes[fingerprint] = record, index
        return index

    def open_exact_index(self, fingerprint: str, derivation: VectorTransform | None = None) -> ExactIndex:
        """Every vector, exact and at hand, in a FAISS file made from the catalog."""
        return self._files.open_exact_index(fingerprint, derivation)

    def refresh(self, fingerprint: str) -> None:
        """Bring Milvus in step, after writing to the catalog."""
        self.push(fingerprint, is_thorough=False)

    def push(self, fingerprint: str, *, is_thorough: bool = True, progress: SyncProgress = lambda *_: None) -> int:
        """Bring Milvus in step, all rows looked at; how many vectors it has then. The right to write must be held.

        Raises `ModelNotIndexed`, `StoreUnavailable`, `CollectionDamaged`.
        """
        stored = self._find_model(fingerprint)
        assert isinstance(self._catalog, CatalogWriter)
        table = self._open_table(stored)
        with open_expected_rows(self._catalog, stored) as wanted:
            sync_table(table, wanted, self._catalog, is_thorough=is_thorough, progress=progress)
            return len(wanted)

    def discard(self, fingerprint: str | None = None) -> None:
        """Delete what Milvus, and files, have of a model, or of all models that the catalog has."""
        self._files.discard(fingerprint)
        self.drop(fingerprint)

    def drop(self, fingerprint: str | None = None) -> None:
        """Delete what Milvus has of a model, or all that it has of the collection."""
        every = self._open_connection().list_tables(self._build_table_name(""))
        self._drop_tables(
            [name for name in every if fingerprint is None or name == self._build_table_name(fingerprint)]
        )

    def discard_stale(self) -> None:
        """Delete what was made of vectors that the catalog has no more, and what Milvus has of models that are gone."""
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
        """Where a model's index is, for a person."""
        return f"{self._build_table_name(fingerprint)} in {self._config.label}"

    def find_problems(self, stored: StoredModel) -> list[str]:
        """What is wrong with what Milvus has of a model, a line each: every row and some vectors are compared."""
        try:
            if not self._open_connection().has_table(self._build_table_name(stored.fingerprint)):
                found, is_current = [f"nothing of {stored.fingerprint} is there"], False
            else:
                table = self._open_table(stored)
                found, is_current = self._compare_rows(table, stored), self._is_current(table, stored)
        except StoreUnavailable as error:
            return [str(error), *self._check_files(stored)]
        remedy = "`simsearch push` puts it right" if is_current else "the next query puts it right"
        return [f"{self._config.label}: {line}; {remedy}" for line in found] + self._check_files(stored)

    def describe(self, stored: StoredModel) -> dict[str, Any]:
        """Where a model is searched, whether that is in step, and how many vectors it has; for `info`."""
        told: dict[str, Any] = {
            "kind": "milvus",
            "uri": self._config.uri,
            "name": self._build_table_name(stored.fingerprint),
        }
        try:
            if not self._open_connection().has_table(self._build_table_name(stored.fingerprint)):
                return {**told, "vectors": 0, "is_current": False}
            table = self._open_table(stored)
            is_current = self._is_current(table, stored)
            return {**told, "index": table.kind, "vectors": table.count(), "is_current": is_current}
        except StoreUnavailable as error:
            return {**told, "problem": str(error)}

    def close(self) -> None:
        """Let go of the server; asked again, it is connected to again."""
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
            raise ModelNotIndexed(str(folder), f"{fingerprint} was pruned from {folder}", "index again")
        return stored

    def _is_current(self, table: MilvusTable, stored: StoredModel) -> bool:
        record = SyncRecord.from_catalog(self._catalog, stored.fingerprint)
        is_of_now = record is not None and record.is_current(stored, self._catalog.find_last_change())
        return is_of_now and record is not None and table.token == record.token

    def _try_sync(self, stored: StoredModel) -> bool:
        """Whether Milvus could be brought in step: nobody else is writing, and here one may."""
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
                f"{self._config.label} lags behind the catalog, which another run writes to or which cannot be written "
                "to here: what is new is not among the answers yet"
            )
        if not table.is_exact:
            notes.append(f"{self._config.label} answers by an index ({table.kind}) that may miss some of the nearest")
        return tuple(notes)

    def _compare_rows(self, table: MilvusTable, stored: StoredModel) -> list[str]:
        with open_expected_rows(self._catalog, stored) as wanted:
            missing, surplus, other = count_differences(table, wanted)
            ids, vectors = wanted.read_vectors(wanted.sample(_SAMPLE_SIZE))
        held = table.read_vectors(ids.tolist())
        n_wrong = sum(
            view_id in held and bool(abs(held[view_id] - vector).max() > _VECTOR_TOLERANCE)
            for view_id, vector in zip(ids.tolist(), vectors, strict=True)
        )
        counts = {"are missing": missing, "are too many": surplus, "are not as the catalog has them": other}
        lines = [f"{n:,} rows of {stored.fingerprint} {what}" for what, n in counts.items() if n]
        return lines + [f"{n_wrong:,} vectors of {stored.fingerprint} are wrong"] * bool(n_wrong)

    def _check_files(self, stored: StoredModel) -> list[str]:
        """Complaints about files of re-ranking. One that has fallen behind is caught up by the query that needs it."""
        found = sorted(self._catalog.folder.glob(f"{stored.fingerprint}[.~]*"))
        torn = [file.name for file in found if file.suffix in (".faiss", ".recent") and not is_intact(file)]
        return [f"{name} is torn; the next query that needs it makes it anew" for name in torn]

    def _open_table(self, stored: StoredModel) -> MilvusTable:
        if stored.fingerprint not in self._cached_tables:
            self._cached_tables[stored.fingerprint] = self._open_connection().open_table(
                self._build_table_name(stored.fingerprint), stored.width
            )
        return self._cached_tables[stored.fingerprint]

    def connect(self) -> None:
        """Connect now. Raises `StoreUnavailable`, `MissingExtra`."""
        self._open_connection()

    def _open_connection(self) -> MilvusConnection:
        if self._connection is None:
            self._connection = MilvusConnection(self._config, self._catalog.folder)
        return self._connection

    def _build_table_name(self, fingerprint: str) -> str:
        """What Milvus calls the vectors of a model: it knows letters, digits and underscores."""
        return re.sub(r"\W", "_", f"simsearch_{self._catalog.uuid}_{fingerprint}", flags=re.ASCII)
