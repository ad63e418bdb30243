"""What looks after a collection: what it holds, whether it is whole, and giving back what nothing needs."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simsearch.errors import CollectionDamaged, ModelNotIndexed, UsageError
from simsearch.images.views import NO_AUGMENTATION
from simsearch.index.backends import open_index_backend
from simsearch.index.cache import IndexBackend, write_kind_choice
from simsearch.index.kinds import IndexKindChoice
from simsearch.sources.addresses import canonicalize_address, canonicalize_path, is_below, is_remote
from simsearch.store import settings
from simsearch.store.catalog import Catalog, StoredModel
from simsearch.store.connection import CATALOG_NAME, SHARDS_NAME
from simsearch.store.writer import CatalogWriter

_UNIT_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Verification:
    """`problems` are damage, `notes` are what its owner may want to know."""

    problems: tuple[str, ...]
    notes: tuple[str, ...]


def describe(catalog: Catalog, indexes: IndexBackend) -> dict[str, Any]:
    """What is in a collection: counts, models with their coverage and index, sizes in bytes, last runs, skips."""
    models = []
    for stored in catalog.list_models():
        model = stored.model
        models.append(
            {
                "backbone": model.backbone, "model": stored.fingerprint, "width": stored.width,
                "images": catalog.count_images(stored.id), "views": catalog.count_vectors(stored.id),
                "augment": stored.augmentation.n_views,
                "precision": model.precision, "layer": model.layer, "pooling": model.pooling,
                "side_px": model.side_px, "resize": model.resize, "weights": model.weights, "file": model.file,
                "index": indexes.describe(stored),
            }
        )  # fmt: skip
    return {
        "collection": str(catalog.folder),
        **catalog.count_contents(),
        "metadata": catalog.count_metadata(),
        "columns": catalog.count_columns(),
        "rerank": catalog.read_setting(settings.RERANK) or "none",
        "size_bytes": _measure_size_bytes(catalog.folder),
        "models": models,
        "runs": [run.to_dict() for run in catalog.list_runs(5)],
        "skipped": [{"path": skip.path, "reason": skip.reason} for skip in catalog.list_skips()],
    }


def verify(catalog: Catalog, cache: IndexBackend) -> Verification:
    """Check everything that can be checked without embedding: SQLite, vectors, caches, files."""
    problems = catalog.find_damage()
    notes: list[str] = []
    if not problems:
        for stored in catalog.list_models():
            problems += _check_vectors(catalog, stored)
            notes += cache.find_problems(stored)
    here = [path for path in catalog.iterate_paths() if not is_remote(path)]
    missing = [path for path in here if not os.path.exists(path)]
    if n_elsewhere := catalog.count_contents()["files"] - len(here):
        notes.append(f"{n_elsewhere} files are not on this machine and were not looked for; index again to do so")
    if missing:
        notes.append(f"{len(missing)} files are gone, such as {missing[0]}; index again to take them out of answers")
    if orphans := catalog.count_contents()["orphans"]:
        notes.append(f"{orphans} images have no file any more; `simsearch prune` deletes their vectors")
    return Verification(tuple(problems), tuple(notes))


def rebuild(writer: CatalogWriter, choice: IndexKindChoice | None = None) -> list[str]:
    """Rebuild the index of every model from the catalog, delete other index files, and return where each new one is.

    `choice` sets the kind of index from now on; None keeps the kind that was chosen before.
    """
    if choice is not None:
        write_kind_choice(writer, choice)
    with open_index_backend(writer) as indexes:
        indexes.discard()
        fingerprints = [stored.fingerprint for stored in writer.list_models()]
        for fingerprint in fingerprints:
            indexes.refresh(fingerprint)
        return [indexes.describe_location(fingerprint) for fingerprint in fingerprints]


def remove(writer: CatalogWriter, paths: Sequence[str]) -> int:
    """Remove files, or all files below folders, from the collection, and return how many were removed.

    Raises `UsageError` when the collection has no file at a path.
    """
    known = list(writer.iterate_paths())
    selected: list[str] = []
    for path in paths:
        below = [file for file in known if _is_selected(file, path)]
        if not below:
            raise UsageError(f"{writer.folder} has no file {path}", "`simsearch query` and `info` show what it has")
        selected += below
    with writer.transaction():
        return writer.forget_files(dict.fromkeys(selected))


def prune(writer: CatalogWriter, backbone: str | None, *, only_augmented: bool) -> dict[str, int]:
    """Delete what no file needs any more, or what is said, and give the space back.

    With a backbone everything of it goes, or only its augmented views; those of all models without one. Returns
    counts: `images`, `models` and `views` deleted, and `freed_bytes`.
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
            n_models = len(selected)
            for stored in selected:
                writer.forget_model(stored.id)
    n_views -= writer.count_contents()["views"]
    shutil.rmtree(writer.folder / SHARDS_NAME, ignore_errors=True)  # of runs on a cluster that were killed
    writer.compact()
    with open_index_backend(writer) as indexes:
        kept = {stored.fingerprint for stored in writer.list_models()}
        for stored in selected:
            if stored.fingerprint not in kept:
                indexes.discard(stored.fingerprint)
        for fingerprint in kept:
            indexes.refresh(fingerprint)
        indexes.discard_stale()
    freed = max(0, size_bytes - _measure_kept_bytes(writer.folder))
    return {"images": n_images, "models": n_models, "views": n_views, "freed_bytes": freed}


def find_models(catalog: Catalog, backbone: str) -> list[StoredModel]:
    """The models of a backbone's name, of a fingerprint, or of a model file, the last indexed first.

    Raises `ModelNotIndexed` when there is none.
    """
    models = catalog.list_models()
    file = os.path.abspath(backbone)
    found = [
        stored
        for stored in models
        if backbone in (stored.model.backbone, stored.fingerprint) or stored.model.file == file
    ]
    if found:
        return found
    held = ", ".join(dict.fromkeys(stored.model.backbone for stored in models)) or "nothing"
    raise ModelNotIndexed(
        str(catalog.folder),
        f"{catalog.folder} was not indexed with {backbone}; it holds {held}",
        f"ask with one of those, or run `simsearch index ... --into {catalog.folder} --backbone {backbone}`",
    )


def _check_vectors(catalog: Catalog, stored: StoredModel) -> list[str]:
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
        with contextlib.suppress(FileNotFoundError):  # a Milvus Lite may tidy up in there meanwhile
            n_bytes += file.stat().st_size if file.is_file() else 0
    return n_bytes
