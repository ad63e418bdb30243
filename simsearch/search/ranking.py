"""Rank images by their similarity to a query: one hit per image, in a deterministic order."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simsearch.index.protocol import Searchable
from simsearch.search.results import Hit, View
from simsearch.store.catalog import Catalog, LiveView

SIMILARITY_DECIMALS = 6
"""Similarities are rounded to so many decimals before they are compared: float32 has no more."""

_ROUNDING = 1e-5
_MARGIN = 8
_GROWTH = 4


@dataclass(frozen=True, slots=True)
class RankingLimits:
    """Which hits are returned: their number (None: all) after the offset, the minimum similarity, excluded contents."""

    k: int | None = 10
    min_similarity: float = -1.0
    excluded_digests: Collection[str] = ()
    offset: int = 0


@dataclass(frozen=True, slots=True)
class ImageCandidate:
    """An image with its most similar view, before it has a rank."""

    similarity: float
    view: LiveView


def rank_hits(query: NDArray[np.float32], index: Searchable, catalog: Catalog, limits: RankingLimits) -> list[Hit]:
    """Rank the nearest images to a unit vector (d,), by falling cosine similarity, then by rising image id.

    With several vectors (m, d) the similarity of an image is that to the nearest of them.
    """
    return number_hits(rank_candidates(query, index, catalog, limits), limits)


def number_hits(found: Sequence[ImageCandidate], limits: RankingLimits) -> list[Hit]:
    """Give ranks to sorted candidates, and select those from the offset on, at most k."""
    end = None if limits.k is None else limits.offset + limits.k
    return [_build_hit(rank, one) for rank, one in enumerate(found[limits.offset : end], start=limits.offset + 1)]


def rank_candidates(
    query: NDArray[np.float32], index: Searchable, catalog: Catalog, limits: RankingLimits
) -> list[ImageCandidate]:
    """Find the first images in the order of `rank_hits`, including those before the offset.

    The search is repeated with more results until the last candidate is certain: several views may belong to one image,
    images without a file and excluded images are skipped, and equal similarities must all be known before sorting.
    """
    queries = np.atleast_2d(query)
    if limits.k is None:
        found = [index.range_search(one, limits.min_similarity - _ROUNDING) for one in queries]
        near = _round_similarities(*(np.concatenate(parts) for parts in zip(*found, strict=True)))
        return _sort_candidates(_choose_best_views(near, catalog, limits))
    n_wanted = limits.offset + limits.k
    n = n_wanted + _MARGIN
    while True:
        similarities, ids = index.search(queries, n)
        rounded = _round_similarities(similarities.ravel(), ids.ravel())
        if len(queries) == 1 and (first := _rank_first(rounded, n_wanted, catalog, limits)) is not None:
            return first
        ranked = _sort_candidates(_choose_best_views(rounded, catalog, limits))[:n_wanted]
        lowest = round(float(similarities[:, -1:].max(initial=-1)), SIMILARITY_DECIMALS)  # what is not found is lower
        if len(ranked) == n_wanted and lowest < ranked[-1].similarity:
            return ranked
        if n >= len(index) or lowest < limits.min_similarity:  # counting a filtered part may take an SQL query
            return ranked
        n *= _GROWTH


def _rank_first(
    found: Sequence[tuple[int, float]], n: int, catalog: Catalog, limits: RankingLimits
) -> list[ImageCandidate] | None:
    """Rank the first n of sorted results, where they are n images and the next result is less similar; else None.

    That is the usual case, in which no other view need be looked up.
    """
    if n >= len(found) or found[n][1] == found[n - 1][1]:
        return None
    ranked = _sort_candidates(_choose_best_views(found[:n], catalog, limits))
    return ranked if len(ranked) == n else None


def _round_similarities(similarities: NDArray[np.float32], ids: NDArray[np.int64]) -> list[tuple[int, float]]:
    pairs = zip(ids.tolist(), similarities.tolist(), strict=True)
    return [(view_id, round(similarity, SIMILARITY_DECIMALS)) for view_id, similarity in pairs]


def _sort_candidates(found: Iterable[ImageCandidate]) -> list[ImageCandidate]:
    return sorted(found, key=lambda one: (-one.similarity, one.view.image_id))


def _choose_best_views(
    found: Iterable[tuple[int, float]], catalog: Catalog, limits: RankingLimits
) -> Iterable[ImageCandidate]:
    """Choose the most similar view of each image; among equal ones the view that was indexed first."""
    near: dict[int, float] = {}
    for view_id, similarity in found:
        if similarity >= limits.min_similarity and similarity >= near.get(view_id, -1.0):
            near[view_id] = similarity
    best: dict[int, ImageCandidate] = {}
    for view_id, view in sorted(_find_views(list(near), catalog, limits).items()):
        if view.digest in limits.excluded_digests:
            continue
        if view.image_id not in best or near[view_id] > best[view.image_id].similarity:
            best[view.image_id] = ImageCandidate(near[view_id], view)
    return best.values()


def _find_views(view_ids: Sequence[int], catalog: Catalog, limits: RankingLimits) -> dict[int, LiveView]:
    return catalog.find_live_views(view_ids, with_digests=bool(limits.excluded_digests))


def _build_hit(rank: int, found: ImageCandidate) -> Hit:
    view = found.view
    paths = tuple(view.paths)
    return Hit(rank, found.similarity, view.image_id, paths[0], paths, View(view.kind, view.parameters))
