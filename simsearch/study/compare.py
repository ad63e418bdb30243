"""How alike pictures are under several backbones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import UnknownLayer, UsageError
from simsearch.images.views import NO_AUGMENTATION, Augmentation
from simsearch.models import histogram
from simsearch.models.choice import BUILTIN, ModelChoice, resolve_model
from simsearch.models.model import Model
from simsearch.sources.scan import Skip
from simsearch.study.vectors import ImagePath, ImageVectors, InputImages, deduplicate_choices, embed_images, name_models

MAX_COMPARED_IMAGES = 1000
"""More are half a million pairs and more: a matter for an index."""


@dataclass(frozen=True, slots=True)
class ImagePair:
    """Two images, by their positions among those compared, and their similarity under each model."""

    first: int
    second: int
    similarities: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class ImageComparison:
    """`paths` are the images that were compared, in the order named, without `skips`.

    `models` and `similarities` are by name, in the order asked for; a matrix (n, n) float64 of cosines, symmetric,
    with 1 on its diagonal.
    """

    paths: tuple[str, ...]
    models: Mapping[str, Model]
    similarities: Mapping[str, NDArray[np.float64]]
    skips: tuple[Skip, ...]
    notes: tuple[str, ...]

    @property
    def n_pairs(self) -> int:
        """How many pairs there are."""
        return len(self.paths) * (len(self.paths) - 1) // 2

    def iterate_pairs(self) -> Iterator[ImagePair]:
        """Every pair once: the first image with each that follows it, then the second, and so on."""
        for first, second in combinations(range(len(self.paths)), 2):
            of_models = {name: float(matrix[first, second]) for name, matrix in self.similarities.items()}
            yield ImagePair(first, second, of_models)


def compare(
    paths: Sequence[ImagePath], choices: Sequence[ModelChoice] = (), *, max_pixels: int | None = None
) -> ImageComparison:
    """The cosine similarity of every two pictures under each backbone, default: the built-in one.

    Of several backbones, those without the layer asked for use their features, and a note says so.

    Raises `UsageError`, a `ModelError`, `UnknownLayer` when no backbone has the layer, or an `ImageError` when fewer
    than two pictures can be read.
    """
    if not 2 <= len(paths) <= MAX_COMPARED_IMAGES:
        advice = "name two or more" if len(paths) < 2 else "index them, and ask with `simsearch query`"
        raise UsageError(f"{len(paths):,} {'image is' if len(paths) == 1 else 'images are'} no comparison", advice)
    pictures = InputImages(paths, max_pixels)
    embedded, notes = embed_with_each(pictures, choices)
    pictures.list_readable(at_least=2)
    return build_comparison(pictures, embedded, notes)


def embed_with_each(
    pictures: InputImages, choices: Sequence[ModelChoice], augmentation: Augmentation = NO_AUGMENTATION
) -> tuple[dict[str, ImageVectors], tuple[str, ...]]:
    """What each backbone makes of the pictures, by its name, in the order asked for; and what a person should know.

    Raises as `compare` does, but for the number of pictures: one readable one is enough.
    """
    asked, notes = _drop_unused_layers(deduplicate_choices(choices))
    resolved = [resolve_model(choice) for choice in asked]
    embedded, more = _embed_in_turn(pictures, resolved, asked, augmentation)
    names = name_models([each.model for each in embedded])
    of_models = (note for each in embedded for note in each.notes)
    return dict(zip(names, embedded, strict=True)), (*notes, *more, *of_models)


def build_comparison(
    pictures: InputImages, embedded: Mapping[str, ImageVectors], notes: Sequence[str]
) -> ImageComparison:
    """The similarities of pictures that were embedded already."""
    readable = pictures.list_readable()
    return ImageComparison(
        tuple(pictures.paths[at] for at in readable),
        {name: each.model for name, each in embedded.items()},
        {name: compute_cosines(each.stack_rows(readable)) for name, each in embedded.items()},
        pictures.list_skips(),
        tuple(notes),
    )


def _drop_unused_layers(choices: Sequence[ModelChoice]) -> tuple[list[ModelChoice], list[str]]:
    """Beside other backbones, `--layer` and `--pooling` do not mean one that is complete as it is."""
    kept, notes = [], []
    for choice in choices:
        is_complete = (choice.backbone or BUILTIN) in (BUILTIN, histogram.NAME)
        if is_complete and len(choices) > 1 and (choice.layer or choice.pooling):
            notes.append(f"{choice.backbone} is complete as it is: it has no layer or pooling to choose")
            choice = replace(choice, layer=None, pooling=None)
        kept.append(choice)
    return kept, notes


def _embed_in_turn(
    pictures: InputImages, models: Sequence[Model], choices: Sequence[ModelChoice], augmentation: Augmentation
) -> tuple[list[ImageVectors], list[str]]:
    embedded: list[ImageVectors] = []
    notes: list[str] = []
    failures: list[UnknownLayer] = []
    for model, choice in zip(models, choices, strict=True):
        try:
            embedded.append(embed_images(pictures, model, choice, augmentation))
        except UnknownLayer as error:
            failures.append(error)
            if len(failures) == sum(each.layer is not None for each in choices):
                raise failures[0] from None
            embedded.append(embed_images(pictures, resolve_model(replace(choice, layer=None)), choice, augmentation))
            notes.append(f"{model.backbone} has no layer {choice.layer}: its features are compared")
    return embedded, notes


def compute_cosines(rows: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Of unit rows (n, d), (n, n); rounding takes none out of [-1, 1]."""
    found = np.clip(rows.astype(np.float64) @ rows.T.astype(np.float64), -1, 1)
    np.fill_diagonal(found, 1)
    return found
