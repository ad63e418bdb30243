"""What a benchmark found, in sentences, and how each row stands to the best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from simsearch.evaluation.results import HEADLINE, Benchmark, Row
from simsearch.report.format import amount, clean, listed, metric_label, p_value, score, share

SIGNIFICANCE = 0.05
"""A difference counts when its corrected p-value is below this."""

TEST = (
    f"Tied: not significantly different from the best in {metric_label(HEADLINE)} "
    f"(paired randomisation test over the queries, Holm-corrected, p ≥ {SIGNIFICANCE})."
)

_MUCH_FASTER = 1.2
_AS_FAST = 0.9
_NO_RERANK = ("", "none")
_MOST_CLASSES = 24


def ranked(benchmark: Benchmark) -> tuple[Row, ...]:
    """The rows from the best to the worst in the headline metric; equal ones in the order asked for."""
    return tuple(sorted(benchmark.rows, key=lambda row: -headline(row)))


def headline(row: Row) -> float:
    """The score that rows are ranked by."""
    return row.scores[HEADLINE].mean


def is_tied(row: Row) -> bool:
    """Whether a row, not the best one, is not significantly different from the best."""
    return row.p_value is not None and row.p_value >= SIGNIFICANCE


def standing(row: Row, best: Row) -> str:
    """`best`, `tied, p = 0.31`, `worse, p < 0.001`, or `not tested`."""
    if row is best:
        return "best"
    if row.p_value is None or math.isnan(row.p_value):
        return "not tested"
    return f"{'tied' if is_tied(row) else 'worse'}, {p_value(row.p_value)}"


def best_values(benchmark: Benchmark) -> dict[str, float]:
    """The best mean of every metric; metrics that are nowhere a number are left out."""
    means = {name: [row.scores[name].mean for row in benchmark.rows] for name in benchmark.metrics}
    numbers = {name: [mean for mean in values if math.isfinite(mean)] for name, values in means.items()}
    return {name: max(values) for name, values in numbers.items() if values}


def series(benchmark: Benchmark) -> tuple[tuple[str, tuple[Row, ...]], ...]:
    """Rows that belong together, the best first: those of a backbone, or each row alone if there is one backbone."""
    several = len({row.backbone for row in benchmark.rows}) > 1
    found: dict[str, list[Row]] = {}
    for row in ranked(benchmark):
        found.setdefault(row.backbone if several else row.name, []).append(row)
    return tuple((name, tuple(rows)) for name, rows in found.items())


def pareto_front(rows: Sequence[Row]) -> list[Row]:
    """The rows that no other beats in both quality and speed, from the slowest to the fastest."""
    front: list[Row] = []
    for row in sorted(rows, key=lambda row: (-row.cost.images_per_second, -headline(row))):
        if not front or headline(row) > headline(front[-1]):
            front.append(row)
    return front[::-1]


def class_extremes(per_class: Mapping[str, float]) -> tuple[list[str], int]:
    """Labels from the best to the worst; of many only the ends of that list, and how many lie between."""
    ordered = sorted(per_class, key=lambda label: (-per_class[label], label))
    if len(ordered) <= _MOST_CLASSES:
        return ordered, 0
    half = _MOST_CLASSES // 2
    return [*ordered[:half], *ordered[-half:]], len(ordered) - 2 * half


def class_sentence(row: Row) -> str:
    """The hardest and the easiest classes of a row; empty where queries have no classes."""
    if not row.per_class:
        return ""
    ordered = sorted(row.per_class.items(), key=lambda found: (found[1], found[0]))

    def named(value: float) -> str:
        same = [label for label, other in ordered if score(other) == score(value)]
        return f"{listed(same, most=2)} ({score(value)})"

    (_, lowest), (_, highest) = ordered[0], ordered[-1]
    if score(lowest) == score(highest):
        return f"All classes are alike for {row.name}: {score(lowest)}."
    return f"Hardest for {row.name}: {named(lowest)}. Easiest: {named(highest)}."


def summary(benchmark: Benchmark) -> tuple[str, ...]:
    """The benchmark in a few sentences; the first can stand alone."""
    best = benchmark.best
    sentences = [_first(benchmark, best), *_ties(benchmark, best), *_gain(benchmark, best), *_speed(benchmark, best)]
    return tuple(clean(sentence) for sentence in sentences)


def _first(benchmark: Benchmark, best: Row) -> str:
    found = best.scores[HEADLINE]
    value = f"{metric_label(HEADLINE)} {score(found.mean)} (95 % interval {score(found.low)} to {score(found.high)})"
    right = best.scores.get("p_at_1")
    tail = f"; its first answer is right in {share(right.mean)} of the queries" if right else ""
    others = [row for row in benchmark.rows if row is not best]
    if not others:
        return f"{best.name} reaches {value} on your pictures{tail}."
    if all(is_tied(row) for row in others):
        return f"Nothing is significantly better than the rest on your pictures: {best.name} leads with {value}{tail}."
    return f"{best.name} retrieves best on your pictures: {value}{tail}."


def _ties(benchmark: Benchmark, best: Row) -> list[str]:
    """What the paired test says of the rows that are not the best."""
    others = [row for row in ranked(benchmark) if row is not best]
    if not others or any(row.p_value is None for row in others):
        return []
    tied = [f"{row.name} ({score(headline(row))})" for row in others if is_tied(row)]
    if not tied:
        return [f"{'The other row is' if len(others) == 1 else 'All other rows are'} significantly worse."]
    if len(tied) == len(others) > 1:
        return [f"The test finds no difference between it and any of the other {len(others)} rows."]
    return [f"There is no significant difference between it and {listed(tied)}."]


def _speed(benchmark: Benchmark, best: Row) -> list[str]:
    """The fastest row against the best one; of about equally fast ones the one that retrieves best."""
    timed = [row for row in ranked(benchmark) if has_speed(row)]
    if not has_speed(best) or len(timed) < 2:
        return []
    most = max(row.cost.images_per_second for row in timed)
    own = best.cost.images_per_second
    if own * _MUCH_FASTER > most:
        return [f"Nothing indexes much faster either: {amount(own)} images/s." if own < most else _fastest(own)]
    fast = next(row for row in timed if row.cost.images_per_second >= _AS_FAST * most)
    lost = headline(best) - headline(fast)
    price = "with no significant difference" if is_tied(fast) else f"and loses {score(lost)} {metric_label(HEADLINE)}"
    times = f"{fast.cost.images_per_second / own:.1f} x as many images a second"
    return [f"{fast.name} indexes {times} ({amount(fast.cost.images_per_second)} against {amount(own)}) {price}."]


def _fastest(own: float) -> str:
    return f"It is also the fastest to index: {amount(own)} images/s."


def has_speed(row: Row) -> bool:
    """Whether the speed of indexing was measured."""
    return math.isfinite(row.cost.images_per_second) and row.cost.images_per_second > 0


def _gain(benchmark: Benchmark, best: Row) -> list[str]:
    """What re-ranking brought the best row, where its plain form was measured, too."""
    if best.rerank in _NO_RERANK:
        return []
    for row in benchmark.rows:
        if row.rerank in _NO_RERANK and _network(row) == _network(best):
            plain, gain = score(headline(row)), score(headline(best) - headline(row))
            return [f"Re-ranking ({best.rerank}) is worth {gain} of that: {row.name} without it reaches {plain}."]
    return []


def _network(row: Row) -> tuple[object, ...]:
    return row.backbone, row.precision, row.layer, row.pooling, row.augment
