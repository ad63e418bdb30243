"""A benchmark as one page that needs nothing else: what stands in report.html."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from simsearch.evaluation.results import HEADLINE, Benchmark, Cost, Failure, Row
from simsearch.images.thumbnails import thumbnail
from simsearch.report import format as wording
from simsearch.report.benchmark import findings
from simsearch.report.benchmark.inline_svg import inline_svg
from simsearch.report.benchmark.plots import PALETTE, Plot
from simsearch.report.benchmark.robustness import Grid, robustness_grid
from simsearch.report.html import render

_MOST_FAILURES, _MOST_ANSWERS = 8, 8
_MOST_OTHERS, _MOST_OTHER_FAILURES = 4, 4


@dataclass(frozen=True, slots=True)
class Cell:
    """A number of a table: as text, as what it sorts by (None: no number), and whether it is the best of its column."""

    text: str
    value: float | None
    is_best: bool
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A row of the results: the interval is drawn from `start` to `end`, `middle` marking the mean, in percent."""

    row: Row
    series: int
    standing: str
    is_best: bool
    is_tied: bool
    difference: float
    start: float
    middle: float
    end: float
    scores: tuple[Cell, ...]
    costs: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture with what is said of it; `data` is None where the file cannot be read any more."""

    path: str
    label: str
    data: str | None
    similarity: float = math.nan
    is_relevant: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """A query that went badly: where the first right answer stood (0: not known), what it got, and how often what."""

    picture: Picture
    average_precision: float
    first_right: int
    answers: tuple[Picture, ...]
    mistaken_for: str


@dataclass(frozen=True, slots=True)
class CostColumn:
    """A column of the costs: its title, what it means, how to read and show it, and whether less is better."""

    title: str
    meaning: str
    value: Callable[[Row], float]
    shown: Callable[[float], str]
    is_less_better: bool = True


def _cost(read: Callable[[Cost], float]) -> Callable[[Row], float]:
    return lambda row: read(row.cost)


COSTS = (
    CostColumn("images/s", "from files to stored vectors", _cost(lambda c: c.images_per_second), wording.amount, False),
    CostColumn("embedded/s", "the network alone", _cost(lambda c: c.embedded_per_second), wording.amount, False),
    CostColumn("query p50", "ms, half of the queries take longer", _cost(lambda c: c.query_ms_p50), wording.amount),
    CostColumn("query p99", "ms, one query of a hundred takes longer", _cost(lambda c: c.query_ms_p99), wording.amount),
    CostColumn("width", "numbers in a vector", lambda row: row.width, lambda value: f"{value:,.0f}"),
    CostColumn("memory", "an image in the index", _cost(lambda c: c.memory_bytes_per_image), wording.size),
    CostColumn("disk", "an image in the catalog", _cost(lambda c: c.disk_bytes_per_image), wording.size),
    CostColumn("parameters", "of the network", _cost(lambda c: c.parameters), lambda n: wording.parameters(int(n))),
    CostColumn("weights", "size of the network's file", _cost(lambda c: c.weights_bytes), wording.size),
)


def benchmark_page(benchmark: Benchmark, plots: Sequence[Plot]) -> str:
    """The page, in HTML; pictures that can still be read are in it."""
    best = benchmark.best
    gallery, grid = _Gallery(benchmark), robustness_grid(benchmark)
    firsts = [members[0] for _, members in findings.series(benchmark)]
    return render(
        "benchmark.html.j2",
        benchmark=benchmark,
        dataset=benchmark.dataset,
        best=best,
        headline=HEADLINE,
        summary=findings.summary(benchmark),
        test=findings.TEST,
        is_compared=len(benchmark.rows) > 1,
        lines=_lines(benchmark),
        costs=COSTS,
        plots={plot.name: inline_svg(plot) for plot in plots},
        classes=sorted(best.per_class, key=lambda label: (best.per_class[label], label)),
        class_sentence=findings.class_sentence(best),
        class_rows=firsts,
        failures=gallery.worst(best, _MOST_FAILURES),
        others=[
            (row, gallery.worst(row, _MOST_OTHER_FAILURES)) for row in firsts[: _MOST_OTHERS + 1] if row is not best
        ],
        grid=grid,
        heat=_heat(grid),
    )


def _lines(benchmark: Benchmark) -> list[Line]:
    best = benchmark.best
    of_series = {row.name: n for n, (_, members) in enumerate(findings.series(benchmark)) for row in members}
    intervals = [row.scores[HEADLINE] for row in benchmark.rows]
    low, high = min(found.low for found in intervals), max(found.high for found in intervals)
    percent = 100 / ((high - low) or 1)
    lines = []
    for row in findings.ranked(benchmark):
        found = row.scores[HEADLINE]
        lines.append(
            Line(
                row=row,
                series=min(of_series[row.name], len(PALETTE)),
                standing=findings.standing(row, best),
                is_best=row is best,
                is_tied=findings.is_tied(row),
                difference=found.mean - findings.headline(best),
                start=(found.low - low) * percent,
                middle=(found.mean - low) * percent,
                end=(found.high - low) * percent,
                scores=_score_cells(benchmark, row),
                costs=tuple(_cost_cell(benchmark, row, column) for column in COSTS),
            )
        )
    return lines


def _score_cells(benchmark: Benchmark, row: Row) -> tuple[Cell, ...]:
    """The metrics after the headline one, each with its interval."""
    most = findings.best_values(benchmark)
    cells = []
    for metric in benchmark.metrics:
        if metric != HEADLINE:
            found = row.scores[metric]
            interval = f"{wording.score(found.low)} to {wording.score(found.high)}"
            cells.append(_cell(wording.score(found.mean), found.mean, most.get(metric), interval))
    return tuple(cells)


def _cost_cell(benchmark: Benchmark, row: Row, column: CostColumn) -> Cell:
    values = [value for value in map(column.value, benchmark.rows) if math.isfinite(value)]
    is_choice = bool(values) and not math.isclose(min(values), max(values))
    best = (min(values) if column.is_less_better else max(values)) if is_choice else None
    return _cell(column.shown(column.value(row)), column.value(row), best)


def _cell(text: str, value: float, best: float | None, hint: str = "") -> Cell:
    is_number = math.isfinite(value)
    return Cell(text, value if is_number else None, is_number and best is not None and math.isclose(value, best), hint)


class _Gallery:
    """Worst queries with their pictures, each of which is read once for the page."""

    def __init__(self, benchmark: Benchmark) -> None:
        self._place = {query.path: number for number, query in enumerate(benchmark.queries)}
        self._thumbnail = functools.cache(thumbnail)

    def worst(self, row: Row, most: int) -> list[Query]:
        """The worst queries of a row, the worst first."""
        return [self._query(row, failure) for failure in row.worst[:most]]

    def _query(self, row: Row, failure: Failure) -> Query:
        answers = tuple(
            Picture(answer.path, answer.label, self._thumbnail(answer.path), answer.similarity, answer.is_relevant)
            for answer in failure.answers[:_MOST_ANSWERS]
        )
        picture = Picture(failure.path, failure.label, self._thumbnail(failure.path))
        first_right = self._first_right(row, failure.path)
        return Query(picture, failure.average_precision, first_right, answers, _mistaken_for(failure))

    def _first_right(self, row: Row, path: str) -> int:
        if path not in self._place or "mrr" not in row.per_query:
            return 0
        reciprocal = row.per_query["mrr"][self._place[path]]
        return round(1 / reciprocal) if reciprocal > 0 else 0


def _mistaken_for(failure: Failure) -> str:
    """The label that most of the wrong answers have, where it is more than one of them."""
    wrong = Counter(answer.label for answer in failure.answers if not answer.is_relevant and answer.label)
    n = len(failure.answers)
    label, count = wrong.most_common(1)[0] if wrong else ("", 0)
    return f"{'all' if count == n else count} of the first {n} answers are {label}" if count > 1 else ""


def _heat(grid: Grid) -> dict[tuple[str, str], list[tuple[float, int]]]:
    """A row of cells a change: the value, and how strong its colour is, in percent of the grid's range."""
    values = [grid.value(change, column) for change in grid.changes for column in grid.columns]
    low = min((value for value in values if math.isfinite(value)), default=0.0)
    low = min(low, 0.9)

    def strength(value: float) -> int:
        return round(100 * (value - low) / (1 - low)) if math.isfinite(value) else 0

    cells = {change: [grid.value(change, column) for column in grid.columns] for change in grid.changes}
    return {change: [(value, strength(value)) for value in row] for change, row in cells.items()}
