"""An overview of a collection: its images in clusters, and their layout in the plane."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import ModelNotIndexed, UsageError
from simsearch.filters import compile_sql, parse
from simsearch.models.text.words import WordEncoder
from simsearch.notebook import GalleryItem, render_gallery
from simsearch.search.ranking import SIMILARITY_DECIMALS
from simsearch.store.catalog import Catalog, StoredModel
from simsearch.store.snapshot import open_snapshot
from simsearch.visualization.clusters import Cluster, derive_folder_labels, find_clusters
from simsearch.visualization.grid import GridLayout, snap_to_grid
from simsearch.visualization.tsne import compute_tsne

MAX_IMAGES = 100_000
"""The most images of an overview. Of more images, a sample is drawn with the seed."""

_MAX_NOTEBOOK_CLUSTERS = 20
_CLEAR_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class ImageSelection:
    """The images of an overview: those that match a filter, at most `max_images`, drawn with the seed."""

    where: str | None = None
    max_images: int = MAX_IMAGES
    seed: int = 0


@dataclass(frozen=True, slots=True)
class OverviewImage:
    """An image with its first file. `label` is the name of its folder; None if the folders do not group images."""

    image_id: int
    path: str
    label: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Clustering:
    """Images in clusters, the largest first; the clusters have row numbers of `images`.

    `n_images` is the number of all selected images: more than `images` if only a sample was clustered.
    """

    backbone: str
    model: str
    n_images: int
    images: tuple[OverviewImage, ...] = field(repr=False)
    clusters: tuple[Cluster, ...] = field(repr=False)

    def list_typical(self, found: Cluster) -> tuple[OverviewImage, ...]:
        """List the five most typical images of a cluster, the most typical first."""
        return tuple(self.images[row] for row in found.typical)

    def list_members(self, found: Cluster) -> tuple[OverviewImage, ...]:
        """List all images of a cluster, the most typical first."""
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
            "tightness": round(found.tightness, SIMILARITY_DECIMALS),
            "label": found.label,
            "label_share": round(found.label_share, SIMILARITY_DECIMALS),
            "images": [{"image_id": image.image_id, "path": image.path} for image in self.list_members(found)],
        }

    def _repr_html_(self) -> str:
        """The first clusters with their most typical pictures, for a notebook."""
        return "".join(_render_cluster(self, found) for found in self.clusters[:_MAX_NOTEBOOK_CLUSTERS])


@dataclass(frozen=True, slots=True, eq=False)
class CollectionLayout(Clustering):
    """Clusters, and a cell of a grid for each of `images`, near similar images.

    `words` name each cluster by what its images show, with empty texts where no word fits; without a network that has
    words there are none.
    """

    grid: GridLayout = field(repr=False)
    words: tuple[str, ...] = ()

    def name_clusters(self) -> tuple[str, ...]:
        """Name each cluster: by the label of at least half of its images, by a word, or by its most frequent label.

        A name is empty where a cluster has none of them.
        """
        return tuple(
            (found.label if found.label_share >= _CLEAR_SHARE else word) or found.label or ""
            for found, word in zip(self.clusters, self.words or [""] * len(self.clusters), strict=True)
        )

    def to_dict(self) -> dict[str, Any]:
        """The layout as `map --json` prints it, between the collection and the files: clusters are only counted."""
        return {**self._summarize(), "clusters": len(self.clusters)}


def cluster_collection(catalog: Catalog, stored: StoredModel, k: int | None, selection: ImageSelection) -> Clustering:
    """Cluster the images of a model into k clusters, or into the number that `choose_k` finds.

    Raises `ModelNotIndexed` if the model has no images, `UsageError` if no image matches or k is out of range.
    """
    n_images, images, vectors = _gather_images(catalog, stored, selection)
    found = find_clusters(vectors, k, _collect_labels(images), seed=selection.seed)
    return Clustering(stored.model.backbone, stored.fingerprint, n_images, images, tuple(found))


def lay_out_collection(
    catalog: Catalog, stored: StoredModel, k: int | None, selection: ImageSelection, encoder: WordEncoder | None = None
) -> CollectionLayout:
    """Cluster the images of a model and lay them out on a grid. Raises what `cluster_collection` raises.

    With the words of the model, each cluster is named by the word that tells it most from the others.
    """
    n_images, images, vectors = _gather_images(catalog, stored, selection)
    found = find_clusters(vectors, k, _collect_labels(images), seed=selection.seed)
    grid = snap_to_grid(compute_tsne(vectors, seed=selection.seed))
    words = () if encoder is None else tuple(encoder.name_directions(_compute_directions(vectors, found)))
    return CollectionLayout(stored.model.backbone, stored.fingerprint, n_images, images, tuple(found), grid, words)


def _compute_directions(vectors: NDArray[np.float32], clusters: Sequence[Cluster]) -> NDArray[np.float64]:
    """Compute the direction (k, d) of each cluster from the mean of all images, or from 0 for a single cluster."""
    centers = np.stack([vectors[list(found.members)].mean(axis=0, dtype=np.float64) for found in clusters])
    return centers - vectors.mean(axis=0, dtype=np.float64) if len(clusters) > 1 else centers


def _gather_images(
    catalog: Catalog, stored: StoredModel, selection: ImageSelection
) -> tuple[int, tuple[OverviewImage, ...], NDArray[np.float32]]:
    """Read the images of a selection: the number of matches, and the images of the sample with vectors (n, d)."""
    with open_snapshot(catalog.folder) as snapshot:
        views = snapshot.select_views(stored, originals_only=True)
        ids = views.list_view_ids()
        if not len(ids):
            problem = f"{catalog.folder} has no image of {stored.model.backbone}"
            raise ModelNotIndexed(str(catalog.folder), problem, "index a folder into it first")
        if selection.where is not None:
            condition = compile_sql(parse(selection.where), snapshot.catalog.count_columns())
            ids = np.intersect1d(ids, snapshot.catalog.find_matching_ids(stored.id, condition))
        if not len(ids):
            raise UsageError(f"no image of {catalog.folder} matches the filter", "change --where")
        chosen = ids
        if len(ids) > selection.max_images:
            chosen = np.sort(np.random.default_rng(selection.seed).choice(ids, selection.max_images, replace=False))
        records, vectors = views.read_records(chosen)
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
