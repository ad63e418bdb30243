"""Which re-ranking suits a collection: tried on its own images, by labels where folders give them, else on views."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from simsearch.collection import Collection
from simsearch.errors import CollectionError, ImageError, UsageError
from simsearch.evaluation.embedding import TaskVectors, Vectors, find_embedded_digests, list_images, load_vectors
from simsearch.evaluation.labels import group_by_folder
from simsearch.evaluation.model_probe import ModelProbe
from simsearch.evaluation.protocol import (
    GroundTruth,
    RetrievalTask,
    TaskImage,
    TaskQuery,
    build_leave_one_out_task,
    sample_queries,
)
from simsearch.evaluation.ranking import Ranker
from simsearch.evaluation.results import MAIN_METRIC, Score
from simsearch.evaluation.robustness import sample_positions
from simsearch.evaluation.scoring import score
from simsearch.evaluation.statistics import adjust_p_values, bootstrap_interval, compute_paired_p_value
from simsearch.images.augmentation import AugmentationRanges, apply_transformation, sample_transformation
from simsearch.images.decode import compute_default_max_pixels
from simsearch.maintenance import find_models
from simsearch.models.weights import WeightsOptions
from simsearch.rerank.method import RerankMethod
from simsearch.sources.addresses import find_common_folder
from simsearch.store.catalog import Catalog

TUNED_METHODS = ("none", "pca", "dba", "aqe", "pca+dba", "pca+aqe", "pca+dba+aqe", "k-reciprocal", "pca+k-reciprocal")
N_QUERIES = 500
SIGNIFICANCE_LEVEL = 0.05

_UNSEEN_SEED = 7_041_776
"""Views of this seed are in no index, unless somebody asks for it."""

_N_TIMED = 30
_N_ANSWERS = 10


@dataclass(frozen=True, slots=True)
class MethodTrial:
    """A method on this collection: mAP with its interval, P@1, the paired test's p-value against the best method
    (None for that), and the median milliseconds that an answer takes once the query is embedded."""

    method: str
    mean_average_precision: Score
    precision_at_1: float
    p_value: float | None
    answer_ms: float


@dataclass(frozen=True, slots=True)
class TuningResult:
    """What was tried on which model, how it was judged, and the method chosen."""

    collection: str
    model: str
    backbone: str
    judged_by: str
    n_images: int
    n_queries: int
    trials: tuple[MethodTrial, ...]
    chosen: str


def tune(
    folder: str | os.PathLike[str], backbone: str | None = None, *, methods: Sequence[str] = TUNED_METHODS,
    n_queries: int = N_QUERIES, seed: int = 0, keep: bool = True,
) -> TuningResult:  # fmt: skip
    """Try methods on a collection, and make the best one what its queries use if they do not say.

    Queries are images of the collection, right are those of the same folder. Where there are no such folders, queries
    are images turned, moved, scaled and mirrored in a way that is in no index, and right is the image itself.
    Of methods that do not differ significantly from the best in mAP the one of fewest steps is chosen.

    Raises `UsageError`, `ModelError` or `CollectionError`.
    """
    tried = tuple(dict.fromkeys(RerankMethod.parse(text) for text in methods))
    if n_queries < 1 or not tried:
        raise UsageError("there is nothing to try", "name a method and a sample of one or more")
    with Catalog.open(Path(folder)) as catalog:
        models = catalog.list_models() if backbone is None else find_models(catalog, backbone)
        if not models:
            raise CollectionError(str(folder), f"{folder} is empty", "index a folder into it first")
        stored = models[0]
        whole = find_embedded_digests(catalog, stored)
        paths = [path for path, _, _ in catalog.iterate_contents()]
        items = [item for item in list_images(catalog, paths) if item.digest in whole]
        opened = ModelProbe(stored, catalog, WeightsOptions(None, offline=True), compute_default_max_pixels())
        task, embedded, queries = _build_label_task(items, catalog, opened, n_queries, seed) or _build_view_task(
            items, catalog, opened, n_queries, seed
        )
        trials = _run_trials(task, embedded, queries, tried, seed)
    best = _choose_method(trials)
    if keep:
        with Collection.open(folder) as collection:
            collection.set_default_rerank(best)
    return TuningResult(
        str(folder), stored.fingerprint, stored.model.backbone, task.origin, len(task.images), len(task.queries),
        tuple(trials), best,
    )  # fmt: skip


_TuningTask = tuple[RetrievalTask, TaskVectors, Vectors]


def _build_label_task(
    items: Sequence[TaskImage], catalog: Catalog, opened: ModelProbe, n: int, seed: int
) -> _TuningTask | None:
    """Images among those of their folder; None where folders say nothing."""
    paths = [path for item in items for path in item.paths]
    root = find_common_folder(paths) or "."
    try:
        task = sample_queries(
            build_leave_one_out_task(items, replace(group_by_folder(paths, root), exclusions=()), "leave-one-out"),
            n,
            seed,
        )
    except UsageError:  # one folder, or a picture in each
        return None
    embedded = load_vectors(catalog, opened.stored, [item.digest for item in task.images])
    return task, embedded, embedded.originals[[query.position for query in task.queries]]


def _build_view_task(
    items: Sequence[TaskImage], catalog: Catalog, opened: ModelProbe, n: int, seed: int
) -> _TuningTask:
    """Changed images among all as they are."""
    embedded = load_vectors(catalog, opened.stored, [item.digest for item in items])
    queries, relevant, pixels = [], [], []
    for at in sample_positions(len(items), n, seed):
        item = items[at]
        try:
            square = opened.decode_input(item.paths[0])
        except ImageError:  # gone meanwhile
            continue
        pixels.append(
            apply_transformation(square, sample_transformation(AugmentationRanges(), _UNSEEN_SEED, item.digest, 1))
        )
        queries.append(TaskQuery(item.paths[0], "", item.digest, -1))
        relevant.append(np.array([at]))
    if len(items) < 2 or not queries:
        raise UsageError(f"{catalog.folder} holds too little to be tried on", "index two pictures or more")
    truth = GroundTruth(relevant, [np.empty(0, np.int64)] * len(queries))
    labels = ("",) * len(items)
    task = RetrievalTask(
        "views", "augmented views", tuple(items), labels, tuple(queries), {"": truth}, len(queries), ()
    )
    return task, embedded, opened.embed(pixels)


def _run_trials(
    task: RetrievalTask, embedded: TaskVectors, queries: Vectors, methods: Sequence[RerankMethod], seed: int
) -> list[MethodTrial]:
    per_query, precision, answer_ms = [], [], []
    for method in methods:
        ranker = Ranker(embedded, method)
        scored = score(task, ranker, queries)
        per_query.append(scored.per_query[MAIN_METRIC])
        precision.append(float(scored.per_query["p_at_1"].mean()))
        answer_ms.append(_measure_answer_ms(ranker, queries))
    best = int(np.argmax([values.mean() for values in per_query]))
    others = [at for at in range(len(methods)) if at != best]
    p_values = adjust_p_values(
        np.array([compute_paired_p_value(per_query[at], per_query[best], seed=seed) for at in others])
    )
    p_by_method = dict(zip(others, p_values.tolist(), strict=True))
    return [
        MethodTrial(
            str(method), Score(float(values.mean()), *bootstrap_interval(values, seed=seed)), precision[at],
            p_by_method.get(at), answer_ms[at],
        )
        for at, (method, values) in enumerate(zip(methods, per_query, strict=True))
    ]  # fmt: skip


def _measure_answer_ms(ranker: Ranker, queries: Vectors) -> float:
    seconds = []
    for vector in queries[: _N_TIMED + 1]:
        started = time.perf_counter()
        ranker.search(vector, _N_ANSWERS)
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds[1:] or seconds) * 1e3)


def _choose_method(trials: Sequence[MethodTrial]) -> str:
    tied = [trial for trial in trials if trial.p_value is None or trial.p_value >= SIGNIFICANCE_LEVEL]

    def cost(trial: MethodTrial) -> tuple[int, float]:
        n_steps = 0 if trial.method == "none" else trial.method.count("+") + 1
        return n_steps, -trial.mean_average_precision.mean

    return min(tied, key=cost).method
