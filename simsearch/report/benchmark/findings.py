"""The findings of a benchmark: ranking, ties with the best row, Pareto front, and a summary in sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from simsearch.evaluation.results import MAIN_METRIC, BenchmarkResult, BenchmarkRow
from simsearch.evaluation.statistics import SIGNIFICANCE_LEVEL
from simsearch.report.format import format_metric, format_number, format_p_value, format_score, format_share
from simsearch.text import clean_text, join_names

TEST_DESCRIPTION = (
    f"Tied: not significantly different from the best in {format_metric(MAIN_METRIC)} "
    f"(paired randomisation test over the queries, Holm-corrected, p ≥ {SIGNIFICANCE_LEVEL})."
)

_MIN_SPEED_GAIN = 1.2
_MIN_SPEED_SHARE = 0.9
_NO_RERANK = ("", "none")
_MAX_CLASSES = 24


def rank_rows(benchmark: BenchmarkResult) -> tuple[BenchmarkRow, ...]:
    """Sort the rows by the main metric, the best first; equal rows stay in the requested order."""
    return tuple(sorted(benchmark.rows, key=lambda row: -read_main_score(row)))


def read_main_score(row: BenchmarkRow) -> float:
    """Read the mean of the main metric, by which rows are ranked."""
    return row.scores[MAIN_METRIC].mean


def describe_standing(row: BenchmarkRow, best: BenchmarkRow) -> str:
    """Compare a row with the best one: `best`, `tied, p = 0.31`, `worse, p < 0.001`, or `not tested`."""
    if row is best:
        return "best"
    if row.p_value is None or math.isnan(row.p_value):
        return "not tested"
    return f"{'tied' if row.is_tied else 'worse'}, {format_p_value(row.p_value)}"


def find_best_values(benchmark: BenchmarkResult) -> dict[str, float]:
    """Find the best mean of every metric; a metric without any finite mean is left out."""
    means = {name: [row.scores[name].mean for row in benchmark.rows] for name in benchmark.metrics}
    numbers = {name: [mean for mean in values if math.isfinite(mean)] for name, values in means.items()}
    return {name: max(values) for name, values in numbers.items() if values}


def group_series(benchmark: BenchmarkResult) -> tuple[tuple[str, tuple[BenchmarkRow, ...]], ...]:
    """Group the rows by backbone, or each row alone if there is one backbone; the best group and row come first."""
    has_several = len({row.backbone for row in benchmark.rows}) > 1
    groups: dict[str, list[BenchmarkRow]] = {}
    for row in rank_rows(benchmark):
        groups.setdefault(row.backbone if has_several else row.name, []).append(row)
    return tuple((name, tuple(rows)) for name, rows in groups.items())


def find_pareto_front(rows: Sequence[BenchmarkRow]) -> list[BenchmarkRow]:
    """Find the rows that no other row beats in both quality and speed, the slowest first."""
    front: list[BenchmarkRow] = []
    for row in sorted(rows, key=lambda row: (-row.cost.images_per_second, -read_main_score(row))):
        if not front or read_main_score(row) > read_main_score(front[-1]):
            front.append(row)
    return front[::-1]


def select_extreme_classes(per_class: Mapping[str, float]) -> tuple[list[str], int]:
    """Sort the labels from the best to the worst; of many, return both ends and the number of labels between."""
    ordered = sorted(per_class, key=lambda label: (-per_class[label], label))
    if len(ordered) <= _MAX_CLASSES:
        return ordered, 0
    half = _MAX_CLASSES // 2
    return [*ordered[:half], *ordered[-half:]], len(ordered) - 2 * half


def describe_classes(row: BenchmarkRow) -> str:
    """Name the hardest and the easiest classes of a row; empty where queries have no classes."""
    if not row.per_class:
        return ""
    ordered = sorted(row.per_class.items(), key=lambda pair: (pair[1], pair[0]))

    def format_labels(value: float) -> str:
        same = [label for label, other in ordered if format_score(other) == format_score(value)]
        return f"{join_names(same, most=2)} ({format_score(value)})"

    (_, lowest), (_, highest) = ordered[0], ordered[-1]
    if format_score(lowest) == format_score(highest):
        return f"All classes score the same with {row.name}: {format_score(lowest)}."
    return f"Hardest classes for {row.name}: {format_labels(lowest)}. Easiest: {format_labels(highest)}."


def summarize_benchmark(benchmark: BenchmarkResult) -> tuple[str, ...]:
    """Summarize the benchmark in a few sentences; the first one is complete on its own."""
    best = benchmark.best
    sentences = [
        _describe_best(benchmark, best),
        *_describe_ties(benchmark, best),
        *_describe_rerank_gain(benchmark, best),
        *_describe_speed(benchmark, best),
    ]
    return tuple(clean_text(sentence) for sentence in sentences)


def _describe_best(benchmark: BenchmarkResult, best: BenchmarkRow) -> str:
    score = best.scores[MAIN_METRIC]
    interval = f"95 % interval {format_score(score.low)} to {format_score(score.high)}"
    value = f"{format_metric(MAIN_METRIC)} {format_score(score.mean)} ({interval})"
    first = best.scores.get("p_at_1")
    tail = f"; the first result is relevant for {format_share(first.mean)} of the queries" if first else ""
    others = [row for row in benchmark.rows if row is not best]
    if not others:
        return f"{best.name} reaches {value} on your images{tail}."
    if all(row.is_tied for row in others):
        return f"No row is significantly better than the others on your images: {best.name} leads with {value}{tail}."
    return f"{best.name} retrieves best on your images: {value}{tail}."


def _describe_ties(benchmark: BenchmarkResult, best: BenchmarkRow) -> list[str]:
    """Report the paired tests of the other rows against the best one."""
    others = [row for row in rank_rows(benchmark) if row is not best]
    if not others or any(row.p_value is None for row in others):
        return []
    tied = [f"{row.name} ({format_score(read_main_score(row))})" for row in others if row.is_tied]
    if not tied:
        return [f"{'The other row is' if len(others) == 1 else 'All other rows are'} significantly worse."]
    if len(tied) == len(others) > 1:
        return [f"The other {len(others)} rows are not significantly different from it."]
    return [f"Not significantly different from it: {join_names(tied)}."]


def _describe_speed(benchmark: BenchmarkResult, best: BenchmarkRow) -> list[str]:
    """Compare the best row with the fastest one; of about equally fast rows, with the one that retrieves best."""
    timed = [row for row in rank_rows(benchmark) if has_speed(row)]
    if not has_speed(best) or len(timed) < 2:
        return []
    most = max(row.cost.images_per_second for row in timed)
    own = best.cost.images_per_second
    if own == most:
        return [f"It is also the fastest to index: {format_number(own)} images/s."]
    if own * _MIN_SPEED_GAIN > most:
        return [f"No row indexes much faster: it reaches {format_number(own)} images/s."]
    fast = next(row for row in timed if row.cost.images_per_second >= _MIN_SPEED_SHARE * most)
    speed = fast.cost.images_per_second
    lost = f"{format_score(read_main_score(best) - read_main_score(fast))} {format_metric(MAIN_METRIC)}"
    price = "with no significant difference in quality" if fast.is_tied else f"and loses {lost}"
    return [
        f"{fast.name} indexes {speed / own:.1f} x as many images per second "
        f"({format_number(speed)} against {format_number(own)}) {price}."
    ]


def has_speed(row: BenchmarkRow) -> bool:
    """Whether the indexing speed was measured."""
    return math.isfinite(row.cost.images_per_second) and row.cost.images_per_second > 0


def _describe_rerank_gain(benchmark: BenchmarkResult, best: BenchmarkRow) -> list[str]:
    """Report what re-ranking adds to the best row, where the row without it was measured too."""
    if best.rerank in _NO_RERANK:
        return []
    for row in benchmark.rows:
        if row.rerank in _NO_RERANK and _make_configuration_key(row) == _make_configuration_key(best):
            plain, gain = read_main_score(row), read_main_score(best) - read_main_score(row)
            return [
                f"Re-ranking ({best.rerank}) adds {format_score(gain)}: "
                f"{row.name} without it reaches {format_score(plain)}."
            ]
    return []


def _make_configuration_key(row: BenchmarkRow) -> tuple[object, ...]:
    return row.backbone, row.precision, row.layer, row.pooling, row.augment
