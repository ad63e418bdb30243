"""A benchmark as Markdown: the facts of the page, compact, with links to the plots."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from simsearch.evaluation.results import HEADLINE, Benchmark, Row
from simsearch.report import format as wording
from simsearch.report.benchmark import findings
from simsearch.report.benchmark.html import COSTS
from simsearch.report.benchmark.plots import Plot
from simsearch.report.benchmark.robustness import robustness_grid

_SPECIAL = re.compile(r"([\\`*{}\[\]<>|#~$!&]|(?<!\w)_|_(?!\w))")
_MOST_FAILURES = 8
_MOST_NAMED = 3


def markdown(benchmark: Benchmark, plots: Sequence[Plot]) -> str:
    """The report; plots are linked as files of the folder plots/ beside it."""
    parts = [_head(benchmark), _quality(benchmark), _cost(benchmark), _plots(plots), _classes(benchmark)]
    parts += [_worst(benchmark), _robustness(benchmark), _pictures(benchmark), _measured(benchmark)]
    return "\n\n".join("\n".join(lines) for part in parts if (lines := list(part))) + "\n"


def _text(text: str) -> str:
    """A name as itself: nothing in it is markup."""
    return _SPECIAL.sub(r"\\\1", wording.clean(text))


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The first column to the left, numbers to the right; cells are escaped already."""
    yield f"| {' | '.join(heads)} |"
    yield f"|---{'|---:' * (len(heads) - 1)}|"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _head(benchmark: Benchmark) -> Iterator[str]:
    yield f"# Which backbone retrieves best on {_text(wording.short_path(benchmark.dataset.source))}?"
    yield ""
    yield " ".join(map(_text, findings.summary(benchmark)))


def _quality(benchmark: Benchmark) -> Iterator[str]:
    best = benchmark.best
    most = findings.best_values(benchmark)
    others = [metric for metric in benchmark.metrics if metric != HEADLINE]
    yield "## Quality"
    yield ""
    heads = ["row", wording.metric_label(HEADLINE), "95 % interval", "against the best"]
    rows = []
    for row in findings.ranked(benchmark):
        found = row.scores[HEADLINE]
        interval = f"{wording.score(found.low)} to {wording.score(found.high)}"
        cells = [_text(row.name), _marked(found.mean, most[HEADLINE]), interval, _text(findings.standing(row, best))]
        rows.append([*cells, *(_marked(row.scores[metric].mean, most.get(metric)) for metric in others)])
    yield from _table([*heads, *map(wording.metric_label, others)], rows)
    if len(rows) > 1:
        yield ""
        yield f"Bold: the best of a column. {findings.TEST}"


def _marked(value: float, best: float | None) -> str:
    return f"**{wording.score(value)}**" if value == best else wording.score(value)


def _cost(benchmark: Benchmark) -> Iterator[str]:
    yield "## Cost"
    yield ""
    rows = findings.ranked(benchmark)
    cells = [[_text(row.name), *(column.shown(column.value(row)) for column in COSTS)] for row in rows]
    yield from _table(["row", *(column.title for column in COSTS)], cells)
    yield ""
    yield "; ".join(f"{column.title}: {column.meaning}" for column in COSTS) + "."


def _plots(plots: Sequence[Plot]) -> Iterator[str]:
    yield "## Plots"
    for plot in plots:
        yield ""
        yield f"![{plot.title}](plots/{plot.name}.png)"


def _classes(benchmark: Benchmark) -> Iterator[str]:
    best = benchmark.best
    if not best.per_class:
        return
    yield "## Classes"
    yield ""
    yield _text(findings.class_sentence(best))
    yield ""
    shown, n_between = findings.class_extremes(best.per_class)
    rows = [[_text(label), wording.score(best.per_class[label])] for label in shown]
    if n_between:
        rows.insert(len(shown) // 2, [f"({n_between:,} more between, in report.json)", ""])
    yield from _table(["class", wording.metric_label(HEADLINE)], rows)


def _worst(benchmark: Benchmark) -> Iterator[str]:
    best = benchmark.best
    if not best.worst:
        return
    yield f"## Worst queries of {_text(best.name)}"
    yield ""
    rows = [
        [
            _text(wording.short_path(failure.path)),
            wording.score(failure.average_precision),
            ", ".join(_text(wording.short_path(answer.path)) for answer in failure.answers[:_MOST_NAMED]),
        ]
        for failure in best.worst[:_MOST_FAILURES]
    ]
    yield from _table(["query", "average precision", "first answers"], rows)


def _robustness(benchmark: Benchmark) -> Iterator[str]:
    if not benchmark.robustness:
        return
    grid = robustness_grid(benchmark)
    yield "## Robustness"
    yield ""
    yield (
        f"Over {benchmark.n_robustness_images:,} images. similarity: mean cosine of an image and its changed self; "
        "hit@1: how often the image nearest to the changed one is its original, with augmented views in the index."
    )
    yield ""
    heads = [f"{_text(grid.names[column.model])}: {column.title}" for column in grid.columns]
    rows = [
        [_text(" ".join(change)), *(wording.score(grid.value(change, column)) for column in grid.columns)]
        for change in grid.changes
    ]
    yield from _table(["change", *heads], rows)


def _pictures(benchmark: Benchmark) -> Iterator[str]:
    dataset = benchmark.dataset
    yield "## Pictures"
    yield ""
    yield f"- source: {_text(dataset.source)}"
    yield f"- labels: {_text(dataset.labels)}"
    yield f"- protocol: {_text(dataset.protocol)}"
    classes = f" in {dataset.n_classes:,} classes" if dataset.n_classes else ""
    yield f"- images: {dataset.n_images:,}{classes}"
    drawn = f", drawn from {dataset.n_queries_of:,}" if dataset.n_queries < dataset.n_queries_of else ""
    yield f"- queries: {dataset.n_queries:,}{drawn}"
    for exclusion in dataset.exclusions:
        examples = ", ".join(_text(wording.short_path(example)) for example in exclusion.examples)
        yield f"- {exclusion.count:,}: {_text(exclusion.rule)}{f' ({examples})' if examples else ''}"


def _measured(benchmark: Benchmark) -> Iterator[str]:
    yield "## How it was measured"
    yield ""
    yield f"    {wording.clean(benchmark.command)}"
    yield ""
    yield f"- machine: {_text(benchmark.machine)}"
    yield f"- versions: {_text(', '.join(f'{name} {version}' for name, version in benchmark.versions.items()))}"
    yield f"- seed {benchmark.seed}; made {_text(benchmark.made_at)} in {wording.duration(benchmark.elapsed_s)}"
    yield from (f"- {_text(note)}" for note in benchmark.notes)
    yield ""
    for row in findings.ranked(benchmark):
        yield f"- {_text(_facts(row))}"


def _facts(row: Row) -> str:
    """What a row is, in full."""
    layer = f"layer {row.layer}" if row.layer else "last layer"
    views = f", {row.augment} augmented views" if row.augment else ""
    return f"{row.name}: {row.backbone}, {row.precision}, {layer}, pooling {row.pooling}{views}; model {row.model}"
