"""What is found out before a run writes: are there pictures, is the place free, which model, which precision."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from simsearch.errors import CollectionError, ImageError, NoImages, UsageError
from simsearch.images.decode import Pixels, RawFile, decode_square, read_raw_file
from simsearch.models.choice import ModelChoice, relocate_weights, resolve_model
from simsearch.models.embedder import Embedder, Engine, LoadOptions, open_embedder
from simsearch.models.model import GraphBytes, Model
from simsearch.models.precision import PrecisionAgreement, count_sample_images, open_with_precision
from simsearch.models.weights import WeightsOptions
from simsearch.sources.reader import ConcurrentReader
from simsearch.sources.scan import FoundFile, Scan
from simsearch.store.catalog import Catalog, StoredModel
from simsearch.store.connection import SHARDS_NAME

_PROBE_BATCH_SIZE = 128


@dataclass(slots=True)
class IngestPlan:
    """The model of a run, and how to load it.

    `stored` is None for a model that is new to the catalog; `graph` is to be kept with such a one. `opened` are
    embedders by fingerprint, this model's among them once it is loaded.
    """

    model: Model
    load: Callable[[], Embedder]
    stored: StoredModel | None = None
    graph: GraphBytes | None = None
    agreement: PrecisionAgreement | None = None
    precision_notes: tuple[str, ...] = ()
    embedders: dict[str, Embedder] = field(default_factory=dict)

    def open_embedder(self) -> Embedder:
        """The embedder, loaded when it is first needed, once for all runs that share what is `opened`."""
        if self.fingerprint not in self.embedders:
            self.embedders[self.fingerprint] = self.load()
        return self.embedders[self.fingerprint]

    @property
    def width(self) -> int:
        """d, the length of the vectors."""
        return self.stored.width if self.stored else self.open_embedder().width

    @property
    def fingerprint(self) -> str:
        """Under which the catalog has, or will have, the model."""
        return self.stored.fingerprint if self.stored else self.model.fingerprint

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of how the model was loaded."""
        embedder = self.embedders.get(self.fingerprint)
        return tuple(dict.fromkeys((*self.precision_notes, *(embedder.notes if embedder else ()))))


def plan_ingest(catalog: Catalog | None, choice: ModelChoice, found: Scan, max_pixels: int) -> IngestPlan:
    """Choose the model to index with.

    A model that the collection has is used as it is. A new one is loaded, and its precision chosen on a sample of the
    pictures. `catalog` is None where the collection is new.

    Raises `ModelError`.
    """
    models = [] if catalog is None else [one for one in catalog.list_models() if one.model.runtime != "imported"]
    if catalog is not None and models and choice.backbone is None:
        last = models[0].model
        if not choice.has_model_options and choice.precision in ("auto", last.precision):
            return _plan_stored_model(models[0], catalog, choice)
        choice = replace(choice, backbone=last.zoo_name or last.file)
    model = resolve_model(choice)
    if catalog is not None:
        for stored in models:
            has_precision = choice.precision in ("auto", stored.model.precision)
            if has_precision and stored.model.f32_model.fingerprint == model.fingerprint:
                stored = replace(stored, model=replace(stored.model, file=model.file))
                return _plan_stored_model(stored, catalog, choice)
    # A histogram has no precision to choose.
    n_pixels = 0 if model.runtime == "histogram" else count_sample_images(choice.precision)
    pixels = sample_pixels(found, model, n_pixels, max_pixels)
    settled = open_with_precision(
        model, choice.precision, LoadOptions(engine=choice.engine, for_throughput=True, pixels=pixels)
    )
    return IngestPlan(settled.model, lambda: settled.embedder, None, settled.graph, settled.agreement, settled.notes)


def sample_pixels(found: Scan, model: Model, n: int, max_pixels: int) -> Pixels:
    """Up to n pictures (n, side, side, 3) as the model sees them, spread evenly over what was found."""
    files = [file for file in found.files if file.has_picture_extension]
    rows = sorted(set(np.linspace(0, len(files) - 1, min(n, len(files))).astype(int).tolist())) if files else []

    def pixels_of(raw: RawFile | None) -> Pixels | None:
        if raw is None:
            return None
        try:
            return decode_square(raw, model.side_px, model.resize, max_pixels=max_pixels)[1]
        except ImageError:  # it becomes a skip when its turn comes
            return None

    with ConcurrentReader() as reading:
        jobs = [reading.submit(files[row], partial(_try_read, files[row], max_pixels), pixels_of) for row in rows]
        good = [pixels for job in jobs if (pixels := job.result()) is not None]
    return np.stack(good) if good else np.empty((0, model.side_px, model.side_px, 3), np.uint8)


def open_stored_model(
    stored: StoredModel, catalog: Catalog, order: WeightsOptions, engine: Engine = "auto", *, for_many: bool
) -> Embedder:
    """Load a model that the catalog has.

    Raises a `ModelError`.
    """
    return _open_with_graph(stored, catalog.read_graph(stored.id), order, engine, for_many=for_many)


def _open_with_graph(
    stored: StoredModel, graph: GraphBytes | None, order: WeightsOptions, engine: Engine, *, for_many: bool
) -> Embedder:
    opening = LoadOptions(
        engine=engine, for_throughput=for_many, locate=lambda model: relocate_weights(model, order), graph=graph
    )
    return open_embedder(stored.model, opening)


def _plan_stored_model(stored: StoredModel, catalog: Catalog, choice: ModelChoice) -> IngestPlan:
    graph = catalog.read_graph(stored.id)  # now: the catalog is closed when the model is loaded
    order = WeightsOptions(choice.weights, choice.offline)
    return IngestPlan(
        stored.model, lambda: _open_with_graph(stored, graph, order, choice.engine, for_many=True), stored
    )


def check_has_picture(found: Scan, sources: Sequence[str], max_pixels: int) -> None:
    """A source without a picture is a mistake, and no reason to empty a collection."""
    if not sources:
        raise UsageError("there is nothing to index", "name a folder, a picture or a list of paths")
    if any(file.has_picture_extension for file in found.files) or _has_picture(found.files, max_pixels):
        return
    named = ", ".join(sources)
    if found.skips:
        raise NoImages(named, f"no picture can be read at {named}", f"{found.skips[0].path}: {found.skips[0].reason}")
    raise NoImages(named, f"no images in {named}", "check the path; the collection stays as it is")


def _has_picture(files: Sequence[FoundFile], max_pixels: int) -> bool:
    """Whether one of the files is a picture, whatever it is called; looked into a few at a time."""
    with ConcurrentReader() as reading:
        for start in range(0, len(files), _PROBE_BATCH_SIZE):
            some = files[start : start + _PROBE_BATCH_SIZE]
            jobs = [reading.submit(file, partial(_try_read, file, max_pixels), bool) for file in some]
            if any(job.result() for job in jobs):
                return True
    return False


def _try_read(file: FoundFile, max_pixels: int) -> RawFile | None:
    try:
        return read_raw_file(file.path, has_picture_extension=file.has_picture_extension, max_pixels=max_pixels)
    except ImageError:
        return None


def check_new_folder(folder: Path) -> None:
    """Check that a new collection can be made in `folder`: it is missing, empty, or holds leftovers of a killed run.

    Raises `CollectionError`.
    """
    if folder.exists() and not folder.is_dir():
        raise CollectionError(str(folder), f"{folder} is a file", "choose a folder with --into")
    strange = [file.name for file in folder.glob("*") if not _is_own_file(file.name)]
    if strange:
        raise CollectionError(
            str(folder),
            f"{folder} holds other things, such as {strange[0]}",
            "choose a new folder with --into",
        )


def _is_own_file(name: str) -> bool:
    """Whether a run that was killed while it made a collection may have left a file of that name."""
    return name.startswith("catalog.") or name == SHARDS_NAME


def discard_new_collection(folder: Path) -> None:
    """Take back a collection that was made in vain."""
    for file in folder.glob("catalog.*"):
        file.unlink()
    shutil.rmtree(folder / SHARDS_NAME, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.rmdir()
