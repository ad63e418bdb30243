"""Classification of images with several networks: the ImageNet classes, or labels of the user's own by their texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import ModelError, UsageError, WeightsMismatch, WeightsMissing
from simsearch.images.resize import Resize
from simsearch.models import weights
from simsearch.models.builtin.network import PREDICTIONS_LAYER
from simsearch.models.choice import BUILTIN, ModelChoice, list_backbone_names, resolve_model
from simsearch.models.custom_model import is_model_file
from simsearch.models.imagenet import ImageNetClass, load_classes
from simsearch.models.model import Model
from simsearch.models.text.encoder import TextDirections, TextEncoder, check_prompts, encode_in_prompts
from simsearch.models.text.loader import open_text_encoder
from simsearch.models.weights import WeightsOptions
from simsearch.models.zoo import BACKBONES
from simsearch.sources.scan import Skip
from simsearch.study.vectors import (
    ImagePath,
    InputImages,
    deduplicate_choices,
    embed_images,
    name_models,
    summarize_model,
)

DEFAULT_BACKBONE = BUILTIN
"""It needs no download."""

DEFAULT_LABELS_BACKBONE = "builtin"
DEFAULT_TOP = 5
_LOGIT_SCALE = 100.0
DEFAULT_RESIZE: Resize = "crop"
"""The resize rule with which ImageNet networks are evaluated."""


@dataclass(frozen=True, slots=True)
class ClassPrediction:
    """A class and its probability in [0, 1], the softmax output of the network."""

    rank: int
    cls: ImageNetClass
    probability: float

    def to_dict(self) -> dict[str, Any]:
        """The prediction in the JSON of `predict` and `study`."""
        return {
            "rank": self.rank,
            "class_id": self.cls.id,
            "name": self.cls.name,
            "probability": self.probability,
        }


@dataclass(frozen=True, slots=True)
class ImagePrediction:
    """The predictions for one image by model name, the most probable class first."""

    path: str
    top_classes: Mapping[str, tuple[ClassPrediction, ...]]


@dataclass(frozen=True, slots=True)
class PredictionResult:
    """Predictions for all images in the requested order, without `skips`; `models` by name in the requested order."""

    models: Mapping[str, Model]
    images: tuple[ImagePrediction, ...]
    skips: tuple[Skip, ...]
    notes: tuple[str, ...]

    def to_dict(self, *, sheet: str | None) -> dict[str, Any]:
        """The JSON of `simsearch predict --json`; `sheet` is the file with the drawn predictions."""
        return {
            "images": [
                {
                    "path": image.path,
                    "predictions": {
                        name: [prediction.to_dict() for prediction in predictions]
                        for name, predictions in image.top_classes.items()
                    },
                }
                for image in self.images
            ],
            "sheet": sheet,
            "models": {name: summarize_model(model) for name, model in self.models.items()},
            "skipped": [asdict(skip) for skip in self.skips],
            "notes": list(self.notes),
        }


def predict(
    paths: Sequence[ImagePath],
    choices: Sequence[ModelChoice] = (),
    *,
    top: int = DEFAULT_TOP,
    max_pixels: int | None = None,
) -> PredictionResult:
    """Predict the `top` most probable classes of each image with each backbone; equal ones in the order of classes.

    Of each choice the backbone, the weights, the resize rule (default: `crop`), the engine and `offline` are used.

    Raises `UsageError`, a `ModelError` where a backbone has no classification head or its weights are not found,
    or an `ImageError` when no image can be read.
    """
    if top < 1:
        raise UsageError(f"top is {top}", "give 1 or more")
    requested = [_require_head(choice) for choice in deduplicate_choices(choices, default=DEFAULT_BACKBONE)]
    models = [_resolve_with_head(choice) for choice in requested]
    images = InputImages(paths, max_pixels)
    embedded = [embed_images(images, model, choice) for model, choice in zip(models, requested, strict=True)]
    names, readable = name_models(models), images.list_readable()
    top_classes = [
        [_rank_classes(row, top, load_classes()) for row in _recover_probabilities(each.stack_rows(readable))]
        for each in embedded
    ]
    predictions = tuple(
        ImagePrediction(images.paths[at], {name: rows[row] for name, rows in zip(names, top_classes, strict=True)})
        for row, at in enumerate(readable)
    )
    notes = tuple(note for each in embedded for note in each.notes)
    return PredictionResult(dict(zip(names, models, strict=True)), predictions, images.list_skips(), notes)


def predict_labels(
    paths: Sequence[ImagePath],
    labels: Sequence[str],
    choices: Sequence[ModelChoice] = (),
    *,
    prompts: Sequence[str] = (),
    top: int = DEFAULT_TOP,
    max_pixels: int | None = None,
) -> PredictionResult:
    """Predict the most probable of some labels for each image with each backbone that answers texts.

    Probabilities are the softmax of 100 x the cosine of image and label, as CLIP classifies without training (Radford
    et al. 2021); 100 is CLIP's own scale, for other models they only order the labels. `prompts` are templates for the
    labels, such as `a photo of a {}`; the vectors of several are averaged. A class has its label as id and name.

    Raises `UsageError` on fewer than two labels or a backbone that answers no texts, another error of `predict`.
    """
    if top < 1:
        raise UsageError(f"top is {top}", "give 1 or more")
    wanted = list(dict.fromkeys(label.strip() for label in labels if label.strip()))
    if len(wanted) < 2:
        raise UsageError(f"{len(wanted)} different labels", "give two or more")
    check_prompts(prompts)
    requested = deduplicate_choices(choices, default=DEFAULT_LABELS_BACKBONE)
    models = [resolve_model(choice) for choice in requested]
    directions = [
        _encode_labels(wanted, prompts, open_text_encoder(model, WeightsOptions(choice.weights, choice.offline)))
        for model, choice in zip(models, requested, strict=True)
    ]
    images = InputImages(paths, max_pixels)
    embedded = [embed_images(images, model, choice) for model, choice in zip(models, requested, strict=True)]
    names, readable = name_models(models), images.list_readable()
    classes = tuple(ImageNetClass(label, label, label) for label in wanted)
    top_classes = [
        [_rank_classes(row, top, classes) for row in _compare_with_labels(each.stack_rows(readable), texts)]
        for each, texts in zip(embedded, directions, strict=True)
    ]
    predictions = tuple(
        ImagePrediction(images.paths[at], {name: rows[row] for name, rows in zip(names, top_classes, strict=True)})
        for row, at in enumerate(readable)
    )
    notes = [note for each in embedded for note in each.notes]
    notes += [note for texts in directions for text in texts for note in text.notes]
    return PredictionResult(dict(zip(names, models, strict=True)), predictions, images.list_skips(), tuple(notes))


def _encode_labels(labels: Sequence[str], prompts: Sequence[str], encoder: TextEncoder) -> list[TextDirections]:
    return [encode_in_prompts(encoder, label, prompts) for label in labels]


def _compare_with_labels(rows: NDArray[np.float32], labels: Sequence[TextDirections]) -> NDArray[np.float32]:
    """Compute the probabilities (n, labels) of unit rows (n, d)."""
    cosines = np.stack([(rows @ label.rows.T).max(axis=1) for label in labels], axis=1).astype(np.float64)
    exponentials = np.exp(_LOGIT_SCALE * (cosines - cosines.max(axis=1, keepdims=True)))
    probabilities: NDArray[np.float32] = (exponentials / exponentials.sum(axis=1, keepdims=True)).astype(np.float32)
    return probabilities


def _require_head(choice: ModelChoice) -> ModelChoice:
    """Select the softmax layer of the chosen backbone.

    Raises `UnknownBackbone`, or another `ModelError` when the classes of its outputs are unknown.
    """
    name = choice.backbone or DEFAULT_BACKBONE
    if name not in BACKBONES and name != BUILTIN:
        advice = f"name {BUILTIN}, or a network of the zoo"
        if name in list_backbone_names():
            raise ModelError(f"{name} has no classification head", advice)
        if is_model_file(name):
            raise ModelError(f"the classes of the outputs of {name} are unknown", advice)
        resolve_model(choice)  # raises `UnknownBackbone`
    layer = PREDICTIONS_LAYER if name == BUILTIN else BACKBONES[name].head_layers[-1]
    resize = choice.resize or DEFAULT_RESIZE
    return replace(choice, backbone=name, layer=layer, pooling=None, resize=resize, precision="f32")


def _resolve_with_head(choice: ModelChoice) -> Model:
    if choice.backbone == BUILTIN:
        return resolve_model(choice)
    row = BACKBONES[choice.backbone or DEFAULT_BACKBONE]
    if choice.weights not in (None, weights.RANDOM_WEIGHTS) and not weights.has_head(choice.weights):
        raise WeightsMismatch(
            f"{choice.weights} is, by its name, without the classification head",
            f"give weights of {row.name} with the head, such as {row.top.name}",
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
            detail=f"{headless} is without the classification head, and no other file was found",
        ) from error


def _recover_probabilities(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Recover softmax probabilities from L2-normalized rows (n, 1000).

    Every graph ends in L2 normalization, so a row is p / |p|. Softmax probabilities p sum to 1, so the row divided by
    its sum is p, up to float32 rounding.
    """
    probabilities: NDArray[np.float32] = rows / rows.sum(axis=1, keepdims=True)
    return probabilities


def _rank_classes(
    probabilities: NDArray[np.float32], top: int, known: Sequence[ImageNetClass]
) -> tuple[ClassPrediction, ...]:
    order = np.argsort(-probabilities, kind="stable")[:top]
    return tuple(ClassPrediction(rank, known[at], float(probabilities[at])) for rank, at in enumerate(order, start=1))
