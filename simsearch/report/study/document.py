"""A study as one JSON document: study.json, and what `simsearch study --json` prints."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from simsearch.models.model import Model
from simsearch.report.study.findings import summarize_study
from simsearch.report.study.pictures import StudyPictures, StudyProvenance
from simsearch.study.augmented import AugmentedSimilarities
from simsearch.study.features import ImageFeatures
from simsearch.study.predict import ClassPrediction
from simsearch.study.study import StudyResult


def build_study_document(study: StudyResult, pieces: StudyPictures, making: StudyProvenance) -> dict[str, Any]:
    """Plain lists, texts and numbers; files are relative to the report's folder, with slashes.

    Names are as they are: bytes that are no UTF-8 are lone surrogates, which `json.dumps` writes as escapes.
    """
    return {
        "page": "study.html",
        "images": list(study.comparison.paths),
        "models": {name: _build_model(model) for name, model in study.comparison.models.items()},
        "summary": list(summarize_study(study)),
        "predictions": _build_predictions(study),
        "no_predictions": dict(study.missing_classifications),
        "features": {name: _build_features(found, pieces.features[name]) for name, found in study.features.items()},
        "no_features": dict(study.missing_features),
        "pairs": _build_pairs(study, pieces),
        "heat_maps": dict(pieces.heat_maps),
        "augmented": None if study.augmented is None else _build_augmented(study, study.augmented, pieces),
        "separation": _build_separation(study),
        "skipped": [{"path": skip.path, "reason": skip.reason} for skip in study.comparison.skips],
        "notes": list(study.notes),
        **dataclasses.asdict(making),
    }


def _build_model(model: Model) -> dict[str, Any]:
    return {
        "model": model.fingerprint,
        "layer": model.layer,
        "pooling": model.pooling,
        "resize": model.resize,
        "precision": model.precision,
        "side_px": model.side_px,
    }


def _build_predictions(study: StudyResult) -> list[dict[str, Any]]:
    return [
        {
            "image": path,
            "models": {
                name: [_build_guess(x) for x in of.top_classes[at]] for name, of in study.classifications.items()
            },
        }
        for at, path in enumerate(study.comparison.paths)
    ]


def _build_guess(guess: ClassPrediction) -> dict[str, Any]:
    return {
        "rank": guess.rank,
        "class_id": guess.cls.id,
        "name": guess.cls.name,
        "probability": guess.probability,
    }


def _build_features(found: ImageFeatures, file: str) -> dict[str, Any]:
    layers = [
        {
            "name": block.layer,
            "index": block.index,
            "height": block.maps.shape[0],
            "width": block.maps.shape[1],
            "maps": block.n_maps,
            "channels": list(block.channels),
            "mean_activations": [float(mean) for mean in block.activations],
        }
        for block in found.layers
    ]
    return {"image": found.path, "layers": layers, "picture": file}


def _build_pairs(study: StudyResult, pieces: StudyPictures) -> list[dict[str, Any]]:
    paths = study.comparison.paths
    return [
        {
            "a": paths[pair.first],
            "b": paths[pair.second],
            "similarities": dict(pair.similarities),
            "softmax_similarities": {
                name: float(found.similarities[pair.first, pair.second])
                for name, found in study.classifications.items()
            },
            "pictures": pieces.pairs.get((pair.first, pair.second), {}),
        }
        for pair in study.comparison.iterate_pairs()
    ]


def _build_augmented(study: StudyResult, augmented: AugmentedSimilarities, pieces: StudyPictures) -> dict[str, Any]:
    images = [
        {
            "image": path,
            "views": [
                {
                    "number": number,
                    "file": pieces.views[at][number - 1],
                    **dataclasses.asdict(transformation),
                    "similarities": _build_similarities(study, augmented, at, number),
                }
                for number, transformation in enumerate(augmented.transformations[at], start=1)
            ],
        }
        for at, path in enumerate(study.comparison.paths)
    ]
    made = augmented.augmentation
    return {"n": made.n_views, "seed": made.seed, "ranges": dataclasses.asdict(made.ranges), "images": images}


def _build_similarities(
    study: StudyResult, augmented: AugmentedSimilarities, at: int, number: int
) -> Mapping[str, Any]:
    """Of a view under each model: to its own image, and to every image in their order."""
    found = {}
    for name in study.comparison.models:
        every = [float(value) for value in augmented.similarities[name][at, number - 1]]
        found[name] = {"own": every[at], "images": every}
    return found


def _build_separation(study: StudyResult) -> list[dict[str, Any]]:
    """The clearest model first; a sensitivity without scatter is null."""
    return [
        {
            "backbone": name,
            "own_mean": float(found.own.mean()),
            "own_least": float(found.own.min()),
            "others_mean": float(found.others.mean()),
            "others_greatest": float(found.others.max()),
            "gap": found.gap,
            "sensitivity": found.sensitivity if math.isfinite(found.sensitivity) else None,
            "views": found.own.size,
            "views_nearest_to_own": found.n_nearest,
        }
        for name, found in study.separations.items()
    ]
