"""A collection: a folder under indexes/. The one place that knows every stage."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from simsearch import maintenance
from simsearch.errors import ImageError, ModelNotIndexed, NoImages, NotAPicture
from simsearch.images.decode import Pixels, compute_default_max_pixels
from simsearch.images.views import ViewChoice, parse_ranges
from simsearch.index.backends import open_index_backend
from simsearch.index.cache import write_kind_choice
from simsearch.index.kinds import IndexKindChoice
from simsearch.index.milvus.config import StoreChoice, switch_store
from simsearch.ingest.pipeline import IngestJob, Progress, run_pipeline
from simsearch.ingest.plan import (
    check_has_picture,
    check_target_folder,
    discard_if_unreachable,
    discard_new_collection,
    plan_ingest,
)
from simsearch.ingest.record import IngestStats
from simsearch.interchange.annotations import AnnotationReport, annotate, clear_columns
from simsearch.maintenance import Verification
from simsearch.models.choice import ModelChoice, list_backbones, relocate_weights
from simsearch.models.embedder import Embedder, LoadOptions, open_embedder
from simsearch.models.precision import PrecisionAgreement
from simsearch.models.weights import WeightsOptions
from simsearch.rerank.method import RerankMethod
from simsearch.search import Answer
from simsearch.search.examples import Crop, Example, ExampleInput, make_examples
from simsearch.search.query import Query, SearchOptions
from simsearch.search.query_vectors import ReadLimits, materialize_example, refuse_network
from simsearch.search.reranking import RerankerCache
from simsearch.search.search import SearchTarget, run_query
from simsearch.sources.addresses import is_remote, is_url
from simsearch.sources.scan import Scan, Skip, derive_source_name, scan_sources
from simsearch.sources.web import fetch
from simsearch.store.catalog import Catalog, StoredModel
from simsearch.store.writer import CatalogWriter

if TYPE_CHECKING:
    from simsearch.duplicates.results import KEEP_RULES, TIERS, DuplicateOptions, DuplicateReport
    from simsearch.index.milvus.migrate import PushReport
    from simsearch.interchange.exporter import FORMATS, ExportFormat, ExportReport, VectorKind
    from simsearch.interchange.importer import ImportReport
    from simsearch.visualization.overview import Clustering, CollectionLayout, ImageSelection

__all__ = [
    "FORMATS",
    "KEEP_RULES",
    "TIERS",
    "AnnotationReport",
    "Answer",
    "Clustering",
    "Collection",
    "CollectionLayout",
    "Crop",
    "DuplicateOptions",
    "DuplicateReport",
    "Example",
    "ExportReport",
    "ImageSelection",
    "ImportReport",
    "IndexKindChoice",
    "IngestReport",
    "ModelChoice",
    "Progress",
    "PushReport",
    "Query",
    "SearchOptions",
    "Skip",
    "StoreChoice",
    "VectorKind",
    "Verification",
    "ViewChoice",
    "WeightsOptions",
    "derive_source_name",
    "fetch",
    "is_remote",
    "is_url",
    "list_backbones",
    "parse_ranges",
    "refuse_network",
]

_RERANK_SETTING = "rerank"
"""The setting that holds a collection's default method."""

_CATALOG_FILES = frozenset({"catalog.db", "catalog.db-wal", "catalog.db-shm", "catalog.db-journal"})
"""Never looked into by a run: whoever closes a file loses the locks that SQLite in the same process has on it, and what
another process then does to the catalog ends this one with SIGBUS, or worse."""

_LAZY_IMPORTS = {
    **dict.fromkeys(("KEEP_RULES", "TIERS", "DuplicateOptions", "DuplicateReport"), "duplicates.results"),
    **dict.fromkeys(("FORMATS", "ExportReport", "VectorKind"), "interchange.exporter"),
    "ImportReport": "interchange.importer",
    "PushReport": "index.milvus.migrate",
    **dict.fromkeys(("Clustering", "CollectionLayout", "ImageSelection"), "visualization.overview"),
}


def __getattr__(name: str) -> Any:
    """Import what looks at a whole collection when it is first asked for: a query starts sooner without."""
    if name not in _LAZY_IMPORTS:
        raise AttributeError(f"module 'simsearch.collection' has no attribute {name!r}")
    return getattr(importlib.import_module(f"simsearch.{_LAZY_IMPORTS[name]}"), name)


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
    agreement: PrecisionAgreement | None
    notes: tuple[str, ...]


class Collection:
    """An open collection, to be asked. Writing goes through `Collection.ingest` and the other verbs."""

    def __init__(self, folder: Path, catalog: Catalog) -> None:
        self.folder = folder
        self._catalog = catalog
        self._indexes = open_index_backend(catalog)
        self._reranking = RerankerCache(catalog, self._indexes)
        self._embedders: dict[str, Embedder] = {}

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Collection:
        """Open the collection in `folder`.

        Raises `CollectionNotFound`, `CollectionTooNew` or `CollectionDamaged`.
        """
        return cls(Path(folder), Catalog.open(Path(folder)))

    def close(self) -> None:
        """Close the catalog, and let go of the indexes."""
        self._indexes.close()
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
        embedders: dict[str, Embedder] | None = None,
        ray: str | None = None,
        store: StoreChoice | None = None,
        kind: IndexKindChoice | None = None,
    ) -> IngestReport:
        """Bring the collection in `folder` up to date with `sources`; it is made if it is not there.

        Unchanged files cost a stat, moved and copied ones a hash. Killed at any instant, the same call goes on
        where it stopped. Without a backbone in `choice` the collection's last model is used, in a new
        collection the default backbone. `augment` says which augmented views of every image are embedded beside
        the original; without it a model keeps those that it has. A network that is loaded stays in `embedders`,
        by fingerprint, for the next run. With `ray` the workers of a Ray cluster embed, to the same catalog: those at
        an address (`host:port`), `auto` (the cluster that this machine is part of), or `local` (one started for this
        run). `store` says where vectors are searched from now on, and `kind` by which kind of index.

        Raises `SourceError`, `NoImages`, `ModelError`, `ClusterError` or `CollectionError`; none of them leaves a
        half-made collection.
        """
        started = time.perf_counter()
        settle = run_pipeline if ray is None else _choose_cluster_ingest(ray)
        named = [os.fspath(source) for source in sources]
        folder, limit_px = Path(folder), max_pixels or compute_default_max_pixels()
        found = scan_sources(named, stdin)
        found.files = [file for file in found.files if os.path.basename(file.path) not in _CATALOG_FILES]
        check_has_picture(found, named, limit_px)
        is_new = check_target_folder(folder)
        if store is not None:
            _check_store(folder, store)
        planned = plan_ingest(folder, choice or ModelChoice(), found, limit_px)
        if embedders is not None:
            planned.embedders = embedders
        model, width = planned.model, planned.width
        with discard_if_unreachable(folder, is_new=is_new), CatalogWriter.open_or_create(folder) as writer:
            with writer.transaction():
                stored = writer.add_model(model, width, planned.fingerprint)
                views = (augment or ViewChoice()).apply_to(stored.augmentation)
                if views != stored.augmentation:
                    stored = writer.set_augmentation(stored, views)
                if planned.graph is not None:
                    writer.write_graph(stored.id, planned.graph)
                if store is not None:
                    switch_store(writer, store)
                run_id = writer.begin_run(stored.id, named)
            job = IngestJob(model, stored.id, stored.augmentation, planned.open_embedder, limit_px, progress)
            tally = settle(found, writer, job)
            with writer.transaction():
                writer.end_run(run_id, embedded=tally.n_embedded, reused=tally.n_reused)
            counts = writer.count_contents()
            if not (is_new and counts["files"] == 0):
                with tally.clock.measure("index"), open_index_backend(writer) as indexes:
                    if kind is not None and write_kind_choice(writer, kind):
                        indexes.discard()
                    indexes.refresh(stored.fingerprint)
            n_views = writer.count_vectors(stored.id)
        if is_new and counts["files"] == 0:
            discard_new_collection(folder)
            first = tally.skips[0]
            raise NoImages(
                named[0],
                f"none of {len(tally.skips)} pictures could be read",
                f"the first was {first.path}: {first.reason}",
            )
        return IngestReport(
            str(folder), stored.fingerprint, model.backbone, model.precision, counts["files"], counts["images"],
            n_views, tally.n_embedded, tally.n_reused, tally.n_gone, tuple(tally.skips),
            time.perf_counter() - started, tally.clock.seconds, planned.agreement,
            (*planned.notes, *tally.notes, *(kind.list_notes(n_views) if kind else ())),
        )  # fmt: skip

    # Asking it

    def search(
        self,
        queries: ExampleInput | Sequence[ExampleInput],
        *,
        k: int | None = 10,
        offset: int = 0,
        min_similarity: float = -1.0,
        exclude_self: bool = False,
        where: str | None = None,
        rerank: str | None = None,
        backbone: str | None = None,
        weights: WeightsOptions | None = None,
        max_pixels: int | None = None,
    ) -> Answer:
        """The k images nearest to the queries, or all with k None, after the first `offset`.

        A query is a path, an address in a store or on the web (not with `WeightsOrder(offline=True)`), the id of a
        stored image, or the bytes of a file. Of several the unit vectors are summed, each times its weight: equal ones
        are averaged, those that an `Example` gives a weight below 0 are subtracted. A picture whose content is in the
        collection is not embedded again. `exclude_self` leaves out images of the same content as a query.

        `where` filters before anything is ranked: k answers come back whenever k images match. `rerank` is a method
        such as `pca256+dba5+aqe5+k-reciprocal20`; None is the collection's default, `none` is none. Under a method
        `Hit.similarity` is the cosine in the projected space, to the expanded query; k-reciprocal re-ranking changes
        the order alone. What is deleted and not pruned yet is no answer, but still a neighbour of others.

        Raises `UsageError`, `ImageError`, `ImageNotFound`, `ModelNotIndexed` or a `ModelError`.
        """
        return self.run_query(
            Query(
                examples=make_examples(queries), k=k, offset=offset, min_similarity=min_similarity,
                exclude_self=exclude_self, where=where, rerank=rerank, backbone=backbone,
                weights=weights or WeightsOptions(), max_pixels=max_pixels,
            )
        )  # fmt: skip

    def run_query(self, query: Query) -> Answer:
        """Run a query that was built before. Raises what `search` raises."""
        method = RerankMethod.parse(self.default_rerank if query.rerank is None else query.rerank)
        stored = self._find_model(query.backbone)
        open_model = partial(self._open_embedder, stored, query.weights)
        return run_query(query, SearchTarget(self._catalog, stored, method, self._reranking, open_model))

    def search_each(
        self, sources: Sequence[str | os.PathLike[str]], **options: Unpack[SearchOptions]
    ) -> Iterator[Answer | Skip]:
        """Ask with every picture at some sources, folders among them, each by itself and in their order.

        What cannot be read is a skip in its place. Raises what `search` raises otherwise, and `SourceError`.
        """
        named = [os.fspath(source) for source in sources]
        if (weights := options.get("weights")) is not None and weights.offline:
            refuse_network(named)
        found = scan_sources(named)
        yield from found.skips
        for file in found.files:
            try:
                yield self.search(file.path, **options)
            except ImageError as error:
                if file.has_picture_extension or not isinstance(error, NotAPicture):
                    yield Skip(file.path, error.reason)

    def files_of(self, queries: Sequence[ExampleInput], folder: str | os.PathLike[str]) -> list[str]:
        """A file for each query, to be looked at: its own, or one made in `folder` where it has none."""
        reach = ReadLimits(compute_default_max_pixels())
        return [materialize_example(example, self._catalog, reach, Path(folder)) for example in make_examples(queries)]

    @property
    def default_rerank(self) -> str:
        """The method that answers are ranked by if a query does not say: `none` unless `set_default_rerank` did."""
        return self._catalog.read_setting(_RERANK_SETTING) or str(RerankMethod())

    # Keeping it

    def info(self) -> dict[str, Any]:
        """What is here: counts, models with their coverage, sizes in bytes, last runs, skips."""
        return maintenance.describe(self._catalog, self._indexes)

    def verify(self) -> Verification:
        """Check everything that can be checked without embedding: SQLite, vectors, caches, files."""
        return maintenance.verify(self._catalog, self._indexes)

    @classmethod
    def rebuild(cls, folder: str | os.PathLike[str], kind: IndexKindChoice | None = None) -> list[str]:
        """Make every index anew from the catalog, and delete those of no model; where those are that were made.

        With a `kind` they are of that kind from now on.
        """
        return maintenance.rebuild(Path(folder), kind)

    @classmethod
    def remove(cls, folder: str | os.PathLike[str], paths: Sequence[str]) -> int:
        """Take files, or all files below folders, out of the answers; how many.

        The files themselves are not touched. Raises `UsageError` when the collection has none of a path.
        """
        return maintenance.remove(Path(folder), paths)

    @classmethod
    def prune(
        cls, folder: str | os.PathLike[str], backbone: str | None = None, *, only_augmented: bool = False
    ) -> dict[str, int]:
        """Delete what no file needs any more, everything of one backbone, or augmented views; give the space back.

        Returns counts: `images`, `models` and `views` deleted, and `freed_bytes`.
        """
        return maintenance.prune(Path(folder), backbone, only_augmented=only_augmented)

    @classmethod
    def push(
        cls,
        folder: str | os.PathLike[str],
        choice: StoreChoice | None = None,
        *,
        drops: bool = False,
        progress: Callable[[int, int], object] = lambda _n_done, _n_all: None,
    ) -> PushReport:
        """Copy every vector to where it is to be searched, a Milvus or FAISS files, and search it there from then on.

        Without a choice the Milvus of the collection is compared row by row and put right. `drops`: a Milvus that is
        left forgets the collection. Raises `UsageError`, `StoreUnavailable`, `MissingExtra` or a `CollectionError`;
        the collection is then searched where it was.
        """
        from simsearch.index.milvus.migrate import push

        return push(Path(folder), choice, drops=drops, progress=progress)

    # Noting things in it

    @classmethod
    def annotate(cls, folder: str | os.PathLike[str], file: str | os.PathLike[str]) -> AnnotationReport:
        """Note columns of one's own beside images, from a .csv or .json file, for `where` to ask about.

        Raises `SourceError` when the file cannot be read, or none of its images is in the collection.
        """
        return annotate(Path(folder), Path(file))

    @classmethod
    def clear_columns(cls, folder: str | os.PathLike[str], columns: Sequence[str]) -> int:
        """Delete columns of one's own; how many values went. Raises `UsageError` when there is no such column."""
        return clear_columns(Path(folder), columns)

    @classmethod
    def set_default_rerank(cls, folder: str | os.PathLike[str], method: str) -> None:
        """Say which method answers are ranked by if a query does not say; `none` takes it back.

        Raises `UsageError`.
        """
        chosen = RerankMethod.parse(method)
        Catalog.open(Path(folder)).close()
        with CatalogWriter.open_or_create(Path(folder)) as writer, writer.transaction():
            writer.write_setting(_RERANK_SETTING, None if chosen == RerankMethod() else str(chosen))

    # Looking at it as a whole

    def clusters(
        self, k: int | None = None, *, backbone: str | None = None, selection: ImageSelection | None = None
    ) -> Clustering:
        """The images in k clusters, or in as many as are found; of more than 50,000 a sample.

        Raises `ModelNotIndexed` when there are none, `UsageError` when no image matches or k is out of range.
        """
        from simsearch.visualization.overview import ImageSelection, cluster_collection

        return cluster_collection(self._catalog, self._find_model(backbone), k, selection or ImageSelection())

    def arrangement(
        self, k: int | None = None, *, backbone: str | None = None, selection: ImageSelection | None = None
    ) -> CollectionLayout:
        """The same with a place for each image in the plane, near those that are alike: what a map is drawn from."""
        from simsearch.visualization.overview import ImageSelection, lay_out_collection

        return lay_out_collection(self._catalog, self._find_model(backbone), k, selection or ImageSelection())

    def duplicates(
        self,
        question: DuplicateOptions | None = None,
        *,
        backbone: str | None = None,
        weights: WeightsOptions | None = None,
        progress: Callable[[str, float], None] = lambda _stage, _share: None,
    ) -> DuplicateReport:
        """Groups of files that hold the same bytes, the same picture edited, or pictures alike. Deletes nothing.

        Raises `Unreadable` when the pictures are out of reach, or a `ModelError`.
        """
        from simsearch.duplicates.asking import search_duplicates
        from simsearch.duplicates.results import DuplicateOptions

        return search_duplicates(
            self._catalog, self._indexes, self._find_model(backbone), options=question or DuplicateOptions(),
            order=weights or WeightsOptions(), progress=progress,
        )  # fmt: skip

    @classmethod
    def reject_duplicates(cls, folder: str | os.PathLike[str], image_ids: Sequence[int]) -> int:
        """Remember that none of those images is a duplicate of another of them; how many pairs that is.

        Raises `UsageError` on fewer than two images, `ImageNotFound`.
        """
        from simsearch.duplicates.asking import reject

        return reject(Path(folder), image_ids)

    @classmethod
    def unreject_duplicates(cls, folder: str | os.PathLike[str], image_ids: Sequence[int]) -> int:
        """Forget that again; how many pairs were remembered. Raises the same."""
        from simsearch.duplicates.asking import unreject

        return unreject(Path(folder), image_ids)

    # To and from other tools

    def export(
        self,
        place: str | os.PathLike[str],
        *,
        format: ExportFormat | None = None,
        vectors: VectorKind = "float32",
        backbone: str | None = None,
    ) -> ExportReport:
        """Write vectors and all that is known of their images as Parquet, .npy, CSV or JSON lines.

        Raises `UsageError` on an unknown extension or a folder in use, `MissingExtra`, or another `SimsearchError`.
        """
        from simsearch.interchange.exporter import export

        return export(self._catalog, self._find_model(backbone), Path(place), format=format, vectors=vectors)

    @classmethod
    def import_embeddings(
        cls,
        folder: str | os.PathLike[str],
        source: str | os.PathLike[str],
        name: str,
        *,
        root: str | os.PathLike[str] = "",
        metadata: str | os.PathLike[str] | None = None,
        max_pixels: int | None = None,
        progress: Callable[[Progress], None] = lambda _: None,
    ) -> ImportReport:
        """Take vectors of another tool into a collection, under a name to ask for; relative paths begin at `root`.

        Raises `SourceError`, `UsageError`, `MissingExtra` or a `CollectionError`; nothing is written then.
        """
        from simsearch.interchange.importer import ImportOptions, import_embeddings

        intake = ImportOptions(
            source=Path(source), name=name, root=Path(root), metadata=Path(metadata) if metadata else None,
            max_pixels=max_pixels or compute_default_max_pixels(),
        )  # fmt: skip
        return import_embeddings(Path(folder), intake, progress)

    @property
    def catalog(self) -> Catalog:
        """What all of it is read from."""
        return self._catalog

    def model(self, backbone: str | None = None) -> StoredModel:
        """The model that is asked, as the catalog has it. Raises `ModelNotIndexed`."""
        return self._find_model(backbone)

    # Models and caches

    def _find_model(self, backbone: str | None) -> StoredModel:
        models = self._catalog.list_models() if backbone is None else maintenance.find_models(self._catalog, backbone)
        if not models:
            raise ModelNotIndexed(str(self.folder), f"{self.folder} is empty", "index a folder into it first")
        return models[0]

    def _open_embedder(self, stored: StoredModel, order: WeightsOptions, pixels: Pixels) -> Embedder:
        fingerprint = stored.fingerprint
        if fingerprint not in self._embedders:
            opening = LoadOptions(
                locate=lambda model: relocate_weights(model, order),
                graph=self._catalog.read_graph(stored.id),
                pixels=pixels,
            )
            self._embedders[fingerprint] = open_embedder(stored.model, opening)
        return self._embedders[fingerprint]


def _choose_cluster_ingest(address: str) -> Callable[[Scan, CatalogWriter, IngestJob], IngestStats]:
    """What brings a catalog up to date with the workers of a Ray cluster.

    Raises `MissingExtra`, or `ClusterError` when nothing answers at the address.
    """
    from simsearch.ingest.ray_cluster.cluster import check_address

    check_address(address)
    from simsearch.ingest.ray_cluster.driver import ingest_on_cluster

    return partial(ingest_on_cluster, address)


def _check_store(folder: Path, store: StoreChoice) -> None:
    from simsearch.index.milvus.migrate import check_connection

    check_connection(folder, store)
