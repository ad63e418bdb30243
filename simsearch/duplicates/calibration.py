"""Thresholds for one model from one collection's own pictures: no number that was right for somebody else's.

What is asked of a threshold is how often it gives an image a wrong partner. That cannot be read from the
similarities alone: the nearest other image of a picture may well be its duplicate. So the pixels are the second
witness (`overlay.py`): the nearest other that cannot be laid over the picture is the nearest *different* one. Of a
sample of images these rivals tell how many come close by the model; how high their likenesses reach tells how many
would also pass the overlay. A pair is `near` when both witnesses agree, so the rate to expect is the product.
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
from simsearch.duplicates.results import Calibration, DuplicateOptions, EditRecall
from simsearch.duplicates.similarity_graph import Floats

N_EDITED = 100
"""Images that are edited. Each costs as many embeddings as there are edits."""

N_COMPARED = 200
"""Images whose nearest different picture is looked for."""

_FLOOR_SHARE = 0.005
"""The share of edits that may lie below the threshold when false positives would allow a lower one."""

_MAX_CORRELATION = 0.999  # atanh(1) is infinite
_N_ROUNDS = 20


def calibrate(inputs: CalibrationInputs, options: DuplicateOptions) -> Calibration:
    """Where `near` and `similar` begin for this model on these images. The same seed gives the same answer.

    Raises `Unreadable` when no picture of the sample can be read.
    """
    random = np.random.default_rng(options.seed)
    sample = random.permutation(len(inputs.originals))[:N_COMPARED]
    edits = measure_edits(inputs, sample[:N_EDITED], random)
    different = find_hard_negatives(inputs, sample)
    overlaid_share = estimate_overlaid_share(different.likenesses)
    near = max(
        float(np.quantile(edits.similarities, _FLOOR_SHARE)),
        find_threshold(different.similarities, options.false_positive_rate / overlaid_share),
    )
    similar = options.min_similarity
    if similar is None:  # without anything different there is nothing to call similar
        similar = find_threshold(different.similarities, options.similar_share) if len(different.similarities) else near
    return Calibration(
        near_similarity=near,
        similar_similarity=similar,
        least_likeness=MIN_LIKENESS,
        n_edited=len(edits.names) // len(EDITS),
        n_compared=len(different.similarities),
        close_share=_compute_close_share(different, near),
        overlaid_share=overlaid_share,
        recalls=_measure_recalls(edits, near),
    )


def find_threshold(similarities: Floats, share: float) -> float:
    """The least similarity that at most that share of them (m,) reaches; -1 where all may."""
    falling = np.sort(similarities)[::-1]
    n_allowed = int(share * len(falling))
    if n_allowed >= len(falling):
        return -1.0
    return float(np.nextafter(falling[n_allowed], np.float32(np.inf)))


def estimate_overlaid_share(likenesses: Floats) -> float:
    """How many different pictures can be laid over each other all the same, from those (m,) that cannot.

    By construction none of them can, so the tail is extrapolated. Fisher's z = atanh of a correlation is about normal
    (R. A. Fisher, On the "probable error" of a coefficient of correlation, Metron 1, 1921), here with the share in
    question cut off at its upper end; the median and the upper sixth tell its middle and spread. Never less than one
    in as many as were looked at.
    """
    if not len(likenesses):
        return 1.0
    z = np.arctanh(np.clip(likenesses, -_MAX_CORRELATION, _MAX_CORRELATION))
    levels = np.array([0.5, 0.8413])
    middle, upper = np.quantile(z, levels)
    normal, beyond = statistics.NormalDist(), 0.0
    for _ in range(_N_ROUNDS):  # what is cut off moves the levels, and the levels tell what is cut off
        low, high = (normal.inv_cdf(float(level)) for level in levels * (1 - beyond))
        spread = max(float(upper - middle), 1e-6) / (high - low)
        beyond = 1 - normal.cdf((math.atanh(MIN_LIKENESS) - float(middle)) / spread + low)
    return max(beyond, 1 / len(likenesses))


def _compute_close_share(different: HardNegatives, near: float) -> float:
    return float(np.mean(different.similarities >= near)) if len(different.similarities) else 0.0


def _measure_recalls(edits: EditedSamples, near: float) -> tuple[EditRecall, ...]:
    names = np.array(edits.names)
    is_close = edits.similarities >= near
    is_found = is_close & (edits.likenesses >= MIN_LIKENESS)
    return tuple(
        EditRecall(name, float(is_close[names == name].mean()), float(is_found[names == name].mean())) for name in EDITS
    )
