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

from simsearch.errors import (
    CollectionDamaged,
    ImageError,
    ImageNotFound,
    ModelNotIndexed,
    NoImages,
    UsageError,
)
from simsearch.images.decode import Pixels, decode_square, default_max_pixels, read
from simsearch.images.sources import Skip, scan
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

__all__ = [
    "Answer",
    "Collection",
    "IngestReport",
    "ModelChoice",
    "Progress",
    "Verification",
    "WeightsOrder",
    "list_backbones",
]

Query = str | os.PathLike[str] | int
"""The path of a picture, or the id of a stored image."""

_UNIT_TOLERANCE = 1e-3


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
class Verification:
    """`problems` are damage, `notes` are what its owner may want to know."""

    problems: tuple[str, ...]
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
        stdin: bytes = b"",
        max_pixels: int | None = None,
        progress: Callable[[Progress], None] = lambda _: None,
    ) -> IngestReport:
        """Bring the collection in `folder` up to date with `sources`; it is made if it is not there.

        Unchanged files cost a stat, moved and copied ones a hash. Killed at any instant, the same call goes on
        where it stopped. Without a backbone in `choice` the collection's last model is used, in a new
        collection the default backbone.

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
                if planned.graph is not None:
                    writer.keep_graph(stored.id, planned.graph)
                run_id = writer.begin_run(stored.id, named)
            tally = ingest(found, writer, Job(model, stored.id, planned.open_embedder, limit_px, progress))
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

    def info(self) -> dict[str, Any]:
        """What is here: counts, models with their coverage, sizes in bytes, last runs, skips."""
        models = []
        for stored in self._catalog.models():
            model = stored.model
            models.append(
                {
                    "backbone": model.backbone, "model": stored.fingerprint, "width": stored.width,
                    "images": self._catalog.n_images_of(stored.id), "views": self._catalog.n_vectors(stored.id),
                    "precision": model.precision, "layer": model.layer, "pooling": model.pooling,
                    "side_px": model.side_px, "resize": model.resize, "weights": model.weights, "file": model.file,
                }
            )  # fmt: skip
        skips = [{"path": skip.path, "reason": skip.reason} for skip in self._catalog.skips()]
        counts = self._catalog.counts() | {"size_bytes": _size_bytes(self.folder)}
        return {
            "collection": str(self.folder),
            **counts,
            "models": models,
            "runs": self._catalog.runs(5),
            "skipped": skips,
        }

    # Keeping it

    def verify(self) -> Verification:
        """Check everything that can be checked without embedding: SQLite, vectors, caches, files."""
        problems = self._catalog.damage()
        notes: list[str] = []
        if not problems:
            for stored in self._catalog.models():
                problems += self._wrong_vectors(stored)
                complaint = self._cache.complaint(stored)
                notes += [complaint] if complaint else []
        missing = [path for path in self._catalog.paths() if not os.path.exists(path)]
        if missing:
            notes.append(
                f"{len(missing)} files are gone, such as {missing[0]}; index again to take them out of answers"
            )
        if orphans := self._catalog.counts()["orphans"]:
            notes.append(f"{orphans} images have no file any more; `simsearch prune` deletes their vectors")
        return Verification(tuple(problems), tuple(notes))

    @classmethod
    def rebuild(cls, folder: str | os.PathLike[str]) -> list[str]:
        """Make every cache anew from the catalog, and delete those of no model; the names of those made."""
        folder = Path(folder)
        Catalog.open(folder).close()
        with CatalogWriter.open_or_create(folder) as writer:
            cache = IndexCache(writer)
            cache.discard()
            fingerprints = [stored.fingerprint for stored in writer.models()]
            for fingerprint in fingerprints:
                cache.refresh(fingerprint)
            return [cache.file(fingerprint).name for fingerprint in fingerprints]

    @classmethod
    def remove(cls, folder: str | os.PathLike[str], paths: Sequence[str]) -> int:
        """Take files, or all files below folders, out of the answers; how many.

        The files themselves are not touched. Raises `UsageError` when the collection has none of a path.
        """
        folder = Path(folder)
        Catalog.open(folder).close()
        with CatalogWriter.open_or_create(folder) as writer:
            known = list(writer.paths())
            meant: list[str] = []
            for path in paths:
                below = [file for file in known if _is_meant(file, path)]
                if not below:
                    raise UsageError(f"{folder} has no file {path}", "`simsearch query` and `info` show what it has")
                meant += below
            with writer.transaction():
                return writer.forget_files(dict.fromkeys(meant))

    @classmethod
    def prune(cls, folder: str | os.PathLike[str], backbone: str | None = None) -> dict[str, int]:
        """Delete what no file needs any more, or everything of one backbone, and give the space back.

        Returns counts: `images` and `models` deleted, and `freed_bytes`.
        """
        folder = Path(folder)
        with cls.open(folder) as collection:
            doomed = [] if backbone is None else collection._matching(backbone)
        before = _size_bytes(folder)
        with CatalogWriter.open_or_create(folder) as writer:
            with writer.transaction():
                n_images = 0 if backbone else writer.forget_orphans()
                for stored in doomed:
                    writer.forget_model(stored.id)
            writer.compact()
            cache = IndexCache(writer)
            for stored in doomed:
                cache.discard(stored.fingerprint)
            for stored in writer.models():
                cache.refresh(stored.fingerprint)
        return {
            "images": n_images,
            "models": len(doomed),
            "freed_bytes": max(0, before - _size_bytes(folder)),
        }

    # Models and caches

    def _stored_model(self, backbone: str | None) -> StoredModel:
        models = self._catalog.models() if backbone is None else self._matching(backbone)
        if not models:
            raise ModelNotIndexed(str(self.folder), f"{self.folder} is empty", "index a folder into it first")
        return models[0]

    def _matching(self, backbone: str) -> list[StoredModel]:
        """The models of a backbone's name, of a fingerprint, or of a model file, the last indexed first."""
        models = self._catalog.models()
        names = (backbone, os.path.abspath(backbone))
        matching = [
            stored
            for stored in models
            if stored.model.backbone == backbone or stored.fingerprint == backbone or stored.model.file == names[1]
        ]
        if matching:
            return matching
        held = ", ".join(dict.fromkeys(stored.model.backbone for stored in models)) or "nothing"
        raise ModelNotIndexed(
            str(self.folder),
            f"{self.folder} was not indexed with {backbone}; it holds {held}",
            f"ask with one of those, or run `simsearch index ... --into {self.folder} --backbone {backbone}`",
        )

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

    def _wrong_vectors(self, stored: StoredModel) -> list[str]:
        n_wrong = 0
        try:
            for _, vectors in self._catalog.vectors(stored, self._catalog.vector_ids(stored.id)):
                lengths = np.linalg.norm(vectors, axis=1)
                n_wrong += int(np.sum(~(np.abs(lengths - 1) < _UNIT_TOLERANCE)))
        except CollectionDamaged as error:
            return [str(error)]
        if not n_wrong:
            return []
        name = stored.model.backbone
        return [f"{n_wrong} vectors of {name} are not of unit length; prune --backbone {name} and index again"]


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


def _is_meant(file: str, path: str) -> bool:
    whole = os.path.join(os.path.realpath(os.path.dirname(path) or "."), os.path.basename(path))
    return file == whole or file.startswith(os.path.join(os.path.realpath(path), ""))


def _size_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
