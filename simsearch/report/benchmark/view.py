"""The view model of a benchmark report: ranked rows, table cells, the best values. HTML and Markdown render it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from simsearch.evaluation.metric_names import STANDARD_METRICS
from simsearch.evaluation.results import BenchmarkResult, BenchmarkRow, DatasetSummary, Score
from simsearch.report.benchmark.findings import (
    describe_classes,
    describe_protocol,
    describe_standing,
    find_best_values,
    group_series,
    rank_rows,
    select_extreme_classes,
    summarize_benchmark,
)
from simsearch.report.benchmark.robustness import (
    ImageChange,
    RobustnessGrid,
    build_robustness_grid,
    describe_change,
    name_models,
)
from simsearch.report.format import describe_metric, format_metric, format_number, format_parameter_count, format_score
from simsearch.text import format_size

_TABLE_METRICS = (
    "p_at_1",
    "p_at_10",
    "recall_at_10",
    "hit_at_10",
    "map",
    "map_at_r",
    "mrr",
    "ndcg_at_10",
    "r_precision",
)
"""The standard metrics that the first table shows; the others are in the table of all metrics."""

_HEAT_MAX_LOW = 0.9
"""The color scale of robustness begins here or lower."""


@dataclass(frozen=True, slots=True)
class TableCell:
    """A number of a table as text; `value` is its sort key, None where it is not a number."""

    text: str
    value: float | None
    is_best: bool
    hint: str = ""


@dataclass(frozen=True, slots=True)
class RankedRow:
    """A row of the results with its cells.

    `series` numbers the rows' colors. The interval is drawn from `start` to `end`, with the mean at `middle`, in
    percent of the range of all intervals. `scores` are the metrics after the main one.
    """

    row: BenchmarkRow
    series: int
    standing: str
    is_best: bool
    difference: float
    score: Score
    start: float
    middle: float
    end: float
    scores: tuple[TableCell, ...]
    costs: tuple[TableCell, ...]

    @property
    def configuration(self) -> str:
        """The backbone, precision, layer, pooling, views, model, pre-processing and protocol of the row in one line."""
        row = self.row
        layer = f"layer {row.layer}" if row.layer else "last layer"
        views = f", {row.augment} augmented views" if row.augment else ""
        end = "".join(f"; {text}" for text in (row.preprocessing, row.protocol and f"protocol {row.protocol}") if text)
        return f"{row.backbone}, {row.precision}, {layer}, pooling {row.pooling}{views}; model {row.model}{end}"


@dataclass(frozen=True, slots=True)
class CostColumn:
    """A column of the cost table: title, description, how to read and format its value, and which end is better."""

    title: str
    description: str
    read_value: Callable[[BenchmarkRow], float]
    format_value: Callable[[float], str]
    is_less_better: bool = True


@dataclass(frozen=True, slots=True)
class BenchmarkView:
    """What the templates of a benchmark show.

    `series` are the best rows of each series. `classes` are the labels from the hardest to the easiest for the best
    row; `extreme_classes` from the easiest to the hardest, without `n_hidden_classes` in the middle. `heat` has, for
    each change, the values of a row of `grid` with the strength of their colors in percent.
    """

    benchmark: BenchmarkResult
    summary: tuple[str, ...]
    rows: tuple[RankedRow, ...]
    series: tuple[BenchmarkRow, ...]
    class_sentence: str
    classes: tuple[str, ...]
    extreme_classes: tuple[str, ...]
    n_hidden_classes: int
    grid: RobustnessGrid
    heat: Mapping[ImageChange, tuple[tuple[float, int], ...]]

    @property
    def best(self) -> BenchmarkRow:
        """The best row."""
        return self.benchmark.best

    @property
    def dataset(self) -> DatasetSummary:
        """The data set."""
        return self.benchmark.dataset

    @property
    def other_metrics(self) -> tuple[str, ...]:
        """The metrics that tables show after the main one."""
        return _select_metrics(self.benchmark)

    def describe_change(self, change: ImageChange) -> str:
        """Describe a change of an image in plain words."""
        return describe_change(change)

    @property
    def protocol_meaning(self) -> str:
        """How the query itself is treated, in a sentence."""
        return describe_protocol(self.benchmark.dataset.protocol)

    @property
    def definitions(self) -> tuple[tuple[str, str], ...]:
        """The metrics and their meanings; metrics of one meaning, at several cutoffs, are together."""
        labels: dict[str, list[str]] = {}
        for metric in self.benchmark.metrics:
            if meaning := describe_metric(metric):
                labels.setdefault(meaning, []).append(format_metric(metric))
        return tuple((", ".join(names), meaning) for meaning, names in labels.items())

    @property
    def open_set_names(self) -> dict[str, str]:
        """The display names of the models with open-set figures, by fingerprint, in the order of measurement."""
        return name_models(self.benchmark, list(dict.fromkeys(result.model for result in self.benchmark.open_set)))

    @property
    def is_compared(self) -> bool:
        """Whether there are rows to compare."""
        return len(self.rows) > 1


COST_COLUMNS = (
    CostColumn(
        "images/s", "from files to stored vectors", lambda row: row.cost.images_per_second, format_number, False
    ),
    CostColumn("embedded/s", "the network alone", lambda row: row.cost.embedded_per_second, format_number, False),
    CostColumn("query p50", "median in ms", lambda row: row.cost.query_ms_p50, format_number),
    CostColumn("query p99", "99th percentile in ms", lambda row: row.cost.query_ms_p99, format_number),
    CostColumn("width", "numbers in a vector", lambda row: row.width, lambda value: f"{value:,.0f}"),
    CostColumn("memory", "per image, in the index", lambda row: row.cost.memory_bytes_per_image, format_size),
    CostColumn(
        "disk", "per image, in the catalog and the index file", lambda row: row.cost.disk_bytes_per_image, format_size
    ),
    CostColumn("parameters", "of the network", lambda row: row.cost.parameters, format_parameter_count),
    CostColumn("weights", "size of the weights file", lambda row: row.cost.weights_bytes, format_size),
)


def build_view(benchmark: BenchmarkResult, n_colors: int) -> BenchmarkView:
    """Build the view model; series after the first `n_colors` share one color."""
    best, grid = benchmark.best, build_robustness_grid(benchmark)
    extreme_classes, n_hidden = select_extreme_classes(best.per_class)
    return BenchmarkView(
        benchmark=benchmark,
        summary=summarize_benchmark(benchmark),
        rows=_build_rows(benchmark, n_colors),
        series=tuple(members[0] for _, members in group_series(benchmark)),
        class_sentence=describe_classes(best),
        classes=tuple(sorted(best.per_class, key=lambda label: (best.per_class[label], label))),
        extreme_classes=tuple(extreme_classes),
        n_hidden_classes=n_hidden,
        grid=grid,
        heat=_build_heat_map(grid),
    )


def _build_rows(benchmark: BenchmarkResult, n_colors: int) -> tuple[RankedRow, ...]:
    best = benchmark.best
    series = {row.name: number for number, (_, members) in enumerate(group_series(benchmark)) for row in members}
    intervals = [row.scores[benchmark.main_metric] for row in benchmark.rows]
    low, high = min(score.low for score in intervals), max(score.high for score in intervals)
    percent = 100 / ((high - low) or 1)
    rows = []
    for row in rank_rows(benchmark):
        score = row.scores[benchmark.main_metric]
        rows.append(
            RankedRow(
                row=row,
                series=min(series[row.name], n_colors),
                standing=describe_standing(row, best),
                is_best=row is best,
                difference=score.mean - best.scores[benchmark.main_metric].mean,
                score=score,
                start=(score.low - low) * percent,
                middle=(score.mean - low) * percent,
                end=(score.high - low) * percent,
                scores=_build_score_cells(benchmark, row),
                costs=tuple(_build_cost_cell(benchmark, row, column) for column in COST_COLUMNS),
            )
        )
    return tuple(rows)


def _build_score_cells(benchmark: BenchmarkResult, row: BenchmarkRow) -> tuple[TableCell, ...]:
    """The metrics after the main one; the hint of a cell is its interval."""
    best = find_best_values(benchmark)
    cells = []
    for metric in _select_metrics(benchmark):
        score = row.scores[metric]
        interval = f"{format_score(score.low)} to {format_score(score.high)}"
        cells.append(_build_cell(format_score(score.mean), score.mean, best.get(metric), interval))
    return tuple(cells)


def _select_metrics(benchmark: BenchmarkResult) -> tuple[str, ...]:
    """Select the metrics of the tables beside the main one: the usual ones, and all that were asked for."""
    shown = [metric for metric in benchmark.metrics if metric in _TABLE_METRICS or metric not in STANDARD_METRICS]
    return tuple(metric for metric in shown if metric != benchmark.main_metric)


def _build_cost_cell(benchmark: BenchmarkResult, row: BenchmarkRow, column: CostColumn) -> TableCell:
    values = [value for value in map(column.read_value, benchmark.rows) if math.isfinite(value)]
    is_choice = bool(values) and not math.isclose(min(values), max(values))
    best = (min(values) if column.is_less_better else max(values)) if is_choice else None
    return _build_cell(column.format_value(column.read_value(row)), column.read_value(row), best)


def _build_cell(text: str, value: float, best: float | None, hint: str = "") -> TableCell:
    is_number = math.isfinite(value)
    is_best = is_number and best is not None and math.isclose(value, best)
    return TableCell(text, value if is_number else None, is_best, hint)


def _build_heat_map(grid: RobustnessGrid) -> dict[ImageChange, tuple[tuple[float, int], ...]]:
    values = {change: [grid.find_value(change, column) for column in grid.columns] for change in grid.changes}
    low = min((value for row in values.values() for value in row if math.isfinite(value)), default=0.0)
    low = min(low, _HEAT_MAX_LOW)

    def compute_strength(value: float) -> int:
        return round(100 * (value - low) / (1 - low)) if math.isfinite(value) else 0

    return {change: tuple((value, compute_strength(value)) for value in row) for change, row in values.items()}
