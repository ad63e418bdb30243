"""The labels of a collection's images: from folders, a pattern in the path, a label file, or a column of the user's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import UsageError
from simsearch.evaluation.label_file import read_label_file
from simsearch.evaluation.labels import LabelGroups, group_by_folder, group_by_pattern
from simsearch.learn.moments import Classes
from simsearch.sources.addresses import find_common_folder
from simsearch.store.catalog import Catalog, StoredModel
from simsearch.store.snapshot import Snapshot, StoredImage, open_snapshot

_BLOCK = 500


@dataclass(frozen=True, slots=True)
class LabelChoice:
    """The source of labels: a label file or a column (`labels`), or a pattern of paths; by default the folders."""

    labels: str | None = None
    pattern: str | None = None

    def __post_init__(self) -> None:
        if self.labels is not None and self.pattern is not None:
            raise UsageError("labels come from more than one option", "give only one of --labels and --group-by")


@dataclass(frozen=True, slots=True)
class ImageLabels:
    """The labeled images of a model: ids of their original views (n,), ascending, and numbers of their classes (n,)."""

    view_ids: NDArray[np.int64]
    classes: Classes
    n_classes: int
    origin: str
    notes: tuple[str, ...]


def read_labels(catalog: Catalog, stored: StoredModel, choice: LabelChoice) -> ImageLabels:
    """Read the labels of the images with a vector of the model.

    An image whose files have different labels is left out. Raises `UsageError` where fewer than two classes remain, or
    no class has two images.
    """
    return _build(_read_named_views(catalog, stored, choice))


def read_names(catalog: Catalog, stored: StoredModel, choice: LabelChoice) -> tuple[NDArray[np.int64], dict[int, str]]:
    """The ids of the original views with a vector of the model (n,), and the labels that there are, by view id."""
    found = _read_named_views(catalog, stored, choice)
    views = zip(found.view_ids.tolist(), found.image_ids.tolist(), strict=True)
    return found.view_ids, {view_id: found.names[image_id] for view_id, image_id in views if image_id in found.names}


@dataclass(frozen=True, slots=True)
class _NamedViews:
    """View ids and image ids (n,) of a model, the labels by image id, and what was left out."""

    view_ids: NDArray[np.int64]
    image_ids: NDArray[np.int64]
    names: Mapping[int, str]
    origin: str
    n_ambiguous: int = 0
    unmatched: tuple[str, ...] = ()


def _read_named_views(catalog: Catalog, stored: StoredModel, choice: LabelChoice) -> _NamedViews:
    with open_snapshot(catalog.folder) as snapshot:
        view_ids, image_ids = snapshot.list_original_ids(stored.id)
        if choice.labels is not None and choice.labels in catalog.count_columns():
            names = _read_column(snapshot, image_ids, choice.labels)
            return _NamedViews(view_ids, image_ids, names, f"column {choice.labels}")
        images = _read_images(snapshot, image_ids)
        groups = _group(catalog, images, choice)
        names, n_ambiguous = _name_images(images, groups)
        return _NamedViews(view_ids, image_ids, names, groups.origin, n_ambiguous, groups.unmatched)


def _read_images(snapshot: Snapshot, image_ids: NDArray[np.int64]) -> dict[int, StoredImage]:
    images: dict[int, StoredImage] = {}
    for start in range(0, len(image_ids), _BLOCK):
        images |= snapshot.read_images(image_ids[start : start + _BLOCK].tolist())
    return images


def _read_column(snapshot: Snapshot, image_ids: NDArray[np.int64], column: str) -> dict[int, str]:
    images = _read_images(snapshot, image_ids)
    return {id_: str(image.columns[column]) for id_, image in images.items() if column in image.columns}


def _group(catalog: Catalog, images: Mapping[int, StoredImage], choice: LabelChoice) -> LabelGroups:
    files = [file.path for image in images.values() for file in image.files]
    source = _find_source(catalog, files)
    if choice.pattern is not None:
        return group_by_pattern(files, source, choice.pattern)
    if choice.labels is None:
        return group_by_folder(files, source)
    if not os.path.exists(choice.labels):
        columns = ", ".join(catalog.count_columns()) or "none"
        raise UsageError(
            f"{choice.labels} is neither a file nor a column of the collection",
            f"give a label file, or one of its columns ({columns})",
        )
    groups = read_label_file(choice.labels, files, source)
    if isinstance(groups, LabelGroups):
        return groups
    raise UsageError(f"{choice.labels} lists relevant images, not classes", "give a file with a label for each image")


def _find_source(catalog: Catalog, files: list[str]) -> str:
    """The folder that was indexed last, if it holds all files; else the folder that contains all of them."""
    runs = catalog.list_runs(1)
    sources = runs[0].sources if runs else ()
    if len(sources) == 1 and os.path.isdir(sources[0]):
        root = os.path.join(os.path.realpath(sources[0]), "")
        if all(file.startswith(root) for file in files):
            return sources[0]
    return find_common_folder(files) if files else ""


def _name_images(images: Mapping[int, StoredImage], groups: LabelGroups) -> tuple[dict[int, str], int]:
    """The label of each image, and the number of images that have several."""
    names: dict[int, str] = {}
    n_ambiguous = 0
    for id_, image in images.items():
        labels = {groups.labels[file.path] for file in image.files if file.path in groups.labels}
        if len(labels) > 1 or any(file.path in groups.ambiguous for file in image.files):
            n_ambiguous += 1
        elif labels:
            names[id_] = labels.pop()
    return names, n_ambiguous


def _build(found: _NamedViews) -> ImageLabels:
    view_ids, image_ids, names, origin = found.view_ids, found.image_ids, found.names, found.origin
    n_ambiguous = found.n_ambiguous
    is_labeled = np.array([int(image_id) in names for image_id in image_ids], bool)
    labels = [names[int(image_id)] for image_id in image_ids[is_labeled]]
    numbers = {label: number for number, label in enumerate(sorted(set(labels)))}
    if len(numbers) < 2:
        raise UsageError(
            f"the labels ({origin}) name {len(numbers)} class{'' if len(numbers) == 1 else 'es'}",
            "learning needs two classes or more",
        )
    classes = np.array([numbers[label] for label in labels], np.int64)
    sizes = np.bincount(classes)
    if sizes.max() < 2:
        raise UsageError("no class has two images", "learning needs classes of two or more images")
    notes = []
    if n_ambiguous:
        notes.append(f"{n_ambiguous:,} images with several labels were left out")
    if found.unmatched:
        notes.append(f"{len(found.unmatched):,} names in the labels match no image, such as {found.unmatched[0]}")
    if n_unlabeled := len(image_ids) - len(labels) - n_ambiguous:
        notes.append(f"{n_unlabeled:,} images without a label were left out")
    if n_alone := int((sizes == 1).sum()):
        notes.append(f"{n_alone:,} classes have a single image and cannot be measured")
    return ImageLabels(view_ids[is_labeled], classes, len(numbers), origin, tuple(notes))
