"""How a model takes changes of a picture: how similar it stays to itself, and whether it is still found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

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

_UNSEEN_SEED = 20_241_122
"""Views of this seed are in no index, unless somebody asks for it."""

_BLOCK_QUERIES = 64

_TOLERANCE = 1e-6
"""Pictures of the same pixels in other files are equally near; which of them comes first is chance."""


@dataclass(frozen=True, slots=True)
class Perturbation:
    """One kind of change at one strength; None: all ranges of augmentation at once, drawn anew for each image."""

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
    """The positions of up to n images that are changed, drawn with the seed."""
    return sorted(np.random.default_rng(seed).choice(n_images, min(n, n_images), replace=False).tolist())


def measure_robustness(
    opened: ModelProbe,
    items: Sequence[TaskImage],
    embedded: TaskVectors,
    positions: Sequence[int],
    view_counts: Sequence[int],
) -> tuple[list[RobustnessResult], int]:
    """Change the images at those positions in every way, and ask for each among all; also how many these were.

    An image is found when no other is nearer, each by the best of its first N views, for each N of `view_counts`.
    Images that cannot be read any more are not among them.
    """
    squares, kept = [], []
    for at in positions:
        try:
            squares.append(opened.decode_input(items[at].paths[0]))
            kept.append(at)
        except ImageError:
            continue
    found = []
    for change in PERTURBATIONS if kept else ():
        vectors = opened.embed(
            [
                apply_transformation(
                    square,
                    change.transformation
                    or sample_transformation(AugmentationRanges(), _UNSEEN_SEED, items[at].digest, 1),
                )
                for square, at in zip(squares, kept, strict=True)
            ]
        )
        similarity = np.sum(vectors * embedded.originals[kept], axis=1)
        hits = _compute_hit_rates(vectors, np.array(kept), embedded, view_counts)
        found.append(
            RobustnessResult(
                opened.stored.fingerprint, change.kind, change.strength, float(similarity.mean()),
                float(np.percentile(similarity, 5)), hits,
            )
        )  # fmt: skip
    return found, len(kept)


def _compute_hit_rates(
    vectors: Vectors, own: np.ndarray, embedded: TaskVectors, view_counts: Sequence[int]
) -> dict[int, float]:
    """The share of the queries (q, d) that no image is nearer to than their own, by the number of views."""
    n_found = dict.fromkeys(view_counts, 0)
    for start in range(0, len(vectors), _BLOCK_QUERIES):
        some, its = vectors[start : start + _BLOCK_QUERIES], own[start : start + _BLOCK_QUERIES]
        best = some @ embedded.originals.T
        for number in range(max(view_counts) + 1):
            if number:
                np.maximum(best, some @ embedded.augmented[:, number - 1].T, out=best)
            if number in n_found:
                n_found[number] += int((best[np.arange(len(its)), its] >= best.max(axis=1) - _TOLERANCE).sum())
    return {count: n / len(vectors) for count, n in n_found.items()}
