"""A benchmark written into a folder: a page, the same as Markdown and JSON, plots, and the score of every query."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path

from simsearch.evaluation.results import BenchmarkResult
from simsearch.files import make_output_folder, write_output_file
from simsearch.report.benchmark.findings import summarize_benchmark
from simsearch.report.benchmark.html import render_benchmark
from simsearch.report.benchmark.markdown import render_markdown
from simsearch.report.benchmark.plots import draw_plots


@dataclass(frozen=True, slots=True)
class BenchmarkReport:
    """Where everything was written."""

    page: Path
    markdown: Path
    document: Path
    per_query: Path
    plots: tuple[Path, ...]


def prepare_folder(folder: str | Path) -> None:
    """Make the folder for a report if it is not there: to be asked before anything is measured.

    Raises `UsageError` when its place is taken by a file, `SimsearchError` when it cannot be made or written to.
    """
    make_output_folder(folder, "plots")


def write_report(benchmark: BenchmarkResult, folder: str | Path) -> BenchmarkReport:
    """Write report.html, report.md, report.json, per_query.csv and plots/ into a folder, made if it is not there.

    A report that is there is written over file by file, each whole or not at all. All is made before the first is
    written. Raises as `prepare_folder` does, and `SimsearchError` when a file cannot be written.
    """
    plots = draw_plots(benchmark)
    names = {
        "report.html": render_benchmark(benchmark, plots),
        "report.md": render_markdown(benchmark, plots),
        "report.json": json.dumps(benchmark.to_dict(summary=summarize_benchmark(benchmark)), indent=2) + "\n",
        "per_query.csv": build_per_query_csv(benchmark),
    }
    contents = {name: text.encode("utf-8", "backslashreplace") for name, text in names.items()}
    pictures = {f"plots/{plot.name}.svg": plot.svg.encode() for plot in plots}
    pictures |= {f"plots/{plot.name}.png": plot.png for plot in plots}
    prepare_folder(folder)
    for name, content in {**pictures, **contents}.items():
        write_output_file(Path(folder) / name, content)
    page, text, whole, per_query = (Path(folder) / name for name in contents)
    return BenchmarkReport(page, text, whole, per_query, tuple(Path(folder) / name for name in pictures))


def build_per_query_csv(benchmark: BenchmarkResult) -> str:
    """A line a query: path, label, and a column for each metric of each row, headed by both names.

    A path that is no UTF-8 keeps its bytes as lone surrogates, which `write_report` writes as escapes: `\\udcff`.
    """
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    columns = [(row, metric) for row in benchmark.rows for metric in benchmark.metrics]
    writer.writerow(["path", "label", *(f"{row.name} {metric}" for row, metric in columns)])
    scores = [row.per_query[metric] for row, metric in columns]
    for number, query in enumerate(benchmark.queries):
        writer.writerow([query.path, query.label, *(f"{score[number]:.6g}" for score in scores)])
    return file.getvalue()
