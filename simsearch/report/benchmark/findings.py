"""The findings of a benchmark: ranking, ties with the best row, Pareto front, and a summary in sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from simsearch.evaluation.comparison import compare_with_best
from simsearch.evaluation.metric_names import DEFAULT_METRIC
from simsearch.evaluation.results import BenchmarkResult, BenchmarkRow
from simsearch.evaluation.statistics import SIGNIFICANCE_LEVEL
from simsearch.report.format import format_metric, format_number, format_p_value, format_score, format_share
from simsearch.text import clean_text, join_names

_PROTOCOLS = {
    "self-excluded": "the query itself is removed from its own ranking (leave-one-out)",
    "counted": "the query itself stays in its ranking and counts as relevant, as in GPR1200; "
    "it is nearly always the first result, so P@1, hit@k and MRR say nothing",
    "skip-first": "the first result of every query is dropped, whatever it is, as in the hit rates of MIEB",
    "ukbench": "every four files are one object; the query itself is removed from its ranking, and N-S counts it",
}
_MIN_SPEED_GAIN = 1.2
_FIRST_ANSWER = "p_at_1"
_SAME_AS_FIRST_ANSWER = (_FIRST_ANSWER, "hit_at_1")
_NO_RERANK = ("", "none")
_MAX_CLASSES = 24


def describe_test(benchmark: BenchmarkResult) -> str:
    """Describe how rows are compared, in a sentence."""
    return (
        f"Tied: not significantly different from the best in {format_metric(benchmark.main_metric)} "
        f"(paired randomization test over the queries, Holm-corrected, p ≥ {SIGNIFICANCE_LEVEL})."
    )


def describe_protocol(protocol: str) -> str:
    """Describe in a sentence how a protocol treats the query itself; empty for an unknown one."""
    return _PROTOCOLS.get(protocol, "")


def rank_rows(benchmark: BenchmarkResult) -> tuple[BenchmarkRow, ...]:
    """Sort the rows by the main metric, the best first; equal rows stay in the requested order."""
    return tuple(sorted(benchmark.rows, key=lambda row: -row.scores[benchmark.main_metric].mean))


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


def find_pareto_front(rows: Sequence[BenchmarkRow], metric: str = DEFAULT_METRIC) -> list[BenchmarkRow]:
    """Find the rows that no other row beats in both quality and speed, the slowest first."""
    front: list[BenchmarkRow] = []
    for row in sorted(rows, key=lambda row: (-row.cost.images_per_second, -row.scores[metric].mean)):
        if not front or row.scores[metric].mean > front[-1].scores[metric].mean:
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
        *_describe_first_answer(benchmark, best),
        *_describe_rerank_gain(benchmark, best),
        *_describe_speed(benchmark, best),
    ]
    return tuple(clean_text(sentence) for sentence in sentences)


def _describe_best(benchmark: BenchmarkResult, best: BenchmarkRow) -> str:
    score = best.scores[benchmark.main_metric]
    interval = f"95 % interval {format_score(score.low)} to {format_score(score.high)}"
    value = f"{format_metric(benchmark.main_metric)} {format_score(score.mean)} ({interval})"
    first = best.scores.get(_FIRST_ANSWER)
    is_told = benchmark.dataset.protocol == "counted" or benchmark.main_metric in _SAME_AS_FIRST_ANSWER
    share = "" if first is None or is_told else format_share(first.mean)
    tail = share and f"; the first result is relevant for {share} of the queries"
    others = [row for row in benchmark.rows if row is not best]
    if not others:
        return f"{best.name} reaches {value} on your images{tail}."
    if all(row.is_tied for row in others):
        return f"No row is significantly better than the others on your images: {best.name} leads with {value}{tail}."
    return f"{best.name} retrieves best on your images: {value}{tail}."


def _describe_first_answer(benchmark: BenchmarkResult, best: BenchmarkRow) -> list[str]:
    """Name the row whose first result is right more often than that of the best row, if there is one."""
    if _FIRST_ANSWER not in benchmark.metrics or benchmark.dataset.protocol == "counted":
        return []
    winner = max(rank_rows(benchmark), key=lambda row: row.scores[_FIRST_ANSWER].mean)
    value, own = winner.scores[_FIRST_ANSWER].mean, best.scores[_FIRST_ANSWER].mean
    if not value > own:
        return []
    p_value = compare_with_best(winner, best, _FIRST_ANSWER, benchmark.seed)
    is_better = p_value < SIGNIFICANCE_LEVEL
    verb, verdict = ("wins", "") if is_better else ("is ahead", "; not a significant difference")
    return [
        f"If only the first result counts, {winner.name} {verb}: relevant for {format_share(value)} of the queries "
        f"against {format_share(own)} ({format_p_value(p_value)}{verdict}). --metric P@1 ranks by it."
    ]


def _describe_ties(benchmark: BenchmarkResult, best: BenchmarkRow) -> list[str]:
    """Report the paired tests of the other rows against the best one."""
    others = [row for row in rank_rows(benchmark) if row is not best]
    if not others or any(row.p_value is None for row in others):
        return []
    tied = [f"{row.name} ({format_score(row.scores[benchmark.main_metric].mean)})" for row in others if row.is_tied]
    if not tied:
        return [f"{'The other row is' if len(others) == 1 else 'All other rows are'} significantly worse."]
    if len(tied) == len(others) > 1:
        return [f"The other {len(others)} rows are not significantly different from it."]
    return [f"Not significantly different from it: {join_names(tied)}."]


def _describe_speed(benchmark: BenchmarkResult, best: BenchmarkRow) -> list[str]:
    """Name the next row on the frontier of quality and speed: the best of the rows that index much faster."""
    timed = [row for row in benchmark.rows if has_speed(row)]
    if not has_speed(best) or len(timed) < 2:
        return []
    most = max(row.cost.images_per_second for row in timed)
    own = best.cost.images_per_second
    if own == most:
        return [f"No row indexes faster: it reaches {format_number(own)} images/s."]
    front = find_pareto_front(timed, benchmark.main_metric)
    faster = [row for row in front if row.cost.images_per_second >= _MIN_SPEED_GAIN * own]
    if not faster:
        return [f"No row indexes much faster: it reaches {format_number(own)} images/s."]
    following, speed = faster[0], faster[0].cost.images_per_second
    value = following.scores[benchmark.main_metric].mean
    lost = f"{format_score(best.scores[benchmark.main_metric].mean - value)} {format_metric(benchmark.main_metric)}"
    price = "with no significant difference in quality" if following.is_tied else f"and loses {lost}"
    return [
        f"The next row on the frontier of quality and speed is {following.name}: it indexes {speed / own:.1f} x as "
        f"many images per second ({format_number(speed)} against {format_number(own)}) {price}."
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
            plain = row.scores[benchmark.main_metric].mean
            gain = best.scores[benchmark.main_metric].mean - plain
            return [
                f"Re-ranking ({best.rerank}) adds {format_score(gain)}: "
                f"{row.name} without it reaches {format_score(plain)}."
            ]
    return []


def _make_configuration_key(row: BenchmarkRow) -> tuple[object, ...]:
    return row.backbone, row.precision, row.layer, row.pooling, row.augment
