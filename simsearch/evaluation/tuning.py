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
from simsearch.evaluation.embedding import Embedded, Vectors, embedded_digests, items_below, load
from simsearch.evaluation.labels import by_folder
from simsearch.evaluation.model_probe import Opened
from simsearch.evaluation.protocol import Asked, Item, Task, Truth, leave_one_out, sampled
from simsearch.evaluation.ranking import Ranker
from simsearch.evaluation.results import HEADLINE, Score
from simsearch.evaluation.robustness import chosen
from simsearch.evaluation.scoring import score
from simsearch.evaluation.statistics import bootstrap_interval, holm, paired_test
from simsearch.images.augmentation import Ranges, apply, draw
from simsearch.images.decode import default_max_pixels
from simsearch.maintenance import matching
from simsearch.models.weights import WeightsOrder
from simsearch.rerank.method import Method
from simsearch.sources.addresses import common_folder
from simsearch.store.catalog import Catalog

TRIED = ("none", "pca", "dba", "aqe", "pca+dba", "pca+aqe", "pca+dba+aqe", "k-reciprocal", "pca+k-reciprocal")
N_QUERIES = 500
SIGNIFICANT = 0.05

_UNSEEN_SEED = 7_041_776
"""Views of this seed are in no index, unless somebody asks for it."""

_N_TIMED = 30
_N_ANSWERS = 10


@dataclass(frozen=True, slots=True)
class Trial:
    """A method on this collection: mAP with its interval, P@1, the paired test's p-value against the best method
    (None for that), and the median milliseconds that an answer takes once the query is embedded."""

    method: str
    mean_average_precision: Score
    precision_at_1: float
    p_value: float | None
    answer_ms: float


@dataclass(frozen=True, slots=True)
class Tuned:
    """What was tried on which model, how it was judged, and the method chosen."""

    collection: str
    model: str
    backbone: str
    judged_by: str
    n_images: int
    n_queries: int
    trials: tuple[Trial, ...]
    chosen: str


def tune(
    folder: str | os.PathLike[str], backbone: str | None = None, *, methods: Sequence[str] = TRIED,
    n_queries: int = N_QUERIES, seed: int = 0, keep: bool = True,
) -> Tuned:  # fmt: skip
    """Try methods on a collection, and make the best one what its queries use if they do not say.

    Queries are images of the collection, right are those of the same folder. Where there are no such folders, queries
    are images turned, moved, scaled and mirrored in a way that is in no index, and right is the image itself.
    Of methods that do not differ significantly from the best in mAP the one of fewest steps is chosen.

    Raises `UsageError`, `ModelError` or `CollectionError`.
    """
    tried = tuple(dict.fromkeys(Method.parse(text) for text in methods))
    if n_queries < 1 or not tried:
        raise UsageError("there is nothing to try", "name a method and a sample of one or more")
    with Catalog.open(Path(folder)) as catalog:
        models = catalog.models() if backbone is None else matching(catalog, backbone)
        if not models:
            raise CollectionError(str(folder), f"{folder} is empty", "index a folder into it first")
        stored = models[0]
        whole = embedded_digests(catalog, stored)
        paths = [path for path, _, _ in catalog.contents()]
        items = [item for item in items_below(catalog, paths) if item.digest in whole]
        opened = Opened(stored, catalog, WeightsOrder(None, offline=True), default_max_pixels())
        task, embedded, queries = _by_labels(items, catalog, opened, n_queries, seed) or _by_views(
            items, catalog, opened, n_queries, seed
        )
        trials = _trials(task, embedded, queries, tried, seed)
    best = _chosen(trials)
    if keep:
        Collection.set_default_rerank(folder, best)
    return Tuned(
        str(folder), stored.fingerprint, stored.model.backbone, task.origin, len(task.items), len(task.queries),
        tuple(trials), best,
    )  # fmt: skip


_Asked = tuple[Task, Embedded, Vectors]


def _by_labels(items: Sequence[Item], catalog: Catalog, opened: Opened, n: int, seed: int) -> _Asked | None:
    """Images among those of their folder; None where folders say nothing."""
    paths = [path for item in items for path in item.paths]
    root = common_folder(paths) or "."
    try:
        task = sampled(leave_one_out(items, replace(by_folder(paths, root), exclusions=()), "leave-one-out"), n, seed)
    except UsageError:  # one folder, or a picture in each
        return None
    embedded = load(catalog, opened.stored, [item.digest for item in task.items])
    return task, embedded, embedded.originals[[query.position for query in task.queries]]


def _by_views(items: Sequence[Item], catalog: Catalog, opened: Opened, n: int, seed: int) -> _Asked:
    """Changed images among all as they are."""
    embedded = load(catalog, opened.stored, [item.digest for item in items])
    queries, relevant, pixels = [], [], []
    for at in chosen(len(items), n, seed):
        item = items[at]
        try:
            square = opened.square(item.paths[0])
        except ImageError:  # gone meanwhile
            continue
        pixels.append(apply(square, draw(Ranges(), _UNSEEN_SEED, item.digest, 1)))
        queries.append(Asked(item.paths[0], "", item.digest, -1))
        relevant.append(np.array([at]))
    if len(items) < 2 or not queries:
        raise UsageError(f"{catalog.folder} holds too little to be tried on", "index two pictures or more")
    truth = Truth(relevant, [np.empty(0, np.int64)] * len(queries))
    labels = ("",) * len(items)
    task = Task("views", "augmented views", tuple(items), labels, tuple(queries), {"": truth}, len(queries), ())
    return task, embedded, opened.embed(pixels)


def _trials(task: Task, embedded: Embedded, queries: Vectors, methods: Sequence[Method], seed: int) -> list[Trial]:
    per_query, precision, answer_ms = [], [], []
    for method in methods:
        ranker = Ranker(embedded, method)
        scored = score(task, ranker, queries)
        per_query.append(scored.per_query[HEADLINE])
        precision.append(float(scored.per_query["p_at_1"].mean()))
        answer_ms.append(_answer_ms(ranker, queries))
    best = int(np.argmax([values.mean() for values in per_query]))
    others = [at for at in range(len(methods)) if at != best]
    p_values = holm(np.array([paired_test(per_query[at], per_query[best], seed=seed) for at in others]))
    p_by_method = dict(zip(others, p_values.tolist(), strict=True))
    return [
        Trial(
            str(method), Score(float(values.mean()), *bootstrap_interval(values, seed=seed)), precision[at],
            p_by_method.get(at), answer_ms[at],
        )
        for at, (method, values) in enumerate(zip(methods, per_query, strict=True))
    ]  # fmt: skip


def _answer_ms(ranker: Ranker, queries: Vectors) -> float:
    seconds = []
    for vector in queries[: _N_TIMED + 1]:
        started = time.perf_counter()
        ranker.answer(vector, _N_ANSWERS)
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds[1:] or seconds) * 1e3)


def _chosen(trials: Sequence[Trial]) -> str:
    tied = [trial for trial in trials if trial.p_value is None or trial.p_value >= SIGNIFICANT]

    def cost(trial: Trial) -> tuple[int, float]:
        n_steps = 0 if trial.method == "none" else trial.method.count("+") + 1
        return n_steps, -trial.mean_average_precision.mean

    return min(tied, key=cost).method
