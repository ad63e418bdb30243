"""Moving a collection: into a Milvus, into another one, or back to FAISS files. The catalog stays where it is."""

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
"""Called with how many vectors are in their place, and how many there are to be."""


@dataclass(frozen=True, slots=True)
class PushReport:
    """What is searched from now on: FAISS files where `uri` is None. `vectors` is how many it has, by fingerprint."""

    collection: str
    uri: str | None
    vectors: dict[str, int]
    elapsed_s: float

    @property
    def n_vectors(self) -> int:
        """Of all models."""
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
    """Copy every vector to where it is to be searched, and search it there once all are there.

    Without a choice the Milvus of the collection is compared row by row and put right. `drops`: what a Milvus that
    is left has of the collection is deleted there. Interrupted, the collection is searched where it was, and the
    same call goes on. Raises `UsageError`, `StoreUnavailable`, `MissingExtra` or another `CollectionError`.
    """
    started = time.perf_counter()
    left = MilvusConfig.from_catalog(writer)
    if choice is None:
        if left is None:
            problem = f"{writer.folder} is searched in FAISS files, and it is not said where Milvus is"
            raise UsageError(problem, "add --milvus-uri, such as http://localhost:19530")
        choice = StoreChoice(left.uri)
    target = None if choice.uri is None else MilvusConfig(choice.uri)
    counts = _copy_to_files(writer) if target is None else _copy_to_milvus(writer, target, progress)
    with writer.transaction():
        set_store(writer, choice)
    if target is not None and left is None:
        IndexCache(writer).discard()
    if drops and left is not None and left != target:
        from simsearch.index.milvus.cache import MilvusIndexCache

        with MilvusIndexCache(writer, left) as indexes:
            indexes.drop()
    return PushReport(str(writer.folder), choice.uri, counts, time.perf_counter() - started)


def check_connection(folder: Path, choice: StoreChoice) -> None:
    """Connect to where a collection is to be searched. Raises `StoreUnavailable`, `MissingExtra`."""
    if choice.uri is not None:
        from simsearch.index.milvus.client import MilvusConnection

        MilvusConnection(MilvusConfig(choice.uri), folder).close()


def _copy_to_milvus(writer: CatalogWriter, target: MilvusConfig, progress: PushProgress) -> dict[str, int]:
    from simsearch.index.milvus.cache import MilvusIndexCache  # pymilvus, which FAISS files do not need

    if MilvusConfig.from_catalog(writer) != target:
        with writer.transaction():
            forget_records(writer)  # what a Milvus had before may have gone stale meanwhile
    counts: dict[str, int] = {}
    models = writer.list_models()
    n_all = sum(writer.count_vectors(stored.id) for stored in models)
    with MilvusIndexCache(writer, target) as indexes:
        indexes.connect()
        for stored in models:
            further = _OffsetProgress(progress, sum(counts.values()), n_all)
            counts[stored.fingerprint] = indexes.push(stored.fingerprint, progress=further)
    return counts


@dataclass(frozen=True, slots=True)
class _OffsetProgress:
    """The progress of one model among all, after those that are done."""

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
