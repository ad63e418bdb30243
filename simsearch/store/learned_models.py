"""Vectors of models that were learned from labels: derived from the vectors of their base models."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simsearch.models.label_map import LabelMap
from simsearch.store.catalog import StoredModel
from simsearch.store.embedders import read_label_map
from simsearch.store.writer import CatalogWriter

_BLOCK_ROWS = 20_000


def update_learned_models(writer: CatalogWriter, base_fingerprint: str) -> list[StoredModel]:
    """Bring the models that were learned on a base model up to date with its vectors; return those that changed.

    Nothing is embedded: the map is applied to the vectors that the base model has.
    """
    models = writer.list_models()
    base = next((stored for stored in models if stored.fingerprint == base_fingerprint), None)
    derived = [s for s in models if s.model.learned is not None and s.model.learned.base == base_fingerprint]
    changed: list[StoredModel] = []
    if base is None:
        return changed
    for stored in derived:
        missing = np.setdiff1d(writer.list_vector_ids(base.id), writer.list_vector_ids(stored.id))
        if len(missing):
            add_learned_vectors(writer, base, stored, read_label_map(stored, writer), missing)
            changed.append(stored)
    return changed


def add_learned_vectors(
    writer: CatalogWriter, base: StoredModel, stored: StoredModel, label_map: LabelMap, view_ids: NDArray[np.int64]
) -> None:
    """Map the base model's vectors of some views, and write them as vectors of the learned model."""
    for start in range(0, len(view_ids), _BLOCK_ROWS):
        blocks = list(writer.iterate_vectors(base, view_ids[start : start + _BLOCK_ROWS]))
        with writer.transaction():
            for ids, rows in blocks:
                writer.add_vectors(stored.id, ids, label_map.apply(rows))
