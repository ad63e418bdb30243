"""Vectors of models that are derived from stored vectors: learned maps of a base model, and fused models.

Nothing is embedded for them. After a run of a model, those that are derived from it get the rows that they lack.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from itertools import starmap

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import UsageError
from simsearch.images.views import NO_AUGMENTATION, Augmentation
from simsearch.models.fusion import FusionTerm, RowFusion, Vectors, join_terms
from simsearch.models.model import SCALINGS, FusedPart, Fusion, Model
from simsearch.store.catalog import Catalog, StoredModel
from simsearch.store.embedders import FUSED_METHOD, find_parts, read_label_map, read_row_fusion
from simsearch.store.writer import CatalogWriter

_BLOCK_ROWS = 20_000
_MIN_SPREAD = 1e-6
"""The mean squared distance to the center below which all rows of a part are equal."""

Ids = NDArray[np.int64]
Derive = Callable[[Sequence[Vectors]], Vectors]
"""A function from the rows (n, d_i) of the bases to rows (n, d)."""


def update_derived_models(writer: CatalogWriter, fingerprint: str) -> list[StoredModel]:
    """Bring the models that are derived from a model up to date with its vectors; return those that changed.

    Models that are derived from these are updated too.
    """
    changed: list[StoredModel] = []
    for stored in find_derived_models(writer, fingerprint):
        if _update(writer, stored):
            changed += [stored, *update_derived_models(writer, stored.fingerprint)]
    return list({stored.fingerprint: stored for stored in changed}.values())


def find_derived_models(catalog: Catalog, fingerprint: str) -> list[StoredModel]:
    """Find the models whose vectors are computed from those of a model."""
    return [stored for stored in catalog.list_models() if fingerprint in list_bases(stored.model)]


def list_bases(model: Model) -> tuple[str, ...]:
    """The fingerprints of the models from whose vectors those of a model are computed; empty for other models."""
    if model.learned is not None:
        return (model.learned.base,)
    return () if model.fusion is None else tuple(part.fingerprint for part in model.fusion.parts)


def define_fusion(
    writer: CatalogWriter, parts: Sequence[StoredModel], weights: Sequence[float]
) -> tuple[StoredModel, bool]:
    """Find the fused model of some stored parts, or define it; return it, and whether its vectors have changed.

    The center of a part is the mean of its vectors of the original views that all parts have, at this moment: it stays
    the same when images are added later. Raises `UsageError` where the parts have no two different images in common.
    """
    for part in parts:
        if part.model.fusion is not None:
            raise UsageError(f"{part.model.backbone} is itself a fused model", "name its parts")
    key = [(part.fingerprint, weight) for part, weight in zip(parts, weights, strict=True)]
    for stored in writer.list_models():
        fusion = None if stored.model.learned is not None else stored.model.fusion
        if fusion is not None and [(part.fingerprint, part.weight) for part in fusion.parts] == key:
            return stored, _update(writer, stored)
    rows = RowFusion(tuple(_find_centers(writer, parts)), tuple(weights))
    fused = [(part.fingerprint, weight, part.model) for part, weight in zip(parts, weights, strict=True)]
    terms = [FusionTerm(part.model.backbone, weight) for part, weight in zip(parts, weights, strict=True)]
    model = Model(
        backbone=join_terms(terms), runtime="fused", weights=rows.digest, file=None,
        side_px=max(part.model.side_px for part in parts), resize="squash", scaling=SCALINGS["none"], layer=None,
        pooling="avg",
        fusion=Fusion(tuple(starmap(FusedPart, fused))),
    )  # fmt: skip
    with writer.transaction():
        stored = writer.add_model(model, rows.width, model.fingerprint)
        n_vectors = len(writer.list_original_ids(parts[0].id))
        writer.write_projection(stored.id, FUSED_METHOD, n_vectors, rows.to_bytes())
    _update(writer, stored)
    return stored, True


def find_bases(stored: StoredModel, catalog: Catalog) -> list[StoredModel]:
    """Find the models that a model is derived from; none where a learned one has lost its base.

    Raises `CollectionDamaged` where a fused model has lost a part.
    """
    if stored.model.learned is None:
        return find_parts(stored, catalog)
    base = catalog.find_model(stored.model.learned.base)
    return [] if base is None else [base]


def _prepare_derivation(stored: StoredModel, catalog: Catalog) -> Derive:
    if stored.model.learned is None:
        return read_row_fusion(stored, catalog).join
    label_map = read_label_map(stored, catalog)
    return lambda parts: label_map.apply(parts[0])


def _derive_vectors(writer: CatalogWriter, bases: Sequence[StoredModel], stored: StoredModel, view_ids: Ids) -> None:
    """Compute the rows of some views from those of the bases, and write them; a view without a direction has none."""
    derive = _prepare_derivation(stored, writer)
    for start in range(0, len(view_ids), _BLOCK_ROWS):
        block = view_ids[start : start + _BLOCK_ROWS]
        rows = derive([_read_rows(writer, base, block) for base in bases])
        has_direction = np.any(rows, axis=1)
        with writer.transaction():
            writer.add_vectors(stored.id, block[has_direction], rows[has_direction])


def _update(writer: CatalogWriter, stored: StoredModel) -> bool:
    """Add the vectors that a derived model lacks; return whether there were any."""
    bases = find_bases(stored, writer)
    if not bases:
        return False
    views = _find_common_views([base.augmentation for base in bases])
    if views != stored.augmentation:
        with writer.transaction():
            stored = writer.set_augmentation(stored, views)
    missing = np.setdiff1d(_list_common_ids(writer, bases, views), writer.list_vector_ids(stored.id))
    if len(missing):
        _derive_vectors(writer, bases, stored, missing)
    return len(missing) > 0


def _find_common_views(augmentations: Sequence[Augmentation]) -> Augmentation:
    """The augmented views that all bases have; none where their ranges or seeds differ."""
    first = min(augmentations, key=lambda one: one.n_views)
    return first if all(one.has_same_views(first) for one in augmentations) else NO_AUGMENTATION


def _list_common_ids(writer: CatalogWriter, bases: Sequence[StoredModel], views: Augmentation) -> Ids:
    """The ids of the views, among those of an augmentation, that have a vector of all bases, ascending."""
    numbers = [writer.list_view_numbers(base.id) for base in bases]
    ids = [rows[rows[:, 2] <= views.n_views, 0] for rows in numbers]
    return functools.reduce(np.intersect1d, ids)


def _find_centers(writer: CatalogWriter, parts: Sequence[StoredModel]) -> list[Vectors]:
    ids = functools.reduce(np.intersect1d, [writer.list_original_ids(part.id) for part in parts])
    centers = []
    for part in parts:
        total, n_rows = np.zeros(part.width), 0
        for _, rows in writer.iterate_vectors(part, ids):
            total, n_rows = total + rows.sum(axis=0, dtype=np.float64), n_rows + len(rows)
        center = total / max(n_rows, 1)
        if n_rows < 2 or 1 - float(center @ center) < _MIN_SPREAD:
            name = part.model.backbone
            raise UsageError(
                f"the images of {name} are fewer than two, or all equal: it has no center to join it at",
                "index two different pictures or more with each of the backbones",
            )
        centers.append(center.astype(np.float32))
    return centers


def _read_rows(writer: CatalogWriter, base: StoredModel, view_ids: Ids) -> Vectors:
    """Read the rows (n, d) of views, in their order, which is ascending."""
    rows = np.empty((len(view_ids), base.width), np.float32)
    for ids, block in writer.iterate_vectors(base, view_ids):
        rows[np.searchsorted(view_ids, ids)] = block
    return rows
