"""Writing a benchmark report into a folder: HTML, Markdown, JSON, plots, and the scores of every query."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path

from simsearch.evaluation.results import BenchmarkResult
from simsearch.files import make_output_folder, write_output_file
from simsearch.report.benchmark.html import render_benchmark
from simsearch.report.benchmark.markdown import render_markdown
from simsearch.report.benchmark.plots import PALETTE, draw_plots
from simsearch.report.benchmark.view import build_view
from simsearch.text import escape_formula, format_document


@dataclass(frozen=True, slots=True)
class BenchmarkReport:
    """The files of a report."""

    page: Path
    markdown: Path
    document: Path
    per_query: Path
    plots: tuple[Path, ...]


def prepare_folder(folder: str | Path) -> None:
    """Create the folder of a report and check that it can be written to, before anything is measured.

    Raises `UsageError` when a file has that name, `SimsearchError` when the folder cannot be created or written to.
    """
    make_output_folder(folder, "plots")


def write_report(benchmark: BenchmarkResult, folder: str | Path) -> BenchmarkReport:
    """Write report.html, report.md, report.json, per_query.csv and plots/ into a folder, which is created if missing.

    Everything is rendered before the first file is written. Each file of an earlier report is replaced atomically.
    Raises as `prepare_folder` does, and `SimsearchError` when a file cannot be written.
    """
    plots, view = draw_plots(benchmark), build_view(benchmark, len(PALETTE))
    texts = {
        "report.html": render_benchmark(view, plots),
        "report.md": render_markdown(view, plots),
        "report.json": format_document(benchmark.to_dict(summary=view.summary)) + "\n",
        "per_query.csv": build_per_query_csv(benchmark),
    }
    contents = {name: text.encode("utf-8", "backslashreplace") for name, text in texts.items()}
    pictures = {f"plots/{plot.name}.svg": plot.svg.encode() for plot in plots}
    pictures |= {f"plots/{plot.name}.png": plot.png for plot in plots}
    prepare_folder(folder)
    for name, content in {**pictures, **contents}.items():
        write_output_file(Path(folder) / name, content)
    page, markdown, document, per_query = (Path(folder) / name for name in contents)
    return BenchmarkReport(page, markdown, document, per_query, tuple(Path(folder) / name for name in pictures))


def build_per_query_csv(benchmark: BenchmarkResult) -> str:
    """Build a tidy CSV: path, label, row, metric, value; a line for each query, row and metric.

    The value is empty where a metric does not judge the query. Bytes of a path that are not UTF-8 are lone surrogates,
    which `write_report` writes as escapes: `\\udcff`. A text
    that a spreadsheet takes for a formula is escaped.
    """
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(["path", "label", "row", "metric", "value"])
    queries = [(escape_formula(query.path), escape_formula(query.label)) for query in benchmark.queries]
    for row in benchmark.rows:
        name = escape_formula(row.name)
        for metric in benchmark.metrics:
            values = row.per_query[metric].tolist()
            writer.writerows(
                (*query, name, metric, f"{value:.6g}" if math.isfinite(value) else "")
                for query, value in zip(queries, values, strict=True)
            )
    return file.getvalue()
