"""Measure the thresholds of near and similar duplicates for one model, on the collection's own pictures.

A threshold should give few images a wrong duplicate. Similarities alone cannot measure this rate, because the nearest
other image of a picture may be its duplicate. So pixel alignment (`alignment.py`) is the second criterion: the nearest
other image that does not align with a picture is its nearest *different* picture (hard negative). For a sample of
images, the similarities of these give the share above a threshold, and their likenesses give the share that would also
align. A pair is `near` if both criteria hold, so the expected rate of false positives is the product.
"""

from __future__ import annotations

import math
import statistics

import numpy as np

from simsearch.duplicates.alignment import MIN_LIKENESS
from simsearch.duplicates.calibration_samples import (
    CalibrationInputs,
    EditedSamples,
    HardNegatives,
    find_hard_negatives,
    measure_edits,
)
from simsearch.duplicates.edits import EDITS
from simsearch.duplicates.options import DuplicateOptions
from simsearch.duplicates.results import Calibration, EditRecall
from simsearch.duplicates.similarity_graph import Floats

N_EDITED = 100
"""The number of images that are edited. Each needs as many embeddings as there are edits."""

N_COMPARED = 200
"""The number of images whose nearest different picture is searched."""

_FLOOR_SHARE = 0.005
"""The share of edits that may lie below the threshold even if false positives would allow a lower threshold."""

_MAX_CORRELATION = 0.999  # atanh(1) is infinite
_N_ROUNDS = 20


def calibrate(inputs: CalibrationInputs, options: DuplicateOptions) -> Calibration:
    """Measure the thresholds of `near` and `similar` for a model on these images; deterministic for a seed.

    Raises `UnreadableFile` if no picture of the sample can be read.
    """
    random = np.random.default_rng(options.seed)
    sample = random.permutation(len(inputs.originals))[:N_COMPARED]
    edits = measure_edits(inputs, sample[:N_EDITED], random)
    negatives = find_hard_negatives(inputs, sample)
    overlaid_share = estimate_overlaid_share(negatives.likenesses)
    near = max(
        float(np.quantile(edits.similarities, _FLOOR_SHARE)),
        find_threshold(negatives.similarities, options.false_positive_rate / overlaid_share),
    )
    similar = options.min_similarity
    if similar is None:  # without any different picture, nothing below `near` is similar
        similar = find_threshold(negatives.similarities, options.similar_share) if len(negatives.similarities) else near
    return Calibration(
        near_similarity=near,
        similar_similarity=similar,
        least_likeness=MIN_LIKENESS,
        n_edited=len(edits.names) // len(EDITS),
        n_compared=len(negatives.similarities),
        close_share=_compute_close_share(negatives, near),
        overlaid_share=overlaid_share,
        recalls=_measure_recalls(edits, near),
    )


def find_threshold(similarities: Floats, share: float) -> float:
    """Find the lowest threshold that at most the given share of the similarities (m,) reaches; -1 if all may."""
    falling = np.sort(similarities)[::-1]
    n_allowed = int(share * len(falling))
    if n_allowed >= len(falling):
        return -1.0
    return float(np.nextafter(falling[n_allowed], np.float32(np.inf)))


def estimate_overlaid_share(likenesses: Floats) -> float:
    """Estimate the share of different pictures that align nevertheless, from the likenesses (m,) of those that do not.

    None of the given pictures aligns, so the tail is extrapolated. Fisher's z = atanh of a correlation is about normal
    (R. A. Fisher, On the "probable error" of a coefficient of correlation, Metron 1, 1921), here truncated at its
    upper end by the wanted share; the median and the upper sixth give its center and spread. The result is at least
    1 / m.
    """
    if not len(likenesses):
        return 1.0
    z = np.arctanh(np.clip(likenesses, -_MAX_CORRELATION, _MAX_CORRELATION))
    levels = np.array([0.5, 0.8413])
    middle, upper = np.quantile(z, levels)
    normal, beyond = statistics.NormalDist(), 0.0
    for _ in range(_N_ROUNDS):  # the truncated share moves the levels, and the levels give the truncated share
        low, high = (normal.inv_cdf(float(level)) for level in levels * (1 - beyond))
        spread = max(float(upper - middle), 1e-6) / (high - low)
        beyond = 1 - normal.cdf((math.atanh(MIN_LIKENESS) - float(middle)) / spread + low)
    return max(beyond, 1 / len(likenesses))


def _compute_close_share(negatives: HardNegatives, near: float) -> float:
    return float(np.mean(negatives.similarities >= near)) if len(negatives.similarities) else 0.0


def _measure_recalls(edits: EditedSamples, near: float) -> tuple[EditRecall, ...]:
    names = np.array(edits.names)
    is_close = edits.similarities >= near
    is_found = is_close & (edits.likenesses >= MIN_LIKENESS)
    return tuple(
        EditRecall(name, float(is_close[names == name].mean()), float(is_found[names == name].mean())) for name in EDITS
    )
