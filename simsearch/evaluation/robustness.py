"""Robustness of a model to perturbed images: their similarity to the original, and whether it is still found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import ImageError
from simsearch.evaluation.embedding import TaskVectors, Vectors
from simsearch.evaluation.model_probe import ModelProbe
from simsearch.evaluation.protocol import TaskImage
from simsearch.evaluation.results import RobustnessResult
from simsearch.images.augmentation import (
    AugmentationRanges,
    Transformation,
    apply_transformation,
    sample_transformation,
)
from simsearch.images.decode import Pixels
from simsearch.images.resize import InputRule

_UNSEEN_SEED = 20_241_122
"""An index contains no views of this seed, unless a user sets it."""

_BLOCK_QUERIES = 64

_TOLERANCE = 1e-6
"""Images with the same pixels in different files have equal similarity; their order is arbitrary."""


@dataclass(frozen=True, slots=True)
class Perturbation:
    """One kind of transformation at one strength; None: all augmentation ranges at once, drawn for each image."""

    kind: str
    strength: str
    transformation: Transformation | None


PERTURBATIONS = (
    Perturbation("rotation", "10 deg", Transformation(rotation_deg=10)),
    Perturbation("rotation", "25 deg", Transformation(rotation_deg=25)),
    Perturbation("shear", "10 deg", Transformation(shear_deg=10)),
    Perturbation("shear", "25 deg", Transformation(shear_deg=25)),
    Perturbation("shift", "10 %", Transformation(shift_x=0.1, shift_y=0.1)),
    Perturbation("shift", "25 %", Transformation(shift_x=0.25, shift_y=0.25)),
    Perturbation("zoom in", "1.25 x", Transformation(zoom_x=0.8, zoom_y=0.8)),
    Perturbation("zoom in", "2 x", Transformation(zoom_x=0.5, zoom_y=0.5)),
    Perturbation("brightness", "+30", Transformation(channel_shift=30)),
    Perturbation("brightness", "-60", Transformation(channel_shift=-60)),
    Perturbation("flip", "mirrored", Transformation(is_flipped=True)),
    Perturbation("all at once", "unseen seed", None),
)


def sample_positions(n_images: int, n: int, seed: int) -> list[int]:
    """Draw the positions of up to n images without replacement, in ascending order."""
    return sorted(np.random.default_rng(seed).choice(n_images, min(n, n_images), replace=False).tolist())


def measure_robustness(
    probe: ModelProbe,
    images: Sequence[TaskImage],
    vectors: TaskVectors,
    positions: Sequence[int],
    view_counts: Sequence[int],
) -> tuple[list[RobustnessResult], int]:
    """Perturb the images at `positions` in every way and search for each among all; also return how many there were.

    An image is found when no other image is more similar, each by the best of its first N views, for each N of
    `view_counts`. Images that can no longer be read are left out.
    """
    rule, squares, kept = probe.stored.model.resize_rule, [], []
    for at in positions:
        try:
            squares.append(probe.decode_input(images[at].paths[0]))
            kept.append(at)
        except ImageError:
            continue
    results = []
    for perturbation in PERTURBATIONS if kept else ():
        digests = [images[at].digest for at in kept]
        perturbed = probe.embed(
            [_perturb(square, perturbation, digest, rule) for square, digest in zip(squares, digests, strict=True)]
        )
        similarity = np.sum(perturbed * vectors.originals[kept], axis=1)
        hits = _compute_hit_rates(perturbed, np.array(kept), vectors, view_counts)
        results.append(
            RobustnessResult(
                probe.stored.fingerprint, perturbation.kind, perturbation.strength, float(similarity.mean()),
                float(np.percentile(similarity, 5)), hits,
            )
        )  # fmt: skip
    return results, len(kept)


def _perturb(pixels: Pixels, perturbation: Perturbation, digest: str, rule: InputRule) -> Pixels:
    drawn = sample_transformation(AugmentationRanges(), _UNSEEN_SEED, digest, 1)
    transformation = perturbation.transformation or drawn
    return rule.transform(pixels, partial(apply_transformation, transformation=transformation))


def _compute_hit_rates(
    queries: Vectors, own: NDArray[np.int64], vectors: TaskVectors, view_counts: Sequence[int]
) -> dict[int, float]:
    """The share of the queries (q, d) to which no image is more similar than their own, by the number of views."""
    n_found = dict.fromkeys(view_counts, 0)
    for start in range(0, len(queries), _BLOCK_QUERIES):
        block, own_block = queries[start : start + _BLOCK_QUERIES], own[start : start + _BLOCK_QUERIES]
        best = block @ vectors.originals.T
        for number in range(max(view_counts) + 1):
            if number:
                np.maximum(best, block @ vectors.augmented[:, number - 1].T, out=best)
            if number in n_found:
                own_similarity = best[np.arange(len(own_block)), own_block]
                n_found[number] += int((own_similarity >= best.max(axis=1) - _TOLERANCE).sum())
    return {count: n / len(queries) for count, n in n_found.items()}
