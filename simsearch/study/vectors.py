"""A few pictures under several models: what `predict`, `compare` and `study` are made of."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import ImageError, UsageError
from simsearch.images.decode import Pixels, Resize, compute_default_max_pixels, decode_square, read_raw_file
from simsearch.images.views import NO_AUGMENTATION, Augmentation
from simsearch.machine import count_cores
from simsearch.models.choice import DEFAULT_BACKBONE, ModelChoice
from simsearch.models.embedder import Embedder, LoadOptions
from simsearch.models.model import Model
from simsearch.models.precision import count_sample_images, open_with_precision
from simsearch.models.weights import RANDOM_WEIGHTS
from simsearch.sources.scan import Skip

_BATCH = 32

ImagePath = str | os.PathLike[str]


class InputImages:
    """Files to look at, in the order they were named.

    One that cannot be read under any model is left out of all; its error is kept, and it is not tried again.
    `digests` are of what was read, by position.
    """

    def __init__(self, paths: Sequence[ImagePath], max_pixels: int | None = None) -> None:
        if not paths:
            raise UsageError("there is nothing to look at", "name an image")
        self.paths = [os.fspath(path) for path in paths]
        self._max_pixels = max_pixels or compute_default_max_pixels()
        self._errors: dict[int, ImageError] = {}
        self.digests: dict[int, str] = {}

    def decode_batches(self, side_px: int, resize: Resize, *, n_at_once: int) -> Iterator[tuple[list[int], Pixels]]:
        """Positions of readable pictures and their squares (n, side, side, 3), up to so many at once."""
        with ThreadPoolExecutor(max_workers=count_cores()) as pool:
            for start in range(0, len(self.paths), n_at_once):
                several = [at for at in range(start, min(start + n_at_once, len(self.paths))) if at not in self._errors]
                squares = list(pool.map(lambda at: self._decode(at, side_px, resize), several))
                good = [(at, square) for at, square in zip(several, squares, strict=True) if square is not None]
                if good:
                    yield [at for at, _ in good], np.stack([square for _, square in good])

    def _decode(self, at: int, side_px: int, resize: Resize) -> Pixels | None:
        try:
            raw = read_raw_file(self.paths[at], has_picture_extension=True, max_pixels=self._max_pixels)
            self.digests[at] = raw.digest
            return decode_square(raw, side_px, resize, max_pixels=self._max_pixels)[1]
        except ImageError as error:
            self._errors[at] = error
            return None

    def list_readable(self, *, at_least: int = 1) -> list[int]:
        """The positions of what could be read under every model.

        Raises the first `ImageError` when they are fewer than so many.
        """
        good = [at for at in range(len(self.paths)) if at not in self._errors]
        if len(good) < at_least:
            raise self.first_error
        return good

    @property
    def first_error(self) -> ImageError:
        """Why the first of the unreadable files cannot be read."""
        return self._errors[min(self._errors)]

    def list_skips(self) -> tuple[Skip, ...]:
        """What could not be read, and why."""
        return tuple(Skip(self.paths[at], self._errors[at].reason) for at in sorted(self._errors))


@dataclass(frozen=True, slots=True)
class ImageVectors:
    """What a model made of the pictures: a unit vector (d,) at each readable position.

    `views` are the vectors (n_views, d) of a picture's augmented views, in the order of their numbers.
    """

    model: Model
    vectors: dict[int, NDArray[np.float32]]
    views: dict[int, NDArray[np.float32]]
    notes: tuple[str, ...]

    def stack_rows(self, positions: Sequence[int]) -> NDArray[np.float32]:
        """(n, d) float32 unit rows."""
        return np.stack([self.vectors[at] for at in positions])


def embed_images(
    pictures: InputImages, model: Model, choice: ModelChoice, augmentation: Augmentation = NO_AUGMENTATION
) -> ImageVectors:
    """Every picture's vector at the precision and by the engine of `choice`; the network is loaded once.

    So are the vectors of its augmented views, made of the square that the network sees, as for an index.

    Raises a `ModelError`, or the first `ImageError` when no picture can be read.
    """
    vectors: dict[int, NDArray[np.float32]] = {}
    views: dict[int, NDArray[np.float32]] = {}
    settled = None
    for positions, pixels in pictures.decode_batches(
        model.side_px, model.resize, n_at_once=count_sample_images(choice.precision)
    ):
        if settled is None:  # the precision is settled on the first of them, as for an index
            settled = open_with_precision(model, choice.precision, LoadOptions(engine=choice.engine, pixels=pixels))
        for start in range(0, len(pixels), _BATCH):
            rows = settled.embedder.embed(pixels[start : start + _BATCH])
            vectors.update(zip(positions[start : start + _BATCH], rows, strict=True))
        if augmentation.n_views:
            for at, square in zip(positions, pixels, strict=True):
                views[at] = _embed_views(settled.embedder, square, pictures.digests[at], augmentation)
    if settled is None:
        raise pictures.first_error
    notes = list(settled.notes)
    if model.weights == RANDOM_WEIGHTS:
        notes.append(f"{model.backbone} has random weights: what it answers means nothing")
    return ImageVectors(settled.model, vectors, views, tuple(notes))


def _embed_views(embedder: Embedder, square: Pixels, digest: str, augmentation: Augmentation) -> NDArray[np.float32]:
    numbers = augmentation.numbers[1:]
    batches = [numbers[start : start + _BATCH] for start in range(0, len(numbers), _BATCH)]
    return np.concatenate([embedder.embed(augmentation.render_views(square, digest, batch)) for batch in batches])


def deduplicate_choices(choices: Sequence[ModelChoice], *, default: str = DEFAULT_BACKBONE) -> list[ModelChoice]:
    """The choices, each once, or the default backbone's.

    Raises `UsageError` where one weights file is meant for several backbones.
    """
    several = list(dict.fromkeys(choices)) or [ModelChoice(backbone=default)]
    files = {choice.weights for choice in several} - {None, RANDOM_WEIGHTS}
    if len(several) > 1 and any(sum(choice.weights == file for choice in several) > 1 for file in files):
        raise UsageError(
            "one weights file cannot serve several backbones",
            "leave --weights out and put the files into the folder that $SIMSEARCH_WEIGHTS names",
        )
    return several


def name_models(models: Sequence[Model]) -> list[str]:
    """A name for each: its backbone, or its fingerprint where several models have the same backbone."""
    n_so_named = Counter(model.backbone for model in models)
    return [model.backbone if n_so_named[model.backbone] == 1 else model.fingerprint for model in models]
