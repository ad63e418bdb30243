"""What a benchmark found, in sentences, and how each row stands to the best."""

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
    """The rows from the best to the worst in the headline metric; equal ones in the order asked for."""
    return tuple(sorted(benchmark.rows, key=lambda row: -read_headline_score(row)))


def read_headline_score(row: BenchmarkRow) -> float:
    """The score that rows are ranked by."""
    return row.scores[MAIN_METRIC].mean


def describe_standing(row: BenchmarkRow, best: BenchmarkRow) -> str:
    """`best`, `tied, p = 0.31`, `worse, p < 0.001`, or `not tested`."""
    if row is best:
        return "best"
    if row.p_value is None or math.isnan(row.p_value):
        return "not tested"
    return f"{'tied' if row.is_tied else 'worse'}, {format_p_value(row.p_value)}"


def find_best_values(benchmark: BenchmarkResult) -> dict[str, float]:
    """The best mean of every metric; metrics that are nowhere a number are left out."""
    means = {name: [row.scores[name].mean for row in benchmark.rows] for name in benchmark.metrics}
    numbers = {name: [mean for mean in values if math.isfinite(mean)] for name, values in means.items()}
    return {name: max(values) for name, values in numbers.items() if values}


def group_series(benchmark: BenchmarkResult) -> tuple[tuple[str, tuple[BenchmarkRow, ...]], ...]:
    """Rows that belong together, the best first: those of a backbone, or each row alone if there is one backbone."""
    several = len({row.backbone for row in benchmark.rows}) > 1
    found: dict[str, list[BenchmarkRow]] = {}
    for row in rank_rows(benchmark):
        found.setdefault(row.backbone if several else row.name, []).append(row)
    return tuple((name, tuple(rows)) for name, rows in found.items())


def find_pareto_front(rows: Sequence[BenchmarkRow]) -> list[BenchmarkRow]:
    """The rows that no other beats in both quality and speed, from the slowest to the fastest."""
    front: list[BenchmarkRow] = []
    for row in sorted(rows, key=lambda row: (-row.cost.images_per_second, -read_headline_score(row))):
        if not front or read_headline_score(row) > read_headline_score(front[-1]):
            front.append(row)
    return front[::-1]


def select_extreme_classes(per_class: Mapping[str, float]) -> tuple[list[str], int]:
    """Labels from the best to the worst; of many only the ends of that list, and how many lie between."""
    ordered = sorted(per_class, key=lambda label: (-per_class[label], label))
    if len(ordered) <= _MAX_CLASSES:
        return ordered, 0
    half = _MAX_CLASSES // 2
    return [*ordered[:half], *ordered[-half:]], len(ordered) - 2 * half


def describe_classes(row: BenchmarkRow) -> str:
    """The hardest and the easiest classes of a row; empty where queries have no classes."""
    if not row.per_class:
        return ""
    ordered = sorted(row.per_class.items(), key=lambda found: (found[1], found[0]))

    def format_labels(value: float) -> str:
        same = [label for label, other in ordered if format_score(other) == format_score(value)]
        return f"{join_names(same, most=2)} ({format_score(value)})"

    (_, lowest), (_, highest) = ordered[0], ordered[-1]
    if format_score(lowest) == format_score(highest):
        return f"All classes are alike for {row.name}: {format_score(lowest)}."
    return f"Hardest for {row.name}: {format_labels(lowest)}. Easiest: {format_labels(highest)}."


def summarize_benchmark(benchmark: BenchmarkResult) -> tuple[str, ...]:
    """The benchmark in a few sentences; the first can stand alone."""
    best = benchmark.best
    sentences = [
        _describe_best(benchmark, best),
        *_describe_ties(benchmark, best),
        *_describe_rerank_gain(benchmark, best),
        *_describe_speed(benchmark, best),
    ]
    return tuple(clean_text(sentence) for sentence in sentences)


def _describe_best(benchmark: BenchmarkResult, best: BenchmarkRow) -> str:
    found = best.scores[MAIN_METRIC]
    interval = f"95 % interval {format_score(found.low)} to {format_score(found.high)}"
    value = f"{format_metric(MAIN_METRIC)} {format_score(found.mean)} ({interval})"
    right = best.scores.get("p_at_1")
    tail = f"; its first answer is right in {format_share(right.mean)} of the queries" if right else ""
    others = [row for row in benchmark.rows if row is not best]
    if not others:
        return f"{best.name} reaches {value} on your pictures{tail}."
    if all(row.is_tied for row in others):
        return f"Nothing is significantly better than the rest on your pictures: {best.name} leads with {value}{tail}."
    return f"{best.name} retrieves best on your pictures: {value}{tail}."


def _describe_ties(benchmark: BenchmarkResult, best: BenchmarkRow) -> list[str]:
    """What the paired test says of the rows that are not the best."""
    others = [row for row in rank_rows(benchmark) if row is not best]
    if not others or any(row.p_value is None for row in others):
        return []
    tied = [f"{row.name} ({format_score(read_headline_score(row))})" for row in others if row.is_tied]
    if not tied:
        return [f"{'The other row is' if len(others) == 1 else 'All other rows are'} significantly worse."]
    if len(tied) == len(others) > 1:
        return [f"The test finds no difference between it and any of the other {len(others)} rows."]
    return [f"There is no significant difference between it and {join_names(tied)}."]


def _describe_speed(benchmark: BenchmarkResult, best: BenchmarkRow) -> list[str]:
    """The fastest row against the best one; of about equally fast ones the one that retrieves best."""
    timed = [row for row in rank_rows(benchmark) if has_speed(row)]
    if not has_speed(best) or len(timed) < 2:
        return []
    most = max(row.cost.images_per_second for row in timed)
    own = best.cost.images_per_second
    if own * _MIN_SPEED_GAIN > most:
        return [
            f"Nothing indexes much faster either: {format_number(own)} images/s."
            if own < most
            else _describe_fastest(own)
        ]
    fast = next(row for row in timed if row.cost.images_per_second >= _MIN_SPEED_SHARE * most)
    lost = read_headline_score(best) - read_headline_score(fast)
    price = (
        "with no significant difference"
        if fast.is_tied
        else f"and loses {format_score(lost)} {format_metric(MAIN_METRIC)}"
    )
    times = f"{fast.cost.images_per_second / own:.1f} x as many images a second"
    return [
        f"{fast.name} indexes {times} "
        f"({format_number(fast.cost.images_per_second)} against {format_number(own)}) {price}."
    ]


def _describe_fastest(own: float) -> str:
    return f"It is also the fastest to index: {format_number(own)} images/s."


def has_speed(row: BenchmarkRow) -> bool:
    """Whether the speed of indexing was measured."""
    return math.isfinite(row.cost.images_per_second) and row.cost.images_per_second > 0


def _describe_rerank_gain(benchmark: BenchmarkResult, best: BenchmarkRow) -> list[str]:
    """What re-ranking brought the best row, where its plain form was measured, too."""
    if best.rerank in _NO_RERANK:
        return []
    for row in benchmark.rows:
        if row.rerank in _NO_RERANK and _make_configuration_key(row) == _make_configuration_key(best):
            plain, gain = (
                format_score(read_headline_score(row)),
                format_score(read_headline_score(best) - read_headline_score(row)),
            )
            return [f"Re-ranking ({best.rerank}) is worth {gain} of that: {row.name} without it reaches {plain}."]
    return []


def _make_configuration_key(row: BenchmarkRow) -> tuple[object, ...]:
    return row.backbone, row.precision, row.layer, row.pooling, row.augment
