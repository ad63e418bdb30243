"""All that the original study did, on any pictures and backbones; a network is opened once for each of its cuts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import ModelError, UnreadableFile, UsageError
from simsearch.images.views import Augmentation
from simsearch.models import histogram, weights
from simsearch.models.choice import BUILTIN, ModelChoice
from simsearch.models.imagenet import load_classes
from simsearch.models.zoo import BACKBONES
from simsearch.study import predict as predicting
from simsearch.study.augmented import AugmentedSimilarities, Separation, compare_views, measure_separations
from simsearch.study.compare import ImageComparison, build_comparison, compute_cosines, embed_with_each
from simsearch.study.features import ImageFeatures, extract_features
from simsearch.study.predict import DEFAULT_TOP, ClassPrediction, predict
from simsearch.study.vectors import ImagePath, InputImages, deduplicate_choices

MAX_STUDY_IMAGES = 24
"""A page of more is no page to read; `compare` and an index take more."""

DEFAULT_N_VIEWS = 10
ORIGINAL_BACKBONES = ("vgg16", "resnet50")


@dataclass(frozen=True, slots=True)
class Classification:
    """What a network with a classification head takes each image for.

    `guesses` are the likeliest classes of each image, `similarities` (n, n) the cosines of the softmax outputs of
    every two: what the original study compared under ResNet50.
    """

    resize: str
    top_classes: tuple[tuple[ClassPrediction, ...], ...]
    similarities: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class StudyResult:
    """A few images under several models; mappings are by the models' names, in the order asked for.

    `recognised` and `features` (of the first image) lack the models that cannot give them: `no_recognition` and
    `no_features` say why. `augmented` is None where no views were asked for, `separations` are empty without views
    or without other images, and have the clearest model first.
    """

    comparison: ImageComparison
    classifications: Mapping[str, Classification]
    missing_classifications: Mapping[str, str]
    features: Mapping[str, ImageFeatures]
    missing_features: Mapping[str, str]
    augmented: AugmentedSimilarities | None
    separations: Mapping[str, Separation]
    notes: tuple[str, ...]


def choose_default_models(**words: str | bool | None) -> tuple[list[ModelChoice], str]:
    """VGG16 and ResNet50, as in the original study, where their weights are here, else what needs no download.

    That is the built-in backbone beside `mobilenet_v2`, or beside the histogram where its weights are missing too; a
    note says so, which is empty where there is nothing to say.
    """
    if all(_has_weights(name) for name in ORIGINAL_BACKBONES):
        names, note = ORIGINAL_BACKBONES, ""
    else:
        other = predicting.DEFAULT_BACKBONE if _has_weights(predicting.DEFAULT_BACKBONE) else histogram.NAME
        names = (BUILTIN, other)
        lacking = [name for name in ORIGINAL_BACKBONES if not _has_weights(name)]
        note = (
            f"no weights of {' and '.join(lacking)} on this machine: {BUILTIN} and {other} are looked at; "
            "name others with --backbone, and they are fetched"
        )
    return [ModelChoice.from_options(backbone=name, **words) for name in names], note


def run_study(
    paths: Sequence[ImagePath],
    choices: Sequence[ModelChoice],
    augmentation: Augmentation,
    *,
    top: int = DEFAULT_TOP,
    max_pixels: int | None = None,
) -> StudyResult:
    """Predictions, feature maps, similarities of pairs and of augmented views, and which backbone separates best.

    The layer, pooling and precision of a choice are for the vectors that are compared; its resize rule is for all
    steps, and where it is None predictions have their own. What one network cannot give is left out, with the reason.

    Raises `UsageError`, a `ModelError` where a backbone cannot even embed, `UnknownLayer` when none has the layer asked
    for, or an `ImageError` when no picture can be read.
    """
    if not 1 <= len(paths) <= MAX_STUDY_IMAGES:
        advice = f"name 1 to {MAX_STUDY_IMAGES}, or compare more with `simsearch compare`"
        raise UsageError(f"a study of {len(paths):,} images", advice)
    if top < 1:
        raise UsageError(f"top is {top}", "ask for one class at least")
    pictures = InputImages(paths, max_pixels)
    asked = deduplicate_choices(choices)
    embedded, notes = embed_with_each(pictures, asked, augmentation)
    readable = pictures.list_readable()
    comparison = build_comparison(pictures, embedded, notes)
    of_model = dict(zip(comparison.models, asked, strict=True))
    recognised, no_recognition = _classify_with_each(comparison.paths, of_model, top, max_pixels)
    looked_into, no_features = _extract_with_each(comparison.paths[0], of_model, max_pixels)
    augmented = None
    if augmentation.n_views:
        digests = [pictures.digests[at] for at in readable]
        augmented = compare_views(digests, embedded, readable, augmentation)
    return StudyResult(
        comparison,
        recognised,
        no_recognition,
        looked_into,
        no_features,
        augmented,
        measure_separations(augmented) if augmented else {},
        tuple(dict.fromkeys(notes)),
    )


def _has_weights(name: str) -> bool:
    return weights.find_local(BACKBONES[name], with_head=True) is not None


def _classify_with_each(
    paths: Sequence[str], choices: Mapping[str, ModelChoice], top: int, max_pixels: int | None
) -> tuple[dict[str, Classification], dict[str, str]]:
    found, lacking = {}, {}
    for name, choice in choices.items():
        try:
            found[name] = _classify(paths, choice, top, max_pixels)
        except ModelError as error:
            lacking[name] = error.problem
    return found, lacking


def _classify(paths: Sequence[str], choice: ModelChoice, top: int, max_pixels: int | None) -> Classification:
    every = predict(paths, [choice], top=len(load_classes()), max_pixels=max_pixels)
    if every.skips:
        raise UnreadableFile(every.skips[0].path, "it changed while it was looked at", "leave it alone and ask again")
    (model,) = every.models.values()
    guesses = [next(iter(image.top_classes.values())) for image in every.images]
    outputs = np.array([[each.probability for each in sorted(of, key=lambda each: each.cls.id)] for of in guesses])
    outputs /= np.linalg.norm(outputs, axis=1, keepdims=True)
    return Classification(model.resize, tuple(of[:top] for of in guesses), compute_cosines(outputs))


def _extract_with_each(
    path: str, choices: Mapping[str, ModelChoice], max_pixels: int | None
) -> tuple[dict[str, ImageFeatures], dict[str, str]]:
    """The most active maps of the last convolutions of each network's blocks."""
    found, lacking = {}, {}
    for name, choice in choices.items():
        plain = replace(choice, layer=None, pooling=None)
        try:
            (found[name],) = extract_features([path], plain, by_activation=True, max_pixels=max_pixels)
        except ModelError as error:
            lacking[name] = error.problem
    return found, lacking
