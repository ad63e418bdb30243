"""The results as a table for the terminal."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

from simsearch.evaluation.results import HEADLINE, Benchmark, Row
from simsearch.report import wording
from simsearch.report.findings import SIGNIFICANCE, best_values, is_tied, ranked

_METRICS = ("ns", "p_at_1", "p_at_10")
"""What is shown beside the headline metric, where it was measured; the rest stands in the report."""

_TIED = "~"


def terminal_table(benchmark: Benchmark) -> Table:
    """The rows, the best first, in 100 columns and more: names give way, numbers are never cut.

    The best row and the best values are bold; rows that are tied with the best are marked.
    """
    metrics = [metric for metric in _METRICS if metric in benchmark.metrics]
    caption = _caption(benchmark)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), caption=caption, caption_justify="left")
    table.add_column("row", overflow="fold")
    heads = [wording.metric_label(HEADLINE), "95 %\ninterval", "p", *map(wording.metric_label, metrics)]
    for head in (*heads, "d", "images\n/s", "query\nms", "memory\n/image"):
        table.add_column(head, justify="right", no_wrap=True)
    for row in ranked(benchmark):
        table.add_row(*_cells(benchmark, row, metrics))
    return table


def _cells(benchmark: Benchmark, row: Row, metrics: list[str]) -> list[Text]:
    best, most = benchmark.best, best_values(benchmark)
    found, is_best = row.scores[HEADLINE], row is best
    style = "bold" if is_best and len(benchmark.rows) > 1 else ""
    mark = _TIED if is_tied(row) else " "
    p = "" if row.p_value is None else wording.p_value(row.p_value).removeprefix("p ").removeprefix("= ")
    cells = [
        Text(wording.clean(row.name), style),
        Text(f"{wording.score(found.mean)} {mark}", style),
        Text(f"{wording.score(found.low)}-{wording.score(found.high)}", "dim"),
        Text(p),
    ]
    for metric in metrics:
        value = row.scores[metric].mean
        is_most = len(benchmark.rows) > 1 and value == most.get(metric)
        cells.append(Text(wording.score(value), "bold" if is_most else ""))
    cost = row.cost
    costs = [wording.amount(cost.images_per_second), wording.amount(cost.query_ms_p50)]
    return [*cells, *map(Text, (f"{row.width:,}", *costs, wording.size(cost.memory_bytes_per_image)))]


def _caption(benchmark: Benchmark) -> Text | None:
    if len(benchmark.rows) == 1:
        return None
    label = wording.metric_label(HEADLINE)
    meaning = f"tied, not significantly different from the best in {label} (p >= {SIGNIFICANCE})"
    return Text(
        f"bold: best; {_TIED}: {meaning}. p: paired randomisation test over {benchmark.dataset.n_queries:,} queries, "
        "Holm-corrected",
        "dim",
    )
