"""Measure from where on different pictures are similar: the threshold of the tier `similar`, for one model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simsearch.duplicates.options import DuplicateOptions
from simsearch.duplicates.results import Calibration
from simsearch.duplicates.similarity_graph import Floats, OriginalVectors

N_COMPARED = 200
"""The number of images whose nearest different picture is searched."""

_N_NEAREST = 48


def calibrate(originals: OriginalVectors, copies: Sequence[Sequence[int]], options: DuplicateOptions) -> Calibration:
    """Measure the threshold that the share `options.similar_share` of images has a different picture above.

    `copies` are groups of image ids that show the same picture. A sample of images is drawn with the seed.
    """
    group_of = {image_id: number for number, group in enumerate(copies) for image_id in group}
    random = np.random.default_rng(options.seed)
    sample = random.permutation(len(originals))[:N_COMPARED]
    similarities, found = originals.find_nearest(sample, _N_NEAREST)
    nearest: list[float] = []
    for position, row, others in zip(sample, similarities, found, strict=True):
        own = group_of.get(int(originals.image_ids[position]))
        ids = originals.image_ids[others].tolist()
        different = (score for score, other in zip(row, ids, strict=True) if own is None or group_of.get(other) != own)
        if (score := next(different, None)) is not None:
            nearest.append(float(score))
    threshold = options.min_similarity
    if threshold is None:
        threshold = find_threshold(np.array(nearest, np.float32), options.similar_share)
    return Calibration(similar_similarity=threshold, n_compared=len(nearest))


def find_threshold(similarities: Floats, share: float) -> float:
    """Find the lowest threshold that at most the given share of the similarities (m,) reaches; -1 if all may."""
    falling = np.sort(similarities)[::-1]
    n_allowed = int(share * len(falling))
    if n_allowed >= len(falling):
        return -1.0
    return float(np.nextafter(falling[n_allowed], np.float32(np.inf)))
