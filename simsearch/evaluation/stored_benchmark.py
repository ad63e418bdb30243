"""A benchmark of the vectors that a collection has, with labels from a column of the user's own. Reads no picture.

Any model can be measured so, imported vectors included, because the queries are stored images. The times of a query are
those of search and re-ranking alone.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simsearch.errors import UsageError
from simsearch.evaluation.comparison import build_row, compare_rows, measure_cost, name_rows
from simsearch.evaluation.embedding import TaskVectors, Vectors, load_vectors
from simsearch.evaluation.labels import LabelGroups, make_exclusions
from simsearch.evaluation.metric_names import DEFAULT_METRIC
from simsearch.evaluation.model_probe import ModelSpeeds
from simsearch.evaluation.protocol import RetrievalTask, TaskImage, build_query_folder_task
from simsearch.evaluation.ranking import Ranker, check_ranks_vectors
from simsearch.evaluation.results import BenchmarkResult, BenchmarkRow, DatasetSummary
from simsearch.evaluation.scoring import list_metrics, score
from simsearch.machine import describe_machine, list_versions
from simsearch.rerank.method import RerankMethod
from simsearch.store.catalog import Catalog, StoredModel
from simsearch.store.snapshot import open_snapshot

DEFAULT_QUERIES = 1_000
_N_TIMED = 64
_UNKNOWN = float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBenchmarkSpec:
    """What to measure: the collection in `folder` by the labels in `column`, under every model and method.

    `backbones` name models of the collection; empty: all of them. `where` filters the images. `n_queries` is the size
    of the sample of queries that is drawn with `seed`; all other images with a label, or without one, are searched.

    Raises `UsageError` on a value out of range.
    """

    folder: Path
    column: str
    backbones: tuple[str, ...] = ()
    methods: tuple[RerankMethod, ...] = (RerankMethod(),)
    metrics: tuple[str, ...] = ()
    where: str | None = None
    n_queries: int = DEFAULT_QUERIES
    seed: int = 0
    command: str = ""

    def __post_init__(self) -> None:
        if self.n_queries < 1:
            raise UsageError(f"--sample is {self.n_queries}", "give 1 or more")


def run_stored_benchmark(
    spec: StoredBenchmarkSpec, models: Sequence[StoredModel], on_stage: Callable[[str], None] = lambda _: None
) -> BenchmarkResult:
    """Measure stored vectors. An image counts where every one of the models has its vector.

    Raises `UsageError` where the labels allow no measurement, or a `CollectionError`.
    """
    started = time.perf_counter()
    check_ranks_vectors(spec.methods)
    with Catalog.open(spec.folder) as catalog:
        images, labels, n_without = _read_images(spec, catalog, models)
        task, n_possible = _build_task(spec, images, labels)
        rows: list[BenchmarkRow] = []
        for stored in models:
            on_stage(f"measuring {stored.model.backbone}")
            rows += _measure_model(spec, catalog, stored, task)
    excluded = make_exclusions("images without a vector of every model are ignored", n_without)
    dataset = DatasetSummary(
        source=str(spec.folder), protocol=task.protocol, task="stored images are queries",
        labels=f"column {spec.column}",
        n_images=len(task.images), n_classes=len({label for label in task.labels if label}),
        n_queries=len(task.queries), n_queries_of=n_possible, exclusions=(*excluded, *task.exclusions),
    )  # fmt: skip
    main_metric = spec.metrics[0] if spec.metrics else DEFAULT_METRIC
    return BenchmarkResult(
        dataset=dataset, metrics=list_metrics(task, spec.metrics), main_metric=main_metric,
        queries=task.labeled_queries, rows=tuple(compare_rows(name_rows(rows), main_metric, spec.seed)), robustness=(),
        n_robustness_images=0, notes=("queries are stored vectors: their times are those of searching alone",),
        seed=spec.seed, command=spec.command, machine=describe_machine(), versions=list_versions(),
        made_at=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        elapsed_s=time.perf_counter() - started,
    )  # fmt: skip


def _read_images(
    spec: StoredBenchmarkSpec, catalog: Catalog, models: Sequence[StoredModel]
) -> tuple[list[TaskImage], dict[str, str], list[str]]:
    """The images with all vectors, the labels by path, and the paths of the other images."""
    if spec.column not in (columns := catalog.count_columns()):
        known = f"its columns are {', '.join(columns)}" if columns else "it has no columns of yours"
        raise UsageError(f"{spec.folder} has no column {spec.column!r} of yours", known)
    with open_snapshot(spec.folder) as snapshot:
        complete = [set(snapshot.list_original_ids(stored.id)[1].tolist()) for stored in models]
    wanted, selected, values = set.intersection(*complete), _select_ids(spec, catalog), catalog.read_column(spec.column)
    images: dict[int, TaskImage] = {}
    labels: dict[str, str] = {}
    without: list[str] = []
    for path, image_id, digest in catalog.iterate_contents():
        if image_id not in selected:
            continue
        if image_id not in wanted:
            without.append(path)
            continue
        paths = (*images[image_id].paths, path) if image_id in images else (path,)
        images[image_id] = TaskImage(digest, paths)
        if image_id in values:
            labels[path] = str(values[image_id])
    return list(images.values()), labels, without


def _select_ids(spec: StoredBenchmarkSpec, catalog: Catalog) -> set[int]:
    condition = None
    if spec.where is not None:
        from simsearch.filters import compile_sql, parse  # only a filter needs it

        condition = compile_sql(parse(spec.where), catalog.count_columns())
    return set(catalog.list_image_ids(condition).tolist())


def _build_task(
    spec: StoredBenchmarkSpec, images: Sequence[TaskImage], labels: dict[str, str]
) -> tuple[RetrievalTask, int]:
    """The task of a sample of the images with labels as queries, and the number of images that could be queries."""
    counts: dict[str, int] = {}
    for image in images:
        if label := labels.get(image.paths[0]):
            counts[label] = counts.get(label, 0) + 1
    possible = [at for at, image in enumerate(images) if counts.get(labels.get(image.paths[0], ""), 0) > 1]
    if not possible:
        problem = f"no two images have the same value of {spec.column}"
        raise UsageError(problem, "name a column with classes, of which some have several images")
    if len(possible) > spec.n_queries:
        drawn = np.random.default_rng(spec.seed).choice(len(possible), spec.n_queries, replace=False)
        chosen = [possible[at] for at in sorted(drawn.tolist())]
    else:
        chosen = possible
    groups = LabelGroups(labels, f"column {spec.column}")
    return build_query_folder_task([images[at] for at in chosen], groups, images, groups), len(possible)


def _measure_model(
    spec: StoredBenchmarkSpec, catalog: Catalog, stored: StoredModel, task: RetrievalTask
) -> list[BenchmarkRow]:
    vectors = load_vectors(catalog, stored, [image.digest for image in task.images])
    originals = TaskVectors(vectors.originals, np.empty((len(vectors.originals), 0, stored.width), np.float32))
    queries: Vectors = vectors.originals[[query.position for query in task.queries]]
    timed = queries[:_N_TIMED]
    speeds = ModelSpeeds(_UNKNOWN, {0: _UNKNOWN}, timed, np.zeros(len(timed)))
    rows = []
    for method in spec.methods:
        ranker = Ranker(originals, method)
        scores = score(task, ranker, queries, spec.metrics)
        cost = measure_cost(stored, ranker, speeds, 0)
        rows.append(
            build_row(stored, method, n_views=0, scores=scores, cost=cost, protocol=task.protocol, seed=spec.seed)
        )
    return rows
