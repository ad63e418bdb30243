"""One ingest run, from sources to an up-to-date collection: scan, plan, write, refresh the index, report."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from simsearch.errors import ClusterError, ModelError, NoImages
from simsearch.images.views import ViewChoice
from simsearch.index.backends import open_index_backend
from simsearch.index.kinds import IndexKindChoice, write_kind_choice
from simsearch.index.milvus.config import StoreChoice, switch_store
from simsearch.ingest.pipeline import IngestJob, Progress, run_pipeline
from simsearch.ingest.plan import (
    IngestPlan,
    check_has_picture,
    check_new_folder,
    plan_ingest,
    plan_other_models,
)
from simsearch.ingest.record import IngestStats
from simsearch.models.choice import ModelChoice
from simsearch.models.embedder import Embedder
from simsearch.models.precision import PrecisionAgreement
from simsearch.sources.path_filter import PathFilter
from simsearch.sources.scan import Scan, Skip, scan_sources
from simsearch.store import settings
from simsearch.store.catalog import Catalog, StoredModel, describe_missing_images
from simsearch.store.connection import SHARDS_NAME
from simsearch.store.derived_models import update_derived_models
from simsearch.store.known_sources import (
    STDIN_SOURCE,
    canonicalize_source,
    find_moved_files,
    identify_folder,
    is_at_or_below,
    is_emptied_folder,
    read_sources,
    remember_sources,
)
from simsearch.store.writer import CatalogWriter

_CATALOG_FILES = frozenset({"catalog.db", "catalog.db-wal", "catalog.db-shm", "catalog.db-journal"})
"""Files that a run never reads as candidate pictures. POSIX drops all locks that a process has on a file when it closes
any descriptor of that file, SQLite's locks included; writes of another process could then end this one with SIGBUS."""

_REPLACED_REASON = "an empty folder, not the one that was indexed; mount its disk: the collection stays as it is"

Pipeline = Callable[[Scan, Catalog, CatalogWriter, IngestJob], IngestStats]
"""Brings a catalog up to date with a scan, on this machine or on a Ray cluster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestOptions:
    """The arguments of `Collection.ingest`, with `max_pixels` resolved."""

    sources: tuple[str, ...]
    choice: ModelChoice
    augment: ViewChoice
    stdin: bytes
    max_pixels: int
    progress: Callable[[Progress], None]
    embedders: dict[str, Embedder] | None
    ray: str | None
    store: StoreChoice | None
    kind: IndexKindChoice | None
    safe_links: bool = False
    rehash: bool = False
    make_default: bool = False
    path_filter: PathFilter = field(default_factory=PathFilter)


@dataclass(frozen=True, slots=True)
class OtherModelReport:
    """The counts of another model of the collection that the same run brought up to date.

    `n_images` are the images with a vector of the model, `n_embedded` those that this run added.
    """

    backbone: str
    model: str
    n_images: int
    n_embedded: int

    def to_dict(self) -> dict[str, Any]:
        """The counts as in the JSON of a run."""
        return {
            "backbone": self.backbone,
            "model": self.model,
            "images": self.n_images,
            "embedded": self.n_embedded,
        }


@dataclass(frozen=True, slots=True)
class IngestReport:
    """Counts of one ingest run, and of the collection after it.

    `n_files`, `n_images` and `n_views` count the collection (views: those with a vector of the model). `n_embedded`,
    `n_reused`, `n_gone` and `skips` count this run. `stages` are busy seconds by stage, summed over threads, and
    seconds of waiting for a stage (`wait_...`). `agreement` compares a lower precision with f32, where this run chose
    one. `notes` are sentences for the user. `others` are the other models that were brought up to date, `default` is
    the backbone of queries that name none. `embedding_s` are the seconds of reading, embedding and writing.
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
    others: tuple[OtherModelReport, ...] = ()
    default: str = ""
    embedding_s: float = 0.0

    @property
    def images_per_s(self) -> float:
        """The images embedded per second, without loading or preparing the model and without building the index."""
        return self.n_embedded / (self.embedding_s or self.elapsed_s)

    def to_dict(self) -> dict[str, Any]:
        """The report as `index --json` and `watch --json` print it."""
        return {
            "collection": self.collection,
            "model": self.model,
            "backbone": self.backbone,
            "precision": self.precision,
            "agreement": self.agreement and {"cosine": self.agreement.cosine, "top_10": self.agreement.top_10},
            "files": self.n_files,
            "images": self.n_images,
            "embedded": self.n_embedded,
            "reused": self.n_reused,
            "gone": self.n_gone,
            "views": self.n_views,
            "skipped": [skip.to_dict() for skip in self.skips],
            "seconds": round(self.elapsed_s, 3),
            "images_per_second": round(self.images_per_s, 1),
            "stages": {stage: round(seconds, 3) for stage, seconds in self.stages.items()},
            "other_models": [other.to_dict() for other in self.others],
            "default_backbone": self.default,
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class _Outcome:
    """The state of the collection when the pipeline has ended."""

    stored: StoredModel
    stats: IngestStats
    n_files: int
    n_images: int
    n_views: int
    default: str
    embedding_s: float


def run_ingest(folder: Path, catalog: Catalog | None, options: IngestOptions) -> IngestReport:
    """Bring the collection in `folder` up to date with its sources.

    `catalog` is the open catalog of the collection, or None where the run creates the collection. Sources, model and
    weights are checked before anything is written. A new collection into which nothing was written is deleted again.

    Raises `SourceError`, `NoImages`, `ModelError`, `ClusterError` or `CollectionError`.
    """
    started = time.perf_counter()
    pipeline = run_pipeline if options.ray is None else load_cluster_pipeline(options.ray)
    found = _scan(options, catalog)
    if catalog is None:
        check_new_folder(folder)
    if options.store is not None:
        _check_store(folder, options.store)
    plan = plan_ingest(catalog, options.choice, found, options.max_pixels)
    if options.embedders is not None:
        plan.embedders = options.embedders
    width = plan.width  # loads a new model, before anything is written
    outcome = _write(folder, catalog, plan, width, found, pipeline, options)
    if catalog is None and outcome.n_files == 0:
        skips = outcome.stats.skips
        raise NoImages(
            options.sources[0],
            f"none of {len(skips)} pictures could be read",
            f"the first was {skips[0].path}: {skips[0].reason}",
        )
    others, notes = _update_other_models(folder, catalog, plan, found, pipeline, options)
    report = _make_report(folder, plan, outcome, options, time.perf_counter() - started)
    return replace(report, others=others, notes=(*report.notes, *notes, *_list_incomplete_models(catalog)))


def _update_other_models(
    folder: Path, catalog: Catalog | None, plan: IngestPlan, found: Scan, pipeline: Pipeline, options: IngestOptions
) -> tuple[tuple[OtherModelReport, ...], list[str]]:
    """Bring the other models of the collection up to date, unless the run names one; return their counts, and notes.

    A model that cannot be loaded, such as one whose weights were moved, is left as it is, with a note.
    """
    if catalog is None or not options.choice.is_open:
        return (), []
    reports, notes = [], []
    unchanged = replace(options, augment=ViewChoice(), store=None, kind=None, make_default=False)
    for other in plan_other_models(catalog, plan, options.choice):
        if options.embedders is not None:
            other.embedders = options.embedders
        name = other.model.backbone
        try:
            outcome = _write(folder, catalog, other, other.width, found, pipeline, unchanged)
        except ModelError as error:
            notes.append(f"{name} was not brought up to date: {error}")
        else:
            n_images = catalog.count_images(outcome.stored.id)
            reports.append(OtherModelReport(name, outcome.stored.fingerprint, n_images, outcome.stats.n_embedded))
    return tuple(reports), notes


def _list_incomplete_models(catalog: Catalog | None) -> list[str]:
    """Say which models lack images; a collection that the run has created has one model, with all of them."""
    if catalog is None:
        return []
    models = [(stored, catalog.count_images_missing(stored)) for stored in catalog.list_models()]
    return [describe_missing_images(stored, n) for stored, n in models if n]


@dataclass(frozen=True, slots=True)
class IngestPreview:
    """What a run would do with the files of its sources, for its first model.

    `new` and `changed` files would be read, `gone` ones leave the results. A file that was moved is new and gone here,
    because no content is read.
    """

    collection: str
    new: tuple[str, ...]
    changed: tuple[str, ...]
    gone: tuple[str, ...]
    n_unchanged: int
    skips: tuple[Skip, ...]

    def to_dict(self) -> dict[str, Any]:
        """The preview as `simsearch index --dry-run --json` prints it."""
        return {
            "collection": self.collection,
            "dry_run": True,
            "new": list(self.new),
            "changed": list(self.changed),
            "gone": list(self.gone),
            "unchanged": self.n_unchanged,
            "skipped": [skip.to_dict() for skip in self.skips],
        }


def preview_ingest(folder: Path, catalog: Catalog | None, options: IngestOptions) -> IngestPreview:
    """Say what `run_ingest` would do, without reading pictures, loading a model or writing. Raises `SourceError`."""
    found = _scan(options, catalog)
    if catalog is None:
        check_new_folder(folder)
        return IngestPreview(str(folder), tuple(file.path for file in found.files), (), (), 0, tuple(found.skips))
    backbone = options.choice.backbone
    models = [one for one in catalog.list_models() if backbone in (None, one.model.backbone, one.fingerprint)]
    known = catalog.find_known_files([file.path for file in found.files], models[0].id if models else 0)
    new, changed = [], []
    for file in found.files:
        state = known.get(file.path)
        if state is None:
            new.append(file.path)
        elif options.rehash or not state.n_vectors or not state.is_unchanged(file):
            changed.append(file.path)
    paths = {file.path for file in found.files}
    gone = tuple(path for path in catalog.iterate_paths() if path not in paths and found.is_gone(path))
    n_unchanged = len(found.files) - len(new) - len(changed)
    return IngestPreview(str(folder), tuple(new), tuple(changed), gone, n_unchanged, tuple(found.skips))


def load_cluster_pipeline(address: str) -> Pipeline:
    """Import the pipeline of a Ray cluster, bound to the cluster's address.

    Raises `MissingExtra`, or `ClusterError` when nothing answers at the address.
    """
    from simsearch.ingest.ray_cluster.cluster import check_address

    check_address(address)
    from simsearch.ingest.ray_cluster.driver import ingest_on_cluster

    return partial(ingest_on_cluster, address)


def _scan(options: IngestOptions, catalog: Catalog | None) -> Scan:
    found = scan_sources(options.sources, options.stdin, safe_links=options.safe_links)
    found.files = [file for file in found.files if os.path.basename(file.path) not in _CATALOG_FILES]
    if not options.path_filter.is_empty:
        wanted = partial(options.path_filter.accepts, folders=found.folders)
        found.files = [file for file in found.files if wanted(file.path)]
        found.skips = [skip for skip in found.skips if wanted(skip.path)]
    replaced = [] if catalog is None else _find_replaced_folders(catalog, found, options.sources)
    found.unreachable += replaced
    found.skips += [Skip(folder, _REPLACED_REASON) for folder in replaced]
    if catalog is not None:
        for source in options.sources:
            found.gone.update(*find_moved_files(catalog, source).values())
    if catalog is None or not all(is_emptied_folder(catalog, source) for source in options.sources):
        check_has_picture(found, options.sources, options.max_pixels)
    return found


def _find_replaced_folders(catalog: Catalog, found: Scan, sources: Sequence[str]) -> list[str]:
    """Find the sources that are empty folders in the place of those that were indexed; they may be not mounted."""
    known = read_sources(catalog)
    folders = {canonicalize_source(source) for source in sources if source != STDIN_SOURCE}
    suspects = [path for path in folders if known.get(path) and path in found.folders]
    replaced = [path for path in suspects if known[path] != identify_folder(path)]
    return sorted(path for path in replaced if not any(is_at_or_below(file.path, path) for file in found.files))


def _check_store(folder: Path, store: StoreChoice) -> None:
    from simsearch.index.milvus.migrate import check_connection

    check_connection(folder, store)


def _write(
    folder: Path,
    catalog: Catalog | None,
    plan: IngestPlan,
    width: int,
    found: Scan,
    pipeline: Pipeline,
    options: IngestOptions,
) -> _Outcome:
    """Write the results of the pipeline. A new collection into which nothing was written is deleted again."""
    with CatalogWriter.open_or_create(folder) as writer:
        try:
            with contextlib.nullcontext(catalog) if catalog is not None else Catalog.open(folder) as reader:
                stored, run_id = _begin_run(writer, plan, width, options)
                job = IngestJob(
                    plan.model, stored.id, stored.augmentation, plan.open_embedder, options.max_pixels,
                    options.progress, options.rehash,
                )  # fmt: skip
                started = time.perf_counter()
                stats = pipeline(found, reader, writer, job)
                embedding_s = time.perf_counter() - started
        except ClusterError:  # no cluster could be reached; shards that have arrived are kept
            if not (folder / SHARDS_NAME).exists() and writer.count_contents()["files"] == 0:
                writer.delete_new_catalog()
            raise
        with writer.transaction():
            writer.end_run(run_id, embedded=stats.n_embedded, reused=stats.n_reused)
            if options.make_default:
                writer.write_setting(settings.DEFAULT_MODEL, stored.fingerprint)
            writer.keep_default_model()
            remember_sources(writer, options.sources)
        counts = writer.count_contents()
        n_views, default = writer.count_vectors(stored.id), writer.list_models()[0].model.backbone
        outcome = _Outcome(stored, stats, counts["files"], counts["images"], n_views, default, embedding_s)
        if catalog is not None or counts["files"]:
            _refresh_index(writer, stored, stats, options.kind)
        else:
            writer.delete_new_catalog()
        return outcome


def _begin_run(writer: CatalogWriter, plan: IngestPlan, width: int, options: IngestOptions) -> tuple[StoredModel, int]:
    """Write the model, its views and the start of the run in one transaction; return the model and the run id."""
    with writer.transaction():
        writer.keep_default_model()
        stored = writer.add_model(plan.model, width, plan.fingerprint)
        views = options.augment.apply_to(stored.augmentation)
        if views != stored.augmentation:
            stored = writer.set_augmentation(stored, views)
        if plan.graph is not None:
            writer.write_graph(stored.id, plan.graph)
        if options.store is not None:
            switch_store(writer, options.store)
        return stored, writer.begin_run(stored.id, options.sources)


def _refresh_index(
    writer: CatalogWriter, stored: StoredModel, stats: IngestStats, kind: IndexKindChoice | None
) -> None:
    with stats.clock.measure("derived"):
        derived = update_derived_models(writer, stored.fingerprint)
    with stats.clock.measure("index"), open_index_backend(writer) as indexes:
        if kind is not None and write_kind_choice(writer, kind):
            indexes.discard()
        for model in (stored, *derived):
            indexes.refresh(model.fingerprint)


def _make_report(
    folder: Path, plan: IngestPlan, outcome: _Outcome, options: IngestOptions, elapsed_s: float
) -> IngestReport:
    stats = outcome.stats
    kind_notes = options.kind.list_notes(outcome.n_views) if options.kind else ()
    return IngestReport(
        collection=str(folder), model=outcome.stored.fingerprint, backbone=plan.model.backbone,
        precision=plan.model.precision, n_files=outcome.n_files, n_images=outcome.n_images, n_views=outcome.n_views,
        n_embedded=stats.n_embedded, n_reused=stats.n_reused, n_gone=stats.n_gone, skips=tuple(stats.skips),
        elapsed_s=elapsed_s, stages=stats.clock.seconds, agreement=plan.agreement,
        notes=(*plan.notes, *stats.notes, *kind_notes), default=outcome.default, embedding_s=outcome.embedding_s,
    )  # fmt: skip
