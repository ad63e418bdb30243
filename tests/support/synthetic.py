"""Collections of made-up vectors, written through the real catalog."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from simsearch.index.cache import IndexCache
from simsearch.index.kinds import IndexKindChoice, write_kind_choice
from simsearch.models.choice import resolve_model
from simsearch.sources.scan import FoundFile
from simsearch.store.catalog import EmbeddedView, FileEntry, ImageProperties
from simsearch.store.writer import CatalogWriter
from tests.conftest import HISTOGRAM

WIDTH = 32


def clustered(n: int, seed: int) -> np.ndarray:
    """Unit rows (n, 32) around two hundred centres, as those of photographs are."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((200, WIDTH))
    rows = centres[random.integers(0, len(centres), n)] + 0.5 * random.standard_normal((n, WIDTH))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


class Filled(NamedTuple):
    """A collection in a folder and its vectors (n, 32); that of image and view n + 1 is in row n."""

    folder: Path
    vectors: np.ndarray


def record(writer: CatalogWriter, vectors: np.ndarray, first: int) -> None:
    """Add an image, with one file, for each of some vectors."""
    model = resolve_model(HISTOGRAM)
    with writer.transaction():
        model_id = writer.add_model(model, vectors.shape[1], model.fingerprint).id
        entries = (
            FileEntry(
                FoundFile(f"/pictures/{number:06}.png", 1000, number), f"{number:032x}", ImageProperties(64, 64, "PNG"),
                [EmbeddedView("original", "{}", row)],
            )
            for number, row in enumerate(vectors, start=first)
        )  # fmt: skip
        writer.record_files(entries, model_id)


def fill(folder: Path, vectors: np.ndarray, kind: IndexKindChoice) -> Filled:
    with CatalogWriter.open_or_create(folder) as writer:
        write_kind_choice(writer, kind)
        record(writer, vectors, 0)
        IndexCache(writer).refresh(resolve_model(HISTOGRAM).fingerprint)
    return Filled(folder, vectors)
