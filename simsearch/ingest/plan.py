"""Checks and choices before a run writes anything: pictures, target folder, model and precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from simsearch.errors import CollectionError, ImageError, NoImages, UsageError
from simsearch.images.decode import Pixels, RawFile, read_raw_file
from simsearch.ingest.prepare import decode_files
from simsearch.models.builtin import versions
from simsearch.models.choice import ModelChoice, resolve_model
from simsearch.models.embedder import Embedder
from simsearch.models.loader import LoadOptions
from simsearch.models.model import GraphBytes, Model
from simsearch.models.precision import PrecisionAgreement, count_sample_images, open_with_precision
from simsearch.models.trust import check_is_trusted
from simsearch.sources.reader import ConcurrentReader
from simsearch.sources.scan import FoundFile, Scan
from simsearch.store.catalog import Catalog, StoredModel
from simsearch.store.derived_models import list_bases
from simsearch.store.embedders import prepare_stored_model
from simsearch.store.own_files import find_foreign_entry
from simsearch.text import clean_text

_PROBE_BATCH_SIZE = 128
"""Files whose content is looked at together, while no file name says that a source holds a picture."""


@dataclass(slots=True)
class IngestPlan:
    """The model of a run, and how to load it.

    `stored` is None for a model that is new to the catalog; `graph` is then written with it. `embedders` are loaded
    models by fingerprint; this model is added when it is loaded.
    """

    model: Model
    load: Callable[[], Embedder]
    stored: StoredModel | None = None
    graph: GraphBytes | None = None
    agreement: PrecisionAgreement | None = None
    precision_notes: tuple[str, ...] = ()
    embedders: dict[str, Embedder] = field(default_factory=dict)

    def open_embedder(self) -> Embedder:
        """Return the embedder, loaded at the first call, once for all runs that share `embedders`."""
        if self.fingerprint not in self.embedders:
            self.embedders[self.fingerprint] = self.load()
        return self.embedders[self.fingerprint]

    @property
    def width(self) -> int:
        """d, the length of the vectors."""
        return self.stored.width if self.stored else self.open_embedder().width

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the model in the catalog."""
        return self.stored.fingerprint if self.stored else self.model.fingerprint

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the user about how the model was loaded."""
        embedder = self.embedders.get(self.fingerprint)
        return tuple(dict.fromkeys((*self.precision_notes, *(embedder.notes if embedder else ()))))


def plan_ingest(catalog: Catalog | None, choice: ModelChoice, found: Scan, max_pixels: int) -> IngestPlan:
    """Choose the model to index with.

    A model that the collection has is used as it is, and for a learned model its base, whose vectors are mapped. A new
    model is loaded, and its precision chosen on a sample of the pictures. `catalog` is None for a new collection.

    Raises `ModelError`.
    """
    if catalog is None:
        return _plan_new_model(resolve_model(choice), choice, found, max_pixels)
    models = [stored for stored in catalog.list_models() if stored.model.runtime != "imported"]
    for stored in models:
        if stored.fingerprint == choice.backbone and not stored.model.is_derived:
            return _plan_stored_model(stored, catalog, choice)
        if stored.model.learned is not None and choice.backbone in (stored.model.backbone, stored.fingerprint):
            base = next((model for model in models if model.fingerprint == stored.model.learned.base), stored)
            return _plan_stored_model(base, catalog, choice)
    if models and choice.backbone is None:
        default = _find_embedding_model(models)
        if not choice.has_model_options and choice.precision in ("auto", default.model.precision):
            return _plan_stored_model(default, catalog, choice)
        check_is_trusted(default.model)  # the catalog names its file, not the user
        choice = replace(choice, backbone=default.model.zoo_name or default.model.file)
    model = resolve_model(choice)
    for stored in models:
        has_precision = choice.precision in ("auto", stored.model.precision)
        if has_precision and stored.model.f32_model.fingerprint == model.fingerprint:
            stored = replace(stored, model=replace(stored.model, file=model.file))
            return _plan_stored_model(stored, catalog, choice)
    return _plan_new_model(model, choice, found, max_pixels)


def plan_other_models(catalog: Catalog, plan: IngestPlan, choice: ModelChoice) -> list[IngestPlan]:
    """Plan how the models of a collection other than that of `plan` are brought up to date.

    Imported vectors cannot be made again. A learned model follows its base, and a former version of the built-in
    network is replaced by `simsearch upgrade`.
    """
    models = catalog.list_models()
    others = [
        stored
        for stored in models
        if stored.fingerprint != plan.fingerprint
        and stored.model.runtime != "imported"
        and not _find_bases(stored, models)
        and not versions.is_former(stored.model)
    ]
    return [_plan_stored_model(stored, catalog, choice) for stored in others]


def _find_embedding_model(models: Sequence[StoredModel]) -> StoredModel:
    """The first model; where it is derived from others, the first of these that pictures are embedded with."""
    chosen = models[0]
    while bases := _find_bases(chosen, models):
        chosen = bases[0]
    return chosen


def _find_bases(stored: StoredModel, models: Sequence[StoredModel]) -> list[StoredModel]:
    """Those of the models from whose vectors those of a model are computed."""
    bases = list_bases(stored.model)
    return [model for model in models if model.fingerprint in bases]


def _plan_new_model(model: Model, choice: ModelChoice, found: Scan, max_pixels: int) -> IngestPlan:
    # A histogram has no precision to choose.
    n_pixels = 0 if model.runtime == "histogram" else count_sample_images(model, choice.precision)
    pixels = sample_pixels(found, model, n_pixels, max_pixels)
    options = LoadOptions(engine=choice.engine, for_throughput=True, pixels=pixels)
    opened = open_with_precision(model, choice.precision, options, n_images=len(found.files))
    return IngestPlan(opened.model, lambda: opened.embedder, None, opened.graph, opened.agreement, opened.notes)


def sample_pixels(found: Scan, model: Model, n: int, max_pixels: int) -> Pixels:
    """Decode up to n pictures (n, side, side, 3) as the model's input, spread evenly over the files that were found."""
    files = [file for file in found.files if file.has_picture_extension]
    rows = sorted(set(np.linspace(0, len(files) - 1, min(n, len(files))).astype(int).tolist())) if files else []
    # A file that cannot be decoded becomes a skip when the run reaches it.
    decoded = decode_files((files[row] for row in rows), model, max_pixels=max_pixels)
    squares = [file.pixels[0] for file in decoded if file.failure is None]
    return np.stack(squares) if squares else np.empty((0, model.side_px, model.side_px, 3), np.uint8)


def _plan_stored_model(stored: StoredModel, catalog: Catalog, choice: ModelChoice) -> IngestPlan:
    weights = choice.weights_options
    load = prepare_stored_model(stored, catalog, weights, for_throughput=True, engine=choice.engine)
    return IngestPlan(stored.model, load, stored)


def check_has_picture(found: Scan, sources: Sequence[str], max_pixels: int) -> None:
    """Check that the sources hold a picture, so that a wrong path does not empty a collection.

    Raises `UsageError` without sources, `NoImages`.
    """
    if not sources:
        raise UsageError("there is nothing to index", "name a folder, a picture or a list of paths")
    if any(file.has_picture_extension for file in found.files) or _has_picture(found.files, max_pixels):
        return
    named = ", ".join(sources)
    if found.skips:
        raise NoImages(named, f"no picture can be read at {named}", f"{found.skips[0].path}: {found.skips[0].reason}")
    raise NoImages(named, f"no images in {named}", "check the path; the collection stays as it is")


def _has_picture(files: Sequence[FoundFile], max_pixels: int) -> bool:
    """Whether the content of any file is a picture, whatever its name; a few files are read at a time."""
    with ConcurrentReader() as reader:
        for start in range(0, len(files), _PROBE_BATCH_SIZE):
            some = files[start : start + _PROBE_BATCH_SIZE]
            jobs = [reader.submit(file, partial(_try_read, file, max_pixels), bool) for file in some]
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
    if (foreign := find_foreign_entry(folder)) is not None:
        raise CollectionError(
            str(folder),
            f"{folder} holds other things, such as {clean_text(foreign)}",
            "choose a new folder with --into",
        )
