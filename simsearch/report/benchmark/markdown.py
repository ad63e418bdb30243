"""The Markdown report of a benchmark, report.md, with links to the plots."""

from __future__ import annotations

from collections.abc import Sequence

from simsearch.report.benchmark.findings import describe_test
from simsearch.report.benchmark.plots import Plot
from simsearch.report.benchmark.view import COST_COLUMNS, BenchmarkView
from simsearch.report.html import render_markdown_page

_MAX_FAILURES = 8
_MAX_RESULTS = 3


def render_markdown(view: BenchmarkView, plots: Sequence[Plot]) -> str:
    """Render the report; plots are linked as files of the folder plots/ beside it."""
    return render_markdown_page(
        "benchmark.md.j2",
        view=view,
        main_metric=view.benchmark.main_metric,
        test=describe_test(view.benchmark),
        costs=COST_COLUMNS,
        plots=plots,
        failures=view.best.worst[:_MAX_FAILURES],
        max_results=_MAX_RESULTS,
    )
