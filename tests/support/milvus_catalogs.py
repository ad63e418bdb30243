"""Catalogs of random vectors without pictures, and their Milvus: Lite, or the server at $SIMSEARCH_TEST_MILVUS."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from simsearch.images.metadata import ExifMetadata
from simsearch.index.milvus.config import MilvusConfig, StoreChoice, switch_store
from simsearch.models.choice import resolve_model
from simsearch.sources.scan import FoundFile
from simsearch.store.catalog import Catalog, EmbeddedView, FileEntry, ImageProperties, StoredModel
from simsearch.store.writer import CatalogWriter
from tests.conftest import HISTOGRAM

if TYPE_CHECKING:
    from simsearch.index.milvus.cache import MilvusIndexCache

FINGERPRINT = "synthetic-0"


def unit_rows(n: int, width: int, seed: int = 0) -> NDArray[np.float32]:
    """Random unit vectors."""
    rows = np.random.default_rng(seed).standard_normal((n, width)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def add_images(writer: CatalogWriter, vectors: NDArray[np.float32], *, first: int = 1, copies: int = 1) -> StoredModel:
    """Add one image per vector, each with `copies` files; numbers begin at `first`."""
    stored = writer.add_model(resolve_model(HISTOGRAM), vectors.shape[1], FINGERPRINT)
    with writer.transaction():
        writer.record_files(
            (
                entry(f"/photos/{number % 7}/{number:06}{'' if not copy else f'-{copy}'}.png", number, [vector])
                for number, vector in enumerate(vectors, start=first)
                for copy in range(copies)
            ),
            stored.id,
        )
    return stored


def entry(path: str, number: int, vectors: Sequence[NDArray[np.float32]], **facts: Any) -> FileEntry:
    """A file of the image with this number; the first vector is of its original view, the others of augmented views."""
    told = {"width": 100 + number % 50, "height": 100, "format": "PNG"} | facts
    metadata = ExifMetadata(told.pop("taken", None), told.pop("camera", None))
    views = [
        EmbeddedView("augmented" if at else "original", f'{{"number": {at}}}' if at else "{}", vector)
        for at, vector in enumerate(vectors)
    ]
    size, mtime = told.pop("size", 1000 + number), told.pop("mtime_ns", 1_700_000_000 * 10**9)
    return FileEntry(FoundFile(path, size, mtime), f"{number:032x}", ImageProperties(**told, metadata=metadata), views)


def milvus_uri(folder: Path) -> str:
    """A file of Milvus Lite in the folder, or the server to test with."""
    return os.environ.get("SIMSEARCH_TEST_MILVUS") or str(folder / "vectors.db")


def move_to_milvus(folder: Path, uri: str) -> MilvusConfig:
    """Set the store of a collection to Milvus without copying vectors."""
    with CatalogWriter.open_or_create(folder) as writer:
        with writer.transaction():
            switch_store(writer, StoreChoice.from_options("milvus", uri) or StoreChoice())
        place = MilvusConfig.from_catalog(writer)
    assert place is not None
    return place


@contextlib.contextmanager
def searched(folder: Path) -> Iterator[tuple[Catalog, MilvusIndexCache]]:
    """Open a catalog and its indexes in Milvus."""
    from simsearch.index.milvus.cache import MilvusIndexCache  # imports pymilvus

    with Catalog.open(folder) as catalog:
        place = MilvusConfig.from_catalog(catalog)
        assert place is not None
        with MilvusIndexCache(catalog, place) as indexes:
            yield catalog, indexes


def annotate(folder: Path, values: Iterable[tuple[int, str, Any]]) -> None:
    """Write annotations (image id, name, value)."""
    with CatalogWriter.open_or_create(folder) as writer, writer.transaction():
        writer.annotate(values)
