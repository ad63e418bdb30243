"""Which of ImageNet's classes networks take pictures for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import ModelError, UsageError, WeightsMismatch, WeightsMissing
from simsearch.images.decode import Resize
from simsearch.models import weights
from simsearch.models.choice import ModelChoice, list_backbone_names, resolve_model
from simsearch.models.custom_model import is_model_file
from simsearch.models.imagenet import ImageNetClass, load_classes
from simsearch.models.model import Model
from simsearch.models.zoo import BACKBONES
from simsearch.sources.scan import Skip
from simsearch.study.vectors import ImagePath, InputImages, deduplicate_choices, embed_images, name_models

DEFAULT_BACKBONE = "mobilenet_v2"
"""The smallest download with a classification head; the built-in backbone has none."""

DEFAULT_TOP = 5
DEFAULT_RESIZE: Resize = "crop"
"""As ImageNet networks are evaluated."""


@dataclass(frozen=True, slots=True)
class ClassPrediction:
    """A class and its probability, in [0, 1]: the softmax output of the network."""

    rank: int
    cls: ImageNetClass
    probability: float


@dataclass(frozen=True, slots=True)
class ImagePrediction:
    """What each network takes one image for: guesses by the network's name, the likeliest first."""

    path: str
    top_classes: Mapping[str, tuple[ClassPrediction, ...]]


@dataclass(frozen=True, slots=True)
class PredictionResult:
    """`models` by name, in the order asked for; `images` in the order named, without `skips`."""

    models: Mapping[str, Model]
    images: tuple[ImagePrediction, ...]
    skips: tuple[Skip, ...]
    notes: tuple[str, ...]


def predict(
    paths: Sequence[ImagePath],
    choices: Sequence[ModelChoice] = (),
    *,
    top: int = DEFAULT_TOP,
    max_pixels: int | None = None,
) -> PredictionResult:
    """The `top` likeliest classes of each picture under each backbone; equally likely ones in the order of classes.

    Of a choice, the backbone, the weights, the resize rule (default: `crop`), the engine and `offline` count.

    Raises `UsageError`, a `ModelError` where a backbone has no classification head or its weights are not found,
    or an `ImageError` when no picture can be read.
    """
    if top < 1:
        raise UsageError(f"top is {top}", "ask for one class at least")
    asked = [_require_head(choice) for choice in deduplicate_choices(choices, default=DEFAULT_BACKBONE)]
    models = [_resolve_with_head(choice) for choice in asked]
    pictures = InputImages(paths, max_pixels)
    embedded = [embed_images(pictures, model, choice) for model, choice in zip(models, asked, strict=True)]
    names, readable = name_models(models), pictures.list_readable()
    guesses = [
        [_rank_classes(row, top) for row in _recover_probabilities(each.stack_rows(readable))] for each in embedded
    ]
    images = tuple(
        ImagePrediction(pictures.paths[at], {name: of[row] for name, of in zip(names, guesses, strict=True)})
        for row, at in enumerate(readable)
    )
    notes = tuple(note for each in embedded for note in each.notes)
    return PredictionResult(dict(zip(names, models, strict=True)), images, pictures.list_skips(), notes)


def _require_head(choice: ModelChoice) -> ModelChoice:
    """The same backbone, cut after its softmax.

    Raises `UnknownBackbone`, or another `ModelError` when nothing says what its outputs mean.
    """
    name = choice.backbone or DEFAULT_BACKBONE
    if name not in BACKBONES:
        advice = f"name a network of the zoo, such as {DEFAULT_BACKBONE}"
        if name in list_backbone_names():
            raise ModelError(f"{name} has no classification head", advice)
        if is_model_file(name):
            raise ModelError(f"nothing says which classes the outputs of {name} mean", advice)
        resolve_model(choice)  # raises `UnknownBackbone`
    layer = BACKBONES[name].head_layers[-1]
    resize = choice.resize or DEFAULT_RESIZE
    return replace(choice, backbone=name, layer=layer, pooling=None, resize=resize, precision="f32")


def _resolve_with_head(choice: ModelChoice) -> Model:
    row = BACKBONES[choice.backbone or DEFAULT_BACKBONE]
    if choice.weights not in (None, weights.RANDOM_WEIGHTS) and not weights.has_head(choice.weights):
        raise WeightsMismatch(
            f"{choice.weights} is, by its name, without the classification head",
            f"give the weights of {row.name} with it, such as {row.top.name}",
        )
    try:
        return resolve_model(choice)
    except WeightsMissing as error:
        headless = weights.find_local(row, with_head=False) if choice.weights is None else None
        if headless is None:
            raise
        raise WeightsMissing(
            row.name,
            file=error.file,
            url=error.url,
            place=error.place,
            detail=f"{headless} is without the classification head, and no other was found",
        ) from error


def _recover_probabilities(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Unit rows (n, 1000) of a softmax layer to probabilities.

    Every graph ends in L2 normalisation, so a row is p / |p|. As the probabilities p of a softmax sum to 1, dividing
    the row by its sum gives p back, to the rounding of float32.
    """
    probabilities: NDArray[np.float32] = rows / rows.sum(axis=1, keepdims=True)
    return probabilities


def _rank_classes(probabilities: NDArray[np.float32], top: int) -> tuple[ClassPrediction, ...]:
    order = np.argsort(-probabilities, kind="stable")[:top]
    known = load_classes()
    return tuple(ClassPrediction(rank, known[at], float(probabilities[at])) for rank, at in enumerate(order, start=1))
