"""Maintenance of a collection: describe, verify, rebuild indexes, remove files, prune deleted data."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simsearch.errors import CollectionDamaged, ModelNotIndexed, UsageError
from simsearch.images.views import NO_AUGMENTATION
from simsearch.index.backends import open_index_backend
from simsearch.index.kinds import IndexKindChoice, write_kind_choice
from simsearch.index.protocol import IndexBackend, IndexInfo
from simsearch.models.builtin import versions
from simsearch.models.fusion import parse_fusion
from simsearch.sources.addresses import canonicalize_address, canonicalize_path, is_below, is_remote
from simsearch.sources.scan import Skip
from simsearch.store import settings
from simsearch.store.catalog import Catalog, RunRecord, StoredModel, describe_missing_images
from simsearch.store.derived_models import find_derived_models
from simsearch.store.known_sources import is_at_or_below, list_missing_folders, read_sources
from simsearch.store.own_files import delete_shards
from simsearch.store.sqlite_errors import CATALOG_NAME
from simsearch.store.writer import CatalogWriter
from simsearch.text import count

_UNIT_TOLERANCE = 1e-3
_N_RUNS = 5
_READER_NOTE = (
    "another process is reading the collection, so the catalog keeps some disk space; run `simsearch prune` again later"
)


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model of a collection: the number of images and views with a vector, and a description of its index.

    `n_missing` images with a file have no vector of the model. `rerank` ranks the results of searches that name no
    method.
    """

    stored: StoredModel
    n_images: int
    n_views: int
    index: IndexInfo
    n_missing: int = 0
    rerank: str = "none"
    is_default: bool = False

    @property
    def backbone(self) -> str:
        """The name of the backbone."""
        return self.stored.model.backbone

    @property
    def missing_description(self) -> str:
        """That images have no vector of the model; empty if all have one."""
        return describe_missing_images(self.stored, self.n_missing) if self.n_missing else ""

    @property
    def is_former(self) -> bool:
        """Whether it is a former version of the built-in network."""
        return versions.is_former(self.stored.model)

    def to_dict(self) -> dict[str, Any]:
        """The model as `simsearch info --json` prints it."""
        model = self.stored.model
        return {
            "backbone": model.backbone,
            "model": self.stored.fingerprint,
            "width": self.stored.width,
            "default": self.is_default,
            "images": self.n_images,
            "images_missing": self.n_missing,
            "rerank": self.rerank,
            "views": self.n_views,
            "augment": self.stored.augmentation.n_views,
            "precision": model.precision,
            "layer": model.layer,
            "pooling": model.pooling,
            "side_px": model.side_px,
            "resize": model.resize,
            "weights": model.weights,
            "file": model.file,
            "index": self.index.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """The contents of a collection.

    `n_images` counts images with a file, `n_orphans` images without one. `n_dated` and `n_with_camera` count images
    whose date and camera are known. `columns` are the user's own, each with the number of images that have a value.
    `models` begin with the default; the others are sorted by their last run, newest first. `runs` are the last five,
    newest first. `skips` are the files that the last runs could not read.
    """

    collection: str
    n_files: int
    n_images: int
    n_orphans: int
    n_views: int
    n_dated: int
    n_with_camera: int
    columns: Mapping[str, int]
    rerank: str
    size_bytes: int
    models: tuple[ModelInfo, ...]
    runs: tuple[RunRecord, ...]
    skips: tuple[Skip, ...]

    def describe_runs(self) -> list[str]:
        """The last runs, newest first, one line each: when, which sources, which backbone, and the counts."""
        names = {model.stored.fingerprint: model.backbone for model in self.models}
        lines = []
        for run in self.runs:
            counts = f"{run.embedded or 0:,} embedded, {run.reused or 0:,} unchanged or moved"
            result = "not finished" if run.ended_at is None else counts
            sources = ", ".join(run.sources)
            lines.append(f"{run.started_at} UTC: {sources}, {names.get(run.fingerprint, run.fingerprint)}: {result}")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """The contents as `simsearch info --json` prints them."""
        return {
            "collection": self.collection,
            "files": self.n_files,
            "images": self.n_images,
            "orphans": self.n_orphans,
            "views": self.n_views,
            "skips": len(self.skips),
            "metadata": {"taken": self.n_dated, "camera": self.n_with_camera},
            "columns": dict(self.columns),
            "rerank": self.rerank,
            "size_bytes": self.size_bytes,
            "models": [model.to_dict() for model in self.models],
            "runs": [run.to_dict() for run in self.runs],
            "skipped": [{"path": skip.path, "reason": skip.reason} for skip in self.skips],
        }


@dataclass(frozen=True, slots=True)
class CollectionSummary:
    """One row of the list of collections, or the problem that keeps a collection from being opened.

    `last_run` is a time in UTC, `YYYY-MM-DD HH:MM:SS`; `sources` are those that were indexed.
    """

    collection: str
    n_images: int = 0
    default_backbone: str = ""
    size_bytes: int = 0
    last_run: str | None = None
    sources: tuple[str, ...] = ()
    problem: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The row as `simsearch list --json` prints it."""
        return {
            "collection": self.collection,
            "images": self.n_images,
            "default_backbone": self.default_backbone or None,
            "size_bytes": self.size_bytes,
            "last_run": self.last_run,
            "sources": list(self.sources),
            "problem": self.problem or None,
        }


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of a check: `problems` are damage, `notes` are other findings for the user."""

    problems: tuple[str, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The result as `simsearch verify --json` prints it."""
        return {"problems": list(self.problems), "notes": list(self.notes)}


@dataclass(frozen=True, slots=True)
class PruneReport:
    """The numbers of images, models and views that were deleted, and the disk space that became free.

    `notes` are sentences for the user, such as that a reader still keeps disk space.
    """

    n_images: int
    n_models: int
    n_views: int
    freed_bytes: int
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The numbers as `simsearch prune --json` prints them."""
        return {
            "images": self.n_images,
            "models": self.n_models,
            "views": self.n_views,
            "freed_bytes": self.freed_bytes,
            "notes": list(self.notes),
        }


def describe(catalog: Catalog, indexes: IndexBackend) -> CollectionInfo:
    """Describe the contents of a collection: counts, models and their indexes, size on disk, last runs, skips."""
    models = tuple(
        ModelInfo(
            stored, catalog.count_images(stored.id), catalog.count_vectors(stored.id), indexes.describe(stored),
            catalog.count_images_missing(stored), read_default_rerank(catalog, stored), number == 0,
        )
        for number, stored in enumerate(catalog.list_models())
    )  # fmt: skip
    counts, metadata = catalog.count_contents(), catalog.count_metadata()
    return CollectionInfo(
        collection=str(catalog.folder),
        n_files=counts["files"],
        n_images=counts["images"],
        n_orphans=counts["orphans"],
        n_views=counts["views"],
        n_dated=metadata["taken"],
        n_with_camera=metadata["camera"],
        columns=catalog.count_columns(),
        rerank=models[0].rerank if models else "none",
        size_bytes=_measure_size_bytes(catalog.folder),
        models=models,
        runs=tuple(catalog.list_runs(_N_RUNS)),
        skips=tuple(catalog.list_skips()),
    )


def summarize(catalog: Catalog) -> CollectionSummary:
    """Describe a collection in a few numbers."""
    models, runs = catalog.list_models(), catalog.list_runs(1)
    return CollectionSummary(
        collection=str(catalog.folder),
        n_images=catalog.count_contents()["images"],
        default_backbone=models[0].model.backbone if models else "",
        size_bytes=_measure_size_bytes(catalog.folder),
        last_run=runs[0].started_at if runs else None,
        sources=tuple(read_sources(catalog)),
    )


def read_default_rerank(catalog: Catalog, stored: StoredModel) -> str:
    """Read the re-ranking method of searches with a model that name none; `none` where none is set."""
    own = catalog.read_setting(settings.build_rerank_name(stored.fingerprint))
    return own or catalog.read_setting(settings.RERANK) or "none"


def verify(catalog: Catalog, cache: IndexBackend) -> Verification:
    """Check everything that can be checked without embedding: SQLite, vectors, indexes, files."""
    problems = catalog.find_damage()
    notes: list[str] = []
    if not problems:
        for stored in catalog.list_models():
            problems += _check_vectors(catalog, stored)
            problems += cache.find_damage(stored)
            notes += cache.find_problems(stored)
            if n_missing := catalog.count_images_missing(stored):
                notes.append(describe_missing_images(stored, n_missing))
    unread = catalog.list_unread_paths()  # their pictures need not be there
    paths = [path for path in catalog.iterate_paths() if path not in unread]
    local = [path for path in paths if not is_remote(path)]
    missing, unreachable = _find_missing_files(local)
    counts = catalog.count_contents()
    if unread:
        notes.append(f"{len(unread):,} images were imported without their pictures, which are not checked")
    if n_remote := len(paths) - len(local):
        notes.append(f"{n_remote} remote files were not checked; index again to check them")
    if missing:
        notes.append(_describe_missing_files(catalog, missing))
    if unreachable:
        first, cause = unreachable[0]
        notes.append(f"{len(unreachable)} files cannot be checked, such as {first} ({cause}); check the permissions")
    if counts["orphans"]:
        notes.append(f"{counts['orphans']} images have no file; `simsearch prune` deletes their vectors")
    return Verification(tuple(problems), tuple(notes))


def _describe_missing_files(catalog: Catalog, missing: Sequence[str]) -> str:
    problem = f"{count(len(missing), 'file is', 'files are')} missing, such as {missing[0]}"
    folder = next((path for path in list_missing_folders(catalog) if is_at_or_below(missing[0], path)), None)
    if folder is None:
        return f"{problem}; index again to remove {'it' if len(missing) == 1 else 'them'} from results"
    return f"{problem}; the folder {folder} is not there: index it where it is now, or `simsearch remove {folder}`"


def rebuild(writer: CatalogWriter, choice: IndexKindChoice | None = None) -> list[str]:
    """Rebuild the index of every model from the catalog, delete other index files, and return where each new one is.

    `choice` sets the kind of index from now on; None keeps the kind that was chosen before. Raises
    `CollectionNotWritable` if an index cannot be written.
    """
    if choice is not None:
        write_kind_choice(writer, choice)
    with open_index_backend(writer) as indexes:
        indexes.discard()
        fingerprints = [stored.fingerprint for stored in writer.list_models()]
        for fingerprint in fingerprints:
            indexes.refresh(fingerprint, must_save=True)
        return [indexes.describe_location(fingerprint) for fingerprint in fingerprints]


def remove(writer: CatalogWriter, paths: Sequence[str]) -> int:
    """Remove files, or all files below folders, from the collection, and return how many were removed.

    Raises `UsageError` when the collection has no file at a path.
    """
    selected = find_files(writer, paths)
    with writer.transaction():
        return writer.forget_files(selected)


def find_files(catalog: Catalog, paths: Sequence[str]) -> list[str]:
    """Find the files at paths, and those below folders, each once. Raises `UsageError` where there is none at one."""
    known = list(catalog.iterate_paths())
    selected: dict[str, None] = {}
    for path in paths:
        below = [file for file in known if file == path or _is_selected(file, path)]
        if not below:
            raise UsageError(f"{catalog.folder} has no file {path}", "`simsearch ls` shows its files")
        selected |= dict.fromkeys(below)
    return list(selected)


def preview_prune(catalog: Catalog, backbone: str | None, *, only_augmented: bool) -> PruneReport:
    """Count what `prune` would delete. Raises `ModelNotIndexed`."""
    selected = catalog.list_models() if backbone is None else find_models(catalog, backbone)
    if only_augmented:
        n_views = sum(catalog.count_vectors(one.id) - len(catalog.list_original_ids(one.id)) for one in selected)
        return PruneReport(0, 0, n_views, 0)
    if backbone is None:
        return PruneReport(catalog.count_contents()["orphans"], 0, 0, 0)
    return PruneReport(0, len(selected), 0, 0)


def prune(writer: CatalogWriter, backbone: str | None, *, only_augmented: bool) -> PruneReport:
    """Delete images without a file, or all data of one backbone, or augmented views; free the disk space.

    `only_augmented` deletes the augmented views of the backbone, or of all models if it is None.
    """
    selected = writer.list_models() if backbone is None else find_models(writer, backbone)
    size_bytes = _measure_kept_bytes(writer.folder)
    n_views = writer.count_contents()["views"]
    n_images = n_models = 0
    with writer.transaction():
        if only_augmented:
            for stored in selected:
                writer.set_augmentation(stored, NO_AUGMENTATION)
        elif backbone is None:
            n_images = writer.forget_orphans()
        else:
            selected = add_fused_models(writer, selected)
            n_models = len(selected)
            for stored in selected:
                writer.forget_model(stored)
    n_views -= writer.count_contents()["views"]
    delete_shards(writer.folder)
    notes = () if writer.compact() else (_READER_NOTE,)
    with open_index_backend(writer) as indexes:
        kept = {stored.fingerprint for stored in writer.list_models()}
        for stored in selected:
            if stored.fingerprint not in kept:
                indexes.discard(stored.fingerprint)
        for fingerprint in kept:
            indexes.refresh(fingerprint)
        indexes.discard_stale()
    freed = max(0, size_bytes - _measure_kept_bytes(writer.folder))
    return PruneReport(n_images, n_models, n_views, freed, notes)


def add_fused_models(catalog: Catalog, models: Sequence[StoredModel]) -> list[StoredModel]:
    """Add the fused models that models are a part of, and those that were learned on these: they need their parts.

    A model that was learned on a single backbone can do without it.
    """
    selected = {stored.fingerprint: stored for stored in models}
    waiting = list(models)
    while waiting:
        for derived in find_derived_models(catalog, waiting.pop().fingerprint):
            if derived.model.fusion is not None and derived.fingerprint not in selected:
                selected[derived.fingerprint] = derived
                waiting.append(derived)
    return list(selected.values())


def find_models(catalog: Catalog, backbone: str) -> list[StoredModel]:
    """Find the models with a backbone name, fingerprint or model file: the default first, then the last indexed.

    Raises `ModelNotIndexed` if there is none.
    """
    models = catalog.list_models()
    if found := [stored for stored in models if _is_named(stored, backbone)]:
        return found
    held = ", ".join(dict.fromkeys(stored.model.backbone for stored in models)) or "nothing"
    raise ModelNotIndexed(
        str(catalog.folder),
        f"{catalog.folder} was not indexed with {backbone}; it has {held}",
        f"use one of these, or run `simsearch index ... --into {catalog.folder} --backbone {backbone}`",
    )


def has_model(catalog: Catalog, backbone: str) -> bool:
    """Whether the collection has a model with a backbone name, fingerprint or model file."""
    return any(_is_named(stored, backbone) for stored in catalog.list_models())


def _is_named(stored: StoredModel, backbone: str) -> bool:
    """Whether a name means a model: its backbone, fingerprint or file, or the parts of a fused model by such names."""
    model = stored.model
    if backbone in (model.backbone, stored.fingerprint) or model.file == os.path.abspath(backbone):
        return True
    if model.fusion is None or model.learned is not None or (terms := parse_fusion(backbone)) is None:
        return False
    if [term.weight for term in terms] != [part.weight for part in model.fusion.parts]:
        return False
    return all(
        term.backbone in (part.model.backbone, part.fingerprint) or part.model.file == os.path.abspath(term.backbone)
        for term, part in zip(terms, model.fusion.parts, strict=True)
    )


def _find_missing_files(paths: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Find the files that do not exist, and those about which nothing is known, each with the cause."""
    missing, unreachable = [], []
    for path in paths:
        try:
            os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            missing.append(path)
        except (OSError, ValueError) as error:  # ValueError for a name that no file can have
            unreachable.append((path, getattr(error, "strerror", None) or str(error)))
    return missing, unreachable


def _check_vectors(catalog: Catalog, stored: StoredModel) -> list[str]:
    """Find vectors of a wrong size or without unit length, one line for each problem."""
    n_wrong = 0
    try:
        for _, vectors in catalog.iterate_vectors(stored, catalog.list_vector_ids(stored.id)):
            lengths = np.linalg.norm(vectors, axis=1)
            n_wrong += int(np.sum(~(np.abs(lengths - 1) < _UNIT_TOLERANCE)))
    except CollectionDamaged as error:
        return [str(error)]
    if not n_wrong:
        return []
    name = stored.model.backbone
    return [f"{n_wrong} vectors of {name} are not of unit length; prune --backbone {name} and index again"]


def _is_selected(file: str, path: str) -> bool:
    if is_remote(path):
        return is_below(file, canonicalize_address(path))
    return file == canonicalize_path(path) or file.startswith(os.path.join(os.path.realpath(path), ""))


def _measure_kept_bytes(folder: Path) -> int:
    """Measure a collection without the log of SQLite, which the last connection to close folds into the catalog."""
    logs = (folder / f"{CATALOG_NAME}-wal", folder / f"{CATALOG_NAME}-shm")
    return _measure_size_bytes(folder) - sum(log.stat().st_size for log in logs if log.exists())


def _measure_size_bytes(folder: Path) -> int:
    n_bytes = 0
    for file in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # Milvus Lite may delete files here meanwhile
            n_bytes += file.stat().st_size if file.is_file() else 0
    return n_bytes
