"""A benchmark as one page that needs nothing else: what stands in report.html."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from simsearch.evaluation.results import MAIN_METRIC, BenchmarkResult, BenchmarkRow, RowCost, WorstQuery
from simsearch.images.thumbnails import make_thumbnail
from simsearch.report.benchmark import findings
from simsearch.report.benchmark.inline_svg import inline_svg
from simsearch.report.benchmark.plots import PALETTE, Plot
from simsearch.report.benchmark.robustness import RobustnessGrid, build_robustness_grid
from simsearch.report.format import format_number, format_parameter_count, format_score
from simsearch.report.html import render_page
from simsearch.text import format_size

_MAX_FAILURES, _MAX_ANSWERS = 8, 8
_MAX_OTHER_ROWS, _MAX_OTHER_FAILURES = 4, 4


@dataclass(frozen=True, slots=True)
class TableCell:
    """A number of a table: as text, as what it sorts by (None: no number), and whether it is the best of its column."""

    text: str
    value: float | None
    is_best: bool
    hint: str = ""


@dataclass(frozen=True, slots=True)
class RankedRow:
    """A row of the results: the interval is drawn from `start` to `end`, `middle` marking the mean, in percent."""

    row: BenchmarkRow
    series: int
    standing: str
    is_best: bool
    is_tied: bool
    difference: float
    start: float
    middle: float
    end: float
    scores: tuple[TableCell, ...]
    costs: tuple[TableCell, ...]


@dataclass(frozen=True, slots=True)
class BenchmarkPicture:
    """A picture with what is said of it; `data` is None where the file cannot be read any more."""

    path: str
    label: str
    data: str | None
    similarity: float = math.nan
    is_relevant: bool = False


@dataclass(frozen=True, slots=True)
class FailedQuery:
    """A query that went badly: where the first right answer stood (0: not known), what it got, and how often what."""

    picture: BenchmarkPicture
    average_precision: float
    first_relevant_rank: int
    answers: tuple[BenchmarkPicture, ...]
    confusion: str


@dataclass(frozen=True, slots=True)
class CostColumn:
    """A column of the costs: its title, what it means, how to read and show it, and whether less is better."""

    title: str
    description: str
    read_value: Callable[[BenchmarkRow], float]
    format_value: Callable[[float], str]
    is_less_better: bool = True


def _make_cost_reader(read: Callable[[RowCost], float]) -> Callable[[BenchmarkRow], float]:
    return lambda row: read(row.cost)


COST_COLUMNS = (
    CostColumn(
        "images/s",
        "from files to stored vectors",
        _make_cost_reader(lambda c: c.images_per_second),
        format_number,
        False,
    ),
    CostColumn(
        "embedded/s",
        "the network alone",
        _make_cost_reader(lambda c: c.embedded_per_second),
        format_number,
        False,
    ),
    CostColumn(
        "query p50",
        "ms, half of the queries take longer",
        _make_cost_reader(lambda c: c.query_ms_p50),
        format_number,
    ),
    CostColumn(
        "query p99",
        "ms, one query of a hundred takes longer",
        _make_cost_reader(lambda c: c.query_ms_p99),
        format_number,
    ),
    CostColumn("width", "numbers in a vector", lambda row: row.width, lambda value: f"{value:,.0f}"),
    CostColumn("memory", "an image in the index", _make_cost_reader(lambda c: c.memory_bytes_per_image), format_size),
    CostColumn("disk", "an image in the catalog", _make_cost_reader(lambda c: c.disk_bytes_per_image), format_size),
    CostColumn(
        "parameters",
        "of the network",
        _make_cost_reader(lambda c: c.parameters),
        lambda n: format_parameter_count(int(n)),
    ),
    CostColumn("weights", "size of the network's file", _make_cost_reader(lambda c: c.weights_bytes), format_size),
)


def render_benchmark(benchmark: BenchmarkResult, plots: Sequence[Plot]) -> str:
    """The page, in HTML; pictures that can still be read are in it."""
    best = benchmark.best
    gallery, grid = _FailureGallery(benchmark), build_robustness_grid(benchmark)
    firsts = [members[0] for _, members in findings.group_series(benchmark)]
    return render_page(
        "benchmark.html.j2",
        benchmark=benchmark,
        dataset=benchmark.dataset,
        best=best,
        headline=MAIN_METRIC,
        summary=findings.summarize_benchmark(benchmark),
        test=findings.TEST_DESCRIPTION,
        is_compared=len(benchmark.rows) > 1,
        lines=_build_rows(benchmark),
        costs=COST_COLUMNS,
        plots={plot.name: inline_svg(plot) for plot in plots},
        classes=sorted(best.per_class, key=lambda label: (best.per_class[label], label)),
        class_sentence=findings.describe_classes(best),
        class_rows=firsts,
        failures=gallery.list_worst(best, _MAX_FAILURES),
        others=[
            (row, gallery.list_worst(row, _MAX_OTHER_FAILURES))
            for row in firsts[: _MAX_OTHER_ROWS + 1]
            if row is not best
        ],
        grid=grid,
        heat=_build_heat_map(grid),
    )


def _build_rows(benchmark: BenchmarkResult) -> list[RankedRow]:
    best = benchmark.best
    of_series = {row.name: n for n, (_, members) in enumerate(findings.group_series(benchmark)) for row in members}
    intervals = [row.scores[MAIN_METRIC] for row in benchmark.rows]
    low, high = min(found.low for found in intervals), max(found.high for found in intervals)
    percent = 100 / ((high - low) or 1)
    lines = []
    for row in findings.rank_rows(benchmark):
        found = row.scores[MAIN_METRIC]
        lines.append(
            RankedRow(
                row=row,
                series=min(of_series[row.name], len(PALETTE)),
                standing=findings.describe_standing(row, best),
                is_best=row is best,
                is_tied=row.is_tied,
                difference=found.mean - findings.read_headline_score(best),
                start=(found.low - low) * percent,
                middle=(found.mean - low) * percent,
                end=(found.high - low) * percent,
                scores=_build_score_cells(benchmark, row),
                costs=tuple(_build_cost_cell(benchmark, row, column) for column in COST_COLUMNS),
            )
        )
    return lines


def _build_score_cells(benchmark: BenchmarkResult, row: BenchmarkRow) -> tuple[TableCell, ...]:
    """The metrics after the headline one, each with its interval."""
    most = findings.find_best_values(benchmark)
    cells = []
    for metric in benchmark.metrics:
        if metric != MAIN_METRIC:
            found = row.scores[metric]
            interval = f"{format_score(found.low)} to {format_score(found.high)}"
            cells.append(_build_cell(format_score(found.mean), found.mean, most.get(metric), interval))
    return tuple(cells)


def _build_cost_cell(benchmark: BenchmarkResult, row: BenchmarkRow, column: CostColumn) -> TableCell:
    values = [value for value in map(column.read_value, benchmark.rows) if math.isfinite(value)]
    is_choice = bool(values) and not math.isclose(min(values), max(values))
    best = (min(values) if column.is_less_better else max(values)) if is_choice else None
    return _build_cell(column.format_value(column.read_value(row)), column.read_value(row), best)


def _build_cell(text: str, value: float, best: float | None, hint: str = "") -> TableCell:
    is_number = math.isfinite(value)
    return TableCell(
        text, value if is_number else None, is_number and best is not None and math.isclose(value, best), hint
    )


class _FailureGallery:
    """Worst queries with their pictures, each of which is read once for the page."""

    def __init__(self, benchmark: BenchmarkResult) -> None:
        self._place = {query.path: number for number, query in enumerate(benchmark.queries)}
        self._thumbnail = functools.cache(make_thumbnail)

    def list_worst(self, row: BenchmarkRow, most: int) -> list[FailedQuery]:
        """The worst queries of a row, the worst first."""
        return [self._build_query(row, failure) for failure in row.worst[:most]]

    def _build_query(self, row: BenchmarkRow, failure: WorstQuery) -> FailedQuery:
        answers = tuple(
            BenchmarkPicture(
                answer.path, answer.label, self._thumbnail(answer.path), answer.similarity, answer.is_relevant
            )
            for answer in failure.answers[:_MAX_ANSWERS]
        )
        picture = BenchmarkPicture(failure.path, failure.label, self._thumbnail(failure.path))
        first_right = self._find_first_relevant_rank(row, failure.path)
        return FailedQuery(picture, failure.average_precision, first_right, answers, _describe_confusion(failure))

    def _find_first_relevant_rank(self, row: BenchmarkRow, path: str) -> int:
        if path not in self._place or "mrr" not in row.per_query:
            return 0
        reciprocal = row.per_query["mrr"][self._place[path]]
        return round(1 / reciprocal) if reciprocal > 0 else 0


def _describe_confusion(failure: WorstQuery) -> str:
    """The label that most of the wrong answers have, where it is more than one of them."""
    wrong = Counter(answer.label for answer in failure.answers if not answer.is_relevant and answer.label)
    n = len(failure.answers)
    label, count = wrong.most_common(1)[0] if wrong else ("", 0)
    return f"{'all' if count == n else count} of the first {n} answers are {label}" if count > 1 else ""


def _build_heat_map(grid: RobustnessGrid) -> dict[tuple[str, str], list[tuple[float, int]]]:
    """A row of cells a change: the value, and how strong its colour is, in percent of the grid's range."""
    values = [grid.find_value(change, column) for change in grid.changes for column in grid.columns]
    low = min((value for value in values if math.isfinite(value)), default=0.0)
    low = min(low, 0.9)

    def compute_strength(value: float) -> int:
        return round(100 * (value - low) / (1 - low)) if math.isfinite(value) else 0

    cells = {change: [grid.find_value(change, column) for column in grid.columns] for change in grid.changes}
    return {change: [(value, compute_strength(value)) for value in row] for change, row in cells.items()}
