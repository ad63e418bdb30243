"""From a query vector to ranked hits: one answer for each image, in an order that never wavers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simsearch.images.augment import Transformation
from simsearch.store.ann import AnnIndex
from simsearch.store.catalog import Catalog, LiveView

_DECIMALS = 6
"""Similarities are rounded to this before they are compared: float32 cannot tell more."""

_MARGIN = 8
_GROWTH = 4


@dataclass(frozen=True, slots=True)
class View:
    """The rendition of an image that was nearest: `original`, or an augmented one with its parameters."""

    kind: str
    parameters: Mapping[str, Any]

    @property
    def description(self) -> str:
        """What was done to the image, in a few words; nothing for the original."""
        return Transformation.from_parameters(self.parameters).describe() if self.parameters else ""


@dataclass(frozen=True, slots=True)
class Hit:
    """One answer: an image by its best view. `paths` are all its files, `path` the first of them."""

    rank: int
    similarity: float
    image_id: int
    path: str
    paths: tuple[str, ...]
    view: View


@dataclass(frozen=True, slots=True)
class Limits:
    """Which answers are wanted: how many, how close, and which contents not."""

    k: int = 10
    min_similarity: float = -1.0
    excluded_digests: Collection[str] = ()


def mean_direction(vectors: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The unit vector (d,) along the mean of unit vectors; opposite vectors that cancel out give zeros."""
    mean: NDArray[np.float32] = np.mean(vectors, axis=0, dtype=np.float32)
    length = np.linalg.norm(mean)
    return mean / length if length > 0 else mean


def nearest(query: NDArray[np.float32], index: AnnIndex, catalog: Catalog, limits: Limits) -> list[Hit]:
    """The nearest images to a unit vector (d,), by falling cosine similarity, then by rising image id.

    More is fetched until the k-th answer is certain: views of one image share an answer, images without a file
    and excluded ones give none, and equal similarities must all be seen before they are put in order.
    """
    n = limits.k + _MARGIN
    while True:
        similarities, ids = index.search(query[None], n)
        rounded = np.round(similarities[0].astype(np.float64), _DECIMALS)
        best = _best_views(zip(ids[0].tolist(), rounded.tolist(), strict=True), catalog, limits)
        ranked = sorted(best.values(), key=lambda found: (-found[0], found[1].image_id))[: limits.k]
        if n >= len(index) or rounded[-1] < limits.min_similarity:
            break
        if len(ranked) == limits.k and rounded[-1] < ranked[-1][0]:
            break
        n *= _GROWTH
    return [_hit(rank, similarity, view) for rank, (similarity, view) in enumerate(ranked, start=1)]


def _best_views(
    found: Iterable[tuple[int, float]], catalog: Catalog, limits: Limits
) -> dict[int, tuple[float, LiveView]]:
    """The nearest view of each image, with its similarity; among equally near ones the first made."""
    near = {view_id: similarity for view_id, similarity in found if similarity >= limits.min_similarity}
    best: dict[int, tuple[float, LiveView]] = {}
    for view_id, view in sorted(catalog.live_views(list(near)).items()):
        if view.digest in limits.excluded_digests:
            continue
        if view.image_id not in best or near[view_id] > best[view.image_id][0]:
            best[view.image_id] = (near[view_id], view)
    return best


def _hit(rank: int, similarity: float, view: LiveView) -> Hit:
    return Hit(rank, similarity, view.image_id, view.paths[0], tuple(view.paths), View(view.kind, view.parameters))
