"""Learning beside re-ranking: both measured on the same images, which were held out from learning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import UsageError
from simsearch.evaluation.improvements import MeasuredModel, estimate_score, without_views
from simsearch.evaluation.labels import LabelGroups
from simsearch.evaluation.model_probe import compute_image_bytes
from simsearch.evaluation.protocol import RetrievalTask, TaskImage, build_label_task
from simsearch.evaluation.ranking import Ranker, measure_answer_ms
from simsearch.evaluation.results import LearningRow
from simsearch.evaluation.scoring import score
from simsearch.evaluation.statistics import adjust_p_values, compute_paired_p_value
from simsearch.learn.learn import LearnOptions, choose_map_settings, reduce_vectors
from simsearch.learn.moments import LabeledMoments, Vectors
from simsearch.learn.selection import LabeledVectors
from simsearch.learn.splits import SPLITTERS, Positions, Split, Task, group_copies
from simsearch.rerank.method import RerankMethod

LEARNED = "learned"
_NONE = str(RerankMethod())


@dataclass(frozen=True, slots=True)
class HeldOutTask:
    """A split of the images of a benchmark: those to learn from, and the task of the others.

    `learned` and `measured` are positions in the benchmark's images; no image and no near copy is in both.
    """

    kind: Task
    learned: Positions
    measured: Positions
    task: RetrievalTask


@dataclass(slots=True)
class _Measurements:
    """What the held-out tasks of one kind gave for one method."""

    values: list[NDArray[np.float64]] = field(default_factory=list)
    answer_ms: list[float] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)


def compare_learning(
    task: RetrievalTask, model: MeasuredModel, methods: Sequence[RerankMethod], metric: str, seed: int
) -> list[LearningRow]:
    """Measure re-ranking methods and a learned map on images, and on classes, that were held out from learning.

    Half of the images of each class, or half of the classes, are searched among themselves; the map and its settings
    come from the other half, and then the halves change places. Every method is measured on the same halves.

    Raises `UsageError` where the task has no classes, or a class has too few images.
    """
    found: dict[tuple[Task, str], _Measurements] = {}
    for held_out in split_task(task, model.originals, seed):
        before = model.originals[held_out.measured]
        databases = {str(method): (before, method) for method in (RerankMethod(), *methods)}
        databases[LEARNED] = (_learn(task, model.originals, held_out, seed), RerankMethod())
        for name, (rows, method) in databases.items():
            ranker = Ranker(without_views(rows), method)
            queries = rows[[query.position for query in held_out.task.queries]]
            entry = found.setdefault((held_out.kind, name), _Measurements())
            entry.values.append(score(held_out.task, ranker, queries, (metric,)).per_query[metric])
            entry.answer_ms.append(measure_answer_ms(ranker, queries))
            entry.widths.append(ranker.width)
    if not found:
        raise UsageError("learning cannot be compared with these labels", "give classes of four images or more")
    return _build_rows(model, found, seed)


def split_task(task: RetrievalTask, vectors: Vectors, seed: int) -> Iterator[HeldOutTask]:
    """Split the labeled images of a task for learning and measuring, by images and by classes, both ways.

    Raises `UsageError` where the task has no classes.
    """
    labeled = np.array([at for at, label in enumerate(task.labels) if label], np.int64)
    if not len(labeled):
        raise UsageError("--learn needs classes, and the labels are lists of relevant images", "leave out --learn")
    classes = np.unique([task.labels[at] for at in labeled.tolist()], return_inverse=True)[1].astype(np.int64)
    copies, rng = group_copies(vectors[labeled]), np.random.default_rng(seed)
    for kind, splitter in SPLITTERS.items():
        for split in splitter(classes, copies, rng):
            if (measured := _build_task(task, labeled[split.measured])) is not None and _can_learn(split, classes):
                yield HeldOutTask(kind, labeled[split.learned], labeled[split.measured], measured)


def _can_learn(split: Split, classes: NDArray[np.int64]) -> bool:
    """Whether the learning side has two classes, and one with two images."""
    sizes = np.unique(classes[split.learned], return_counts=True)[1]
    return len(sizes) > 1 and int(sizes.max()) > 1


def _build_task(task: RetrievalTask, positions: Positions) -> RetrievalTask | None:
    """The task of some images searched among themselves; None where it would have no query."""
    images: list[TaskImage] = [task.images[at] for at in positions.tolist()]
    labels = {path: task.labels[at] for at in positions.tolist() for path in task.images[at].paths}
    try:
        return build_label_task(images, LabelGroups(labels, task.origin))
    except UsageError:  # no class has two images, or there is one class
        return None


def _learn(task: RetrievalTask, vectors: Vectors, held_out: HeldOutTask, seed: int) -> Vectors:
    """Learn a map from the learning side only, and map the vectors of the other side."""
    classes = np.unique([task.labels[at] for at in held_out.learned.tolist()], return_inverse=True)[1].astype(np.int64)
    rows = vectors[held_out.learned]
    features, project = reduce_vectors(rows)
    data = LabeledVectors(rows, features, classes, group_copies(rows))
    settings = choose_map_settings(data, LearnOptions(seed=seed, task=held_out.kind))
    learned = LabeledMoments(features, classes).build_map(settings, features)
    return learned.apply(project(vectors[held_out.measured]))


def _build_rows(model: MeasuredModel, found: dict[tuple[Task, str], _Measurements], seed: int) -> list[LearningRow]:
    rows, p_values = [], []
    for (kind, method), entry in found.items():
        values, plain = np.concatenate(entry.values), np.concatenate(found[kind, _NONE].values)
        if method != _NONE:
            p_values.append(compute_paired_p_value(values, plain, seed=seed))
        width = max(entry.widths)
        rows.append(
            LearningRow(
                backbone=model.stored.model.backbone, model=model.stored.fingerprint, task=kind, method=method,
                n_queries=len(values), score=estimate_score(values, seed), p_value=None,
                answer_ms=float(np.median(entry.answer_ms)),
                memory_bytes_per_image=compute_image_bytes(width, width, 0)[1],
            )
        )  # fmt: skip
    corrected = iter(adjust_p_values(np.array(p_values)).tolist())
    return [row if row.method == _NONE else replace(row, p_value=next(corrected)) for row in rows]
