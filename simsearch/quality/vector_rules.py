"""Rules on the vectors of a collection: images far from all others, and labels that the nearest images do not have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simsearch.index.exact import ExactIndex
from simsearch.quality.results import QualityFinding
from simsearch.store.snapshot import StoredImage

N_NEIGHBORS = 10
_N_OUTLIER_NEIGHBORS = 3
MIN_IMAGES = 30
"""Fewer images say nothing about what is far and what is usual."""

_OUTLIER_DEVIATIONS = 5.0
_MAD_TO_SIGMA = 1.4826
_MIN_AGREEMENT = 8
_MIN_CLASS_SIZE = 4
_BLOCK = 256


@dataclass(frozen=True, slots=True)
class NearestImages:
    """For each of n images the rows of its nearest other images (n, k), -1 where there are fewer, and their cosines."""

    rows: NDArray[np.int64]
    similarities: NDArray[np.float32]


def find_nearest(
    index: ExactIndex, view_ids: NDArray[np.int64], n_views_per_image: int, progress: Callable[[float], None]
) -> NearestImages:
    """Find the nearest other images of the original views (n,), ascending, of an index with all vectors of a model."""
    n, k = len(view_ids), N_NEIGHBORS
    rows = np.full((n, k), -1, np.int64)
    similarities = np.full((n, k), -1.0, np.float32)
    wanted = min(len(index), (k + 1) * n_views_per_image)
    for start in range(0, n, _BLOCK):
        own = np.arange(start, min(start + _BLOCK, n))
        vectors = index.read_vectors(view_ids[own])
        found, ids = index.search(vectors, wanted)
        places = np.searchsorted(view_ids, ids)
        places[(places >= n) | (view_ids[np.minimum(places, n - 1)] != ids)] = -1  # augmented views, deleted images
        places[places == own[:, None]] = -1
        order = np.argsort(places < 0, axis=1, kind="stable")[:, :k]  # what counts first, the nearest first
        kept = order.shape[1]
        rows[own, :kept] = np.take_along_axis(places, order, 1)
        similarities[own, :kept] = np.take_along_axis(found, order, 1)
        progress(float(own[-1] + 1) / n)
    similarities[rows < 0] = -1.0
    return NearestImages(rows, similarities)


def find_outliers(images: Sequence[StoredImage], nearest: NearestImages) -> Iterator[QualityFinding]:
    """Images whose three nearest ones are much less similar than usual: five robust deviations below the median."""
    if len(images) < MIN_IMAGES:
        return
    means = nearest.similarities[:, :_N_OUTLIER_NEIGHBORS].mean(1).astype(np.float64)
    median = float(np.median(means))
    deviation = max(1e-3, _MAD_TO_SIGMA * float(np.median(np.abs(means - median))))
    limit = median - _OUTLIER_DEVIATIONS * deviation
    for row in np.flatnonzero(means < limit).tolist():
        reason = f"its nearest images have a cosine of {means[row]:.2f}; usual are {median:.2f}"
        yield QualityFinding("outlier", images[row].image_id, images[row].files[0].path, float(means[row]), reason)


def find_mislabelled(
    images: Sequence[StoredImage], labels: Sequence[str | None], nearest: NearestImages
) -> Iterator[QualityFinding]:
    """Images of whose ten nearest ones at least eight have one other label, and none has theirs.

    The other label, and their own one, must have four images or more.
    """
    sizes = Counter(label for label in labels if label is not None)
    for row, label in enumerate(labels):
        if label is None or sizes[label] < _MIN_CLASS_SIZE:
            continue
        near = Counter(labels[other] for other in nearest.rows[row].tolist() if other >= 0)
        other, n = max(near.items(), key=lambda pair: pair[1], default=(None, 0))
        if other in (None, label) or near[label] or n < _MIN_AGREEMENT or sizes[other] < _MIN_CLASS_SIZE:
            continue
        reason = f"labelled {label}, but {n} of its {N_NEIGHBORS} nearest images are {other}"
        yield QualityFinding("mislabelled", images[row].image_id, images[row].files[0].path, n / N_NEIGHBORS, reason)
