"""Metrics against arithmetic done by hand, against trec_eval, and against plain loops over a formula."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import pytrec_eval
from hypothesis import example, given
from hypothesis import strategies as st

from simsearch.evaluation import metrics
from simsearch.evaluation.metrics import Rankings, rank_positions

NEAR = 1e-9
CUTOFFS = (1, 3, 10, 50, 1000)


def rankings(*rows: str, n_relevant: list[int]) -> Rankings:
    """From rows such as "10010", one character a rank."""
    return Rankings.from_relevance(np.array([[mark == "1" for mark in row] for row in rows]), np.array(n_relevant))


HAND = rankings("0110100000", "1100000000", "0000000000", "0000000001", n_relevant=[4, 2, 3, 1])
"""Found at ranks 2, 3, 5 of 4 in all; at 1, 2 of 2; none of 3; at 10 of 1."""

Metric = Callable[[Rankings], np.ndarray]
WITHOUT_K: dict[str, Metric] = {
    "map": metrics.average_precision,
    "recip_rank": metrics.reciprocal_rank,
    "Rprec": metrics.r_precision,
}
WITH_K: dict[str, Callable[[Rankings, int], np.ndarray]] = {
    "P": metrics.precision_at,
    "recall": metrics.recall_at,
    "success": metrics.hit_at,
    "map_cut": metrics.average_precision_at,
    "ndcg_cut": metrics.ndcg_at,
}
CURVES: list[Metric] = [metrics.interpolated_precision, lambda found: metrics.precision_curve(found, 5)]
SCORES: list[Metric] = [
    *WITHOUT_K.values(),
    metrics.average_precision_trapezoid,
    metrics.average_precision_at_r,
    metrics.n_s_score,
    *(lambda found, metric=metric: metric(found, 5) for metric in WITH_K.values()),
]


# Worked by hand


@pytest.mark.parametrize(
    ("k", "expected"),
    [
        (1, [0, 1, 0, 0]),
        (3, [2 / 3, 2 / 3, 0, 0]),
        (5, [3 / 5, 2 / 5, 0, 0]),
        (10, [3 / 10, 2 / 10, 0, 1 / 10]),
        (20, [3 / 20, 2 / 20, 0, 1 / 20]),  # only ten are ranked, and still divided by 20
    ],
)
def test_precision_at_k_divides_by_k(k: int, expected: list[float]):
    np.testing.assert_allclose(metrics.precision_at(HAND, k), expected, atol=NEAR)


def test_recall_at_k_divides_by_all_there_are():
    np.testing.assert_allclose(metrics.recall_at(HAND, 3), [2 / 4, 2 / 2, 0, 0], atol=NEAR)
    np.testing.assert_allclose(metrics.recall_at(HAND, 20), [3 / 4, 2 / 2, 0, 1 / 1], atol=NEAR)


def test_hit_at_k_is_one_from_the_first_relevant_rank_on():
    assert metrics.hit_at(HAND, 1).tolist() == [0, 1, 0, 0]
    assert metrics.hit_at(HAND, 2).tolist() == [1, 1, 0, 0]
    assert metrics.hit_at(HAND, 9).tolist() == [1, 1, 0, 0]
    assert metrics.hit_at(HAND, 10).tolist() == [1, 1, 0, 1]


def test_average_precision_sums_the_precision_at_every_relevant_rank():
    # Precision 1/2 at rank 2, 2/3 at rank 3, 3/5 at rank 5; the fourth is not found.
    expected = [(1 / 2 + 2 / 3 + 3 / 5) / 4, (1 / 1 + 2 / 2) / 2, 0, (1 / 10) / 1]
    np.testing.assert_allclose(metrics.average_precision(HAND), expected, atol=NEAR)


def test_average_precision_at_k_still_divides_by_all_there_are():
    np.testing.assert_allclose(metrics.average_precision_at(HAND, 3), [(1 / 2 + 2 / 3) / 4, 1, 0, 0], atol=NEAR)
    # Two of three relevant images at the first two ranks: 2/3, where min(R, k) as denominator would give 1.
    found = rankings("110", n_relevant=[3])
    np.testing.assert_allclose(metrics.average_precision_at(found, 2), [(1 / 1 + 2 / 2) / 3], atol=NEAR)


def test_average_precision_min_at_k_divides_by_what_k_results_can_hold():
    np.testing.assert_allclose(
        metrics.average_precision_min_at(HAND, 3), [(1 / 2 + 2 / 3) / 3, (1 / 1 + 2 / 2) / 2, 0, 0], atol=NEAR
    )
    found = rankings("110", n_relevant=[3])
    np.testing.assert_allclose(metrics.average_precision_min_at(found, 2), [1], atol=NEAR)


def test_average_precision_at_r_looks_at_as_many_ranks_as_there_are_relevant_images():
    # R is 4: relevant at ranks 2 and 3, that at 5 does not count; R is 2: both; R is 3: none; R is 1: rank 10 is late.
    np.testing.assert_allclose(
        metrics.average_precision_at_r(HAND), [(1 / 2 + 2 / 3) / 4, (1 / 1 + 2 / 2) / 2, 0, 0], atol=NEAR
    )
    assert (metrics.average_precision_at_r(HAND) <= metrics.r_precision(HAND) + NEAR).all()


def test_the_trapezoid_takes_the_mean_of_the_precision_before_and_at():
    first = ((0 / 1 + 1 / 2) / 2 + (1 / 2 + 2 / 3) / 2 + (2 / 4 + 3 / 5) / 2) / 4
    second = ((1 + 1 / 1) / 2 + (1 / 1 + 2 / 2) / 2) / 2
    last = (0 / 9 + 1 / 10) / 2 / 1
    np.testing.assert_allclose(metrics.average_precision_trapezoid(HAND), [first, second, 0, last], atol=NEAR)


def test_reciprocal_rank_looks_at_the_first_relevant_image_alone():
    np.testing.assert_allclose(metrics.reciprocal_rank(HAND), [1 / 2, 1 / 1, 0, 1 / 10], atol=NEAR)


def test_ndcg_compares_with_every_relevant_image_first():
    found = 1 / math.log2(3) + 1 / math.log2(4) + 1 / math.log2(6)
    ideal_of_4 = 1 / math.log2(2) + 1 / math.log2(3) + 1 / math.log2(4) + 1 / math.log2(5)
    expected = [found / ideal_of_4, 1, 0, (1 / math.log2(11)) / 1]
    np.testing.assert_allclose(metrics.ndcg_at(HAND, 10), expected, atol=NEAR)
    # The ideal at 2 has two of the four, at ranks 1 and 2.
    expected_at_2 = (1 / math.log2(3)) / (1 / math.log2(2) + 1 / math.log2(3))
    np.testing.assert_allclose(metrics.ndcg_at(HAND, 2), [expected_at_2, 1, 0, 0], atol=NEAR)


def test_r_precision_looks_at_as_many_ranks_as_there_are_relevant_images():
    np.testing.assert_allclose(metrics.r_precision(HAND), [2 / 4, 2 / 2, 0 / 3, 0 / 1], atol=NEAR)


def test_n_s_score_counts_the_query_and_the_first_three():
    found = rankings("1110", "1010", "0001", "0000", n_relevant=[3, 3, 3, 3])
    assert metrics.n_s_score(found).tolist() == [1 + 3, 1 + 2, 1 + 0, 1 + 0]


def test_interpolated_precision_is_the_highest_from_that_recall_on():
    curve = metrics.interpolated_precision(HAND)
    assert curve.shape == (4, 101)
    # Recall 1/4 with precision 1/2, 2/4 with 2/3, 3/4 with 3/5, never 4/4: 2/3 up to 0.50, 3/5 up to 0.75, then 0.
    np.testing.assert_allclose(curve[0], [2 / 3] * 51 + [3 / 5] * 25 + [0] * 25, atol=NEAR)
    np.testing.assert_allclose(curve[1:], [[1] * 101, [0] * 101, [1 / 10] * 101], atol=NEAR)


def test_two_thirds_is_less_recall_than_0_67():
    curve = metrics.interpolated_precision(rankings("1101", n_relevant=[3]))
    np.testing.assert_allclose(curve[0], [1] * 67 + [3 / 4] * 34, atol=NEAR)


def test_precision_curve_is_precision_at_every_k():
    np.testing.assert_allclose(metrics.precision_curve(HAND, 4)[0], [0 / 1, 1 / 2, 2 / 3, 2 / 4], atol=NEAR)
    np.testing.assert_allclose(metrics.precision_curve(HAND, 12)[3], [0] * 9 + [1 / 10, 1 / 11, 1 / 12], atol=NEAR)


# Against trec_eval


def random_block(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """40 rankings from sparse to dense, some of a few images only, with relevant ones that are not ranked."""
    random = np.random.default_rng(seed)
    n_ranked = int(random.choice([1, 2, 7, 40, 300]))
    relevant = random.random((40, n_ranked)) < random.random((40, 1)) ** 2
    missed = random.integers(0, 4, 40)
    return relevant, np.maximum(relevant.sum(axis=1) + missed, 1)


def trec_eval(relevant: np.ndarray, n_relevant: np.ndarray, measures: set[str]) -> list[dict[str, float]]:
    """What trec_eval says of each row. Scores fall strictly, so that its own rule for equal ones plays no part."""
    judged, run = {}, {}
    for query, row in enumerate(relevant):
        missed = int(n_relevant[query] - row.sum())
        judged[str(query)] = {f"d{column}": int(mark) for column, mark in enumerate(row)}
        judged[str(query)] |= {f"missed{number}": 1 for number in range(missed)}
        run[str(query)] = {f"d{column}": float(len(row) - column) for column in range(len(row))}
    answers = pytrec_eval.RelevanceEvaluator(judged, measures).evaluate(run)
    return [answers[str(query)] for query in range(len(relevant))]


@pytest.mark.parametrize("seed", range(12))
def test_scores_are_those_of_trec_eval(seed: int):
    relevant, n_relevant = random_block(seed)
    cut = ",".join(map(str, CUTOFFS))
    answers = trec_eval(relevant, n_relevant, {*WITHOUT_K, *(f"{name}.{cut}" for name in WITH_K)})
    found = Rankings.from_relevance(relevant, n_relevant)
    scores = {name: metric(found) for name, metric in WITHOUT_K.items()}
    scores |= {f"{name}_{k}": metric(found, k) for name, metric in WITH_K.items() for k in CUTOFFS}
    for name, score in scores.items():
        np.testing.assert_allclose(score, [answer[name] for answer in answers], rtol=0, atol=NEAR, err_msg=name)


@pytest.mark.parametrize("seed", range(12))
def test_the_recall_curve_is_that_of_trec_eval(seed: int):
    relevant, n_relevant = random_block(seed)
    answers = trec_eval(relevant, n_relevant, {"iprec_at_recall"})
    curve = metrics.interpolated_precision(Rankings.from_relevance(relevant, n_relevant))
    n_compared = 0
    for query, answer in enumerate(answers):
        for tenth in range(11):
            # trec_eval truncates a sum of floats, which now and then asks for one image less than that recall takes.
            n_needed = -(-tenth * n_relevant[query] // 10)
            if int(tenth / 10 * n_relevant[query] + 0.9) == n_needed:
                assert curve[query, tenth * 10] == pytest.approx(answer[f"iprec_at_recall_{tenth / 10:.2f}"], abs=NEAR)
                n_compared += 1
    assert n_compared > 400


# Against plain loops


def trapezoid(row: list[bool], n_relevant: int) -> float:
    """The area under precision and recall as the revisited Oxford and Paris benchmarks define it, rank by rank."""
    area, n_found = 0.0, 0
    for rank, is_relevant in enumerate(row, start=1):
        if is_relevant:
            before = n_found / (rank - 1) if rank > 1 else 1.0
            n_found += 1
            area += (before + n_found / rank) / 2 * (1 / n_relevant)
    return area


def recall_curve(row: list[bool], n_relevant: int) -> list[float]:
    """The highest precision at any rank of a recall, in hundredths, or more."""
    points = [(100 * sum(row[:rank]), sum(row[:rank]) / rank) for rank in range(1, len(row) + 1)]
    return [max((at for recall, at in points if recall >= r * n_relevant), default=0.0) for r in range(101)]


@given(row=st.lists(st.booleans(), min_size=1, max_size=30), n_missed=st.integers(0, 5))
@example(row=[True] * 20, n_missed=0)
@example(row=[False] * 19 + [True], n_missed=0)
@example(row=[False] * 5, n_missed=1)
def test_areas_and_curves_equal_plain_loops(row: list[bool], n_missed: int):
    n_relevant = max(sum(row) + n_missed, 1)
    found = Rankings.from_relevance(np.array([row]), np.array([n_relevant]))
    area = metrics.average_precision_trapezoid(found)
    np.testing.assert_allclose(area, [trapezoid(row, n_relevant)], atol=NEAR)
    assert area[0] <= metrics.average_precision(found)[0] + NEAR
    np.testing.assert_allclose(
        metrics.interpolated_precision(found)[0], recall_curve(row, n_relevant), rtol=0, atol=NEAR
    )
    precisions = [sum(row[:k]) / k for k in range(1, 41)]
    np.testing.assert_allclose(metrics.precision_curve(found, 40)[0], precisions, rtol=0, atol=NEAR)


# Edges


def test_when_everything_is_relevant_every_score_is_the_best():
    found = rankings("11111", n_relevant=[5])
    assert [float(metric(found)[0]) for metric in SCORES if metric is not metrics.n_s_score] == [1.0] * 10
    assert metrics.n_s_score(found).tolist() == [4.0]
    assert all((curve(found) == 1).all() for curve in CURVES)


def test_a_query_is_scored_alone_whatever_stands_beside_it():
    relevant, n_relevant = random_block(3)
    block = Rankings.from_relevance(relevant, n_relevant)
    for metric in [*SCORES, *CURVES]:
        alone = [
            metric(Rankings.from_relevance(relevant[row : row + 1], n_relevant[row : row + 1]))[0] for row in range(40)
        ]
        np.testing.assert_allclose(metric(block), alone, rtol=0, atol=1e-15)


def test_what_is_moved_to_the_end_of_the_row_changes_nothing():
    short = rankings("0101", "1001", n_relevant=[3, 2])
    padded = rankings("01010000", "10010000", n_relevant=[3, 2])
    for metric in [*SCORES, *CURVES]:
        np.testing.assert_array_equal(metric(short), metric(padded))


@pytest.mark.parametrize("metric", [*SCORES, *CURVES])
def test_scores_are_float64_one_row_a_query(metric: Metric):
    assert metric(HAND).dtype == np.float64
    assert len(metric(HAND)) == 4
    nothing_ranked = Rankings.from_relevance(np.zeros((3, 0), bool), np.array([1, 2, 3]))
    assert metric(nothing_ranked).shape[0] == 3
    assert metric(Rankings.from_relevance(np.zeros((0, 7), bool), np.zeros(0, int))).shape[0] == 0


@pytest.mark.parametrize("metric", [*WITH_K.values(), metrics.average_precision_min_at, metrics.precision_curve])
@pytest.mark.parametrize("k", [0, -1])
def test_k_below_one_is_refused(metric: Callable[[Rankings, int], np.ndarray], k: int):
    with pytest.raises(ValueError, match=f"k is {k}"):
        metric(HAND, k)


@pytest.mark.parametrize(
    ("relevant", "n_relevant", "message"),
    [
        (np.zeros(5, bool), np.ones(5, int), r"relevant must be \(q, n\) bool, not \(5,\) bool"),
        (np.zeros((2, 5)), np.ones(2, int), r"bool, not \(2, 5\) float64"),
        (np.zeros((2, 5), bool), np.ones(3, int), r"n_relevant must be \(2,\)"),
        (np.zeros((2, 5), bool), np.ones(2), "int64, not .* float64"),
        (np.zeros((2, 5), bool), np.array([1, 0]), "query 1 has no relevant image"),
        (np.ones((2, 5), bool), np.array([5, 4]), "query 1 found 5 relevant images of 4"),
    ],
)
def test_rankings_that_cannot_be_are_refused(relevant: np.ndarray, n_relevant: np.ndarray, message: str):
    with pytest.raises(ValueError, match=message):
        Rankings.from_relevance(relevant, n_relevant)


# The ranking


def expected_order(row: np.ndarray, ignored: np.ndarray) -> list[int]:
    """By whether it is ignored, by falling rounded similarity where not, by position."""
    rounded = [0.0 if skip else -float(np.round(np.float64(s), 6)) for s, skip in zip(row, ignored, strict=True)]
    return sorted(range(len(row)), key=lambda position: (ignored[position], rounded[position], position))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_ranked", [1, 2, 127, 128, 129, 1000])
def test_the_order_is_by_rounded_similarity_then_by_position(dtype: type, n_ranked: int):
    random = np.random.default_rng(n_ranked)
    # Steps of half a millionth from a narrow range: many are equal once rounded and differ before.
    similarities = (random.integers(-300, 300, (20, n_ranked)) * 5e-7 + random.choice([-1, 0, 0.5, 1])).astype(dtype)
    similarities = similarities.clip(-1.0001, 1.0001, dtype=dtype)
    ignored = random.random((20, n_ranked)) < random.choice([0, 0.1, 0.9])
    order = rank_positions(similarities, ignored)
    assert order.dtype == np.int64
    assert order.tolist() == [expected_order(*row) for row in zip(similarities, ignored, strict=True)]


def test_less_than_half_a_millionth_is_no_difference_and_more_is_one():
    similarities = np.array([[0.5, 0.5000004, 0.5000006, 0.4999996, 0.4999994]])
    assert rank_positions(similarities).tolist() == [[2, 0, 1, 3, 4]]


def test_all_of_the_range_that_rounding_may_reach_is_put_in_order():
    similarities = np.array([[-1.0, 1.0, 0.0, 1.00009, -1.00009, -0.0]], np.float32)
    assert rank_positions(similarities).tolist() == [[3, 1, 2, 5, 0, 4]]


def test_ignored_images_come_last_by_position_even_behind_opposite_ones():
    similarities = np.array([[1.0, 0.2, -1.0001, 0.9, 0.3]])
    ignored = np.array([[True, False, False, True, False]])
    assert rank_positions(similarities, ignored).tolist() == [[4, 1, 2, 0, 3]]


def test_ranking_leaves_its_input_alone():
    similarities, ignored = np.array([[0.1, 0.3, 0.2]]), np.array([[False, True, False]])
    rank_positions(similarities, ignored)
    assert similarities.tolist() == [[0.1, 0.3, 0.2]]
    assert ignored.tolist() == [[False, True, False]]


def test_an_empty_database_has_an_empty_order():
    assert rank_positions(np.zeros((3, 0))).shape == (3, 0)
    assert rank_positions(np.zeros((0, 4))).shape == (0, 4)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1.1, -1.1])
def test_what_is_no_cosine_is_refused(value: float):
    with pytest.raises(ValueError, match="must be cosines"):
        rank_positions(np.array([[0.0, value, 0.5]]))


def test_similarities_and_ignored_ones_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"must be \(q, n\)"):
        rank_positions(np.zeros(3))
    with pytest.raises(ValueError, match=r"ignored must be \(2, 3\) bool, not \(3,\) bool"):
        rank_positions(np.zeros((2, 3)), np.zeros(3, bool))
    with pytest.raises(ValueError, match=r"bool, not .* int64"):
        rank_positions(np.zeros((2, 3)), np.zeros((2, 3), np.int64))
