"""How alike augmented views are to their own picture and to the others, and how clearly a backbone tells them apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simsearch.images.augmentation import Transformation, sample_transformation
from simsearch.images.views import Augmentation
from simsearch.study.vectors import ImageVectors


@dataclass(frozen=True, slots=True)
class AugmentedSimilarities:
    """The views of n images and their similarities under each model, by name.

    `digests` (n) are of the images' contents. `transformations` are of each image's views 1 to `n_views`. Of a
    model, `similarities` (n, n_views, n) float64: of each image, of each of its views, the cosine to each image.
    """

    digests: tuple[str, ...]
    augmentation: Augmentation
    transformations: tuple[tuple[Transformation, ...], ...]
    similarities: Mapping[str, NDArray[np.float64]]

    def select_own(self, name: str) -> NDArray[np.float64]:
        """(n, n_views): of each image, the similarity of its views to itself."""
        every = self.similarities[name]
        images = np.arange(len(every))
        own: NDArray[np.float64] = every[images, :, images]
        return own

    def is_other(self) -> NDArray[np.bool_]:
        """(n, n): which images are another than each; a copy of one under another name is not."""
        digests = np.array(self.digests)
        is_other: NDArray[np.bool_] = digests[:, None] != digests[None, :]
        return is_other

    def find_highest_other(self, name: str) -> NDArray[np.float64]:
        """(n, n_views): of each view, the highest similarity to any other image; -inf where there is none."""
        every = np.where(self.is_other()[:, None, :], self.similarities[name], -np.inf)
        highest: NDArray[np.float64] = every.max(axis=2)
        return highest


@dataclass(frozen=True, slots=True)
class Separation:
    """How far the views' similarities to their `own` images lie above those to `others`, as a backbone sees them.

    `own` (n, n_views) and `others` (m,) are float64; `n_nearest` counts the views that are more similar to their
    own image than to any other.
    """

    own: NDArray[np.float64]
    others: NDArray[np.float64]
    n_nearest: int

    @property
    def gap(self) -> float:
        """The mean to the own image less the mean to others, in the model's own scale."""
        return float(self.own.mean() - self.others.mean())

    @property
    def is_complete(self) -> bool:
        """Whether no view is as similar to another image as any view is to its own."""
        return bool(self.own.min() > self.others.max())

    @property
    def sensitivity(self) -> float:
        """The gap in units of the scatter, so that networks of different scales compare; inf where nothing scatters.

        d' with the root mean square of both standard deviations, d_a in Macmillan & Creelman 2005, eq. 3.4.
        """
        scatter = math.sqrt((float(self.own.var()) + float(self.others.var())) / 2)
        if scatter > 0:
            return self.gap / scatter
        return math.copysign(math.inf, self.gap) if self.gap else 0.0


def compare_views(
    digests: Sequence[str], embedded: Mapping[str, ImageVectors], positions: Sequence[int], augmentation: Augmentation
) -> AugmentedSimilarities:
    """Of pictures that were embedded with that augmentation, those at `positions`; `digests` are theirs."""
    transformations = tuple(
        tuple(
            sample_transformation(augmentation.ranges, augmentation.seed, digest, number)
            for number in augmentation.numbers[1:]
        )
        for digest in digests
    )
    found = {name: _compute_similarities(each, positions) for name, each in embedded.items()}
    return AugmentedSimilarities(tuple(digests), augmentation, transformations, found)


def measure_separations(augmented: AugmentedSimilarities) -> dict[str, Separation]:
    """Of each model by name, the clearest first, equally clear ones in the order asked for; none without others."""
    is_other = augmented.is_other()
    if not is_other.any():
        return {}
    found = {}
    for name, every in augmented.similarities.items():
        own, highest = augmented.select_own(name), augmented.find_highest_other(name)
        others = every.transpose(0, 2, 1)[is_other].reshape(-1)
        found[name] = Separation(own, others, int((own > highest).sum()))
    return dict(sorted(found.items(), key=lambda each: -each[1].sensitivity))


def _compute_similarities(embedded: ImageVectors, positions: Sequence[int]) -> NDArray[np.float64]:
    rows = embedded.stack_rows(positions).astype(np.float64)
    views = np.stack([embedded.views[at] for at in positions]).astype(np.float64)
    return np.clip(views @ rows.T, -1, 1)
