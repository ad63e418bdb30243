"""Intervals and tests against SciPy, against all patterns of signs in plain Python, and against worked cases."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simsearch.evaluation.statistics import adjust_p_values, bootstrap_interval, compute_paired_p_value


def scores(n: int, seed: int = 0) -> np.ndarray:
    """Skewed like average precisions: many low ones, some of 1."""
    return np.random.default_rng(seed).beta(0.6, 0.9, n)


# Bootstrap


@pytest.mark.parametrize("confidence", [0.5, 0.95])
def test_the_interval_is_the_percentile_bootstrap_of_scipy(confidence: float):
    import scipy.stats

    values = scores(60)
    ours = bootstrap_interval(values, seed=1, confidence=confidence, n_resamples=40_000)
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, confidence_level=confidence, n_resamples=40_000, method="percentile", rng=2
    ).confidence_interval
    # Both are drawn at random: the standard error of a quantile of 40,000 means is below 1 % of their spread.
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=0.05 * values.std() / np.sqrt(60))


def test_the_interval_of_two_values_is_worked_by_hand():
    # Means 0, 1/2, 1 with chances 1/4, 1/2, 1/4: the middle 95 % reach from 0 to 1, the middle 30 % are 1/2 alone.
    values = np.array([0.0, 1.0])
    assert bootstrap_interval(values, seed=0) == (0.0, 1.0)
    assert bootstrap_interval(values, seed=0, confidence=0.3) == (0.5, 0.5)


def test_the_interval_holds_the_true_mean_about_as_often_as_it_says():
    held = 0
    for seed in range(400):
        low, high = bootstrap_interval(scores(80, seed), seed=seed, n_resamples=400)
        held += low <= 0.6 / (0.6 + 0.9) <= high
    # 380 are expected; a chance of 0.95 strays less than 20 from that in 400 tries, and the bootstrap is a bit narrow.
    assert 355 <= held <= 396


def test_equal_values_and_a_single_one_give_no_width():
    assert bootstrap_interval(np.full(7, 0.25), seed=0) == (0.25, 0.25)
    assert bootstrap_interval(np.array([0.3]), seed=0) == (0.3, 0.3)


def test_the_same_seed_draws_the_same_queries_whatever_the_values():
    values = scores(50)
    low, high = bootstrap_interval(values, seed=3)
    assert (low, high) == bootstrap_interval(values, seed=3)
    assert (low, high) != bootstrap_interval(values, seed=4)
    np.testing.assert_allclose(bootstrap_interval(values / 2 + 0.1, seed=3), (low / 2 + 0.1, high / 2 + 0.1))


def test_many_queries_stay_within_a_block_of_memory():
    values = scores(50_000)
    tracemalloc.start()
    low, high = bootstrap_interval(values, seed=0, n_resamples=500)
    compute_paired_p_value(values, values[::-1], seed=0, n_resamples=500)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 64 << 20  # 500 x 50,000 float64 would be 200 MB
    assert low < values.mean() < high


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (np.array([]), {}, "at least one"),
        (np.zeros((2, 2)), {}, "at least one"),
        (np.array([0.5, np.nan]), {}, "finite"),
        (np.array([0.5]), {"confidence": 1.0}, "confidence is 1.0"),
        (np.array([0.5]), {"confidence": 0}, "confidence is 0"),
        (np.array([0.5]), {"n_resamples": 0}, "n_resamples is 0"),
    ],
)
def test_an_interval_of_nothing_is_refused(values: np.ndarray, options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(values, seed=0, **options)


# Paired test


def every_pattern(a: list[float], b: list[float]) -> float:
    """The share of all ways to swap the scores of queries whose means differ as much, in whole numbers."""
    differences = [x - y for x, y in zip(a, b, strict=True)]
    sums = [
        abs(sum(sign * difference for sign, difference in zip(signs, differences, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    return sum(total >= abs(sum(differences)) for total in sums) / len(sums)


WHOLE = st.integers(-4, 4)


@given(st.lists(st.tuples(WHOLE, WHOLE), min_size=1, max_size=9))
def test_few_queries_are_tested_over_every_pattern_of_signs(pairs: list[tuple[int, int]]):
    a, b = (list(map(float, column)) for column in zip(*pairs, strict=True))
    assert compute_paired_p_value(np.array(a), np.array(b), seed=0) == every_pattern(a, b)
    # Tenths are no exact floats: sums that are equal but for rounding still count.
    assert compute_paired_p_value(np.array(a) / 10, np.array(b) / 10, seed=0) == every_pattern(a, b)


def test_three_queries_that_all_improve_are_worked_by_hand():
    # Of 8 patterns of signs two have all three differences in one direction: 2/8.
    assert compute_paired_p_value(np.array([0.5, 0.6, 0.9]), np.array([0.4, 0.2, 0.1]), seed=0) == 2 / 8


@pytest.mark.parametrize("n", [8, 13])
def test_the_exact_p_is_that_of_scipy(n: int):
    import scipy.stats

    a, b = scores(n), scores(n, seed=1) * 0.8
    theirs = scipy.stats.permutation_test(
        (a, b), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples", n_resamples=np.inf
    )
    assert compute_paired_p_value(a, b, seed=0) == pytest.approx(theirs.pvalue, abs=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.02, 0.06])
def test_the_drawn_p_is_near_that_of_scipy(shift: float):
    import scipy.stats

    a = scores(70)
    b = a - shift + np.random.default_rng(5).normal(0, 0.15, 70)
    theirs = scipy.stats.permutation_test(
        (a, b),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        n_resamples=20_000,
        rng=np.random.default_rng(6),
    )
    # The standard error of a share of 20,000 draws is at most 0.0035, that of the difference of two 0.005.
    assert compute_paired_p_value(a, b, seed=0, n_resamples=20_000) == pytest.approx(theirs.pvalue, abs=0.02)


def test_equal_scores_give_one_however_many():
    for n in (1, 5, 500):
        assert compute_paired_p_value(scores(n), scores(n), seed=0) == 1.0


def test_a_clear_difference_gives_the_least_p_that_draws_can_show():
    a = scores(200)
    assert compute_paired_p_value(a + 0.1, a, seed=0, n_resamples=999) == 1 / 1000


def test_it_is_two_sided_and_repeats():
    a, b = scores(40), scores(40, seed=1)
    assert (
        compute_paired_p_value(a, b, seed=7)
        == compute_paired_p_value(b, a, seed=7)
        == compute_paired_p_value(a, b, seed=7)
    )


def test_queries_on_which_both_are_equal_say_nothing():
    a, b = scores(10), scores(10, seed=1)
    same = scores(300, seed=2)
    alone = compute_paired_p_value(a, b, seed=0)
    assert compute_paired_p_value(np.concatenate([same, a]), np.concatenate([same, b]), seed=0) == alone


def test_without_any_difference_p_is_spread_evenly():
    import scipy.stats

    drawn = np.random.default_rng(8)
    found = [compute_paired_p_value(*drawn.normal(size=(2, 20)), seed=seed, n_resamples=400) for seed in range(400)]
    assert scipy.stats.kstest(found, "uniform").pvalue > 0.01


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.zeros(3), np.zeros(4), "same queries"),
        (np.zeros(0), np.zeros(0), "at least one"),
        (np.zeros((2, 2)), np.zeros((2, 2)), "at least one"),
        (np.zeros(2), np.array([0.0, np.inf]), "finite"),
    ],
)
def test_scores_that_cannot_be_compared_are_refused(a: np.ndarray, b: np.ndarray, message: str):
    with pytest.raises(ValueError, match=message):
        compute_paired_p_value(a, b, seed=0)


def test_a_test_without_draws_is_refused():
    with pytest.raises(ValueError, match="n_resamples is 0"):
        compute_paired_p_value(np.zeros(2), np.ones(2), seed=0, n_resamples=0)


# Holm


def test_holm_is_worked_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1: 0.04, 0.06, 0.06, 0.04, and the last not below the one before.
    np.testing.assert_allclose(adjust_p_values(np.array([0.03, 0.01, 0.04, 0.02])), [0.06, 0.04, 0.06, 0.06])
    np.testing.assert_allclose(adjust_p_values(np.array([0.5, 0.9])), [1.0, 1.0])
    np.testing.assert_allclose(adjust_p_values(np.array([0.2])), [0.2])
    assert adjust_p_values(np.array([])).shape == (0,)


@given(st.lists(st.integers(0, 64).map(lambda part: part / 64), min_size=1, max_size=8), st.integers(1, 63))
def test_holm_rejects_what_its_procedure_rejects(p_values: list[float], part: int):
    """The procedure of the paper: from the smallest p on, while p is at most alpha / (how many are left)."""
    alpha = part / 64
    rejected = set()
    for n_before, number in enumerate(sorted(range(len(p_values)), key=lambda number: p_values[number])):
        if p_values[number] * (len(p_values) - n_before) > alpha:
            break
        rejected.add(number)
    assert set(np.flatnonzero(adjust_p_values(np.array(p_values)) <= alpha)) == rejected


@pytest.mark.parametrize("p_values", [[0.5, 1.5], [-0.1], [np.nan], [[0.5]]])
def test_what_is_no_p_value_is_refused(p_values: list):
    with pytest.raises(ValueError, match="from 0 to 1"):
        adjust_p_values(np.array(p_values))
