"""A benchmark as Markdown: the facts of the page, compact, with links to the plots."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from simsearch.evaluation.results import MAIN_METRIC, BenchmarkResult, BenchmarkRow
from simsearch.report.benchmark import findings
from simsearch.report.benchmark.html import COST_COLUMNS
from simsearch.report.benchmark.plots import Plot
from simsearch.report.benchmark.robustness import build_robustness_grid
from simsearch.report.format import format_duration, format_metric, format_score
from simsearch.text import clean_text, shorten_path

_MARKUP = re.compile(r"([\\`*{}\[\]<>|#~$!&]|(?<!\w)_|_(?!\w))")
_MAX_FAILURES = 8
_MAX_ANSWERS = 3


def render_markdown(benchmark: BenchmarkResult, plots: Sequence[Plot]) -> str:
    """The report; plots are linked as files of the folder plots/ beside it."""
    parts = [
        _format_header(benchmark),
        _format_quality(benchmark),
        _format_costs(benchmark),
        _format_plots(plots),
        _format_classes(benchmark),
    ]
    parts += [
        _format_worst(benchmark),
        _format_robustness(benchmark),
        _format_dataset(benchmark),
        _format_provenance(benchmark),
    ]
    return "\n\n".join("\n".join(lines) for part in parts if (lines := list(part))) + "\n"


def _escape(text: str) -> str:
    """A name as itself: nothing in it is markup."""
    return _MARKUP.sub(r"\\\1", clean_text(text))


def _format_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The first column to the left, numbers to the right; cells are escaped already."""
    yield f"| {' | '.join(heads)} |"
    yield f"|---{'|---:' * (len(heads) - 1)}|"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _format_header(benchmark: BenchmarkResult) -> Iterator[str]:
    yield f"# Which backbone retrieves best on {_escape(shorten_path(benchmark.dataset.source))}?"
    yield ""
    yield " ".join(map(_escape, findings.summarize_benchmark(benchmark)))


def _format_quality(benchmark: BenchmarkResult) -> Iterator[str]:
    best = benchmark.best
    most = findings.find_best_values(benchmark)
    others = [metric for metric in benchmark.metrics if metric != MAIN_METRIC]
    yield "## Quality"
    yield ""
    heads = ["row", format_metric(MAIN_METRIC), "95 % interval", "against the best"]
    rows = []
    for row in findings.rank_rows(benchmark):
        found = row.scores[MAIN_METRIC]
        interval = f"{format_score(found.low)} to {format_score(found.high)}"
        cells = [
            _escape(row.name),
            _mark_best(found.mean, most[MAIN_METRIC]),
            interval,
            _escape(findings.describe_standing(row, best)),
        ]
        rows.append([*cells, *(_mark_best(row.scores[metric].mean, most.get(metric)) for metric in others)])
    yield from _format_table([*heads, *map(format_metric, others)], rows)
    if len(rows) > 1:
        yield ""
        yield f"Bold: the best of a column. {findings.TEST_DESCRIPTION}"


def _mark_best(value: float, best: float | None) -> str:
    return f"**{format_score(value)}**" if value == best else format_score(value)


def _format_costs(benchmark: BenchmarkResult) -> Iterator[str]:
    yield "## Cost"
    yield ""
    rows = findings.rank_rows(benchmark)
    cells = [
        [_escape(row.name), *(column.format_value(column.read_value(row)) for column in COST_COLUMNS)] for row in rows
    ]
    yield from _format_table(["row", *(column.title for column in COST_COLUMNS)], cells)
    yield ""
    yield "; ".join(f"{column.title}: {column.description}" for column in COST_COLUMNS) + "."


def _format_plots(plots: Sequence[Plot]) -> Iterator[str]:
    yield "## Plots"
    for plot in plots:
        yield ""
        yield f"![{plot.title}](plots/{plot.name}.png)"


def _format_classes(benchmark: BenchmarkResult) -> Iterator[str]:
    best = benchmark.best
    if not best.per_class:
        return
    yield "## Classes"
    yield ""
    yield _escape(findings.describe_classes(best))
    yield ""
    shown, n_between = findings.select_extreme_classes(best.per_class)
    rows = [[_escape(label), format_score(best.per_class[label])] for label in shown]
    if n_between:
        rows.insert(len(shown) // 2, [f"({n_between:,} more between, in report.json)", ""])
    yield from _format_table(["class", format_metric(MAIN_METRIC)], rows)


def _format_worst(benchmark: BenchmarkResult) -> Iterator[str]:
    best = benchmark.best
    if not best.worst:
        return
    yield f"## Worst queries of {_escape(best.name)}"
    yield ""
    rows = [
        [
            _escape(shorten_path(failure.path)),
            format_score(failure.average_precision),
            ", ".join(_escape(shorten_path(answer.path)) for answer in failure.answers[:_MAX_ANSWERS]),
        ]
        for failure in best.worst[:_MAX_FAILURES]
    ]
    yield from _format_table(["query", "average precision", "first answers"], rows)


def _format_robustness(benchmark: BenchmarkResult) -> Iterator[str]:
    if not benchmark.robustness:
        return
    grid = build_robustness_grid(benchmark)
    yield "## Robustness"
    yield ""
    yield (
        f"Over {benchmark.n_robustness_images:,} images. similarity: mean cosine of an image and its changed self; "
        "hit@1: how often the image nearest to the changed one is its original, with augmented views in the index."
    )
    yield ""
    heads = [f"{_escape(grid.names[column.model])}: {column.title}" for column in grid.columns]
    rows = [
        [_escape(" ".join(change)), *(format_score(grid.find_value(change, column)) for column in grid.columns)]
        for change in grid.changes
    ]
    yield from _format_table(["change", *heads], rows)


def _format_dataset(benchmark: BenchmarkResult) -> Iterator[str]:
    dataset = benchmark.dataset
    yield "## Pictures"
    yield ""
    yield f"- source: {_escape(dataset.source)}"
    yield f"- labels: {_escape(dataset.labels)}"
    yield f"- protocol: {_escape(dataset.protocol)}"
    classes = f" in {dataset.n_classes:,} classes" if dataset.n_classes else ""
    yield f"- images: {dataset.n_images:,}{classes}"
    drawn = f", drawn from {dataset.n_queries_of:,}" if dataset.n_queries < dataset.n_queries_of else ""
    yield f"- queries: {dataset.n_queries:,}{drawn}"
    for exclusion in dataset.exclusions:
        examples = ", ".join(_escape(shorten_path(example)) for example in exclusion.examples)
        yield f"- {exclusion.count:,}: {_escape(exclusion.rule)}{f' ({examples})' if examples else ''}"


def _format_provenance(benchmark: BenchmarkResult) -> Iterator[str]:
    yield "## How it was measured"
    yield ""
    yield f"    {clean_text(benchmark.command)}"
    yield ""
    yield f"- machine: {_escape(benchmark.machine)}"
    yield f"- versions: {_escape(', '.join(f'{name} {version}' for name, version in benchmark.versions.items()))}"
    duration = format_duration(benchmark.elapsed_s)
    yield f"- seed {benchmark.seed}; made {_escape(benchmark.made_at)} in {duration}"
    yield from (f"- {_escape(note)}" for note in benchmark.notes)
    yield ""
    for row in findings.rank_rows(benchmark):
        yield f"- {_escape(_describe_row(row))}"


def _describe_row(row: BenchmarkRow) -> str:
    """What a row is, in full."""
    layer = f"layer {row.layer}" if row.layer else "last layer"
    views = f", {row.augment} augmented views" if row.augment else ""
    return f"{row.name}: {row.backbone}, {row.precision}, {layer}, pooling {row.pooling}{views}; model {row.model}"
