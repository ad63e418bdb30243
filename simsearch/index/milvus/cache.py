"""The indexes of a collection that is searched in Milvus: as `store.cache` has them, and in step in the same way."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from typing import Any

from simsearch.errors import CollectionBusy, CollectionNotWritable, ModelNotIndexed, StoreUnavailable
from simsearch.index import AnnIndex, Index, is_intact
from simsearch.index.cache import Derivation, IndexCache
from simsearch.index.milvus.client import Server, Table
from simsearch.index.milvus.config import Place, Record
from simsearch.index.milvus.expected_rows import ledger
from simsearch.index.milvus.index import MilvusIndex
from simsearch.index.milvus.sync import Progress, catch_up, differences
from simsearch.store.catalog import Catalog, StoredModel
from simsearch.store.writer import CatalogWriter

_N_SAMPLED = 200
"""So many vectors of a model `verify` compares one by one."""

_SAME = 1e-6


class MilvusIndexes:
    """The vectors of a collection's models in Milvus, each model's as the catalog has them now.

    What re-ranking makes of vectors, and what must have all of them at hand, stays in FAISS files. Milvus is asked,
    and the server connected to, when an index is first wanted. Closed, or as a context, it lets go of the server.
    """

    def __init__(self, catalog: Catalog, place: Place) -> None:
        self._catalog = catalog
        self._place = place
        self._files = IndexCache(catalog)
        self._server: Server | None = None
        self._held: dict[str, tuple[Record, Index]] = {}
        self._tables: dict[str, Table] = {}

    def index(self, fingerprint: str, derivation: Derivation | None = None) -> Index:
        """What is searched: the vectors in Milvus, brought in step with the catalog, or a FAISS file of a derivation.

        While another process writes to the collection, Milvus is asked as it is, and a note tells.

        Raises `ModelNotIndexed`, `CollectionDamaged`, `StoreUnavailable`.
        """
        if derivation is not None:
            return self._files.index(fingerprint, derivation)
        stored = self._stored(fingerprint)
        held = self._held.get(fingerprint)
        if held is not None and held[0].is_of(stored, self._catalog.last_change()):
            return held[1]
        table = self._table(stored)
        is_current = self._is_current(table, stored) or self._caught_up(stored)
        index = MilvusIndex(table, self._catalog, stored, is_current=is_current, notes=self._notes(table, is_current))
        if is_current and (record := Record.of(self._catalog, fingerprint)) is not None:
            self._held[fingerprint] = record, index
        return index

    def exact(self, fingerprint: str, derivation: Derivation | None = None) -> AnnIndex:
        """Every vector, exact and at hand, in a FAISS file made from the catalog."""
        return self._files.exact(fingerprint, derivation)

    def refresh(self, fingerprint: str) -> None:
        """Bring Milvus in step, after writing to the catalog."""
        self.push(fingerprint, is_thorough=False)

    def push(self, fingerprint: str, *, is_thorough: bool = True, progress: Progress = lambda *_: None) -> int:
        """Bring Milvus in step, all rows looked at; how many vectors it has then. The right to write must be held.

        Raises `ModelNotIndexed`, `StoreUnavailable`, `CollectionDamaged`.
        """
        stored = self._stored(fingerprint)
        assert isinstance(self._catalog, CatalogWriter)
        table = self._table(stored)
        with ledger(self._catalog, stored) as wanted:
            catch_up(table, wanted, self._catalog, is_thorough=is_thorough, progress=progress)
            return len(wanted)

    def discard(self, fingerprint: str | None = None) -> None:
        """Delete what Milvus, and files, have of a model, or of all models that the catalog has."""
        self._files.discard(fingerprint)
        self.drop(fingerprint)

    def drop(self, fingerprint: str | None = None) -> None:
        """Delete what Milvus has of a model, or all that it has of the collection."""
        every = self._connected().names(self._name(""))
        self._drop([name for name in every if fingerprint is None or name == self._name(fingerprint)])

    def discard_stale(self) -> None:
        """Delete what was made of vectors that the catalog has no more, and what Milvus has of models that are gone."""
        self._files.discard_stale()
        wanted = {self._name(stored.fingerprint) for stored in self._catalog.models()}
        self._drop([name for name in self._connected().names(self._name("")) if name not in wanted])

    def _drop(self, names: Sequence[str]) -> None:
        self._held.clear()
        self._tables.clear()
        for name in names:
            self._connected().drop(name)

    def place(self, fingerprint: str) -> str:
        """Where a model's index is, for a person."""
        return f"{self._name(fingerprint)} in {self._place.shown}"

    def complaints(self, stored: StoredModel) -> list[str]:
        """What is wrong with what Milvus has of a model, a line each: every row and some vectors are compared."""
        try:
            if not self._connected().holds(self._name(stored.fingerprint)):
                found, is_current = [f"nothing of {stored.fingerprint} is there"], False
            else:
                table = self._table(stored)
                found, is_current = self._compared(table, stored), self._is_current(table, stored)
        except StoreUnavailable as error:
            return [str(error), *self._of_files(stored)]
        remedy = "`simsearch push` puts it right" if is_current else "the next query puts it right"
        return [f"{self._place.shown}: {line}; {remedy}" for line in found] + self._of_files(stored)

    def describe(self, stored: StoredModel) -> dict[str, Any]:
        """Where a model is searched, whether that is in step, and how many vectors it has; for `info`."""
        told: dict[str, Any] = {"kind": "milvus", "uri": self._place.uri, "name": self._name(stored.fingerprint)}
        try:
            if not self._connected().holds(self._name(stored.fingerprint)):
                return {**told, "vectors": 0, "is_current": False}
            table = self._table(stored)
            is_current = self._is_current(table, stored)
            return {**told, "index": table.kind, "vectors": table.count(), "is_current": is_current}
        except StoreUnavailable as error:
            return {**told, "problem": str(error)}

    def close(self) -> None:
        """Let go of the server; asked again, it is connected to again."""
        self._held.clear()
        self._tables.clear()
        if self._server is not None:
            self._server.close()
            self._server = None

    def __enter__(self) -> MilvusIndexes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _stored(self, fingerprint: str) -> StoredModel:
        folder = self._catalog.folder
        stored = self._catalog.find_model(fingerprint)
        if stored is None:
            raise ModelNotIndexed(str(folder), f"{fingerprint} was pruned from {folder}", "index again")
        return stored

    def _is_current(self, table: Table, stored: StoredModel) -> bool:
        record = Record.of(self._catalog, stored.fingerprint)
        is_of_now = record is not None and record.is_of(stored, self._catalog.last_change())
        return is_of_now and record is not None and table.token == record.token

    def _caught_up(self, stored: StoredModel) -> bool:
        """Whether Milvus could be brought in step: nobody else is writing, and here one may."""
        try:
            with contextlib.ExitStack() as stack:
                writer = self._catalog
                if not isinstance(writer, CatalogWriter):
                    writer = stack.enter_context(CatalogWriter.open_or_create(self._catalog.folder))
                with ledger(writer, stored) as wanted:
                    catch_up(self._table(stored), wanted, writer)
        except (CollectionBusy, CollectionNotWritable):
            return False
        return True

    def _notes(self, table: Table, is_current: bool) -> tuple[str, ...]:
        notes = []
        if not is_current:
            notes.append(
                f"{self._place.shown} lags behind the catalog, which another run writes to or which cannot be written "
                "to here: what is new is not among the answers yet"
            )
        if not table.is_exact:
            notes.append(f"{self._place.shown} answers by an index ({table.kind}) that may miss some of the nearest")
        return tuple(notes)

    def _compared(self, table: Table, stored: StoredModel) -> list[str]:
        with ledger(self._catalog, stored) as wanted:
            missing, surplus, other = differences(table, wanted)
            ids, vectors = wanted.vectors(wanted.sample(_N_SAMPLED))
        held = table.vectors(ids.tolist())
        n_wrong = sum(
            view_id in held and bool(abs(held[view_id] - vector).max() > _SAME)
            for view_id, vector in zip(ids.tolist(), vectors, strict=True)
        )
        counts = {"are missing": missing, "are too many": surplus, "are not as the catalog has them": other}
        lines = [f"{n:,} rows of {stored.fingerprint} {what}" for what, n in counts.items() if n]
        return lines + [f"{n_wrong:,} vectors of {stored.fingerprint} are wrong"] * bool(n_wrong)

    def _of_files(self, stored: StoredModel) -> list[str]:
        """Complaints about files of re-ranking. One that has fallen behind is caught up by the query that needs it."""
        found = sorted(self._catalog.folder.glob(f"{stored.fingerprint}[.~]*"))
        torn = [file.name for file in found if file.suffix in (".faiss", ".recent") and not is_intact(file)]
        return [f"{name} is torn; the next query that needs it makes it anew" for name in torn]

    def _table(self, stored: StoredModel) -> Table:
        if stored.fingerprint not in self._tables:
            self._tables[stored.fingerprint] = self._connected().table(self._name(stored.fingerprint), stored.width)
        return self._tables[stored.fingerprint]

    def connect(self) -> None:
        """Connect now. Raises `StoreUnavailable`, `MissingExtra`."""
        self._connected()

    def _connected(self) -> Server:
        if self._server is None:
            self._server = Server(self._place, self._catalog.folder)
        return self._server

    def _name(self, fingerprint: str) -> str:
        """What Milvus calls the vectors of a model: it knows letters, digits and underscores."""
        return re.sub(r"\W", "_", f"simsearch_{self._catalog.uuid}_{fingerprint}", flags=re.ASCII)
