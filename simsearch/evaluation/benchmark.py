"""The benchmark: embed what is missing, ask every query of every combination, and say what it costs."""

from __future__ import annotations

import datetime
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from simsearch.evaluation.comparison import build_row, compare_rows, measure_cost, name_rows
from simsearch.evaluation.embedding import TaskVectors, Vectors, find_embedded_digests, list_images, load_vectors
from simsearch.evaluation.inputs import BenchmarkInputs, update_collection
from simsearch.evaluation.labels import make_exclusions
from simsearch.evaluation.model_probe import ModelProbe
from simsearch.evaluation.protocol import RetrievalTask, TaskImage, sample_queries
from simsearch.evaluation.ranking import Ranker
from simsearch.evaluation.results import BenchmarkResult, BenchmarkRow, DatasetSummary, RobustnessResult
from simsearch.evaluation.robustness import measure_robustness, sample_positions
from simsearch.evaluation.scoring import list_metrics, score
from simsearch.evaluation.spec import BenchmarkCallbacks, BenchmarkSpec
from simsearch.images.decode import compute_default_max_pixels
from simsearch.machine import describe_machine, list_versions
from simsearch.models.weights import WeightsOptions
from simsearch.store.catalog import Catalog, StoredModel


def run_benchmark(question: BenchmarkSpec, watching: BenchmarkCallbacks | None = None) -> BenchmarkResult:
    """Measure every combination that the question names, on one machine, in one run.

    Vectors that the collection has are used; what is missing is embedded and stays there. Labels are checked before
    anything is embedded. Images that some model could not embed take no part under any.

    Raises `UsageError`, `SourceError`, `ModelError` or `CollectionError`.
    """
    started, watching = time.perf_counter(), watching or BenchmarkCallbacks()
    found = BenchmarkInputs.collect(question)
    question.label_source.build_task(
        [TaskImage(file, (file,)) for file in found.files], question.source, query_images=found.queries
    )
    models, notes = update_collection(question, watching)
    with Catalog.open(Path(question.collection_folder)) as catalog:
        bench = _BenchmarkRun(question, catalog, found, models, watching)
        rows, changes = bench.measure()
        dataset = bench.summarize_dataset()
    return BenchmarkResult(
        dataset=dataset,
        metrics=list_metrics(bench.task),
        queries=bench.task.labeled_queries,
        rows=tuple(compare_rows(name_rows(rows), question.seed)),
        robustness=tuple(changes),
        n_robustness_images=bench.n_perturbed,
        notes=tuple(dict.fromkeys((*notes, *bench.notes))),
        seed=question.seed,
        command=question.command,
        machine=describe_machine(),
        versions=list_versions(),
        made_at=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        elapsed_s=time.perf_counter() - started,
    )


class _BenchmarkRun:
    """A benchmark under way: the task, and the models one after the other."""

    def __init__(
        self,
        question: BenchmarkSpec,
        catalog: Catalog,
        found: BenchmarkInputs,
        models: Sequence[str],
        watching: BenchmarkCallbacks,
    ) -> None:
        self._spec, self._catalog, self._callbacks = question, catalog, watching
        by_fingerprint = {stored.fingerprint: stored for stored in catalog.list_models()}
        self._models = [by_fingerprint[model] for model in models]
        self.notes: list[str] = []
        whole = set.intersection(*(find_embedded_digests(catalog, stored) for stored in self._models))
        kept = [item for item in list_images(catalog, found.files) if item.digest in whole]
        taken = {path for item in kept for path in item.paths}
        broken = [file for file in found.files if file in found.claimed_images and file not in taken]
        self._excluded_files = (*broken, *found.unreadable)
        task = question.label_source.build_task(kept, question.source, query_images=found.queries, broken=broken)
        self.task = task if question.n_queries is None else sample_queries(task, question.n_queries, question.seed)
        self._perturbed = sample_positions(len(self.task.images), question.n_robustness, question.seed)
        self.n_perturbed = len(self._perturbed)

    def summarize_dataset(self) -> DatasetSummary:
        """What was asked of what."""
        task = self.task
        left_out = make_exclusions(
            "a file that cannot be read, or embedded by every backbone, takes no part", self._excluded_files
        )
        return DatasetSummary(
            source=self._spec.source, protocol=task.protocol, labels=task.origin, n_images=len(task.images),
            n_classes=len({label for label in task.labels if label}), n_queries=len(task.queries),
            n_queries_of=task.n_queries_of, exclusions=(*left_out, *task.exclusions),
        )  # fmt: skip

    def measure(self) -> tuple[list[BenchmarkRow], list[RobustnessResult]]:
        """Every row, and what robustness shows, model by model."""
        rows: list[BenchmarkRow] = []
        changes: list[RobustnessResult] = []
        for stored in self._models:
            more_rows, more_changes = self._measure_model(stored)
            rows += more_rows
            changes += more_changes
        return rows, changes

    def _measure_model(self, stored: StoredModel) -> tuple[list[BenchmarkRow], list[RobustnessResult]]:
        question, task = self._spec, self.task
        self._callbacks.on_stage(f"measuring {stored.model.backbone}")
        embedded = load_vectors(self._catalog, stored, [item.digest for item in task.images])
        order = WeightsOptions(None, offline=True)
        opened = ModelProbe(stored, self._catalog, order, question.max_pixels or compute_default_max_pixels())
        queries = _load_query_vectors(task, embedded, opened)
        view_counts = sorted(set(question.view_counts))
        speeds = opened.measure_speeds([item.paths[0] for item in task.images], view_counts)
        self.notes += opened.notes
        rows = []
        for n_views in view_counts:
            for method in question.methods:
                self._callbacks.on_stage(f"ranking with {stored.model.backbone}, {method}")
                ranker = Ranker(embedded.with_views(n_views), method)
                scored = score(task, ranker, queries)
                cost = measure_cost(stored, ranker, speeds, n_views)
                rows.append(build_row(stored, method, n_views=n_views, scored=scored, cost=cost, seed=question.seed))
        if not self._perturbed:
            return rows, []
        self._callbacks.on_stage(f"changing pictures for {stored.model.backbone}")
        changes, n_changed = measure_robustness(opened, task.images, embedded, self._perturbed, view_counts)
        self.n_perturbed = min(self.n_perturbed, n_changed)
        return rows, changes


def _load_query_vectors(task: RetrievalTask, embedded: TaskVectors, opened: ModelProbe) -> Vectors:
    """The vector of each query (q, d): the stored one where the whole image is in the database."""
    positions = np.array([-1 if query.box else query.position for query in task.queries])
    vectors = np.empty((len(positions), embedded.originals.shape[1]), np.float32)
    vectors[positions >= 0] = embedded.originals[positions[positions >= 0]]
    outside = np.flatnonzero(positions < 0)
    if len(outside):
        vectors[outside] = opened.embed_queries([task.queries[at] for at in outside.tolist()])
    return vectors
