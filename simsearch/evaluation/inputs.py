"""Inputs of a benchmark: the image files of its sources, and a collection with their vectors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from simsearch.collection import Collection
from simsearch.errors import CollectionNotFound, ImageError, NoImages
from simsearch.evaluation.mteb import find_tables, unpack_images
from simsearch.evaluation.protocol import TaskImage
from simsearch.evaluation.spec import BASELINE, BenchmarkCallbacks, BenchmarkSpec
from simsearch.images.decode import compute_default_max_pixels, decode_image, read_raw_file
from simsearch.images.views import ViewChoice
from simsearch.models.choice import BUILTIN
from simsearch.sources.scan import FoundFile, Scan, scan_sources

_CHECK_SIDE_PX = 64
"""Query images are decoded at about this side, only to check that they can be."""


def unpack_source(spec: BenchmarkSpec, callbacks: BenchmarkCallbacks) -> tuple[BenchmarkSpec, tuple[str, ...]]:
    """Unpack the images of a source in the layout of MTEB into a folder beside the collection.

    Returns the specification with that folder as the source and the qrels as its labels, and notes for the user; a
    source of another kind as it is. Raises `SourceError`, `UsageError` or `MissingExtra`.
    """
    tables = find_tables(spec.source)
    if tables is None:
        return spec, ()
    folder = Path(f"{spec.collection_folder.rstrip(os.sep)}-images")
    callbacks.on_stage(f"unpacking the images of {spec.source}")
    unpack_images(tables, folder, spec.source)
    labels = spec.label_source
    if labels.file is None and labels.pattern is None:
        labels = replace(labels, file=spec.source)
    note = f"the images of {spec.source} are unpacked in {folder}"
    return replace(spec, source=str(folder), label_source=labels), (note,)


@dataclass(frozen=True, slots=True)
class BenchmarkInputs:
    """The files of a benchmark.

    `files` are those of the source, `claimed_images` those of them with an image extension, `queries` the images of the
    folder of queries, by content. `unreadable` are files without access, folders that cannot be listed, and queries
    that cannot be decoded.
    """

    files: tuple[str, ...]
    claimed_images: frozenset[str]
    queries: tuple[TaskImage, ...]
    unreadable: tuple[str, ...]

    @classmethod
    def collect(cls, spec: BenchmarkSpec) -> BenchmarkInputs:
        """Scan the source, and the folder of queries if there is one.

        Raises `SourceError`.
        """
        source = _scan_source(spec.source)
        claimed = frozenset(file.path for file in source.files if file.has_picture_extension)
        unreadable = [skip.path for skip in source.skips]
        queries: list[TaskImage] = []
        if spec.label_source.queries is not None:
            folder = _scan_source(spec.label_source.queries)
            queries, broken = _group_by_content(folder.files, spec.max_pixels or compute_default_max_pixels())
            unreadable += [skip.path for skip in folder.skips] + broken
        files = tuple(file.path for file in source.files)
        return cls(files, claimed, tuple(queries), tuple(dict.fromkeys(unreadable)))


def _scan_source(source: str) -> Scan:
    scan = scan_sources([source], b"")
    if not scan.files:
        raise NoImages(source, f"no images in {source}", "check the path")
    return scan


def _group_by_content(files: Sequence[FoundFile], max_pixels: int) -> tuple[list[TaskImage], list[str]]:
    """The images among the files by content, and the files with an image extension that cannot be decoded."""
    paths: dict[str, list[str]] = {}
    broken = []
    for file in files:
        try:
            raw = read_raw_file(file.path, has_picture_extension=file.has_picture_extension, max_pixels=max_pixels)
            decode_image(raw.data, raw.path, max_pixels=max_pixels, target_px=_CHECK_SIDE_PX)
            paths.setdefault(raw.digest, []).append(file.path)
        except ImageError:
            if file.has_picture_extension:
                broken.append(file.path)
    return [TaskImage(digest, tuple(same)) for digest, same in paths.items()], broken


def update_collection(spec: BenchmarkSpec, callbacks: BenchmarkCallbacks) -> tuple[list[str], list[str]]:
    """Ingest the source under every model choice; return the models' fingerprints, each once, and notes for the user.

    Augmented views that are missing are added; existing ones are kept. The default backbone of the collection's queries
    stays as it is; that of a new collection is the built-in one if it is measured, else the first one that is no
    baseline.
    """
    models: list[str] = []
    notes: list[str] = []
    max_views = max(spec.view_counts)
    with Collection.open(spec.collection_folder, create=True) as collection:
        is_new = not _has_models(collection)
        for choice in spec.choices:
            callbacks.on_stage(f"embedding with {choice.backbone}")
            report = collection.ingest([spec.source], choice, max_pixels=spec.max_pixels, progress=callbacks.on_ingest)
            stored = collection.catalog.find_model(report.model)
            if stored is None or stored.augmentation.n_views < max_views:
                collection.ingest(
                    [spec.source], choice, augment=ViewChoice(max_views),
                    max_pixels=spec.max_pixels, progress=callbacks.on_ingest,
                )  # fmt: skip
            models.append(report.model)
            notes += report.notes
        if is_new:
            collection.set_default_model(_choose_default(spec, models))
    return list(dict.fromkeys(models)), notes


def _has_models(collection: Collection) -> bool:
    try:
        return bool(collection.catalog.list_models())
    except CollectionNotFound:  # it is created by its first ingest
        return False


def _choose_default(spec: BenchmarkSpec, models: Sequence[str]) -> str:
    """Choose the model of queries that name none, of the models of the choices; a baseline only where it is alone."""
    ranks: dict[str | None, int] = {BUILTIN: 0, BASELINE: 2}
    return min(zip(spec.choices, models, strict=True), key=lambda pair: ranks.get(pair[0].backbone, 1))[
        1
    ]  # of equal ranks the first
