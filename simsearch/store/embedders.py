"""Loading the models that a catalog holds. The one place that opens a stored model."""

from __future__ import annotations

from collections.abc import Callable

from simsearch.images.decode import Pixels
from simsearch.models.choice import relocate_weights
from simsearch.models.embedder import Embedder
from simsearch.models.loader import Engine, LoadOptions, open_embedder
from simsearch.models.weights import WeightsOptions
from simsearch.store.catalog import Catalog, StoredModel


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
    return lambda: open_embedder(stored.model, options)
