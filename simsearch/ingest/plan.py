"""What is found out before a run writes: are there pictures, is the place free, which model, which precision."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from simsearch.errors import ClusterError, CollectionError, ImageError, NoImages, UsageError
from simsearch.images.decode import Pixels, RawFile, decode_square, read
from simsearch.models.choice import ModelChoice, relocate, resolve
from simsearch.models.embedder import Embedder, Engine, Opening, open_embedder
from simsearch.models.model import GraphBytes, Model
from simsearch.models.precision import Agreement, n_sample, settle
from simsearch.models.weights import WeightsOrder
from simsearch.sources.reader import Reading
from simsearch.sources.scan import FoundFile, Scan
from simsearch.store.catalog import Catalog, StoredModel
from simsearch.store.connection import SHARDS_NAME

_LOOKED_INTO = 128


@dataclass(slots=True)
class Plan:
    """The model of a run, and how to load it.

    `stored` is None for a model that is new to the catalog; `graph` is to be kept with such a one. `opened` are
    embedders by fingerprint, this model's among them once it is loaded.
    """

    model: Model
    open: Callable[[], Embedder]
    stored: StoredModel | None = None
    graph: GraphBytes | None = None
    agreement: Agreement | None = None
    settled_notes: tuple[str, ...] = ()
    opened: dict[str, Embedder] = field(default_factory=dict)

    def open_embedder(self) -> Embedder:
        """The embedder, loaded when it is first needed, once for all runs that share what is `opened`."""
        if self.fingerprint not in self.opened:
            self.opened[self.fingerprint] = self.open()
        return self.opened[self.fingerprint]

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
        embedder = self.opened.get(self.fingerprint)
        return tuple(dict.fromkeys((*self.settled_notes, *(embedder.notes if embedder else ()))))


def plan(folder: Path, choice: ModelChoice, found: Scan, max_pixels: int) -> Plan:
    """The model to index with.

    A model that the collection holds goes on as it is. A new one is loaded, and its precision settled on a sample
    of the pictures.

    Raises a `ModelError`, or what opening the catalog raises.
    """
    if Catalog.exists(folder):
        with Catalog.open(folder) as catalog:
            models = [stored for stored in catalog.models() if stored.model.runtime != "imported"]
            if models and choice.backbone is None:
                last = models[0].model
                if not choice.names_a_model and choice.precision in ("auto", last.precision):
                    return _continued(models[0], catalog, choice)
                choice = replace(choice, backbone=last.row or last.file)
            model = resolve(choice)
            for stored in models:
                is_wished = choice.precision in ("auto", stored.model.precision)
                if is_wished and stored.model.exact.fingerprint == model.fingerprint:
                    return _continued(replace(stored, model=replace(stored.model, file=model.file)), catalog, choice)
    else:
        model = resolve(choice)
    n_pixels = 0 if model.runtime == "histogram" else n_sample(choice.precision)  # it has no precision to settle
    pixels = sample(found, model, n_pixels, max_pixels)
    settled = settle(model, choice.precision, Opening(engine=choice.engine, for_many=True, pixels=pixels))
    return Plan(settled.model, lambda: settled.embedder, None, settled.graph, settled.agreement, settled.notes)


def sample(found: Scan, model: Model, n: int, max_pixels: int) -> Pixels:
    """Up to n pictures (n, side, side, 3) as the model sees them, spread evenly over what was found."""
    files = [file for file in found.files if file.claims_picture]
    rows = sorted(set(np.linspace(0, len(files) - 1, min(n, len(files))).astype(int).tolist())) if files else []

    def pixels_of(raw: RawFile | None) -> Pixels | None:
        if raw is None:
            return None
        try:
            return decode_square(raw, model.side_px, model.resize, max_pixels=max_pixels)[1]
        except ImageError:  # it becomes a skip when its turn comes
            return None

    with Reading() as reading:
        jobs = [reading.submit(files[row], partial(_content, files[row], max_pixels), pixels_of) for row in rows]
        good = [pixels for job in jobs if (pixels := job.result()) is not None]
    return np.stack(good) if good else np.empty((0, model.side_px, model.side_px, 3), np.uint8)


def open_stored(
    stored: StoredModel, catalog: Catalog, order: WeightsOrder, engine: Engine = "auto", *, for_many: bool
) -> Embedder:
    """Load a model that the catalog has.

    Raises a `ModelError`.
    """
    return _open(stored, catalog.graph(stored.id), order, engine, for_many=for_many)


def _open(
    stored: StoredModel, graph: GraphBytes | None, order: WeightsOrder, engine: Engine, *, for_many: bool
) -> Embedder:
    opening = Opening(engine=engine, for_many=for_many, locate=lambda model: relocate(model, order), graph=graph)
    return open_embedder(stored.model, opening)


def _continued(stored: StoredModel, catalog: Catalog, choice: ModelChoice) -> Plan:
    graph = catalog.graph(stored.id)  # now: the catalog is closed when the model is loaded
    order = WeightsOrder(choice.weights, choice.offline)
    return Plan(stored.model, lambda: _open(stored, graph, order, choice.engine, for_many=True), stored)


def check_any_picture(found: Scan, sources: Sequence[str], max_pixels: int) -> None:
    """A source without a picture is a mistake, and no reason to empty a collection."""
    if not sources:
        raise UsageError("there is nothing to index", "name a folder, a picture or a list of paths")
    if any(file.claims_picture for file in found.files) or _holds_picture(found.files, max_pixels):
        return
    named = ", ".join(sources)
    if found.skips:
        raise NoImages(named, f"no picture can be read at {named}", f"{found.skips[0].path}: {found.skips[0].reason}")
    raise NoImages(named, f"no images in {named}", "check the path; the collection stays as it is")


def _holds_picture(files: Sequence[FoundFile], max_pixels: int) -> bool:
    """Whether one of the files is a picture, whatever it is called; looked into a few at a time."""
    with Reading() as reading:
        for start in range(0, len(files), _LOOKED_INTO):
            some = files[start : start + _LOOKED_INTO]
            jobs = [reading.submit(file, partial(_content, file, max_pixels), bool) for file in some]
            if any(job.result() for job in jobs):
                return True
    return False


def _content(file: FoundFile, max_pixels: int) -> RawFile | None:
    try:
        return read(file.path, claims_picture=file.claims_picture, max_pixels=max_pixels)
    except ImageError:
        return None


def check_place(folder: Path) -> bool:
    """Whether a new collection is to be made in `folder`; it must not be somebody's folder of other things."""
    if Catalog.exists(folder):
        return False
    if folder.exists() and not folder.is_dir():
        raise CollectionError(str(folder), f"{folder} is a file", "choose a folder with --into")
    strange = [file.name for file in folder.glob("*") if not _is_ours(file.name)]
    if strange:
        raise CollectionError(
            str(folder),
            f"{folder} holds other things, such as {strange[0]}",
            "choose a new folder with --into",
        )
    return True


def _is_ours(name: str) -> bool:
    """Whether a run that was killed while it made a collection may have left a file of that name."""
    return name.startswith("catalog.") or name == SHARDS_NAME


@contextlib.contextmanager
def unless_in_vain(folder: Path, *, is_new: bool) -> Iterator[None]:
    """Take a new collection back when no cluster could be reached to fill it; one with shards of it is kept."""
    try:
        yield
    except ClusterError:
        if is_new and not (folder / SHARDS_NAME).exists():
            with Catalog.open(folder) as catalog:
                is_empty = catalog.counts()["files"] == 0
            if is_empty:
                discard(folder)
        raise


def discard(folder: Path) -> None:
    """Take back a collection that was made in vain."""
    for file in folder.glob("catalog.*"):
        file.unlink()
    shutil.rmtree(folder / SHARDS_NAME, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.rmdir()
