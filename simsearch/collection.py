"""A collection: a folder under indexes/. The one place that knows every stage."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simsearch import upkeep
from simsearch.errors import (
    ImageError,
    ImageNotFound,
    ModelNotIndexed,
    NoImages,
    UsageError,
)
from simsearch.images.decode import Pixels, decode_square, default_max_pixels, read
from simsearch.images.sources import Skip, scan
from simsearch.images.views import ViewChoice, parse_ranges
from simsearch.ingest import SHORTEST_UNIT, Job, Progress, ingest
from simsearch.models.embedder import Embedder, Opening, open_embedder
from simsearch.models.precision import Agreement
from simsearch.models.resolve import ModelChoice, list_backbones, relocate
from simsearch.models.weights import WeightsOrder
from simsearch.plan import check_any_picture, check_place, discard, plan
from simsearch.search import Hit, Limits, mean_direction, nearest
from simsearch.store.cache import IndexCache
from simsearch.store.catalog import Catalog, LiveView, StoredModel
from simsearch.store.writer import CatalogWriter
from simsearch.upkeep import Verification

__all__ = [
    "Answer",
    "Collection",
    "IngestReport",
    "ModelChoice",
    "Progress",
    "Verification",
    "ViewChoice",
    "WeightsOrder",
    "list_backbones",
    "parse_ranges",
]

Query = str | os.PathLike[str] | int
"""The path of a picture, or the id of a stored image."""


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What a run did, and what the collection holds after it.

    `n_files`, `n_images` and `n_views` count what is there now (views: those with a vector of the model);
    `n_embedded`, `n_reused`, `n_gone` and `skips` are of this run. `stages` are busy seconds by stage, summed over
    threads, and seconds that the run waited for a stage (`wait_...`). `agreement` is that of a lower precision with
    f32, where this run settled on one; `notes` are what a person should know.
    """

    collection: str
    model: str
    backbone: str
    precision: str
    n_files: int
    n_images: int
    n_views: int
    n_embedded: int
    n_reused: int
    n_gone: int
    skips: tuple[Skip, ...]
    elapsed_s: float
    stages: dict[str, float]
    agreement: Agreement | None
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """The hits of a query, and the milliseconds that loading the model, embedding and searching took."""

    queries: tuple[str, ...]
    backbone: str
    model: str
    hits: tuple[Hit, ...]
    milliseconds: dict[str, float]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Query:
    """A query's content, with its stored vector (d,) or its pixels (side, side, 3)."""

    name: str
    digest: str
    vector: NDArray[np.float32] | None
    pixels: Pixels | None


class Collection:
    """An open collection, to be asked. Writing goes through `Collection.ingest` and the other verbs."""

    def __init__(self, folder: Path, catalog: Catalog) -> None:
        self.folder = folder
        self._catalog = catalog
        self._cache = IndexCache(catalog)
        self._embedders: dict[str, Embedder] = {}

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Collection:
        """Open the collection in `folder`.

        Raises `CollectionNotFound`, `CollectionTooNew` or `CollectionDamaged`.
        """
        return cls(Path(folder), Catalog.open(Path(folder)))

    def close(self) -> None:
        """Close the catalog."""
        self._catalog.close()

    def __enter__(self) -> Collection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Filling it

    @classmethod
    def ingest(
        cls,
        folder: str | os.PathLike[str],
        sources: Sequence[str | os.PathLike[str]],
        choice: ModelChoice | None = None,
        *,
        augment: ViewChoice | None = None,
        stdin: bytes = b"",
        max_pixels: int | None = None,
        progress: Callable[[Progress], None] = lambda _: None,
    ) -> IngestReport:
        """Bring the collection in `folder` up to date with `sources`; it is made if it is not there.

        Unchanged files cost a stat, moved and copied ones a hash. Killed at any instant, the same call goes on
        where it stopped. Without a backbone in `choice` the collection's last model is used, in a new
        collection the default backbone. `augment` says which augmented views of every image are embedded beside
        the original; without it a model keeps those that it has.

        Raises `SourceError`, `NoImages`, `ModelError` or `CollectionError`; none of them leaves a half-made
        collection.
        """
        started = time.perf_counter()
        named = [os.fspath(source) for source in sources]
        folder, limit_px = Path(folder), max_pixels or default_max_pixels()
        found = scan(named, stdin)
        check_any_picture(found, named, limit_px)
        is_new = check_place(folder)
        planned = plan(folder, choice or ModelChoice(), found, limit_px)
        model, width = planned.model, planned.width
        with CatalogWriter.open_or_create(folder) as writer:
            with writer.transaction():
                stored = writer.add_model(model, width, planned.fingerprint)
                views = (augment or ViewChoice()).over(stored.augmentation)
                if views != stored.augmentation:
                    stored = writer.set_augmentation(stored, views)
                if planned.graph is not None:
                    writer.keep_graph(stored.id, planned.graph)
                run_id = writer.begin_run(stored.id, named)
            job = Job(model, stored.id, stored.augmentation, planned.open_embedder, limit_px, progress)
            tally = ingest(found, writer, job)
            with writer.transaction():
                writer.end_run(run_id, embedded=tally.n_embedded, reused=tally.n_reused)
            counts = writer.counts()
            if not (is_new and counts["files"] == 0):
                IndexCache(writer).refresh(stored.fingerprint)
            n_views = writer.n_vectors(stored.id)
        if is_new and counts["files"] == 0:
            discard(folder)
            first = tally.skips[0]
            raise NoImages(
                named[0],
                f"none of {len(tally.skips)} pictures could be read",
                f"the first was {first.path}: {first.reason}",
            )
        return IngestReport(
            str(folder), stored.fingerprint, model.backbone, model.precision, counts["files"], counts["images"],
            n_views, tally.n_embedded, tally.n_reused, tally.n_gone, tuple(tally.skips),
            time.perf_counter() - started, tally.clock.seconds, planned.agreement, planned.notes,
        )  # fmt: skip

    # Asking it

    def search(
        self,
        queries: Query | Sequence[Query],
        *,
        k: int = 10,
        backbone: str | None = None,
        min_similarity: float = -1.0,
        exclude_self: bool = False,
        weights: WeightsOrder | None = None,
        max_pixels: int | None = None,
    ) -> Answer:
        """The k images nearest to the queries, each a path or the id of a stored image; several are averaged.

        A picture whose content is in the collection is not embedded again. `exclude_self` leaves out images of
        the same content as a query.

        Raises `UsageError`, `ImageError`, `ImageNotFound`, `ModelNotIndexed` or a `ModelError`.
        """
        asked = _as_list(queries)
        _check_question(asked, k, min_similarity)
        stored = self._stored_model(backbone)
        started = time.perf_counter()
        index = self._cache.index(stored.fingerprint)
        found = [self._find(query, stored, max_pixels or default_max_pixels()) for query in asked]
        unknown = [query.pixels for query in found if query.pixels is not None]
        if unknown:
            self._embedder(stored, weights or WeightsOrder(), np.stack(unknown))
        loaded = time.perf_counter()
        vector = mean_direction([self._vector(query, stored) for query in found])
        embedded = time.perf_counter()
        excluded = frozenset(query.digest for query in found) if exclude_self else frozenset()
        hits = nearest(vector, index, self._catalog, Limits(k, min_similarity, excluded))
        ended = time.perf_counter()
        milliseconds = {
            "load": 1e3 * (loaded - started), "embed": 1e3 * (embedded - loaded), "search": 1e3 * (ended - embedded)
        }  # fmt: skip
        names = tuple(str(query) for query in asked)
        embedder = self._embedders.get(stored.fingerprint)
        notes = embedder.notes if embedder else ()
        return Answer(names, stored.model.backbone, stored.fingerprint, tuple(hits), milliseconds, notes)

    def paths_of(self, queries: Sequence[str | int]) -> list[str]:
        """A file for each query: the path itself, or the first file of a stored image."""
        return [query if isinstance(query, str) else self._stored_image(query).paths[0] for query in queries]

    # Keeping it

    def info(self) -> dict[str, Any]:
        """What is here: counts, models with their coverage, sizes in bytes, last runs, skips."""
        return upkeep.describe(self._catalog)

    def verify(self) -> Verification:
        """Check everything that can be checked without embedding: SQLite, vectors, caches, files."""
        return upkeep.verify(self._catalog, self._cache)

    @classmethod
    def rebuild(cls, folder: str | os.PathLike[str]) -> list[str]:
        """Make every cache anew from the catalog, and delete those of no model; the names of those made."""
        return upkeep.rebuild(Path(folder))

    @classmethod
    def remove(cls, folder: str | os.PathLike[str], paths: Sequence[str]) -> int:
        """Take files, or all files below folders, out of the answers; how many.

        The files themselves are not touched. Raises `UsageError` when the collection has none of a path.
        """
        return upkeep.remove(Path(folder), paths)

    @classmethod
    def prune(
        cls, folder: str | os.PathLike[str], backbone: str | None = None, *, only_augmented: bool = False
    ) -> dict[str, int]:
        """Delete what no file needs any more, everything of one backbone, or augmented views; give the space back.

        Returns counts: `images`, `models` and `views` deleted, and `freed_bytes`.
        """
        return upkeep.prune(Path(folder), backbone, only_augmented=only_augmented)

    # Models and caches

    def _stored_model(self, backbone: str | None) -> StoredModel:
        models = self._catalog.models() if backbone is None else upkeep.matching(self._catalog, backbone)
        if not models:
            raise ModelNotIndexed(str(self.folder), f"{self.folder} is empty", "index a folder into it first")
        return models[0]

    def _find(self, query: str | int, stored: StoredModel, max_pixels: int) -> _Query:
        """The stored vector of a query's content, or the pixels to embed."""
        if isinstance(query, int):
            return self._find_stored(query, stored)
        raw = read(query, claims_picture=True, max_pixels=max_pixels)
        vector = self._catalog.digest_vector(raw.digest, stored)
        if vector is not None:
            return _Query(query, raw.digest, vector, None)
        model = stored.model
        _, pixels = decode_square(raw, model.side_px, model.resize, max_pixels=max_pixels)
        return _Query(query, raw.digest, None, pixels)

    def _stored_image(self, image_id: int) -> LiveView:
        views = self._catalog.live_views([self._catalog.original_view(image_id) or 0])
        if not views:
            raise ImageNotFound(str(self.folder), f"{self.folder} has no image {image_id}", "answers show the ids")
        return next(iter(views.values()))

    def _find_stored(self, image_id: int, stored: StoredModel) -> _Query:
        live = self._stored_image(image_id)
        vector = self._catalog.vector(stored, live.view_id)
        if vector is None:
            raise ModelNotIndexed(
                str(self.folder),
                f"image {image_id} has no vector of {stored.model.backbone}",
                f"run `simsearch index` with --backbone {stored.model.backbone} again",
            )
        return _Query(f"image {image_id}", live.digest, vector, None)

    def _vector(self, query: _Query, stored: StoredModel) -> NDArray[np.float32]:
        if query.vector is not None:
            return query.vector
        assert query.pixels is not None  # what is not stored was decoded
        vector: NDArray[np.float32] = self._embedders[stored.fingerprint].embed(query.pixels[None])[0]
        if not np.linalg.norm(vector) > SHORTEST_UNIT:
            raise ImageError(query.name, f"{stored.model.backbone} sees nothing in it", "ask with another picture")
        return vector

    def _embedder(self, stored: StoredModel, order: WeightsOrder, pixels: Pixels) -> Embedder:
        fingerprint = stored.fingerprint
        if fingerprint not in self._embedders:
            opening = Opening(
                locate=lambda model: relocate(model, order),
                graph=self._catalog.graph(stored.id),
                pixels=pixels,
            )
            self._embedders[fingerprint] = open_embedder(stored.model, opening)
        return self._embedders[fingerprint]


def _as_list(queries: Query | Sequence[Query]) -> list[str | int]:
    several = [queries] if isinstance(queries, str | os.PathLike | int) else queries
    return [query if isinstance(query, int) else os.fspath(query) for query in several]


def _check_question(queries: Sequence[str | int], k: int, min_similarity: float) -> None:
    if not queries:
        raise UsageError("there is nothing to ask", "name an image, or --id of a stored one")
    if k <= 0:
        raise UsageError(f"k is {k}", "ask for one answer or more")
    if not -1 <= min_similarity <= 1:
        raise UsageError(f"the least similarity is {min_similarity}", "it is a cosine: give a number from -1 to 1")
