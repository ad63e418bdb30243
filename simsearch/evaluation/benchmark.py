"""The benchmark: embed missing images, rank every query of every combination, and measure the costs."""

from __future__ import annotations

import datetime
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from simsearch.errors import UsageError
from simsearch.evaluation.comparison import build_row, compare_rows, measure_cost, name_rows
from simsearch.evaluation.embedding import TaskVectors, Vectors, find_embedded_digests, list_images, load_vectors
from simsearch.evaluation.fusion_trials import try_fusions
from simsearch.evaluation.improvements import LearningComparison, MeasuredModel
from simsearch.evaluation.inputs import BenchmarkInputs, unpack_source, update_collection
from simsearch.evaluation.labels import make_exclusions
from simsearch.evaluation.model_probe import ModelProbe
from simsearch.evaluation.open_set import measure_open_set
from simsearch.evaluation.protocol import RetrievalTask, TaskImage, sample_queries
from simsearch.evaluation.ranking import Ranker, check_ranks_vectors
from simsearch.evaluation.results import (
    BenchmarkResult,
    BenchmarkRow,
    DatasetSummary,
    FusionTrial,
    LearningRow,
    OpenSetResult,
    RobustnessResult,
    TextScores,
)
from simsearch.evaluation.robustness import measure_robustness, sample_positions
from simsearch.evaluation.scoring import RankingScores, list_metrics, score
from simsearch.evaluation.spec import BenchmarkCallbacks, BenchmarkSpec
from simsearch.evaluation.text_queries import build_text_queries, score_texts
from simsearch.evaluation.trec import TrecExport
from simsearch.images.decode import compute_default_max_pixels
from simsearch.machine import describe_machine, list_versions
from simsearch.models.text.loader import open_text_encoder
from simsearch.models.weights import WeightsOptions
from simsearch.rerank.method import RerankMethod
from simsearch.store.catalog import Catalog, StoredModel


def run_benchmark(
    spec: BenchmarkSpec,
    callbacks: BenchmarkCallbacks | None = None,
    compare_learning: LearningComparison | None = None,
) -> BenchmarkResult:
    """Measure every combination in a specification, on one machine, in one run.

    Vectors in the collection are used; missing ones are computed and stay there. Labels are checked before anything is
    embedded. Images that one of the models could not embed are ignored under all models. `compare_learning` is called
    with each model, if given.

    Raises `UsageError`, `SourceError`, `ModelError` or `CollectionError`.
    """
    started, callbacks = time.perf_counter(), callbacks or BenchmarkCallbacks()
    check_ranks_vectors(spec.methods)
    spec, unpacked = unpack_source(spec, callbacks)
    inputs = BenchmarkInputs.collect(spec)
    files = [TaskImage(file, (file,)) for file in inputs.files]
    unread = spec.label_source.forget_contents()
    list_metrics(unread.build_task(files, spec.source, query_images=inputs.queries), spec.metrics)
    models, notes = update_collection(spec, callbacks)
    with Catalog.open(Path(spec.collection_folder)) as catalog:
        run = _BenchmarkRun(spec, catalog, inputs, models, callbacks, compare_learning)
        rows, robustness = run.measure()
        fusions = run.try_fusions()
        dataset = run.summarize_dataset()
    return BenchmarkResult(
        dataset=dataset,
        metrics=list_metrics(run.task, spec.metrics),
        main_metric=spec.main_metric,
        queries=run.task.labeled_queries,
        rows=tuple(compare_rows(name_rows(rows), spec.main_metric, spec.seed)),
        robustness=tuple(robustness),
        texts=tuple(run.texts),
        fusions=fusions,
        learning=tuple(run.learning),
        n_robustness_images=run.n_perturbed,
        open_set=tuple(run.open_set),
        notes=tuple(dict.fromkeys((*unpacked, *_warn_of_protocol(spec), *notes, *run.notes))),
        seed=spec.seed,
        command=spec.command,
        machine=describe_machine(),
        versions=list_versions(),
        made_at=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        elapsed_s=time.perf_counter() - started,
    )


def _warn_of_protocol(spec: BenchmarkSpec) -> tuple[str, ...]:
    """Warn of a main metric that looks at the first result, where that is the query itself."""
    looks_at_first = spec.main_metric in ("p_at_1", "mrr") or spec.main_metric.startswith("hit_at_")
    if spec.label_source.protocol != "counted" or not looks_at_first:
        return ()
    return ("with --protocol counted the first result is nearly always the query itself; rank by another metric",)


class _BenchmarkRun:
    """A running benchmark: its task, and one model after the other."""

    def __init__(
        self,
        spec: BenchmarkSpec,
        catalog: Catalog,
        inputs: BenchmarkInputs,
        models: Sequence[str],
        callbacks: BenchmarkCallbacks,
        compare_learning: LearningComparison | None,
    ) -> None:
        self._spec, self._catalog, self._callbacks = spec, catalog, callbacks
        by_fingerprint = {stored.fingerprint: stored for stored in catalog.list_models()}
        self._models = [by_fingerprint[model] for model in models]
        self.notes: list[str] = []
        self.open_set: list[OpenSetResult] = []
        self.texts: list[TextScores] = []
        self.learning: list[LearningRow] = []
        self._compare_learning = compare_learning
        self._measured: list[MeasuredModel] = []
        digests = set.intersection(*(find_embedded_digests(catalog, stored) for stored in self._models))
        images = [image for image in list_images(catalog, inputs.files) if image.digest in digests]
        used = {path for image in images for path in image.paths}
        broken = [file for file in inputs.files if file in inputs.claimed_images and file not in used]
        self._excluded_files = (*broken, *inputs.unreadable)
        task = spec.label_source.build_task(images, spec.source, query_images=inputs.queries, unreadable=broken)
        self.task = task if spec.n_queries is None else sample_queries(task, spec.n_queries, spec.seed)
        self._text_queries = () if spec.text is None else build_text_queries(spec.text, self.task, spec.source)
        self._perturbed = sample_positions(len(self.task.images), spec.n_robustness, spec.seed)
        self.n_perturbed = len(self._perturbed)
        self._trec: TrecExport | None = None
        if spec.trec_folder is not None:
            self._trec = TrecExport(spec.trec_folder, self.task, spec.source, spec.trec_depth)
            self._trec.write_qrels()

    def summarize_dataset(self) -> DatasetSummary:
        """Summarize the images, classes and queries of the task, and what was excluded."""
        task = self.task
        excluded = make_exclusions(
            "files that cannot be read, or were not embedded by every backbone, are ignored", self._excluded_files
        )
        return DatasetSummary(
            source=self._spec.source, protocol=task.protocol, task=task.kind, labels=task.origin,
            n_images=len(task.images), n_classes=len({label for label in task.labels if label}),
            n_queries=len(task.queries), n_queries_of=task.n_queries_of, exclusions=(*excluded, *task.exclusions),
        )  # fmt: skip

    def measure(self) -> tuple[list[BenchmarkRow], list[RobustnessResult]]:
        """Measure all rows and the robustness, model by model."""
        rows: list[BenchmarkRow] = []
        robustness: list[RobustnessResult] = []
        for stored in self._models:
            model_rows, model_robustness = self._measure_model(stored)
            rows += model_rows
            robustness += model_robustness
        return rows, robustness

    def _measure_model(self, stored: StoredModel) -> tuple[list[BenchmarkRow], list[RobustnessResult]]:
        spec, task, backbone = self._spec, self.task, stored.model.backbone
        self._callbacks.on_stage(f"measuring {backbone}")
        vectors = load_vectors(self._catalog, stored, [image.digest for image in task.images])
        max_pixels = spec.max_pixels or compute_default_max_pixels()
        probe = ModelProbe(stored, self._catalog, WeightsOptions(None, offline=True), max_pixels)
        queries = _load_query_vectors(task, vectors, probe)
        view_counts = sorted(set(spec.view_counts))
        speeds = probe.measure_speeds([image.paths[0] for image in task.images], view_counts, spec.probe_s)
        self.notes += probe.notes
        self._measure_texts(stored, vectors.originals)
        self._measure_improvements(
            MeasuredModel(stored, vectors.originals, queries, float(np.median(speeds.query_s)) * 1e3)
        )
        rows = []
        for n_views in view_counts:
            for method in spec.methods:
                self._callbacks.on_stage(f"ranking with {backbone}, {method}")
                ranker = Ranker(vectors.with_views(n_views), method)
                scores = self._score(stored, ranker, n_views, method, queries)
                cost = measure_cost(stored, ranker, speeds, n_views)
                rows.append(
                    build_row(
                        stored, method, n_views=n_views, scores=scores, cost=cost, protocol=task.protocol,
                        seed=spec.seed,
                    )
                )  # fmt: skip
        self.open_set += measure_open_set(task, vectors.originals, stored.fingerprint, spec.seed)
        if not self._perturbed:
            return rows, []
        self._callbacks.on_stage(f"measuring the robustness of {backbone}")
        robustness, n_perturbed = measure_robustness(probe, task.images, vectors, self._perturbed, view_counts)
        self.n_perturbed = min(self.n_perturbed, n_perturbed)
        return rows, robustness

    def _score(
        self, stored: StoredModel, ranker: Ranker, n_views: int, method: RerankMethod, queries: Vectors
    ) -> RankingScores:
        """Rank and score, and export the rankings where a folder is named."""
        if self._trec is None:
            return score(self.task, ranker, queries, self._spec.metrics)
        views = f".{n_views}-views" if n_views else ""
        with self._trec.open_run(f"{stored.fingerprint}{views}.{method}") as run:
            return score(self.task, ranker, queries, self._spec.metrics, run.write)

    def _measure_improvements(self, model: MeasuredModel) -> None:
        """Compare learning with re-ranking, and keep the model for the trials of pairs, as far as they are wanted."""
        if self._compare_learning is not None:
            self._callbacks.on_stage(f"learning from {model.stored.model.backbone}")
            self.learning += self._compare_learning(self.task, model)
        if self._spec.fuses and model.stored.model.fusion is None:
            self._measured.append(model)

    def try_fusions(self) -> tuple[FusionTrial, ...]:
        """Try the pairs of the models, if they are wanted."""
        if not self._measured:
            return ()
        self._callbacks.on_stage("joining backbones")
        return try_fusions(self.task, self._measured, self._spec.main_metric, self._spec.seed)

    def _measure_texts(self, stored: StoredModel, vectors: Vectors) -> None:
        """Measure text-to-image retrieval with a model; a note says where it answers no texts."""
        model = stored.model
        if not self._text_queries:
            return
        name = model.backbone if model.precision == "f32" else f"{model.backbone} {model.precision}"
        self._callbacks.on_stage(f"ranking texts with {name}")
        try:
            encoder = open_text_encoder(model, WeightsOptions(offline=True))
            prompts, chosen = self._spec.prompts, self._spec.metrics
            self.texts.append(score_texts(name, self._text_queries, encoder, vectors, prompts, chosen))
        except UsageError as error:
            self.notes.append(f"no text queries with {name}: {error.problem}")


def _load_query_vectors(task: RetrievalTask, vectors: TaskVectors, probe: ModelProbe) -> Vectors:
    """The vectors (q, d) of the queries: the stored one where the whole image is in the database, else a new one."""
    positions = np.array([-1 if query.box else query.position for query in task.queries])
    rows = np.empty((len(positions), vectors.originals.shape[1]), np.float32)
    rows[positions >= 0] = vectors.originals[positions[positions >= 0]]
    new = np.flatnonzero(positions < 0)
    if len(new):
        rows[new] = probe.embed_queries([task.queries[at] for at in new.tolist()])
    return rows
