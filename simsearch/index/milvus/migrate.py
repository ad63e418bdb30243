"""Move the vectors of a collection to a Milvus server, to another one, or back to FAISS files. The catalog stays."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simsearch.errors import UsageError
from simsearch.index.cache import IndexCache
from simsearch.index.milvus.config import MilvusConfig, StoreChoice, forget_records, set_store
from simsearch.store.writer import CatalogWriter

PushProgress = Callable[[int, int], object]
"""Called with the number of vectors that are copied, and the total number."""


@dataclass(frozen=True, slots=True)
class PushReport:
    """The new store: FAISS files if `uri` is None. `vectors` is the number of vectors by model fingerprint."""

    collection: str
    uri: str | None
    vectors: dict[str, int]
    elapsed_s: float

    @property
    def n_vectors(self) -> int:
        """The number of vectors of all models."""
        return sum(self.vectors.values())

    def to_dict(self) -> dict[str, Any]:
        """The report as `push --json` prints it."""
        return {
            "collection": self.collection,
            "store": "faiss" if self.uri is None else "milvus",
            "uri": self.uri,
            "models": [{"model": model, "vectors": n} for model, n in self.vectors.items()],
            "vectors": self.n_vectors,
            "seconds": round(self.elapsed_s, 3),
        }


def push(
    writer: CatalogWriter, choice: StoreChoice | None, *, drops: bool = False, progress: PushProgress = lambda *_: None
) -> PushReport:
    """Copy all vectors to a store, and then switch the collection to it.

    Without a choice the current Milvus is compared row by row and repaired. `drops` deletes the rows in the Milvus
    that the collection leaves. After an interruption the collection still uses the old store, and the same call
    continues. Raises `UsageError`, `StoreUnavailable`, `MissingExtra` or another `CollectionError`.
    """
    started = time.perf_counter()
    previous = MilvusConfig.from_catalog(writer)
    if choice is None:
        if previous is None:
            problem = f"{writer.folder} uses FAISS files, and the URI of Milvus is missing"
            raise UsageError(problem, "add --milvus-uri, such as http://localhost:19530")
        choice = StoreChoice(previous.uri)
    target = None if choice.uri is None else MilvusConfig(choice.uri)
    counts = _copy_to_files(writer) if target is None else _copy_to_milvus(writer, target, progress)
    with writer.transaction():
        set_store(writer, choice)
    if target is not None and previous is None:
        IndexCache(writer).discard()
    if drops and previous is not None and previous != target:
        from simsearch.index.milvus.cache import MilvusIndexCache

        with MilvusIndexCache(writer, previous) as indexes:
            indexes.drop()
    return PushReport(str(writer.folder), choice.uri, counts, time.perf_counter() - started)


def check_connection(folder: Path, choice: StoreChoice) -> None:
    """Connect to a store once, to check that it is available. Raises `StoreUnavailable`, `MissingExtra`."""
    if choice.uri is not None:
        from simsearch.index.milvus.client import MilvusConnection

        MilvusConnection(MilvusConfig(choice.uri), folder).close()


def _copy_to_milvus(writer: CatalogWriter, target: MilvusConfig, progress: PushProgress) -> dict[str, int]:
    from simsearch.index.milvus.cache import MilvusIndexCache  # imports pymilvus

    if MilvusConfig.from_catalog(writer) != target:
        with writer.transaction():
            forget_records(writer)  # rows from an earlier use of this Milvus may be outdated
    counts: dict[str, int] = {}
    models = writer.list_models()
    n_all = sum(writer.count_vectors(stored.id) for stored in models)
    with MilvusIndexCache(writer, target) as indexes:
        indexes.connect()
        for stored in models:
            model_progress = _OffsetProgress(progress, sum(counts.values()), n_all)
            counts[stored.fingerprint] = indexes.push(stored.fingerprint, progress=model_progress)
    return counts


@dataclass(frozen=True, slots=True)
class _OffsetProgress:
    """Adds the vectors of finished models to the progress of one model."""

    progress: PushProgress
    n_before: int
    n_all: int

    def __call__(self, n_done: int, _: int) -> None:
        self.progress(self.n_before + n_done, self.n_all)


def _copy_to_files(writer: CatalogWriter) -> dict[str, int]:
    files = IndexCache(writer)
    for stored in writer.list_models():
        files.refresh(stored.fingerprint)
    return {stored.fingerprint: writer.count_vectors(stored.id) for stored in writer.list_models()}
