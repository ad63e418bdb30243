"""A study of a few images: predictions, feature maps, pairwise similarities and augmented views, as one result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import ModelError, UnreadableFile, UsageError
from simsearch.images.views import Augmentation
from simsearch.models import histogram, weights
from simsearch.models.choice import BUILTIN, ModelChoice
from simsearch.models.imagenet import load_classes
from simsearch.models.zoo import BACKBONES
from simsearch.study.augmented import AugmentedSimilarities, Separation, compare_views, measure_separations
from simsearch.study.compare import ImageComparison, build_comparison, compute_cosines, embed_with_each
from simsearch.study.features import ImageFeatures, extract_features
from simsearch.study.predict import DEFAULT_TOP, ClassPrediction, predict
from simsearch.study.vectors import ImagePath, InputImages, deduplicate_choices, summarize_model

MAX_STUDY_IMAGES = 24
"""A page with more images is too long to read; `compare` and an index take more."""

DEFAULT_N_VIEWS = 10
ORIGINAL_BACKBONES = ("vgg16", "resnet50")
"""The backbones of the study that this project grew out of."""
SMALLEST_BACKBONE = "mobilenet_v2"
"""The second backbone of a study without the original ones: the smallest download."""


@dataclass(frozen=True, slots=True)
class Classification:
    """The classification of n images with one network.

    `top_classes` are the most probable classes of each image; `similarities` (n, n) the cosines of the softmax outputs,
    which the original study compared under ResNet50.
    """

    resize: str
    top_classes: tuple[tuple[ClassPrediction, ...], ...]
    similarities: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class StudyPictures:
    """The picture files of a study, relative to the folder of its report, with slashes.

    `pairs` are by positions and model name, as far as they were drawn; `heat_maps` and `features` by model name;
    `views` are those of each image in the order of their numbers, empty without augmented views.
    """

    pairs: Mapping[tuple[int, int], Mapping[str, str]]
    heat_maps: Mapping[str, str]
    features: Mapping[str, str]
    views: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class StudyResult:
    """A few images under several models; mappings are by model name, in the requested order.

    Models without a classification head are missing in `classifications`, models without accessible layers in
    `features` (of the first image); `missing_classifications` and `missing_features` give the reasons. `augmented` is
    None without augmented views. `separations` have the model of the highest sensitivity first, and are empty without
    views or without two different images.
    """

    comparison: ImageComparison
    classifications: Mapping[str, Classification]
    missing_classifications: Mapping[str, str]
    features: Mapping[str, ImageFeatures]
    missing_features: Mapping[str, str]
    augmented: AugmentedSimilarities | None
    separations: Mapping[str, Separation]
    notes: tuple[str, ...]

    def to_dict(self, pictures: StudyPictures, *, summary: Sequence[str]) -> dict[str, Any]:
        """The JSON of `simsearch study --json` and of study.json, without the page and the provenance.

        `summary` are the sentences of the report. Bytes of a path that are not UTF-8 are lone surrogates, which
        `json.dumps` writes as escapes.
        """
        paths = self.comparison.paths
        models = self.comparison.models.items()
        return {
            "images": list(paths),
            "models": {name: {**summarize_model(model), "side_px": model.side_px} for name, model in models},
            "summary": list(summary),
            "predictions": [
                {
                    "image": path,
                    "models": {
                        name: [prediction.to_dict() for prediction in found.top_classes[at]]
                        for name, found in self.classifications.items()
                    },
                }
                for at, path in enumerate(paths)
            ],
            "no_predictions": dict(self.missing_classifications),
            "features": {
                name: {
                    "image": found.path,
                    "layers": [layer.to_dict() for layer in found.layers],
                    "picture": pictures.features[name],
                }
                for name, found in self.features.items()
            },
            "no_features": dict(self.missing_features),
            "pairs": self._list_pairs(pictures),
            "heat_maps": dict(pictures.heat_maps),
            "augmented": None if self.augmented is None else self.augmented.to_dict(paths, pictures.views),
            "separation": [found.to_dict(name) for name, found in self.separations.items()],
            "skipped": [asdict(skip) for skip in self.comparison.skips],
            "notes": list(self.notes),
        }

    def _list_pairs(self, pictures: StudyPictures) -> list[dict[str, Any]]:
        paths = self.comparison.paths
        return [
            {
                "a": paths[pair.first],
                "b": paths[pair.second],
                "similarities": dict(pair.similarities),
                "softmax_similarities": {
                    name: float(found.similarities[pair.first, pair.second])
                    for name, found in self.classifications.items()
                },
                "pictures": dict(pictures.pairs.get((pair.first, pair.second), {})),
            }
            for pair in self.comparison.iterate_pairs()
        ]


def choose_default_models(**words: str | bool | None) -> tuple[list[ModelChoice], str]:
    """Choose VGG16 and ResNet50, as in the original study, or models that need no download; with a note.

    Where the weights of one of the two are not on this machine, the choice is the built-in backbone and
    `mobilenet_v2`, or the histogram where the weights of `mobilenet_v2` are missing too. The note says which backbones
    are used instead; it is empty for VGG16 and ResNet50. `words` are further options of all choices.
    """
    if all(_has_weights(name) for name in ORIGINAL_BACKBONES):
        names, note = ORIGINAL_BACKBONES, ""
    else:
        other = SMALLEST_BACKBONE if _has_weights(SMALLEST_BACKBONE) else histogram.NAME
        names = (BUILTIN, other)
        missing = [name for name in ORIGINAL_BACKBONES if not _has_weights(name)]
        note = (
            f"no weights of {' and '.join(missing)} on this machine: using {BUILTIN} and {other}; "
            "to download weights, name backbones with --backbone"
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
    """Compute predictions, feature maps, similarities of pairs and of augmented views, and the best separation.

    The layer, pooling and precision of a choice are for the vectors that are compared; its resize rule is for all
    steps; where it is None, predictions use their own default. A step that a network does not support is left out,
    with the reason.

    Raises `UsageError`, a `ModelError` where a backbone cannot embed, `UnknownLayer` when no backbone has the requested
    layer, or an `ImageError` when no image can be read.
    """
    if not 1 <= len(paths) <= MAX_STUDY_IMAGES:
        advice = f"name 1 to {MAX_STUDY_IMAGES}, or compare more with `simsearch compare`"
        raise UsageError(f"cannot study {len(paths):,} images", advice)
    if top < 1:
        raise UsageError(f"top is {top}", "give 1 or more")
    images = InputImages(paths, max_pixels)
    requested = deduplicate_choices(choices)
    embedded, notes = embed_with_each(images, requested, augmentation)
    readable = images.list_readable()
    comparison = build_comparison(images, embedded, notes)
    choice_of = dict(zip(comparison.models, requested, strict=True))
    classifications, missing_classifications = _classify_with_each(comparison.paths, choice_of, top, max_pixels)
    features, missing_features = _extract_with_each(comparison.paths[0], choice_of, max_pixels)
    augmented = None
    if augmentation.n_views:
        digests = [images.digests[at] for at in readable]
        augmented = compare_views(digests, embedded, readable, augmentation)
    return StudyResult(
        comparison,
        classifications,
        missing_classifications,
        features,
        missing_features,
        augmented,
        measure_separations(augmented) if augmented else {},
        tuple(dict.fromkeys(notes)),
    )


def _has_weights(name: str) -> bool:
    return weights.find_local(BACKBONES[name], with_head=True) is not None


def _classify_with_each(
    paths: Sequence[str], choices: Mapping[str, ModelChoice], top: int, max_pixels: int | None
) -> tuple[dict[str, Classification], dict[str, str]]:
    """Classify with each network that can: classifications, and the reasons of the others, by model name."""
    found, missing = {}, {}
    for name, choice in choices.items():
        try:
            found[name] = _classify(paths, choice, top, max_pixels)
        except ModelError as error:
            missing[name] = error.problem
    return found, missing


def _classify(paths: Sequence[str], choice: ModelChoice, top: int, max_pixels: int | None) -> Classification:
    result = predict(paths, [choice], top=len(load_classes()), max_pixels=max_pixels)
    if result.skips:
        raise UnreadableFile(
            result.skips[0].path, "the file changed during the study", "leave it unchanged and run the command again"
        )
    (model,) = result.models.values()
    predictions = [next(iter(image.top_classes.values())) for image in result.images]
    outputs = np.array(
        [[each.probability for each in sorted(row, key=lambda each: each.cls.id)] for row in predictions]
    )
    outputs /= np.linalg.norm(outputs, axis=1, keepdims=True)
    return Classification(model.resize, tuple(row[:top] for row in predictions), compute_cosines(outputs))


def _extract_with_each(
    path: str, choices: Mapping[str, ModelChoice], max_pixels: int | None
) -> tuple[dict[str, ImageFeatures], dict[str, str]]:
    """Extract the most active maps of the last convolution of each block, with each network that allows it."""
    found, missing = {}, {}
    for name, choice in choices.items():
        plain = replace(choice, layer=None, pooling=None)
        try:
            (found[name],) = extract_features([path], plain, by_activation=True, max_pixels=max_pixels)
        except ModelError as error:
            missing[name] = error.problem
    return found, missing
