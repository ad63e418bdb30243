"""The benchmark: embed what is missing, ask every query of every combination, and say what it costs."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simsearch.collection import Collection, Progress, ViewChoice
from simsearch.errors import ImageError, NoImages
from simsearch.evaluation.embedding import Embedded, Vectors, embedded_digests, items_below, load
from simsearch.evaluation.machine import machine, versions
from simsearch.evaluation.opened import Opened, Speeds, bytes_an_image, weights_facts
from simsearch.evaluation.protocol import Item, Task, sampled
from simsearch.evaluation.question import Question
from simsearch.evaluation.ranking import Ranker
from simsearch.evaluation.results import HEADLINE, Benchmark, Cost, Dataset, Exclusion, Robustness, Row, Score
from simsearch.evaluation.robustness import chosen, robustness
from simsearch.evaluation.scoring import Scored, metric_names, score
from simsearch.evaluation.statistics import bootstrap_interval, holm, paired_test
from simsearch.images.decode import decode, default_max_pixels, read
from simsearch.images.sources import scan
from simsearch.models.weights import WeightsOrder
from simsearch.rerank.method import Method
from simsearch.store.catalog import Catalog, StoredModel

_N_EXAMPLES = 5
_N_ANSWERS = 10
_GLANCE_PX = 64


@dataclass(frozen=True, slots=True)
class Watching:
    """Whom to tell how far it is: what is being done, and how an ingest goes on."""

    on_stage: Callable[[str], None] = lambda _: None
    on_ingest: Callable[[Progress], None] = lambda _: None


def benchmark(question: Question, watching: Watching | None = None) -> Benchmark:
    """Measure every combination that the question names, on one machine, in one run.

    Vectors that the collection has are used; what is missing is embedded and stays there. Labels are checked before
    anything is embedded. Images that some model could not embed take no part under any.

    Raises `UsageError`, `SourceError`, `ModelError` or `CollectionError`.
    """
    started, watching = time.perf_counter(), watching or Watching()
    found = _Found.of(question)
    question.truths.task([Item(file, (file,)) for file in found.files], question.source, found.asked)
    models, notes = _embed(question, watching)
    with Catalog.open(Path(question.into)) as catalog:
        bench = _Bench(question, catalog, found, models, watching)
        rows, changes = bench.measure()
        dataset = bench.dataset()
    rows = _compared(rows, question.seed)
    return Benchmark(
        dataset=dataset,
        metrics=metric_names(bench.task),
        queries=bench.task.facts,
        rows=tuple(rows),
        robustness=tuple(changes),
        n_robustness_images=len(bench.changed),
        notes=tuple(dict.fromkeys((*notes, *bench.notes))),
        seed=question.seed,
        command=question.command,
        machine=machine(),
        versions=versions(),
        made_at=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        elapsed_s=time.perf_counter() - started,
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """The files of the source; those of them that claim to be pictures; the pictures of the folder of queries, by
    content, and those that cannot be read."""

    files: tuple[str, ...]
    claiming: frozenset[str]
    asked: tuple[Item, ...]
    unread: tuple[str, ...]

    @classmethod
    def of(cls, question: Question) -> _Found:
        """Look for them."""
        found = scan([question.source], b"").files
        if not found:
            raise NoImages(question.source, f"no images in {question.source}", "check the path")
        paths: dict[str, list[str]] = {}
        unread = []
        limit_px = question.max_pixels or default_max_pixels()
        asked = [] if question.truths.queries is None else scan([question.truths.queries], b"").files
        for file in asked:
            try:
                raw = read(file.path, claims_picture=file.claims_picture, max_pixels=limit_px)
                decode(raw.data, raw.path, max_pixels=limit_px, target_px=_GLANCE_PX)
                paths.setdefault(raw.digest, []).append(file.path)
            except ImageError:
                unread.append(file.path)
        items = tuple(Item(digest, tuple(files)) for digest, files in paths.items())
        claiming = frozenset(file.path for file in found if file.claims_picture)
        return cls(tuple(file.path for file in found), claiming, items, tuple(unread))


def _embed(question: Question, watching: Watching) -> tuple[list[str], list[str]]:
    """Bring the collection up to date; the fingerprint of each model once, and what a person should know."""
    models: list[str] = []
    notes: list[str] = []
    most_views = max(question.view_counts)
    for choice in question.choices:
        watching.on_stage(f"embedding with {choice.backbone}")
        report = Collection.ingest(
            question.into, [question.source], choice, max_pixels=question.max_pixels, progress=watching.on_ingest
        )
        if report.n_views < report.n_images * (1 + most_views):  # views are added to those that are there, never taken
            Collection.ingest(
                question.into, [question.source], choice, augment=ViewChoice(most_views),
                max_pixels=question.max_pixels, progress=watching.on_ingest,
            )  # fmt: skip
        models.append(report.model)
        notes += report.notes
    return list(dict.fromkeys(models)), notes


class _Bench:
    """A benchmark under way: the task, and the models one after the other."""

    def __init__(
        self, question: Question, catalog: Catalog, found: _Found, models: Sequence[str], watching: Watching
    ) -> None:
        self._question, self._catalog, self._watching = question, catalog, watching
        by_fingerprint = {stored.fingerprint: stored for stored in catalog.models()}
        self._models = [by_fingerprint[model] for model in models]
        self.notes: list[str] = []
        whole = set.intersection(*(embedded_digests(catalog, stored) for stored in self._models))
        kept = [item for item in items_below(catalog, found.files) if item.digest in whole]
        taken = {path for item in kept for path in item.paths}
        left_out = [file for file in found.files if file in found.claiming and file not in taken]
        self._left_out = (*left_out, *found.unread)
        asked = found.asked
        task = question.truths.task(kept, question.source, asked)
        self.task = task if question.n_queries is None else sampled(task, question.n_queries, question.seed)
        self.changed = chosen(len(self.task.items), question.n_robustness, question.seed)

    def dataset(self) -> Dataset:
        """What was asked of what."""
        task = self.task
        exclusions = task.exclusions
        if self._left_out:
            rule = "a file that cannot be read, or embedded by every backbone, takes no part"
            exclusions = (Exclusion(rule, len(self._left_out), self._left_out[:_N_EXAMPLES]), *exclusions)
        return Dataset(
            source=self._question.source, protocol=task.protocol, labels=task.origin, n_images=len(task.items),
            n_classes=len({label for label in task.labels if label}), n_queries=len(task.queries),
            n_queries_of=task.n_queries_of, exclusions=exclusions,
        )  # fmt: skip

    def measure(self) -> tuple[list[Row], list[Robustness]]:
        """Every row, and what robustness shows, model by model."""
        rows: list[Row] = []
        changes: list[Robustness] = []
        for stored in self._models:
            more_rows, more_changes = self._measured(stored)
            rows += more_rows
            changes += more_changes
        return _named(rows), changes

    def _measured(self, stored: StoredModel) -> tuple[list[Row], list[Robustness]]:
        question, task = self._question, self.task
        self._watching.on_stage(f"measuring {stored.model.backbone}")
        embedded = load(self._catalog, stored, [item.digest for item in task.items])
        order = WeightsOrder(None, offline=True)
        opened = Opened(stored, self._catalog, order, question.max_pixels or default_max_pixels())
        queries = _query_vectors(task, embedded, opened)
        view_counts = sorted(set(question.view_counts))
        speeds = opened.speeds([item.paths[0] for item in task.items], view_counts)
        self.notes += opened.notes
        rows = []
        for n_views in view_counts:
            for method in question.methods:
                self._watching.on_stage(f"ranking with {stored.model.backbone}, {method}")
                ranker = Ranker(embedded.with_views(n_views), method)
                scored = score(task, ranker, queries)
                cost = _cost(stored, ranker, speeds, n_views)
                rows.append(_row(stored, (method, n_views, ranker.width), scored, cost, question.seed))
        if not question.n_robustness:
            return rows, []
        self._watching.on_stage(f"changing pictures for {stored.model.backbone}")
        return rows, robustness(opened, task.items, embedded, self.changed, view_counts)


def _query_vectors(task: Task, embedded: Embedded, opened: Opened) -> Vectors:
    """The vector of each query (q, d): the stored one where the whole image is in the database."""
    positions = np.array([-1 if query.box else query.position for query in task.queries])
    vectors = np.empty((len(positions), embedded.originals.shape[1]), np.float32)
    vectors[positions >= 0] = embedded.originals[positions[positions >= 0]]
    outside = np.flatnonzero(positions < 0)
    if len(outside):
        vectors[outside] = opened.embed_queries([task.queries[at] for at in outside.tolist()])
    return vectors


def _cost(stored: StoredModel, ranker: Ranker, speeds: Speeds, n_views: int) -> Cost:
    seconds = []
    for vector, embed_s in zip(speeds.query_vectors, speeds.query_s.tolist(), strict=True):
        started = time.perf_counter()
        ranker.answer(vector, _N_ANSWERS)
        seconds.append(embed_s + time.perf_counter() - started)
    p50, p99 = np.percentile(np.array(seconds[1:] or seconds) * 1e3, [50, 99])  # the first one makes the index
    on_disk, in_memory = bytes_an_image(stored.width, ranker.width, n_views)
    parameters, weights_bytes = weights_facts(stored)
    return Cost(
        embedded_per_second=speeds.embedded_per_second / (1 + n_views),
        images_per_second=speeds.images_per_second[n_views],
        query_ms_p50=float(p50), query_ms_p99=float(p99),
        disk_bytes_per_image=on_disk, memory_bytes_per_image=in_memory,
        parameters=parameters, weights_bytes=weights_bytes,
    )  # fmt: skip


def _row(stored: StoredModel, how: tuple[Method, int, int], scored: Scored, cost: Cost, seed: int) -> Row:
    method, n_views, width = how
    model = stored.model
    return Row(
        name=model.backbone, backbone=model.backbone, model=stored.fingerprint, precision=model.precision,
        layer=model.layer, pooling=model.pooling, augment=n_views, rerank=str(method), width=width,
        scores={name: _score(values, seed) for name, values in scored.per_query.items()},
        per_query=scored.per_query, p_value=None, precision_recall=scored.precision_recall,
        precision_at=scored.precision_at, per_class=scored.per_class, worst=scored.worst, cost=cost,
    )  # fmt: skip


def _score(values: NDArray[np.float64], seed: int) -> Score:
    judged = values[~np.isnan(values)]
    if not len(judged):
        return Score(float("nan"), float("nan"), float("nan"))
    return Score(float(judged.mean()), *bootstrap_interval(judged, seed=seed))


def _named(rows: Sequence[Row]) -> list[Row]:
    """The rows with names that tell them apart: the backbone, and whatever else is not the same in all of its rows."""
    named = []
    for row in rows:
        others = [other for other in rows if other.backbone == row.backbone]
        parts = [row.backbone]
        differing = [
            field for field in ("precision", "layer", "pooling") if len({getattr(other, field) for other in others}) > 1
        ]
        parts += [str(getattr(row, field) or "default") for field in differing]
        told = {(other.precision, other.layer, other.pooling) for other in others}
        if len({other.model for other in others}) > len(told):
            parts.append(row.model[-6:])
        if row.augment:
            parts.append(f"+{row.augment} views")
        if row.rerank != "none":
            parts.append(row.rerank)
        named.append(replace(row, name=" ".join(parts)))
    return named


def _compared(rows: Sequence[Row], seed: int) -> list[Row]:
    """The rows with the p-value of their difference from the best one, corrected for their number."""
    best = max(rows, key=lambda row: row.scores[HEADLINE].mean)
    others = [row for row in rows if row is not best]
    p_values = [paired_test(row.per_query[HEADLINE], best.per_query[HEADLINE], seed=seed) for row in others]
    corrected = dict(zip((row.name for row in others), holm(np.array(p_values)).tolist(), strict=True))
    return [replace(row, p_value=corrected.get(row.name)) for row in rows]
