"""How names, metrics and numbers are put."""

from __future__ import annotations

import math

import pytest

from simsearch.report.format import (
    NO_VALUE,
    describe_metric,
    format_difference,
    format_duration,
    format_metric,
    format_number,
    format_p_value,
    format_parameter_count,
    format_score,
    format_share,
)
from simsearch.text import clean_text, format_size, join_names, shorten_path
from tests.support.benchmarks import NOT_UTF8


def test_text_is_cleaned_of_what_no_file_page_or_terminal_takes():
    assert clean_text("a\x00b\x1b[31mc\nd\te") == "a\ufffdb\ufffd[31mc d e"
    assert clean_text(NOT_UTF8) == "caf\ufffd.png"
    assert clean_text("\u202egnp.exe \ud800") == "\ufffdgnp.exe \ufffd"
    assert clean_text("Vögel/猫/🐈") == "Vögel/猫/🐈"


def test_a_path_is_shown_by_its_name_and_folder():
    assert shorten_path("/a/b/c/d.jpg") == "c/d.jpg"
    assert shorten_path("d.jpg") == "d.jpg"


@pytest.mark.parametrize(
    ("metric", "label"),
    [
        ("map", "mAP"),
        ("map_at_10", "mAP@10"),
        ("p_at_1", "P@1"),
        ("recall_at_10", "recall@10"),
        ("map_min_at_100", "mAP_min@100"),
        ("map_at_r", "mAP@R"),
        ("hit_at_5", "hit@5"),
        ("ndcg_at_10", "nDCG@10"),
        ("mrr", "MRR"),
        ("r_precision", "R-precision"),
        ("ns", "N-S"),
        ("map_hard", "mAP hard"),
        ("map_at_10_medium", "mAP@10 medium"),
        ("mapping", "mapping"),
    ],
)
def test_metrics_are_called_what_the_literature_calls_them(metric: str, label: str):
    assert format_metric(metric) == label


def test_every_metric_that_has_a_label_has_a_meaning():
    for metric in ("map", "p_at_1", "recall_at_10", "hit_at_1", "ndcg_at_10", "mrr", "r_precision", "ns"):
        assert format_metric(metric) != metric
        assert describe_metric(metric)
    assert describe_metric("something") == ""


def test_a_p_value_is_never_rounded_over_a_bound():
    assert format_p_value(0.0499) == "p = 0.050"
    assert format_p_value(0.00099) == "p < 0.001"
    assert format_p_value(0.31) == "p = 0.31"
    assert format_p_value(1.0) == "p = 1.00"


def test_a_difference_has_a_sign_unless_it_is_nothing():
    assert format_difference(-0.0516) == "\N{MINUS SIGN}0.052"
    assert format_difference(0.1) == "+0.100"
    assert format_difference(-0.0001) == "0.000"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.865, "86.5 %"),
        (1.0, "100 %"),
        (0.0, "0 %"),
        (0.99999, "over 99.9 %"),
        (0.00001, "under 0.1 %"),
        (0.5, "50 %"),
    ],
)
def test_a_share_that_is_not_all_is_not_shown_as_all(value: float, shown: str):
    assert format_share(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1130.4, "1,130"), (99.96, "100"), (23.41, "23.4"), (9.996, "10.0"), (4.712, "4.71"), (0.0, "0.00")],
)
def test_amounts_have_three_digits_that_count(value: float, shown: str):
    assert format_number(value) == shown


def test_sizes_parameters_and_durations_have_units():
    assert [format_size(value) for value in (999, 1032, 9.13e6)] == ["999 B", "1.0 kB", "9.1 MB"]
    assert [format_parameter_count(value) for value in (768, 810_000, 2_257_984)] == ["768", "810 k", "2.26 M"]
    assert [format_duration(value) for value in (4.21, 59.99, 93.4, 7500)] == [
        "4.2 s",
        "60.0 s",
        "1 min 33 s",
        "2 h 5 min",
    ]


def test_what_is_no_number_is_a_dash():
    shown = [
        format_score,
        format_difference,
        format_p_value,
        format_share,
        format_number,
        format_size,
    ]
    assert {function(math.nan) for function in shown} == {NO_VALUE}


def test_long_lists_end_in_how_many_others():
    assert join_names(["a"]) == "a"
    assert join_names(["a", "b"]) == "a and b"
    assert join_names(["a", "b", "c", "d"]) == "a, b, c and d"
    assert join_names(["a", "b", "c", "d", "e"]) == "a, b, c and 2 others"
