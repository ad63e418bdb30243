"""The results of a benchmark as a table for the terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from simsearch.evaluation.results import BenchmarkResult, BenchmarkRow
from simsearch.evaluation.statistics import SIGNIFICANCE_LEVEL
from simsearch.report.benchmark.findings import find_best_values, rank_rows
from simsearch.report.format import format_metric, format_number, format_p_value, format_score
from simsearch.text import clean_text, format_size

_METRICS = ("ns", "map", "p_at_1", "p_at_10")
"""The metrics shown beside the main one, where they were measured; the report has all."""

_OPTIONAL_COLUMNS = ("95 %\ninterval", "memory\n/image", "d")
"""Columns that are left out where names need the space, the least important first."""

_TIED = "~"
_MAX_LINES = 2
_BREAK = re.compile(r"(?<= )(?!views)|(?<=\S\+)")
"""The places to wrap a name: after a space, and between re-ranking steps joined by +."""


def build_terminal_table(benchmark: BenchmarkResult, width: int = 100) -> Table:
    """Build a table of the rows, the best first, for a terminal of `width` columns, 80 or more.

    Numbers are never cut. Names are wrapped between words. Columns are left out where a name would need more than two
    lines; only a word that is wider than the space without these columns is cut. The best row and the best values are
    bold, and rows that are tied with the best are marked.
    """
    names = [clean_text(row.name) for row in rank_rows(benchmark)]
    columns = _build_columns(benchmark)
    narrower = [
        {head: columns[head] for head in columns if head not in _OPTIONAL_COLUMNS[:n]}
        for n in range(len(_OPTIONAL_COLUMNS) + 1)
    ]
    name_widths = [_measure_name_width(benchmark, some, width) for some in narrower]
    chosen = _choose_fitting(names, name_widths)
    table = _make_table(benchmark, narrower[chosen])
    for number, name in enumerate(names):
        style = _choose_style(number == 0 and len(names) > 1)
        lines = "\n".join(_wrap_name(name, name_widths[chosen]))
        table.add_row(Text(lines, style), *(cells[number] for cells in narrower[chosen].values()))
    return table


def build_improvement_tables(benchmark: BenchmarkResult) -> list[Table]:
    """Build the tables of joined backbones, and of learning beside re-ranking, as far as they were measured."""
    metric = format_metric(benchmark.main_metric)
    tables = []
    if benchmark.fusions:
        table = _make_small_table("joined backbones, against the better part alone", ("backbone",))
        for head in ("part", "joined", "gain", "p", "ms /query", "memory"):
            table.add_column(head, justify="right", no_wrap=True)
        for trial in sorted(benchmark.fusions, key=lambda one: -one.after.mean):
            table.add_row(
                clean_text(trial.name), format_score(trial.before.mean), format_score(trial.after.mean),
                f"{trial.after.mean - trial.before.mean:+.3f}", format_p_value(trial.p_value),
                f"{trial.query_ms:.1f}", format_size(trial.memory_bytes_per_image),
            )  # fmt: skip
        tables.append(table)
    if benchmark.learning:
        title = "re-ranking and learning, on images held out from learning; p: against none"
        table = _make_small_table(title, ("backbone", "classes", "method"))
        for head in (metric, "p", "ms /answer", "memory"):
            table.add_column(head, justify="right", no_wrap=True)
        for row in benchmark.learning:
            p_value = "" if row.p_value is None else format_p_value(row.p_value)
            table.add_row(
                clean_text(row.backbone), row.task, row.method, format_score(row.score.mean), p_value,
                f"{row.answer_ms:.2f}", format_size(row.memory_bytes_per_image),
            )  # fmt: skip
        tables.append(table)
    return tables


def _make_small_table(title: str, heads: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title=title, title_justify="left")
    for head in heads:
        table.add_column(head, overflow="fold")
    return table


def _choose_fitting(names: Sequence[str], widths: Sequence[int]) -> int:
    """Choose the first of the rising widths that cuts no word and wraps no name into too many lines, else the last.

    Words that are too long for every width are ignored.
    """
    words = [cell_len(piece.rstrip()) for name in names for piece in _BREAK.split(name)]
    longest = max((word for word in words if word <= widths[-1]), default=0)
    for at, width in enumerate(widths):
        if longest <= width and all(len(_wrap_name(name, width)) <= _MAX_LINES for name in names):
            return at
    return len(widths) - 1


def _wrap_name(name: str, width: int) -> list[str]:
    """Wrap a name into lines, none wider than `width` except a single word that is."""
    lines = [""]
    for piece in _BREAK.split(name):
        if lines[-1] and cell_len(lines[-1] + piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return [line.rstrip() for line in lines]


def _measure_name_width(benchmark: BenchmarkResult, columns: dict[str, list[Text]], width: int) -> int:
    """Measure how much width these columns leave for names."""
    table = _make_table(benchmark, columns)
    for cells in zip(*columns.values(), strict=True):
        table.add_row("", *cells)
    table.columns[0].header = ""
    table.caption = None
    return max(1, width - Console(width=10 * width).measure(table).maximum)


def _make_table(benchmark: BenchmarkResult, heads: Iterable[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), caption=_build_caption(benchmark), caption_justify="left")
    table.add_column("row", overflow="fold")
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    return table


def _build_columns(benchmark: BenchmarkResult) -> dict[str, list[Text]]:
    """Build the cells of every column except the names, by heading, the best row first."""
    rows, best, is_compared = rank_rows(benchmark), find_best_values(benchmark), len(benchmark.rows) > 1

    def format_values(metric: str) -> list[Text]:
        means = [row.scores[metric].mean for row in rows]
        return [Text(format_score(mean), _choose_style(is_compared and mean == best.get(metric))) for mean in means]

    scores = [row.scores[benchmark.main_metric] for row in rows]
    shown = [metric for metric in _METRICS if metric in benchmark.metrics and metric != benchmark.main_metric]
    return {
        format_metric(benchmark.main_metric): [
            Text(
                f"{format_score(score.mean)} {_TIED if row.is_tied else ' '}",
                _choose_style(is_compared and row is rows[0]),
            )
            for row, score in zip(rows, scores, strict=True)
        ],
        _OPTIONAL_COLUMNS[0]: [
            Text(f"{format_score(score.low)}-{format_score(score.high)}", "dim") for score in scores
        ],
        "p": [Text(_format_p_value(row)) for row in rows],
        **{format_metric(metric): format_values(metric) for metric in shown},
        "d": [Text(f"{row.width:,}") for row in rows],
        "images\n/s": [Text(format_number(row.cost.images_per_second)) for row in rows],
        "query\nms": [Text(format_number(row.cost.query_ms_p50)) for row in rows],
        "memory\n/image": [Text(format_size(row.cost.memory_bytes_per_image)) for row in rows],
    }


def _choose_style(is_best: bool) -> str:
    return "bold" if is_best else ""


def _format_p_value(row: BenchmarkRow) -> str:
    return "" if row.p_value is None else format_p_value(row.p_value).removeprefix("p ").removeprefix("= ")


def _build_caption(benchmark: BenchmarkResult) -> Text | None:
    if len(benchmark.rows) == 1:
        return None
    label = format_metric(benchmark.main_metric)
    meaning = f"tied, not significantly different from the best in {label} (p >= {SIGNIFICANCE_LEVEL})"
    return Text(
        f"bold: best; {_TIED}: {meaning}. p: paired randomization test over {benchmark.dataset.n_queries:,} queries, "
        "Holm-corrected",
        "dim",
    )
