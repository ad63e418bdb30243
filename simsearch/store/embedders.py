"""Loading the models that a catalog holds. The one place that opens a stored model."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import CollectionDamaged
from simsearch.images.decode import Pixels
from simsearch.models.choice import relocate_weights
from simsearch.models.embedder import Embedder
from simsearch.models.label_map import LabelMap
from simsearch.models.loader import Engine, LoadOptions, open_embedder
from simsearch.models.model import Model
from simsearch.models.weights import WeightsOptions
from simsearch.store.catalog import Catalog, StoredModel

LEARNED_METHOD = "learned"
"""The name under which a learned map is stored among the projections of its model."""


def open_stored_model(
    stored: StoredModel,
    catalog: Catalog,
    weights: WeightsOptions,
    *,
    for_throughput: bool,
    engine: Engine = "auto",
    pixels: Pixels | None = None,
) -> Embedder:
    """Load a stored model.

    With `for_throughput` it is loaded to embed many pictures, else to answer one query. A graph that is converted for
    the first time is checked on `pixels` (n, side, side, 3), or on noise without them.

    Raises `ModelError`.
    """
    load = prepare_stored_model(stored, catalog, weights, for_throughput=for_throughput, engine=engine, pixels=pixels)
    return load()


def prepare_stored_model(
    stored: StoredModel,
    catalog: Catalog,
    weights: WeightsOptions,
    *,
    for_throughput: bool,
    engine: Engine = "auto",
    pixels: Pixels | None = None,
) -> Callable[[], Embedder]:
    """Read all that the catalog has of a model now, and return a function that loads it later, in any thread."""
    options = LoadOptions(
        engine=engine,
        for_throughput=for_throughput,
        locate=lambda model: relocate_weights(model, weights),
        graph=catalog.read_graph(stored.id),
        pixels=pixels,
    )
    if stored.model.learned is None:
        return lambda: open_embedder(stored.model, options)
    label_map = read_label_map(stored, catalog)
    return lambda: MappedEmbedder(stored.model, open_embedder(stored.model.base_model, options), label_map)


class MappedEmbedder:
    """The embedder of a model with a learned map: the base model's vectors, mapped."""

    def __init__(self, model: Model, base: Embedder, label_map: LabelMap) -> None:
        self.model = model
        self.width = label_map.width
        self.engine = base.engine
        self.n_parallel = base.n_parallel
        self.notes = base.notes
        self._base = base
        self._label_map = label_map

    def embed(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed (n, side, side, 3) uint8 RGB as (n, d) float32 unit rows."""
        return self._label_map.apply(self._base.embed(batch))


def read_label_map(stored: StoredModel, catalog: Catalog) -> LabelMap:
    """Read the map of a learned model. Raises `CollectionDamaged` where it is missing or damaged."""
    learned = stored.model.learned
    with contextlib.suppress(ValueError):
        label_map = LabelMap.from_bytes(catalog.read_projection(stored.id, LEARNED_METHOD))
        if learned is not None and label_map.digest == learned.digest:
            return label_map
    problem = f"the learned map of {stored.model.backbone} is damaged"
    advice = f"delete it with `simsearch prune --backbone {stored.model.backbone}`, then learn again"
    raise CollectionDamaged(str(catalog.folder), problem, advice)
