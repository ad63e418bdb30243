"""The HTML report of a benchmark: one self-contained page, report.html."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from simsearch.evaluation.results import BenchmarkRow, WorstQuery
from simsearch.images.thumbnails import make_thumbnail
from simsearch.report.benchmark.findings import describe_test
from simsearch.report.benchmark.inline_svg import inline_svg
from simsearch.report.benchmark.plots import Plot
from simsearch.report.benchmark.view import COST_COLUMNS, BenchmarkView
from simsearch.report.html import render_page

_MAX_FAILURES, _MAX_RESULTS = 8, 8
_MAX_OTHER_ROWS, _MAX_OTHER_FAILURES = 4, 4


@dataclass(frozen=True, slots=True)
class BenchmarkPicture:
    """An image of the page with its caption; `data` is a data URL, None where the file cannot be read."""

    path: str
    label: str
    data: str | None
    similarity: float = math.nan
    is_relevant: bool = False


@dataclass(frozen=True, slots=True)
class FailedQuery:
    """A query of a low score with its first results.

    `first_relevant_rank` is 0 where it is not known; `confusion` is a sentence on the most frequent wrong label.
    """

    picture: BenchmarkPicture
    average_precision: float
    first_relevant_rank: int
    results: tuple[BenchmarkPicture, ...]
    confusion: str


def render_benchmark(view: BenchmarkView, plots: Sequence[Plot]) -> str:
    """Render the page, with the plots and with all images that can be read."""
    gallery = _FailureGallery(view)
    return render_page(
        "benchmark.html.j2",
        view=view,
        main_metric=view.benchmark.main_metric,
        test=describe_test(view.benchmark),
        costs=COST_COLUMNS,
        plots={plot.name: inline_svg(plot) for plot in plots},
        failures=gallery.list_worst(view.best, _MAX_FAILURES),
        others=[
            (row, gallery.list_worst(row, _MAX_OTHER_FAILURES))
            for row in view.series[: _MAX_OTHER_ROWS + 1]
            if row is not view.best
        ],
    )


class _FailureGallery:
    """The worst queries of several rows with their images; each file is read once."""

    def __init__(self, view: BenchmarkView) -> None:
        self._positions = {query.path: number for number, query in enumerate(view.benchmark.queries)}
        self._make_thumbnail = functools.cache(make_thumbnail)

    def list_worst(self, row: BenchmarkRow, most: int) -> list[FailedQuery]:
        """List the queries of a row with the lowest scores, the lowest first."""
        return [self._build_query(row, query) for query in row.worst[:most]]

    def _build_query(self, row: BenchmarkRow, query: WorstQuery) -> FailedQuery:
        results = tuple(
            BenchmarkPicture(
                result.path, result.label, self._make_thumbnail(result.path), result.similarity, result.is_relevant
            )
            for result in query.answers[:_MAX_RESULTS]
        )
        picture = BenchmarkPicture(query.path, query.label, self._make_thumbnail(query.path))
        rank = self._find_first_relevant_rank(row, query.path)
        return FailedQuery(picture, query.average_precision, rank, results, _describe_confusion(query))

    def _find_first_relevant_rank(self, row: BenchmarkRow, path: str) -> int:
        """Compute the rank from the reciprocal rank of the query; 0 where it was not measured."""
        if path not in self._positions or "mrr" not in row.per_query:
            return 0
        reciprocal = row.per_query["mrr"][self._positions[path]]
        return round(1 / reciprocal) if reciprocal > 0 else 0


def _describe_confusion(query: WorstQuery) -> str:
    """Name the most frequent label of the wrong results; empty where no label has two of them."""
    wrong = Counter(result.label for result in query.answers if not result.is_relevant and result.label)
    n = len(query.answers)
    label, count = wrong.most_common(1)[0] if wrong else ("", 0)
    return f"{'all' if count == n else count} of the first {n} results are {label}" if count > 1 else ""
