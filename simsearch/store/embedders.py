"""Loading the models that a catalog holds. The one place that opens a stored model."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import CollectionDamaged
from simsearch.images.decode import Pixels
from simsearch.images.resize import JoinedRule
from simsearch.models.choice import relocate_weights
from simsearch.models.embedder import Embedder
from simsearch.models.fusion import RowFusion
from simsearch.models.label_map import LabelMap
from simsearch.models.loader import Engine, LoadOptions, open_embedder
from simsearch.models.model import Model
from simsearch.models.weights import WeightsOptions
from simsearch.store.catalog import Catalog, StoredModel

LEARNED_METHOD = "learned"
"""The name under which a learned map is stored among the projections of its model."""

FUSED_METHOD = "fused"
"""The name under which the centers of a fused model are stored among its projections."""

OpenModel = Callable[[], Embedder]


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
) -> OpenModel:
    """Read all that the catalog has of a model now, and return a function that loads it later, in any thread."""

    if stored.model.fusion is not None:
        open_parts = functools.partial(
            prepare_stored_model, catalog=catalog, weights=weights, for_throughput=for_throughput, engine=engine
        )
        return _prepare_fused(stored, catalog, open_parts)
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


def _prepare_fused(stored: StoredModel, catalog: Catalog, prepare: Callable[[StoredModel], OpenModel]) -> OpenModel:
    """Prepare the parts of a fused model, or of a model that was learned on one."""
    learned = stored.model.learned
    if learned is not None:
        base = _find_model(catalog, learned.base, stored)
        label_map, load_base = read_label_map(stored, catalog), _prepare_fused(base, catalog, prepare)
        return lambda: MappedEmbedder(stored.model, load_base(), label_map)
    fusion = read_row_fusion(stored, catalog)
    loads = [prepare(part) for part in find_parts(stored, catalog)]
    return lambda: FusedEmbedder(stored.model, [load() for load in loads], fusion)


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


class FusedEmbedder:
    """The embedder of a fused model: each part embeds its own squares of the input, and the rows are joined."""

    def __init__(self, model: Model, parts: Sequence[Embedder], fusion: RowFusion) -> None:
        self.model = model
        self.width = fusion.width
        self.engine = "+".join(dict.fromkeys(part.engine for part in parts))
        self.n_parallel = min(part.n_parallel for part in parts)
        self.notes = tuple(dict.fromkeys(note for part in parts for note in part.notes))
        self._parts = tuple(parts)
        self._fusion = fusion

    def embed(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed inputs (n, *input_shape) of the model as (n, d) float32 unit rows."""
        rule = self.model.resize_rule
        squares = rule.split(batch) if isinstance(rule, JoinedRule) else [batch]
        by_rule = dict(zip(self.model.input_rules, squares, strict=True))
        return self._fusion.join([part.embed(by_rule[part.model.input_rules[0]]) for part in self._parts])


def find_parts(stored: StoredModel, catalog: Catalog) -> list[StoredModel]:
    """Find the stored parts of a fused model. Raises `CollectionDamaged` where one is missing."""
    fusion = stored.model.fusion
    return [] if fusion is None else [_find_model(catalog, part.fingerprint, stored) for part in fusion.parts]


def _find_model(catalog: Catalog, fingerprint: str, stored: StoredModel) -> StoredModel:
    if (found := catalog.find_model(fingerprint)) is not None:
        return found
    name = stored.model.backbone
    problem = f"{name} needs the model {fingerprint}, which the collection has lost"
    raise CollectionDamaged(str(catalog.folder), problem, f"delete it with `simsearch prune --backbone {name}`")


def read_row_fusion(stored: StoredModel, catalog: Catalog) -> RowFusion:
    """Read the centers and weights of a fused model. Raises `CollectionDamaged` where they are missing or damaged."""
    parts = () if stored.model.fusion is None else stored.model.fusion.parts
    with contextlib.suppress(ValueError):
        fusion = RowFusion.from_bytes(catalog.read_projection(stored.id, FUSED_METHOD), [part.weight for part in parts])
        if fusion.digest == stored.model.weights:
            return fusion
    problem = f"the centers of {stored.model.backbone} are damaged"
    advice = f"delete it with `simsearch prune --backbone {stored.model.backbone}`, then index with it again"
    raise CollectionDamaged(str(catalog.folder), problem, advice)


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
