"""Loading the vectors of a task's images from a collection, as arrays in the order of the task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simsearch.evaluation.protocol import TaskImage
from simsearch.store.catalog import Catalog, StoredModel

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class TaskVectors:
    """The vectors of n images: `originals` (n, d), and those of their N augmented views, `augmented` (n, N, d)."""

    originals: Vectors
    augmented: Vectors

    def with_views(self, n_views: int) -> TaskVectors:
        """Keep the first `n_views` augmented views only."""
        return TaskVectors(self.originals, self.augmented[:, :n_views])


def list_images(catalog: Catalog, files: Sequence[str]) -> list[TaskImage]:
    """List the images of those files in the order of the files; `paths` of an image are those among `files`."""
    wanted = set(files)
    digests = {path: digest for path, _, digest in catalog.iterate_contents() if path in wanted}
    paths: dict[str, list[str]] = {}
    for file in files:
        if file in digests:
            paths.setdefault(digests[file], []).append(file)
    return [TaskImage(digest, tuple(found)) for digest, found in paths.items()]


def find_embedded_digests(catalog: Catalog, stored: StoredModel) -> set[str]:
    """Find the digests of the images with all of the model's vectors, the original and every augmented view."""
    numbers = catalog.list_view_numbers(stored.id)
    image_ids, counts = np.unique(numbers[:, 1], return_counts=True)
    complete = set(image_ids[counts >= len(stored.augmentation.numbers)].tolist())
    return {digest for _, image_id, digest in catalog.iterate_contents() if image_id in complete}


def load_vectors(catalog: Catalog, stored: StoredModel, digests: Sequence[str]) -> TaskVectors:
    """Load the vectors of images by digest; each image has all of the model's views."""
    rows = _locate_views(catalog, stored, digests)
    n_views = len(stored.augmentation.numbers)
    vectors = np.empty((len(digests), n_views, stored.width), np.float32)
    flat = vectors.reshape(-1, stored.width)
    view_ids = np.array(sorted(rows), np.int64)
    for ids, block in catalog.iterate_vectors(stored, view_ids):
        flat[[rows[view_id] for view_id in ids.tolist()]] = block
    return TaskVectors(np.ascontiguousarray(vectors[:, 0]), vectors[:, 1:])


def _locate_views(catalog: Catalog, stored: StoredModel, digests: Sequence[str]) -> Mapping[int, int]:
    """The row of each view id: image by image, and the views of an image by number."""
    position_of = {digest: at for at, digest in enumerate(digests)}
    n_views = len(stored.augmentation.numbers)
    image_at = {image_id: position_of[d] for _, image_id, d in catalog.iterate_contents() if d in position_of}
    return {
        view_id: image_at[image_id] * n_views + number
        for view_id, image_id, number in catalog.list_view_numbers(stored.id).tolist()
        if image_id in image_at
    }
