"""Vectors of a few image files under several models, for `predict`, `compare` and `study`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import ImageError, UsageError
from simsearch.images.decode import Pixels, compute_default_max_pixels
from simsearch.images.views import NO_AUGMENTATION, Augmentation
from simsearch.ingest.embed import BATCH_SIZE, embed_pixels
from simsearch.ingest.prepare import decode_files
from simsearch.models.choice import DEFAULT_BACKBONE, ModelChoice
from simsearch.models.embedder import Embedder
from simsearch.models.loader import LoadOptions
from simsearch.models.model import Model
from simsearch.models.precision import count_sample_images, open_with_precision
from simsearch.models.weights import RANDOM_WEIGHTS
from simsearch.sources.scan import FoundFile, Skip

ImagePath = str | os.PathLike[str]


class InputImages:
    """Image files in the requested order.

    A file that cannot be read under one model is left out of all; its error is kept, and the file is not read again.
    `digests` are the content digests of the files that were read, by position.
    """

    def __init__(self, paths: Sequence[ImagePath], max_pixels: int | None = None) -> None:
        if not paths:
            raise UsageError("no image was named", "name an image")
        self.paths = [os.fspath(path) for path in paths]
        self._max_pixels = max_pixels or compute_default_max_pixels()
        self._errors: dict[int, ImageError] = {}
        self.digests: dict[int, str] = {}

    def decode(self, model: Model) -> Iterator[tuple[int, Pixels]]:
        """Decode the files that are readable so far: their positions and the input of the model (side, side, 3)."""
        positions = [at for at in range(len(self.paths)) if at not in self._errors]
        files = [FoundFile(self.paths[at], 0, 0) for at in positions]
        decoded = decode_files(files, model, max_pixels=self._max_pixels)
        for at, file in zip(positions, decoded, strict=True):
            if file.failure is not None:
                self._errors[at] = file.failure
            else:
                self.digests[at] = file.digest
                yield at, file.pixels[0]

    def list_readable(self, *, at_least: int = 1) -> list[int]:
        """List the positions of the files that could be read under every model.

        Raises the first `ImageError` when there are fewer than `at_least`.
        """
        readable = [at for at in range(len(self.paths)) if at not in self._errors]
        if len(readable) < at_least:
            raise self.first_error
        return readable

    @property
    def first_error(self) -> ImageError:
        """The error of the first file that cannot be read."""
        return self._errors[min(self._errors)]

    def list_skips(self) -> tuple[Skip, ...]:
        """List the files that could not be read, with the reasons."""
        return tuple(Skip(self.paths[at], self._errors[at].reason) for at in sorted(self._errors))


@dataclass(frozen=True, slots=True)
class ImageVectors:
    """Vectors of images under one model: a unit vector (d,) for each readable position.

    `views` are the vectors (n_views, d) of an image's augmented views, in the order of their numbers.
    """

    model: Model
    vectors: dict[int, NDArray[np.float32]]
    views: dict[int, NDArray[np.float32]]
    notes: tuple[str, ...]

    def stack_rows(self, positions: Sequence[int]) -> NDArray[np.float32]:
        """Stack the vectors of those positions: (n, d) float32 unit rows."""
        return np.stack([self.vectors[at] for at in positions])


def embed_images(
    images: InputImages, model: Model, choice: ModelChoice, augmentation: Augmentation = NO_AUGMENTATION
) -> ImageVectors:
    """Embed the images and their augmented views with the precision and engine of `choice`; loads the network once.

    Views are made from the square that the network sees, as for an index.

    Raises a `ModelError`, or the first `ImageError` when no image can be read.
    """
    decoded = images.decode(model)
    sample = list(islice(decoded, count_sample_images(model, choice.precision)))
    if not sample:
        raise images.first_error
    pixels = np.stack([square for _, square in sample])  # they decide on the precision, as for an index
    opened = open_with_precision(model, choice.precision, LoadOptions(engine=choice.engine, pixels=pixels))
    vectors: dict[int, NDArray[np.float32]] = {}
    views: dict[int, NDArray[np.float32]] = {}
    remaining = chain(sample, decoded)
    while batch := list(islice(remaining, BATCH_SIZE)):
        rows = embed_pixels([square for _, square in batch], opened.embedder)
        for (at, square), vector in zip(batch, rows, strict=True):
            vectors[at] = vector
            if augmentation.n_views:
                views[at] = _embed_views(opened.embedder, square, images.digests[at], augmentation)
    notes = list(opened.notes)
    if model.weights == RANDOM_WEIGHTS:
        notes.append(f"{model.backbone} has random weights: its results are meaningless")
    return ImageVectors(opened.model, vectors, views, tuple(notes))


def _embed_views(embedder: Embedder, square: Pixels, digest: str, augmentation: Augmentation) -> NDArray[np.float32]:
    """Embed the augmented views of an image (n_views, d), a batch at a time: there may be a thousand."""
    numbers = augmentation.numbers[1:]
    batches = [numbers[start : start + BATCH_SIZE] for start in range(0, len(numbers), BATCH_SIZE)]
    return np.concatenate([embedder.embed(augmentation.render_views(square, digest, batch)) for batch in batches])


def deduplicate_choices(choices: Sequence[ModelChoice], *, default: str = DEFAULT_BACKBONE) -> list[ModelChoice]:
    """Remove repeated choices; without any choice, the result is the default backbone.

    Raises `UsageError` where one weights file is given for several backbones.
    """
    distinct = list(dict.fromkeys(choices)) or [ModelChoice(backbone=default)]
    files = {choice.weights for choice in distinct} - {None, RANDOM_WEIGHTS}
    if len(distinct) > 1 and any(sum(choice.weights == file for choice in distinct) > 1 for file in files):
        raise UsageError(
            "one weights file cannot serve several backbones",
            "leave --weights out and put the files into the folder that $SIMSEARCH_WEIGHTS names",
        )
    return distinct


def name_models(models: Sequence[Model]) -> list[str]:
    """Name each model: its backbone, or its fingerprint where several models have the same backbone."""
    counts = Counter(model.backbone for model in models)
    return [model.backbone if counts[model.backbone] == 1 else model.fingerprint for model in models]


def summarize_model(model: Model) -> Mapping[str, str | None]:
    """Summarize a model for the JSON of `predict`, `compare` and `study`."""
    return {
        "model": model.fingerprint,
        "layer": model.layer,
        "pooling": model.pooling,
        "resize": model.resize,
        "precision": model.precision,
    }
