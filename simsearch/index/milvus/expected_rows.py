"""The rows that Milvus should hold for a model, computed from one snapshot of the catalog."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from simsearch.index.milvus.schema import MilvusRow, build_image_fields, build_row
from simsearch.index.protocol import Ids, Vectors
from simsearch.store.catalog import Catalog, StoredModel
from simsearch.store.snapshot import Snapshot, ViewKey, open_snapshot


class ExpectedRows:
    """The rows that Milvus should hold for a model.

    `last_change`, the change token of `stored` and all rows come from the same snapshot.
    """

    def __init__(self, snapshot: Snapshot, stored: StoredModel) -> None:
        self._snapshot = snapshot
        self._catalog = snapshot.catalog
        self.stored = snapshot.catalog.find_model(stored.fingerprint) or stored
        self.last_change = snapshot.catalog.find_last_change()

    def __len__(self) -> int:
        return self._catalog.count_vectors(self.stored.id)

    @property
    def last_view_id(self) -> int:
        """The largest id of a view with a vector; 0 if there is none."""
        return self._catalog.find_last_view_id(self.stored.id)

    def sample_ids(self, n_most: int) -> Ids:
        """Draw at most `n_most` view ids, ascending. The same snapshot always gives the same sample."""
        ids = self._catalog.list_vector_ids(self.stored.id).tolist()
        return np.array(sorted(random.Random(0).sample(ids, min(n_most, len(ids)))), np.int64)

    def list_changed_images(self, change: int) -> list[int]:
        """List the ids of the images changed since the change with this number, deleted images included."""
        return self._snapshot.find_changed_images(change)

    def read_image_rows(self, image_ids: Sequence[int]) -> list[MilvusRow]:
        """Read the rows of all views of these images, by ascending view id."""
        return self._build_rows(self._snapshot.list_views_of_images(self.stored.id, image_ids))

    def read_row_range(self, above: int, up_to: int) -> list[MilvusRow]:
        """Read the rows with above < view id <= up_to, by ascending view id."""
        return self._build_rows(self._snapshot.list_views_in_range(self.stored.id, above, up_to))

    def read_vectors(self, view_ids: Ids) -> tuple[Ids, Vectors]:
        """Read the ids (m,) and vectors (m, d) of these views, in no order. Raises `CollectionDamaged`."""
        blocks = list(self._catalog.iterate_vectors(self.stored, view_ids))
        if not blocks:
            return np.empty(0, np.int64), np.empty((0, self.stored.width), np.float32)
        ids, vectors = zip(*blocks, strict=True)
        return np.concatenate(ids), np.concatenate(vectors)

    def _build_rows(self, views: Sequence[ViewKey]) -> list[MilvusRow]:
        images = self._snapshot.read_images(sorted({view.image_id for view in views}), with_orphans=True)
        fields = {image_id: build_image_fields(image) for image_id, image in images.items()}
        return [build_row(view.view_id, view.kind, fields[view.image_id]) for view in sorted(views)]


@contextmanager
def open_expected_rows(catalog: Catalog, stored: StoredModel) -> Iterator[ExpectedRows]:
    """Compute the rows of a model from a snapshot that writers do not change."""
    with open_snapshot(catalog.folder) as snapshot:
        yield ExpectedRows(snapshot, stored)
