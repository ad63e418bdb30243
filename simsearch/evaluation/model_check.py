"""Check a backbone on a small folder of labelled pictures: does it load, does it retrieve, how fast is it?"""

from __future__ import annotations

import datetime
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simsearch.errors import NoImages, SimsearchError
from simsearch.evaluation.metrics import Rankings, average_precision, precision_at, rank_positions
from simsearch.files import replace_file, translate_write_errors
from simsearch.images.decode import compute_default_max_pixels
from simsearch.ingest.prepare import decode_input
from simsearch.models.choice import ModelChoice, locate_check_record, resolve_model
from simsearch.models.loader import LoadOptions, open_embedder
from simsearch.sources.scan import scan_sources
from simsearch.text import name_counts

_BATCH = 8
_MAX_IMAGES = 2000


@dataclass(frozen=True, slots=True)
class ModelCheck:
    """What a backbone did with n pictures, whose folders are their classes.

    P@1, P@10 and mAP are leave-one-out. `images_per_s` is the speed of the network alone, at f32. `min_norm` and
    `max_norm` are the lengths of the vectors, 1 up to rounding. `mean_cosine` is that of different pictures: near 1 the
    vectors are all alike, and something is wrong.
    """

    backbone: str
    fingerprint: str
    width: int
    n_images: int
    precision_at_1: float
    precision_at_10: float
    mean_average_precision: float
    images_per_s: float
    min_norm: float
    max_norm: float
    mean_cosine: float
    checked_at: str

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of `simsearch backbones --check NAME --json`."""
        return name_counts(asdict(self))


def check_model(choice: ModelChoice, folder: str) -> ModelCheck:
    """Embed the pictures in a folder with one subfolder per class, measure retrieval, and record the result.

    The weights are downloaded if that is allowed. The record, in the user's cache, marks the backbone as verified.
    Raises `ModelError`, `NoImages` where there are not two pictures of a class, or another `SimsearchError`.
    """
    paths = [file.path for file in scan_sources([folder]).files][:_MAX_IMAGES]
    labels = np.array([Path(path).parent.name for path in paths])
    n_relevant = np.array([np.sum(labels == label) - 1 for label in labels], dtype=np.int64)
    if not len(paths) or not n_relevant.any():
        raise NoImages(
            folder, f"{folder} has no class of two pictures", "name a folder with a subfolder for each class"
        )
    model = resolve_model(choice)
    embedder = open_embedder(model, LoadOptions(engine=choice.engine))
    limit = compute_default_max_pixels()
    pixels = np.stack([decode_input(path, model, max_pixels=limit) for path in paths])
    embedder.embed(pixels[:1])
    started = time.perf_counter()
    vectors = np.concatenate([embedder.embed(pixels[i : i + _BATCH]) for i in range(0, len(pixels), _BATCH)])
    seconds = time.perf_counter() - started
    norms = np.linalg.norm(vectors, axis=1)
    if not np.isfinite(norms).all() or norms.min() < 0.5:
        raise SimsearchError(f"{model.backbone} returns vectors without a direction", "check its file and its settings")
    similarities = vectors @ vectors.T
    queries = np.flatnonzero(n_relevant)
    own = np.zeros((len(queries), len(paths)), dtype=bool)
    own[np.arange(len(queries)), queries] = True
    order = rank_positions(np.clip(similarities[queries], -1, 1), own)
    relevant = (labels[order] == labels[queries, None]) & ~np.take_along_axis(own, order, axis=1)
    rankings = Rankings.from_relevance(relevant, n_relevant[queries])
    check = ModelCheck(
        backbone=model.zoo_name or model.backbone,
        fingerprint=model.fingerprint,
        width=embedder.width,
        n_images=len(paths),
        precision_at_1=float(precision_at(rankings, 1).mean()),
        precision_at_10=float(precision_at(rankings, 10).mean()),
        mean_average_precision=float(average_precision(rankings).mean()),
        images_per_s=len(paths) / seconds,
        min_norm=float(norms.min()),
        max_norm=float(norms.max()),
        mean_cosine=float(similarities[~np.eye(len(paths), dtype=bool)].mean()),
        checked_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    _record(check)
    return check


def _record(check: ModelCheck) -> None:
    file = locate_check_record(check.backbone)
    with translate_write_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        with replace_file(file) as temporary:
            temporary.write_text(json.dumps(check.to_dict(), indent=1), encoding="utf-8")
