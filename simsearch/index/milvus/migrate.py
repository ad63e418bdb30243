"""Moving a collection: into a Milvus, into another one, or back to FAISS files. The catalog stays where it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from simsearch.errors import UsageError
from simsearch.index.cache import IndexCache
from simsearch.index.milvus.config import Place, StoreChoice, choose, forget_records
from simsearch.store.catalog import Catalog
from simsearch.store.writer import CatalogWriter

Progress = Callable[[int, int], object]
"""Called with how many vectors are in their place, and how many there are to be."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """What is searched from now on: FAISS files where `uri` is None. `vectors` is how many it has, by fingerprint."""

    collection: str
    uri: str | None
    vectors: dict[str, int]
    elapsed_s: float

    @property
    def n_vectors(self) -> int:
        """Of all models."""
        return sum(self.vectors.values())


def push(
    folder: Path, choice: StoreChoice | None, *, drops: bool = False, progress: Progress = lambda *_: None
) -> Pushed:
    """Copy every vector to where it is to be searched, and search it there once all are there.

    Without a choice the Milvus of the collection is compared row by row and put right. `drops`: what a Milvus that
    is left has of the collection is deleted there. Interrupted, the collection is searched where it was, and the
    same call goes on. Raises `UsageError`, `StoreUnavailable`, `MissingExtra` or another `CollectionError`.
    """
    started = time.perf_counter()
    Catalog.open(folder).close()
    with CatalogWriter.open_or_create(folder) as writer:
        left = Place.of(writer)
        if choice is None:
            if left is None:
                problem = f"{folder} is searched in FAISS files, and it is not said where Milvus is"
                raise UsageError(problem, "add --milvus-uri, such as http://localhost:19530")
            choice = StoreChoice(left.uri)
        target = None if choice.uri is None else Place(choice.uri)
        counts = _to_files(writer) if target is None else _to_milvus(writer, target, progress)
        with writer.transaction():
            choose(writer, choice)
        if target is not None and left is None:
            IndexCache(writer).discard()
        if drops and left is not None and left != target:
            from simsearch.index.milvus.cache import MilvusIndexes

            with MilvusIndexes(writer, left) as indexes:
                indexes.drop()
    return Pushed(str(folder), choice.uri, counts, time.perf_counter() - started)


def check(folder: Path, choice: StoreChoice) -> None:
    """Connect to where a collection is to be searched. Raises `StoreUnavailable`, `MissingExtra`."""
    if choice.uri is not None:
        from simsearch.index.milvus.client import Server

        Server(Place(choice.uri), folder).close()


def _to_milvus(writer: CatalogWriter, target: Place, progress: Progress) -> dict[str, int]:
    from simsearch.index.milvus.cache import MilvusIndexes  # pymilvus, which FAISS files do not need

    if Place.of(writer) != target:
        with writer.transaction():
            forget_records(writer)  # what a Milvus had before may have gone stale meanwhile
    counts: dict[str, int] = {}
    models = writer.models()
    n_all = sum(writer.n_vectors(stored.id) for stored in models)
    with MilvusIndexes(writer, target) as indexes:
        indexes.connect()
        for stored in models:
            further = _Further(progress, sum(counts.values()), n_all)
            counts[stored.fingerprint] = indexes.push(stored.fingerprint, progress=further)
    return counts


@dataclass(frozen=True, slots=True)
class _Further:
    """The progress of one model among all, after those that are done."""

    progress: Progress
    n_before: int
    n_all: int

    def __call__(self, n_done: int, _: int) -> None:
        self.progress(self.n_before + n_done, self.n_all)


def _to_files(writer: CatalogWriter) -> dict[str, int]:
    files = IndexCache(writer)
    for stored in writer.models():
        files.refresh(stored.fingerprint)
    return {stored.fingerprint: writer.n_vectors(stored.id) for stored in writer.models()}
