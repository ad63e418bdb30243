"""A collection looked at as a whole: its images in clusters, and laid out in the plane."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import ModelNotIndexed, UsageError
from simsearch.filters import compile_sql as compile_condition
from simsearch.filters import parse
from simsearch.notebook import GalleryItem, render_gallery
from simsearch.store.catalog import Catalog, StoredModel
from simsearch.store.snapshot import open_model_views
from simsearch.visualization.clusters import Cluster, derive_folder_labels, find_clusters
from simsearch.visualization.tsne import GridLayout, compute_tsne, snap_to_grid

MAX_IMAGES = 50_000
"""Of more images a sample is taken, the same for the same seed."""

_SHOWN_IN_NOTEBOOK = 20


@dataclass(frozen=True, slots=True)
class ImageSelection:
    """Which images are looked at: those of which a condition holds, at most `n_most`, drawn with the seed."""

    where: str | None = None
    max_images: int = MAX_IMAGES
    seed: int = 0


@dataclass(frozen=True, slots=True)
class OverviewImage:
    """An image by its first file. `label` is the name of its folder, None where folders say nothing."""

    image_id: int
    path: str
    label: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Clustering:
    """Images in clusters, the larger ones first; the clusters hold row numbers of `images`.

    `n_images` is how many there were to look at: more than `images` where only a sample of them was.
    """

    backbone: str
    model: str
    n_images: int
    images: tuple[OverviewImage, ...] = field(repr=False)
    clusters: tuple[Cluster, ...] = field(repr=False)

    def list_typical(self, found: Cluster) -> tuple[OverviewImage, ...]:
        """The five most typical images of one of the clusters, the most typical first."""
        return tuple(self.images[row] for row in found.typical)

    def list_members(self, found: Cluster) -> tuple[OverviewImage, ...]:
        """All images of one of the clusters, the most typical first."""
        return tuple(self.images[row] for row in found.members)

    def to_dict(self) -> dict[str, Any]:
        """The clusters with all their images, as `clusters --json` prints them below the collection."""
        return {**self._summarize(), "clusters": [self._describe_cluster(found) for found in self.clusters]}

    def _summarize(self) -> dict[str, Any]:
        return {
            "backbone": self.backbone,
            "model": self.model,
            "images": len(self.images),
            "of_images": self.n_images,
        }

    def _describe_cluster(self, found: Cluster) -> dict[str, Any]:
        return {
            "cluster": found.number,
            "size": found.size,
            "tightness": round(found.tightness, 6),
            "label": found.label,
            "label_share": round(found.label_share, 6),
            "images": [{"image_id": image.image_id, "path": image.path} for image in self.list_members(found)],
        }

    def _repr_html_(self) -> str:
        """The first clusters with their most typical pictures, for a notebook."""
        return "".join(_render_cluster(self, found) for found in self.clusters[:_SHOWN_IN_NOTEBOOK])


@dataclass(frozen=True, slots=True, eq=False)
class CollectionLayout(Clustering):
    """The same with a place for each of `images` on a grid, near those that are alike."""

    grid: GridLayout = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The layout as `map --json` prints it, between the collection and the files: clusters are only counted."""
        return {**self._summarize(), "clusters": len(self.clusters)}


def cluster_collection(catalog: Catalog, stored: StoredModel, k: int | None, selection: ImageSelection) -> Clustering:
    """The images of a model in k clusters, or in as many as are found.

    Raises `ModelNotIndexed` when there are none, `UsageError` when no image matches or k is out of range.
    """
    n_images, images, vectors = _gather_images(catalog, stored, selection)
    found = find_clusters(vectors, k, _collect_labels(images), seed=selection.seed)
    return Clustering(stored.model.backbone, stored.fingerprint, n_images, images, tuple(found))


def lay_out_collection(
    catalog: Catalog, stored: StoredModel, k: int | None, selection: ImageSelection
) -> CollectionLayout:
    """The same, laid out. Raises what `clustered` raises."""
    n_images, images, vectors = _gather_images(catalog, stored, selection)
    found = find_clusters(vectors, k, _collect_labels(images), seed=selection.seed)
    grid = snap_to_grid(compute_tsne(vectors, seed=selection.seed))
    return CollectionLayout(stored.model.backbone, stored.fingerprint, n_images, images, tuple(found), grid)


def _gather_images(
    catalog: Catalog, stored: StoredModel, selection: ImageSelection
) -> tuple[int, tuple[OverviewImage, ...], NDArray[np.float32]]:
    """How many images there are, and of those that are looked at what is shown and the vectors (n, d)."""
    with open_model_views(catalog.folder, stored, originals_only=True) as found:
        ids = found.list_view_ids()
        if not len(ids):
            problem = f"{catalog.folder} has no image of {stored.model.backbone} to look at"
            raise ModelNotIndexed(str(catalog.folder), problem, "index a folder into it first")
        if selection.where is not None:
            condition = compile_condition(parse(selection.where), catalog.count_columns())
            ids = np.intersect1d(ids, catalog.find_matching_ids(stored.id, condition))
        if not len(ids):
            raise UsageError(f"no image of {catalog.folder} matches the condition", "ask for others with --where")
        chosen = ids
        if len(ids) > selection.max_images:
            chosen = np.sort(np.random.default_rng(selection.seed).choice(ids, selection.max_images, replace=False))
        records, vectors = found.read_records(chosen)
    labels = derive_folder_labels([record.path for record in records])
    shown = (
        OverviewImage(record.image_id, record.path, None if labels is None else labels[row])
        for row, record in enumerate(records)
    )
    return len(ids), tuple(shown), vectors


def _collect_labels(images: Iterable[OverviewImage]) -> list[str] | None:
    labels = [image.label for image in images if image.label is not None]
    return labels or None


def _render_cluster(clustering: Clustering, found: Cluster) -> str:
    name = "" if found.label is None else f" · {found.label} {found.label_share:.0%}"
    title = f"{found.number}: {found.size:,} images{name}"
    return render_gallery(title, [GalleryItem(image.path) for image in clustering.list_typical(found)])
