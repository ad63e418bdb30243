"""The search for duplicates asked of a collection, and what a person answered to it, which is remembered."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from simsearch.duplicates.results import DuplicateOptions, DuplicateReport
from simsearch.duplicates.search import SearchedModel, find_duplicates
from simsearch.errors import ImageNotFound, ModelError, UsageError
from simsearch.index.cache import IndexBackend
from simsearch.models.weights import WeightsOptions
from simsearch.store.catalog import Catalog, StoredModel
from simsearch.store.embedders import open_stored_model
from simsearch.store.writer import CatalogWriter

StageProgress = Callable[[str, float], None]
"""Is told the stage and the share of it that is done."""


def search_duplicates(
    catalog: Catalog, cache: IndexBackend, stored: StoredModel, *,
    options: DuplicateOptions, order: WeightsOptions, progress: StageProgress,
) -> DuplicateReport:  # fmt: skip
    """What a collection holds more than once; pairs that were rejected are never put together again.

    Raises what `find_duplicates` raises, and `ModelError` where more than `exact` is asked of imported vectors.
    """
    if stored.model.runtime == "imported" and options.down_to != "exact":
        problem = f"the vectors of {stored.model.backbone} were imported: edited pictures cannot be embedded with it"
        raise ModelError(problem, "name another --backbone, or look for exact duplicates only (--tier exact)")
    model = SearchedModel(
        stored,
        cache.open_exact_index(stored.fingerprint),
        lambda: open_stored_model(stored, catalog, order, for_throughput=True),
    )
    return find_duplicates(catalog, model, options, rejected=catalog.list_rejected_pairs(), progress=progress)


def reject(writer: CatalogWriter, image_ids: Sequence[int]) -> int:
    """Remember that none of those images is a duplicate of another of them; how many pairs that is.

    Raises `UsageError` on fewer than two images, `ImageNotFound` when one is not in the collection.
    """
    pairs = _list_pairs(writer, image_ids)
    with writer.transaction():
        writer.reject_pairs(pairs)
    return len(pairs)


def unreject(writer: CatalogWriter, image_ids: Sequence[int]) -> int:
    """Forget what was remembered of those images among each other; how many pairs that is. Raises as `reject`."""
    pairs = _list_pairs(writer, image_ids)
    with writer.transaction():
        return writer.unreject_pairs(pairs)


def _list_pairs(catalog: Catalog, image_ids: Sequence[int]) -> list[tuple[int, int]]:
    """Every two of the images, the smaller id first."""
    ids = sorted(set(image_ids))
    if len(ids) < 2:
        raise UsageError("one image makes no pair", "name the ids of two or more that are no duplicates, as in 12,15")
    for image_id in ids:
        if catalog.find_original_view(image_id) is None:
            folder = catalog.folder
            raise ImageNotFound(str(folder), f"{folder} has no image {image_id}", "groups show the ids")
    return list(itertools.combinations(ids, 2))
