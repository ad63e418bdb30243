"""The benchmark: embed what is missing, ask every query of every combination, and say what it costs."""

from __future__ import annotations

import datetime
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from simsearch.evaluation.embedding import Embedded, Vectors, embedded_digests, items_below, load
from simsearch.evaluation.inputs import Found, embed
from simsearch.evaluation.labels import noted
from simsearch.evaluation.machine import machine, versions
from simsearch.evaluation.model_probe import Opened
from simsearch.evaluation.protocol import Item, Task, sampled
from simsearch.evaluation.ranking import Ranker
from simsearch.evaluation.results import Benchmark, Dataset, Robustness, Row
from simsearch.evaluation.robustness import chosen, robustness
from simsearch.evaluation.rows import compared, cost_of, named, row_of
from simsearch.evaluation.scoring import metric_names, score
from simsearch.evaluation.spec import Question, Watching
from simsearch.images.decode import default_max_pixels
from simsearch.models.weights import WeightsOrder
from simsearch.store.catalog import Catalog, StoredModel


def benchmark(question: Question, watching: Watching | None = None) -> Benchmark:
    """Measure every combination that the question names, on one machine, in one run.

    Vectors that the collection has are used; what is missing is embedded and stays there. Labels are checked before
    anything is embedded. Images that some model could not embed take no part under any.

    Raises `UsageError`, `SourceError`, `ModelError` or `CollectionError`.
    """
    started, watching = time.perf_counter(), watching or Watching()
    found = Found.of(question)
    question.truths.task([Item(file, (file,)) for file in found.files], question.source, asked=found.asked)
    models, notes = embed(question, watching)
    with Catalog.open(Path(question.into)) as catalog:
        bench = _Bench(question, catalog, found, models, watching)
        rows, changes = bench.measure()
        dataset = bench.dataset()
    return Benchmark(
        dataset=dataset,
        metrics=metric_names(bench.task),
        queries=bench.task.facts,
        rows=tuple(compared(named(rows), question.seed)),
        robustness=tuple(changes),
        n_robustness_images=bench.n_changed,
        notes=tuple(dict.fromkeys((*notes, *bench.notes))),
        seed=question.seed,
        command=question.command,
        machine=machine(),
        versions=versions(),
        made_at=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        elapsed_s=time.perf_counter() - started,
    )


class _Bench:
    """A benchmark under way: the task, and the models one after the other."""

    def __init__(
        self, question: Question, catalog: Catalog, found: Found, models: Sequence[str], watching: Watching
    ) -> None:
        self._question, self._catalog, self._watching = question, catalog, watching
        by_fingerprint = {stored.fingerprint: stored for stored in catalog.models()}
        self._models = [by_fingerprint[model] for model in models]
        self.notes: list[str] = []
        whole = set.intersection(*(embedded_digests(catalog, stored) for stored in self._models))
        kept = [item for item in items_below(catalog, found.files) if item.digest in whole]
        taken = {path for item in kept for path in item.paths}
        broken = [file for file in found.files if file in found.claiming and file not in taken]
        self._left_out = (*broken, *found.unread)
        task = question.truths.task(kept, question.source, asked=found.asked, broken=broken)
        self.task = task if question.n_queries is None else sampled(task, question.n_queries, question.seed)
        self._changed = chosen(len(self.task.items), question.n_robustness, question.seed)
        self.n_changed = len(self._changed)

    def dataset(self) -> Dataset:
        """What was asked of what."""
        task = self.task
        left_out = noted("a file that cannot be read, or embedded by every backbone, takes no part", self._left_out)
        return Dataset(
            source=self._question.source, protocol=task.protocol, labels=task.origin, n_images=len(task.items),
            n_classes=len({label for label in task.labels if label}), n_queries=len(task.queries),
            n_queries_of=task.n_queries_of, exclusions=(*left_out, *task.exclusions),
        )  # fmt: skip

    def measure(self) -> tuple[list[Row], list[Robustness]]:
        """Every row, and what robustness shows, model by model."""
        rows: list[Row] = []
        changes: list[Robustness] = []
        for stored in self._models:
            more_rows, more_changes = self._measured(stored)
            rows += more_rows
            changes += more_changes
        return rows, changes

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
                cost = cost_of(stored, ranker, speeds, n_views)
                rows.append(row_of(stored, method, n_views=n_views, scored=scored, cost=cost, seed=question.seed))
        if not self._changed:
            return rows, []
        self._watching.on_stage(f"changing pictures for {stored.model.backbone}")
        changes, n_changed = robustness(opened, task.items, embedded, self._changed, view_counts)
        self.n_changed = min(self.n_changed, n_changed)
        return rows, changes


def _query_vectors(task: Task, embedded: Embedded, opened: Opened) -> Vectors:
    """The vector of each query (q, d): the stored one where the whole image is in the database."""
    positions = np.array([-1 if query.box else query.position for query in task.queries])
    vectors = np.empty((len(positions), embedded.originals.shape[1]), np.float32)
    vectors[positions >= 0] = embedded.originals[positions[positions >= 0]]
    outside = np.flatnonzero(positions < 0)
    if len(outside):
        vectors[outside] = opened.embed_queries([task.queries[at] for at in outside.tolist()])
    return vectors
