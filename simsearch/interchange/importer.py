"""Import vectors of another tool into a collection, as one more model."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import ImageError, SourceError, UnreadableFile, UsageError
from simsearch.images.decode import decode_image, read_raw_file
from simsearch.images.views import NO_AUGMENTATION
from simsearch.index.backends import open_index_backend
from simsearch.ingest.pipeline import Progress
from simsearch.ingest.plan import check_new_folder
from simsearch.interchange.embeddings import ColumnNames, EmbeddingBlock, EmbeddingSource, open_embeddings
from simsearch.machine import count_cores
from simsearch.models.choice import list_backbone_names
from simsearch.models.model import SCALINGS, Model
from simsearch.sources.addresses import canonicalize_path, is_remote, is_url
from simsearch.sources.scan import FoundFile, Skip
from simsearch.store.catalog import Catalog, EmbeddedView, FileEntry, ImageProperties, StoredModel
from simsearch.store.writer import CatalogWriter

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DECODE_PX = 64
"""The size to which pictures are decoded, only to check that they are pictures."""

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """What to import.

    `source` is a file or folder of vectors, `name` the name of their backbone, `root` the folder that relative paths
    start at, `metadata` the table of a .npy file if it has another name, `columns` the names of the columns.

    Raises `UsageError` if the name is invalid or that of a backbone of simsearch.
    """

    source: Path
    name: str
    root: Path = field(default_factory=Path)
    metadata: Path | None = None
    max_pixels: int
    columns: ColumnNames = field(default_factory=ColumnNames)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise UsageError(
                f"{self.name!r} is not a valid backbone name", "use letters, digits, dots, - and _, such as clip"
            )
        if self.name in list_backbone_names():
            raise UsageError(f"simsearch has a backbone {self.name}", "give the imported vectors another name")


@dataclass(frozen=True, slots=True)
class ImportReport:
    """The result of an import.

    `n_repeated` of the `n_rows` rows have a path that a later row has too. `n_added` vectors are new. `n_kept` images
    keep a different vector of this backbone from before. `n_images` images have a vector now. `skips` are files that
    could not be read.
    """

    collection: str
    model: str
    backbone: str
    width: int
    n_rows: int
    n_repeated: int
    n_added: int
    n_kept: int
    n_images: int
    skips: tuple[Skip, ...]

    def to_dict(self) -> dict[str, Any]:
        """The report as `import --json` prints it."""
        return {
            "collection": self.collection,
            "model": self.model,
            "backbone": self.backbone,
            "width": self.width,
            "rows": self.n_rows,
            "repeated": self.n_repeated,
            "added": self.n_added,
            "kept": self.n_kept,
            "images": self.n_images,
            "skipped": [skip.to_dict() for skip in self.skips],
        }


@dataclass(frozen=True, slots=True)
class _ReadPicture:
    """A file of the source: its state, digest and image properties, or the reason why it cannot be read."""

    path: str
    file: FoundFile | None = None
    digest: str = ""
    properties: ImageProperties | None = None
    reason: str = ""


@dataclass(slots=True)
class _ImportTally:
    n_files: int = 0
    n_added: int = 0
    n_kept: int = 0
    skips: list[Skip] = field(default_factory=list)


def import_embeddings(
    folder: Path,
    catalog: Catalog | None,
    options: ImportOptions,
    progress: Callable[[Progress], None] = lambda _: None,
) -> ImportReport:
    """Import vectors into the collection in `folder`. If several rows have one path, the last counts.

    `catalog` is the open catalog of the collection, or None to create a new collection.

    Every picture is read, because its content identifies the image, as with `simsearch index`. Vectors never change: an
    image that has a vector of this backbone keeps it. After an interrupted import, the same call continues.

    Raises `SourceError` if the source is invalid or none of its pictures can be read, `UsageError` if the name is in
    use, `MissingExtra`, or a `CollectionError`; nothing is written then.
    """
    embeddings = open_embeddings(options.source, metadata=options.metadata, columns=options.columns)
    n_rows, last = _find_last_rows(embeddings, options.root)
    model = build_imported_model(options.name, options.source, embeddings.width)
    if catalog is None:
        check_new_folder(folder)
    else:
        check_name(catalog, model, embeddings.width)
    with CatalogWriter.open_or_create(folder) as writer:
        was_there = writer.find_model(model.fingerprint) is not None
        with writer.transaction():
            writer.keep_default_model()
            stored = writer.add_model(model, embeddings.width, model.fingerprint)
            run_id = writer.begin_run(stored.id, [str(options.source)])
        tally = _import_rows(writer, stored, options, embeddings, last, progress)
        if tally.n_files == 0 and not was_there:
            with writer.transaction():
                writer.forget_model(stored)
        with writer.transaction():
            if tally.n_files:
                writer.end_run(run_id, embedded=tally.n_added, reused=tally.n_files - tally.n_added)
                writer.keep_default_model()
            read = last.keys() - {skip.path for skip in tally.skips}
            writer.forget_skips(lambda path: path in read)
            writer.record_skips(tally.skips if tally.n_files else ())
        if tally.n_files:
            with open_index_backend(writer) as indexes:
                indexes.refresh(stored.fingerprint)
        n_images = writer.count_images(stored.id)
        if tally.n_files == 0:
            writer.delete_new_catalog()
    if tally.n_files == 0:
        first = tally.skips[0]
        problem = f"none of {len(last):,} pictures could be read, such as {first.path}: {first.reason}"
        raise SourceError(str(options.source), problem, "set the folder of relative paths with --root")
    return ImportReport(
        str(folder), stored.fingerprint, options.name, embeddings.width, n_rows, n_rows - len(last), tally.n_added,
        tally.n_kept, n_images, tuple(sorted(tally.skips, key=lambda skip: skip.path)),
    )  # fmt: skip


def build_imported_model(name: str, source: Path, width: int) -> Model:
    """Build the model of imported vectors: nothing can be embedded with it."""
    return Model(
        backbone=name,
        runtime="imported",
        weights=f"imported-{width}",
        file=os.path.abspath(source),
        side_px=0,
        resize="squash",
        scaling=SCALINGS["none"],
        layer=None,
        pooling="avg",
    )


def check_name(catalog: Catalog, model: Model, width: int) -> None:
    """Check that the name of imported vectors is not that of others of another width. Raises `UsageError`."""
    for stored in catalog.list_models():
        if stored.model.backbone == model.backbone and stored.fingerprint != model.fingerprint:
            raise UsageError(
                f"{catalog.folder} has vectors of {model.backbone} of width {stored.width}, these have width {width}",
                "give them another --name",
            )


def _resolve_path(path: str, root: Path) -> str:
    """Resolve a path of the source as `simsearch index` names files; a URL stays unchanged."""
    return path if is_url(path) else canonicalize_path(path if is_remote(path) else os.path.join(root, path))


def _find_last_rows(embeddings: EmbeddingSource, root: Path) -> tuple[int, dict[str, int]]:
    """Count the rows, and find the last row number of each path. This reads and checks the whole source."""
    n_rows, last = 0, {}
    for block in embeddings.iterate_blocks():
        for number, path in enumerate(block.paths, start=n_rows):
            last[_resolve_path(path, root)] = number
        n_rows += len(block.paths)
    return n_rows, last


def _import_rows(
    writer: CatalogWriter, stored: StoredModel, options: ImportOptions, embeddings: EmbeddingSource,
    last: dict[str, int], progress: Callable[[Progress], None],
) -> _ImportTally:  # fmt: skip
    tally, first, n_done = _ImportTally(), 0, 0
    with ThreadPoolExecutor(max_workers=count_cores()) as pool:
        for block in embeddings.iterate_blocks():
            rows, paths = _select_rows(block, first, options.root, last)
            first += len(block.paths)
            found = list(pool.map(lambda path: _read_picture(path, options.max_pixels), paths))
            entries = _build_entries(writer, stored, list(zip(found, block.vectors[rows], strict=True)), tally)
            with writer.transaction():
                writer.record_files(entries, stored.id)
            n_done += len(paths)
            progress(Progress(n_done, len(last), tally.n_added))
    return tally


def _select_rows(block: EmbeddingBlock, first: int, root: Path, last: dict[str, int]) -> tuple[list[int], list[str]]:
    """Select the rows of a block that are the last of their path; gives the rows and their resolved paths."""
    paths = [_resolve_path(path, root) for path in block.paths]
    rows = [row for row, path in enumerate(paths) if last[path] == first + row]
    return rows, [paths[row] for row in rows]


def _read_picture(path: str, max_pixels: int) -> _ReadPicture:
    try:
        if is_url(path):
            raise UnreadableFile(path, "web addresses are not read", "import the vectors alone (--without-pictures)")
        raw = read_raw_file(path, has_picture_extension=True, max_pixels=max_pixels)
        picture = decode_image(raw.data, path, max_pixels=max_pixels, target_px=_DECODE_PX)
    except ImageError as error:
        return _ReadPicture(path, reason=error.reason)
    properties = ImageProperties(picture.width, picture.height, picture.format, picture.metadata)
    return _ReadPicture(path, FoundFile(path, raw.size_bytes, raw.mtime_ns, raw.etag), raw.digest, properties)


def _build_entries(
    writer: CatalogWriter, stored: StoredModel, rows: Sequence[tuple[_ReadPicture, Vector]], tally: _ImportTally
) -> list[FileEntry]:
    """Build the entries to store; an image that has a vector of the model gets no other."""
    entries: list[FileEntry] = []
    new: dict[str, Vector] = {}
    for found, vector in rows:
        if found.file is None:
            tally.skips.append(Skip(found.path, found.reason))
            continue
        existing = new.get(found.digest)
        if existing is None:
            existing = writer.find_vector_by_digest(found.digest, stored)
        views: tuple[EmbeddedView, ...] = ()
        if existing is None:
            new[found.digest] = vector
            views = (EmbeddedView(*NO_AUGMENTATION.describe_view(found.digest, 0), vector),)
        tally.n_files += 1
        tally.n_added += len(views)
        tally.n_kept += existing is not None and not np.allclose(existing, vector, atol=1e-6)
        entries.append(FileEntry(found.file, found.digest, found.properties, views))
    return entries
