"""Pairwise cosine similarity of images under several backbones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import UnknownLayer, UsageError
from simsearch.images.views import NO_AUGMENTATION, Augmentation
from simsearch.models import histogram
from simsearch.models.choice import BUILTIN, ModelChoice, resolve_model
from simsearch.models.model import Model
from simsearch.sources.scan import Skip
from simsearch.study.vectors import (
    ImagePath,
    ImageVectors,
    InputImages,
    deduplicate_choices,
    embed_images,
    name_models,
    summarize_model,
)

MAX_COMPARED_IMAGES = 1000
"""1,000 images have about half a million pairs; for more images, an index is the right tool."""


@dataclass(frozen=True, slots=True)
class ImagePair:
    """Two images, by their positions in `ImageComparison.paths`, and their similarity under each model."""

    first: int
    second: int
    similarities: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class ImageComparison:
    """Similarities of n images under each model.

    `paths` are the images in the requested order, without `skips`. `models` and `similarities` are by model name, in
    the requested order; each matrix is (n, n) float64 cosines, symmetric, with 1 on the diagonal.
    """

    paths: tuple[str, ...]
    models: Mapping[str, Model]
    similarities: Mapping[str, NDArray[np.float64]]
    skips: tuple[Skip, ...]
    notes: tuple[str, ...]

    @property
    def n_pairs(self) -> int:
        """The number of pairs."""
        return len(self.paths) * (len(self.paths) - 1) // 2

    def iterate_pairs(self) -> Iterator[ImagePair]:
        """Yield every pair once: the first image with each later one, then the second with each later one, etc."""
        for first, second in combinations(range(len(self.paths)), 2):
            similarities = {name: float(matrix[first, second]) for name, matrix in self.similarities.items()}
            yield ImagePair(first, second, similarities)

    def to_dict(
        self, *, pictures: Mapping[str, Mapping[tuple[int, int], Path]], heat_maps: Mapping[str, Path]
    ) -> dict[str, Any]:
        """The JSON of `simsearch compare --json`.

        `pictures` are files by model name and pair of positions, `heat_maps` files by model name.
        """
        return {
            "pairs": [
                {
                    "a": self.paths[pair.first],
                    "b": self.paths[pair.second],
                    "similarities": dict(pair.similarities),
                    "pictures": {
                        name: str(files[pair.first, pair.second])
                        for name, files in pictures.items()
                        if (pair.first, pair.second) in files
                    },
                }
                for pair in self.iterate_pairs()
            ],
            "heat_maps": {name: str(file) for name, file in heat_maps.items()},
            "models": {name: summarize_model(model) for name, model in self.models.items()},
            "skipped": [asdict(skip) for skip in self.skips],
            "notes": list(self.notes),
        }


def compare(
    paths: Sequence[ImagePath], choices: Sequence[ModelChoice] = (), *, max_pixels: int | None = None
) -> ImageComparison:
    """Compute the cosine similarity of every two images under each backbone; default: the built-in backbone.

    Of several backbones, those that lack the requested layer use their default features, with a note.

    Raises `UsageError`, a `ModelError`, `UnknownLayer` when no backbone has the layer, or an `ImageError` when fewer
    than two images can be read.
    """
    if not 2 <= len(paths) <= MAX_COMPARED_IMAGES:
        advice = "name two or more" if len(paths) < 2 else "index them, and search with `simsearch query`"
        given = "1 image" if len(paths) == 1 else f"{len(paths):,} images"
        raise UsageError(f"cannot compare {given}; from 2 to {MAX_COMPARED_IMAGES:,} can be compared", advice)
    images = InputImages(paths, max_pixels)
    embedded, notes = embed_with_each(images, choices)
    images.list_readable(at_least=2)
    return build_comparison(images, embedded, notes)


def embed_with_each(
    images: InputImages, choices: Sequence[ModelChoice], augmentation: Augmentation = NO_AUGMENTATION
) -> tuple[dict[str, ImageVectors], tuple[str, ...]]:
    """Embed the images with each backbone: vectors by model name, in the requested order, and notes for the user.

    Raises as `compare` does, except that one readable image is enough.
    """
    requested, notes = _drop_unused_layers(deduplicate_choices(choices))
    resolved = [resolve_model(choice) for choice in requested]
    embedded, layer_notes = _embed_in_turn(images, resolved, requested, augmentation)
    names = name_models([each.model for each in embedded])
    model_notes = (note for each in embedded for note in each.notes)
    return dict(zip(names, embedded, strict=True)), (*notes, *layer_notes, *model_notes)


def build_comparison(
    images: InputImages, embedded: Mapping[str, ImageVectors], notes: Sequence[str]
) -> ImageComparison:
    """Compare images that are embedded already; `embedded` is by model name."""
    readable = images.list_readable()
    return ImageComparison(
        tuple(images.paths[at] for at in readable),
        {name: each.model for name, each in embedded.items()},
        {name: compute_cosines(each.stack_rows(readable)) for name, each in embedded.items()},
        images.list_skips(),
        tuple(notes),
    )


def _drop_unused_layers(choices: Sequence[ModelChoice]) -> tuple[list[ModelChoice], list[str]]:
    """Remove `layer` and `pooling` from backbones that have none, where there are other backbones; with notes."""
    kept, notes = [], []
    for choice in choices:
        is_fixed = (choice.backbone or BUILTIN) in (BUILTIN, histogram.NAME)
        if is_fixed and len(choices) > 1 and (choice.layer or choice.pooling):
            notes.append(f"{choice.backbone or BUILTIN} has no choice of layer or pooling; these options are ignored")
            choice = replace(choice, layer=None, pooling=None)
        kept.append(choice)
    return kept, notes


def _embed_in_turn(
    images: InputImages, models: Sequence[Model], choices: Sequence[ModelChoice], augmentation: Augmentation
) -> tuple[list[ImageVectors], list[str]]:
    embedded: list[ImageVectors] = []
    notes: list[str] = []
    failures: list[UnknownLayer] = []
    for model, choice in zip(models, choices, strict=True):
        try:
            embedded.append(embed_images(images, model, choice, augmentation))
        except UnknownLayer as error:
            failures.append(error)
            if len(failures) == sum(each.layer is not None for each in choices):
                raise failures[0] from None
            embedded.append(embed_images(images, resolve_model(replace(choice, layer=None)), choice, augmentation))
            notes.append(f"{model.backbone} has no layer {choice.layer}; its default features are compared")
    return embedded, notes


def compute_cosines(rows: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Compute the cosines (n, n) of unit rows (n, d), clipped to [-1, 1], with 1 on the diagonal."""
    cosines = np.clip(rows.astype(np.float64) @ rows.T.astype(np.float64), -1, 1)
    np.fill_diagonal(cosines, 1)
    return cosines
