"""The Markdown report of a benchmark, report.md, with links to the plots."""

from __future__ import annotations

from collections.abc import Sequence

from simsearch.evaluation.results import MAIN_METRIC
from simsearch.report.benchmark.findings import TEST_DESCRIPTION
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
        main_metric=MAIN_METRIC,
        test=TEST_DESCRIPTION,
        costs=COST_COLUMNS,
        plots=plots,
        failures=view.best.worst[:_MAX_FAILURES],
        max_results=_MAX_RESULTS,
    )
