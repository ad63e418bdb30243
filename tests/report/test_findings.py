"""What is said of a benchmark, case by case."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from simsearch.evaluation.results import BenchmarkResult, BenchmarkRow, Score
from simsearch.report.benchmark.findings import (
    describe_classes,
    describe_standing,
    find_pareto_front,
    group_series,
    rank_rows,
    select_extreme_classes,
    summarize_benchmark,
)
from tests.support.benchmarks import benchmark, cost, row


def _said(made: BenchmarkResult) -> str:
    return " ".join(summarize_benchmark(made))


def test_one_row_is_compared_with_nothing():
    said = _said(benchmark(row("alpha", 0.7)))
    assert said == (
        "alpha reaches mAP 0.700 (95 % interval 0.650 to 0.750) on your images; "
        "the first result is relevant for 70 % of the queries."
    )


def test_the_best_of_two_is_named_and_the_other_said_to_be_worse():
    said = _said(benchmark(row("alpha", 0.5, p_value=0.001), row("beta", 0.7)))
    assert said.startswith("beta retrieves best on your images: mAP 0.700")
    assert "The other row is significantly worse." in said


def test_rows_that_are_not_significantly_different_are_named():
    rows = [row("alpha", 0.7), row("beta", 0.69, p_value=0.2), row("gamma", 0.4, p_value=0.001)]
    said = _said(benchmark(*rows))
    assert said.startswith("alpha retrieves best")
    assert "Not significantly different from it: beta (0.690)." in said
    assert "gamma" not in said


def test_where_nothing_is_significant_nothing_is_called_best():
    rows = [row("alpha", 0.7), row("beta", 0.69, p_value=0.2), row("gamma", 0.68, p_value=0.05)]
    said = _said(benchmark(*rows))
    assert said.startswith("No row is significantly better than the others on your images: alpha leads")
    assert "The other 2 rows are not significantly different from it." in said


def test_equal_scores_are_a_tie_in_the_order_asked_for():
    made = benchmark(row("beta", 1.0), row("alpha", 1.0, p_value=1.0))
    assert [found.name for found in rank_rows(made)] == ["beta", "alpha"]
    assert "Not significantly different from it: alpha (1.000)" in _said(made)
    assert [describe_standing(found, made.best) for found in made.rows] == ["best", "tied, p = 1.00"]


def test_a_test_that_was_not_made_is_no_verdict():
    made = benchmark(row("alpha", 0.7), row("beta", 0.6))
    assert describe_standing(made.rows[1], made.best) == "not tested"
    assert "significant" not in _said(made)


def test_a_much_faster_row_is_offered_with_its_price():
    rows = [row("alpha", 0.7, speed=40), row("beta", 0.6, p_value=0.001, speed=200), row("beta x", 0.65, speed=190)]
    said = _said(benchmark(*rows))
    assert (
        "The next row on the frontier of quality and speed is beta x: it indexes 4.8 x as many images per second "
        "(190 against 40.0) and loses 0.050 mAP."
    ) in said


def test_the_next_row_of_the_frontier_is_offered_not_the_fastest():
    rows = [
        row("best", 0.7, speed=40), row("noise", 0.69, p_value=0.01, speed=41),
        row("next", 0.65, p_value=0.01, speed=90),
        row("beaten", 0.6, p_value=0.01, speed=80), row("fastest", 0.3, p_value=0.01, speed=900),
    ]  # fmt: skip
    said = _said(benchmark(*rows))
    assert "frontier of quality and speed is next: it indexes 2.2 x" in said
    assert "fastest" not in said.replace("is significantly worse", "")


def _with_first(made: BenchmarkRow, first: np.ndarray) -> BenchmarkRow:
    mean = float(first.mean())
    return replace(
        made, scores={**made.scores, "p_at_1": Score(mean, mean, mean)}, per_query={**made.per_query, "p_at_1": first}
    )


def test_another_row_that_wins_the_first_answer_is_named():
    first, other = np.repeat([1.0, 0.0], [800, 200]), np.repeat([1.0, 0.0], [900, 100])
    rows = [_with_first(row("deep", 0.7), first), _with_first(row("histogram", 0.5, p_value=0.001), other)]
    assert (
        "If only the first result counts, histogram wins: relevant for 90 % of the queries against 80 % (p < 0.001). "
        "--metric P@1 ranks by it."
    ) in _said(benchmark(*rows))
    by_first = benchmark(*rows, main_metric="p_at_1")
    assert by_first.best.name == "histogram"
    assert "first result" not in _said(by_first)


def test_a_first_answer_that_is_hardly_better_is_not_significant():
    first, other = np.array([1.0, 0.0, 1.0, 0.0]), np.array([1.0, 1.0, 1.0, 0.0])
    rows = [_with_first(row("deep", 0.7), first), _with_first(row("plain", 0.5, p_value=0.001), other)]
    assert "(p = 1.00; not a significant difference)" in _said(benchmark(*rows))
    assert "first result counts" not in _said(benchmark(*rows[::-1][1:], rows[0]))


def test_a_faster_row_that_is_tied_has_no_price():
    said = _said(benchmark(row("alpha", 0.7, speed=40), row("beta", 0.69, p_value=0.4, speed=200)))
    assert "with no significant difference in quality." in said
    assert "loses" not in said


def test_the_best_row_may_be_the_fastest_too():
    said = _said(benchmark(row("alpha", 0.7, speed=200), row("beta", 0.6, p_value=0.001, speed=40)))
    assert "No row indexes faster: it reaches 200 images/s." in said


def test_a_speed_that_was_not_measured_is_not_spoken_of():
    unknown = replace(row("beta", 0.6, p_value=0.001), cost=cost(math.nan))
    assert "images" not in _said(benchmark(row("alpha", 0.7), unknown)).replace("your images", "")


def test_what_re_ranking_brought_is_said_where_the_plain_row_was_measured():
    better = row("alpha dba", 0.75, rerank="dba")
    said = _said(benchmark(row("alpha", 0.7, p_value=0.001), better))
    assert "Re-ranking (dba) adds 0.050: alpha without it reaches 0.700." in said
    assert "Re-ranking" not in _said(benchmark(row("beta", 0.7, p_value=0.001), better))


def test_a_metric_that_was_not_measured_is_not_spoken_of():
    alone = row("alpha", 0.7)
    made = benchmark(replace(alone, scores={"map": alone.scores["map"]}), metrics=("map",))
    assert _said(made).endswith("on your images.")


def test_rows_belong_together_by_backbone_or_stand_alone_if_there_is_one():
    several = benchmark(row("alpha", 0.5), row("beta x", 0.7), row("beta", 0.6))
    assert [(name, len(rows)) for name, rows in group_series(several)] == [("beta", 2), ("alpha", 1)]
    one = benchmark(row("alpha", 0.5), row("alpha x", 0.7))
    assert [name for name, _ in group_series(one)] == ["alpha x", "alpha"]


def test_the_front_is_what_no_row_beats_in_both():
    random = np.random.default_rng(3)
    rows = [row(f"r{n}", float(random.integers(1, 9)) / 10, speed=float(random.integers(1, 9))) for n in range(40)]

    def beats(a: object, b: object) -> bool:
        x, y = ((r.scores["map"].mean, r.cost.images_per_second) for r in (a, b))  # type: ignore[attr-defined]
        return x != y and x[0] >= y[0] and x[1] >= y[1]

    expected = {
        (found.scores["map"].mean, found.cost.images_per_second)
        for found in rows
        if not any(beats(other, found) for other in rows)
    }
    front = find_pareto_front(rows)
    assert {(found.scores["map"].mean, found.cost.images_per_second) for found in front} == expected
    assert [found.cost.images_per_second for found in front] == sorted(cost for _, cost in expected)


@pytest.mark.parametrize(("n_classes", "n_between"), [(1, 0), (24, 0), (25, 1), (101, 77)])
def test_of_many_classes_the_ends_are_shown(n_classes: int, n_between: int):
    scores = {f"c{number:03}": number / n_classes for number in range(n_classes)}
    shown, between = select_extreme_classes(scores)
    assert between == n_between
    assert len(shown) + between == n_classes
    assert shown[0] == f"c{n_classes - 1:03}"
    assert shown[-1] == "c000"


def test_hardest_and_easiest_classes_are_named_with_their_equals():
    made = replace(row("alpha", 0.5), per_class={"a": 1.0, "b": 0.2, "c": 1.0, "d": 1.0, "e": 1.0})
    assert describe_classes(made) == "Hardest classes for alpha: b (0.200). Easiest: a, c and 2 others (1.000)."
    assert (
        describe_classes(replace(made, per_class={"a": 0.5, "b": 0.5}))
        == "All classes score the same with alpha: 0.500."
    )
