"""Similarity of augmented views to their own image and to other images, and how well a backbone separates the two."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simsearch.images.augmentation import Transformation, sample_transformation
from simsearch.images.views import Augmentation
from simsearch.study.vectors import ImageVectors


@dataclass(frozen=True, slots=True)
class AugmentedSimilarities:
    """The augmented views of n images, and their similarities to the images under each model.

    `digests` (n) are the images' content digests. `transformations` are those of views 1 to `n_views` of each image.
    `similarities` are by model name: (n, n_views, n) float64, the cosine of each view of each image to each image.
    """

    digests: tuple[str, ...]
    augmentation: Augmentation
    transformations: tuple[tuple[Transformation, ...], ...]
    similarities: Mapping[str, NDArray[np.float64]]

    def select_own(self, name: str) -> NDArray[np.float64]:
        """Select the similarities of each image's views to that image under a model: (n, n_views)."""
        similarities = self.similarities[name]
        images = np.arange(len(similarities))
        own: NDArray[np.float64] = similarities[images, :, images]
        return own

    def is_other(self) -> NDArray[np.bool_]:
        """Whether two images differ in content: (n, n). A copy under another name is the same image."""
        digests = np.array(self.digests)
        is_other: NDArray[np.bool_] = digests[:, None] != digests[None, :]
        return is_other

    def find_highest_other(self, name: str) -> NDArray[np.float64]:
        """Find the highest similarity of each view to any other image: (n, n_views); -inf where there is none."""
        others = np.where(self.is_other()[:, None, :], self.similarities[name], -np.inf)
        highest: NDArray[np.float64] = others.max(axis=2)
        return highest

    def to_dict(self, paths: Sequence[str], files: Sequence[Sequence[str]]) -> dict[str, Any]:
        """The views in the JSON of a study; `paths` are the images (n), `files` the view files of each image."""
        images = [
            {
                "image": path,
                "views": [
                    {
                        "number": number,
                        "file": files[at][number - 1],
                        **asdict(transformation),
                        "similarities": self._list_similarities(at, number),
                    }
                    for number, transformation in enumerate(self.transformations[at], start=1)
                ],
            }
            for at, path in enumerate(paths)
        ]
        augmentation = self.augmentation
        return {
            "n": augmentation.n_views,
            "seed": augmentation.seed,
            "ranges": asdict(augmentation.ranges),
            "images": images,
        }

    def _list_similarities(self, at: int, number: int) -> dict[str, Any]:
        """The similarities of one view under each model: to its own image, and to every image in order."""
        found = {}
        for name, similarities in self.similarities.items():
            values = [float(value) for value in similarities[at, number - 1]]
            found[name] = {"own": values[at], "images": values}
        return found


@dataclass(frozen=True, slots=True)
class Separation:
    """Similarities of views to their own images and to other images, under one backbone.

    `own` (n, n_views) and `others` (m,) are float64; `n_nearest` is the number of views that are more similar to their
    own image than to any other.
    """

    own: NDArray[np.float64]
    others: NDArray[np.float64]
    n_nearest: int

    @property
    def gap(self) -> float:
        """Mean similarity to the own image minus mean similarity to other images."""
        return float(self.own.mean() - self.others.mean())

    @property
    def is_complete(self) -> bool:
        """Whether every similarity to an own image is higher than every similarity to another image."""
        return bool(self.own.min() > self.others.max())

    @property
    def sensitivity(self) -> float:
        """The gap divided by the standard deviation, comparable across networks; inf where the deviation is 0.

        d' with the root mean square of both standard deviations, d_a in Macmillan & Creelman 2005, eq. 3.4.
        """
        deviation = math.sqrt((float(self.own.var()) + float(self.others.var())) / 2)
        if deviation > 0:
            return self.gap / deviation
        return math.copysign(math.inf, self.gap) if self.gap else 0.0

    def to_dict(self, backbone: str) -> dict[str, Any]:
        """The separation in the JSON of a study; an infinite sensitivity is null."""
        return {
            "backbone": backbone,
            "own_mean": float(self.own.mean()),
            "own_least": float(self.own.min()),
            "others_mean": float(self.others.mean()),
            "others_greatest": float(self.others.max()),
            "gap": self.gap,
            "sensitivity": self.sensitivity if math.isfinite(self.sensitivity) else None,
            "views": self.own.size,
            "views_nearest_to_own": self.n_nearest,
        }


def compare_views(
    digests: Sequence[str], embedded: Mapping[str, ImageVectors], positions: Sequence[int], augmentation: Augmentation
) -> AugmentedSimilarities:
    """Compare augmented views with their images.

    `embedded` was made with `augmentation`; `positions` select the images, and `digests` are their digests.
    """
    transformations = tuple(
        tuple(
            sample_transformation(augmentation.ranges, augmentation.seed, digest, number)
            for number in augmentation.numbers[1:]
        )
        for digest in digests
    )
    similarities = {name: _compute_similarities(each, positions) for name, each in embedded.items()}
    return AugmentedSimilarities(tuple(digests), augmentation, transformations, similarities)


def measure_separations(augmented: AugmentedSimilarities) -> dict[str, Separation]:
    """Measure the separation under each model, by model name, the highest sensitivity first.

    Equal ones keep the requested order. Empty where there are no two different images.
    """
    is_other = augmented.is_other()
    if not is_other.any():
        return {}
    found = {}
    for name, similarities in augmented.similarities.items():
        own, highest = augmented.select_own(name), augmented.find_highest_other(name)
        others = similarities.transpose(0, 2, 1)[is_other].reshape(-1)
        found[name] = Separation(own, others, int((own > highest).sum()))
    return dict(sorted(found.items(), key=lambda item: -item[1].sensitivity))


def _compute_similarities(embedded: ImageVectors, positions: Sequence[int]) -> NDArray[np.float64]:
    rows = embedded.stack_rows(positions).astype(np.float64)
    views = np.stack([embedded.views[at] for at in positions]).astype(np.float64)
    return np.clip(views @ rows.T, -1, 1)
