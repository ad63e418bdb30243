"""Selection of a re-ranking method for a collection, on its own images: by folder labels, else by augmented views."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from simsearch.collection import Collection
from simsearch.errors import CollectionError, ImageError, UsageError
from simsearch.evaluation.embedding import TaskVectors, Vectors, find_embedded_digests, list_images, load_vectors
from simsearch.evaluation.labels import group_by_folder
from simsearch.evaluation.metric_names import DEFAULT_METRIC
from simsearch.evaluation.model_probe import ModelProbe
from simsearch.evaluation.protocol import (
    GroundTruth,
    RetrievalTask,
    TaskImage,
    TaskQuery,
    build_label_task,
    sample_queries,
)
from simsearch.evaluation.ranking import Ranker, check_ranks_vectors, measure_answer_ms
from simsearch.evaluation.results import Score
from simsearch.evaluation.robustness import sample_positions
from simsearch.evaluation.scoring import score
from simsearch.evaluation.statistics import (
    SIGNIFICANCE_LEVEL,
    adjust_p_values,
    bootstrap_interval,
    compute_paired_p_value,
)
from simsearch.images.augmentation import AugmentationRanges, apply_transformation, sample_transformation
from simsearch.images.decode import compute_default_max_pixels
from simsearch.maintenance import find_models
from simsearch.models.weights import WeightsOptions
from simsearch.rerank.method import RerankMethod
from simsearch.sources.addresses import find_common_folder
from simsearch.sources.progress import find_listener
from simsearch.store.catalog import Catalog
from simsearch.text import count, name_counts

TUNED_METHODS = ("none", "pca", "dba", "aqe", "pca+dba", "pca+aqe", "pca+dba+aqe", "k-reciprocal", "pca+k-reciprocal")
N_QUERIES = 500

_UNSEEN_SEED = 7_041_776
"""An index contains no views of this seed, unless a user sets it."""

MAX_SLOWDOWN = 3.0
"""A method that takes longer than this times the fastest of those that are tied is not chosen."""

_MIN_SLOW_MS = 1.0
"""Times below this do not matter to anybody."""


@dataclass(frozen=True, slots=True)
class MethodTrial:
    """The result of one method on the collection.

    `p_value` is that of the paired test against the best method (None for the best). `answer_ms` is the median time of
    an answer in milliseconds, without embedding the query.
    """

    method: str
    mean_average_precision: Score
    precision_at_1: float
    p_value: float | None
    answer_ms: float


@dataclass(frozen=True, slots=True)
class TuningResult:
    """The tried methods on one model of a collection, the origin of the labels, and the chosen method."""

    collection: str
    model: str
    backbone: str
    judged_by: str
    n_images: int
    n_queries: int
    trials: tuple[MethodTrial, ...]
    chosen: str

    def to_dict(self) -> dict[str, Any]:
        """The JSON of `simsearch tune --json`."""
        return name_counts(asdict(self))


def tune(
    folder: str | os.PathLike[str], backbone: str | None = None, *, methods: Sequence[str] = TUNED_METHODS,
    n_queries: int = N_QUERIES, seed: int = 0, keep: bool = True,
) -> TuningResult:  # fmt: skip
    """Try re-ranking methods on a model of a collection, and with `keep` make the best one its default.

    The queries are images of the collection; the relevant images are those of the same folder. Without such folders,
    the queries are rotated, shifted, scaled and flipped images in variants that no index contains, and only the image
    itself is relevant. Of the methods that do not differ significantly from the best one in mAP, those that take more
    than `MAX_SLOWDOWN` times as long as the fastest one are left out; of the others the one with the fewest steps is
    chosen.

    Raises `UsageError`, `ModelError` or `CollectionError`.
    """
    tried = tuple(dict.fromkeys(RerankMethod.parse(text) for text in methods))
    check_ranks_vectors(tried)
    if n_queries < 1 or not tried:
        raise UsageError("no method or no query to try", "name a method, and a sample of one or more")
    if backbone is not None:
        with Collection.open(folder) as collection:
            collection.model(backbone)  # a fused model is defined when it is first named
    activity = f"measuring {count(len(tried), 'method')} with up to {count(n_queries, 'query', 'queries')}"
    with find_listener().on_activity(activity) as report, Catalog.open(Path(folder)) as catalog:
        models = catalog.list_models() if backbone is None else find_models(catalog, backbone)
        if not models:
            raise CollectionError(str(folder), f"{folder} is empty", "index a folder into it first")
        stored = models[0]
        embedded_digests = find_embedded_digests(catalog, stored)
        paths = [path for path, _, _ in catalog.iterate_contents()]
        images = [image for image in list_images(catalog, paths) if image.digest in embedded_digests]
        probe = ModelProbe(stored, catalog, WeightsOptions(None, offline=True), compute_default_max_pixels())
        task, vectors, queries = _build_label_task(images, catalog, probe, n_queries, seed) or _build_view_task(
            images, catalog, probe, n_queries, seed
        )
        trials = _run_trials(task, vectors, queries, tried, seed, report)
    best = _choose_method(trials)
    if keep:
        with Collection.open(folder) as collection:
            collection.set_default_rerank(best, stored.fingerprint)
    return TuningResult(
        str(folder), stored.fingerprint, stored.model.backbone, task.origin, len(task.images), len(task.queries),
        tuple(trials), best,
    )  # fmt: skip


_TuningTask = tuple[RetrievalTask, TaskVectors, Vectors]


def _build_label_task(
    images: Sequence[TaskImage], catalog: Catalog, probe: ModelProbe, n: int, seed: int
) -> _TuningTask | None:
    """Build a leave-one-out task with the folders as labels; None where the folders give no labels."""
    paths = [path for image in images for path in image.paths]
    root = find_common_folder(paths) or "."
    try:
        groups = replace(group_by_folder(paths, root), exclusions=())
        task = sample_queries(build_label_task(images, groups), n, seed)
    except UsageError:  # a single folder, or one image in each folder
        return None
    vectors = load_vectors(catalog, probe.stored, [image.digest for image in task.images])
    return task, vectors, vectors.originals[[query.position for query in task.queries]]


def _build_view_task(
    images: Sequence[TaskImage], catalog: Catalog, probe: ModelProbe, n: int, seed: int
) -> _TuningTask:
    """Build a task whose queries are transformed images and whose database are the unchanged images."""
    vectors = load_vectors(catalog, probe.stored, [image.digest for image in images])
    queries, relevant, pixels = [], [], []
    for at in sample_positions(len(images), n, seed):
        image = images[at]
        try:
            square = probe.decode_input(image.paths[0])
        except ImageError:  # the file was removed or changed meanwhile
            continue
        transformation = sample_transformation(AugmentationRanges(), _UNSEEN_SEED, image.digest, 1)
        change = partial(apply_transformation, transformation=transformation)
        pixels.append(probe.stored.model.resize_rule.transform(square, change))
        queries.append(TaskQuery(image.paths[0], "", image.digest, -1))
        relevant.append(np.array([at]))
    if len(images) < 2 or not queries:
        raise UsageError(f"{catalog.folder} has fewer than two images to try methods on", "index two pictures or more")
    truth = GroundTruth(relevant, [np.empty(0, np.int64)] * len(queries))
    task = RetrievalTask(
        "self-excluded",
        "augmented views are queries",
        "augmented views",
        tuple(images),
        ("",) * len(images),
        tuple(queries),
        {"": truth},
        len(queries),
        (),
    )
    return task, vectors, probe.embed(pixels)


def _run_trials(
    task: RetrievalTask, vectors: TaskVectors, queries: Vectors, methods: Sequence[RerankMethod], seed: int,
    report: Callable[[float], None],
) -> list[MethodTrial]:  # fmt: skip
    per_query, precisions, answer_ms = [], [], []
    for number, method in enumerate(methods):
        report(number / len(methods))
        ranker = Ranker(vectors, method)
        scores = score(task, ranker, queries)
        per_query.append(scores.per_query[DEFAULT_METRIC])
        precisions.append(float(scores.per_query["p_at_1"].mean()))
        answer_ms.append(measure_answer_ms(ranker, queries))
    best = int(np.argmax([values.mean() for values in per_query]))
    others = [at for at in range(len(methods)) if at != best]
    p_values = adjust_p_values(
        np.array([compute_paired_p_value(per_query[at], per_query[best], seed=seed) for at in others])
    )
    p_value_of = dict(zip(others, p_values.tolist(), strict=True))
    return [
        MethodTrial(
            str(method), Score(float(values.mean()), *bootstrap_interval(values, seed=seed)), precisions[at],
            p_value_of.get(at), answer_ms[at],
        )
        for at, (method, values) in enumerate(zip(methods, per_query, strict=True))
    ]  # fmt: skip


def _choose_method(trials: Sequence[MethodTrial]) -> str:
    """Choose, of the methods tied with the best, a fast one with the fewest steps, then with the highest mAP."""
    tied = [trial for trial in trials if trial.p_value is None or trial.p_value >= SIGNIFICANCE_LEVEL]
    limit_ms = max(_MIN_SLOW_MS, MAX_SLOWDOWN * min(trial.answer_ms for trial in tied))
    fast = [trial for trial in tied if trial.answer_ms <= limit_ms]

    def compute_cost(trial: MethodTrial) -> tuple[int, float]:
        n_steps = 0 if trial.method == "none" else trial.method.count("+") + 1
        return n_steps, -trial.mean_average_precision.mean

    return min(fast, key=compute_cost).method
