"""The table of the terminal."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from simsearch.evaluation.results import BenchmarkResult
from simsearch.report.benchmark.terminal import build_terminal_table
from tests.support.benchmarks import benchmark, row


def _printed(made: BenchmarkResult, width: int = 100, *, colours: bool = False) -> str:
    file = io.StringIO()
    Console(file=file, width=width, force_terminal=colours, color_system="standard" if colours else None).print(
        build_terminal_table(made, width)
    )
    return file.getvalue()


def test_rows_are_ranked_and_the_tied_ones_marked():
    rows = [row("gamma", 0.4, p_value=0.0001), row("beta", 0.69, p_value=0.31), row("alpha", 0.7)]
    lines = _printed(benchmark(*rows)).splitlines()
    first, second, third = (line for line in lines if line.strip().startswith(("alpha", "beta", "gamma")))
    assert "alpha" in first
    assert "0.700  0.650-0.750" in first
    assert "0.690 ~" in second
    assert "0.31" in second
    assert "~" not in third
    assert "< 0.001" in third


def test_the_test_and_the_mark_are_explained_where_something_is_compared():
    said = " ".join(_printed(benchmark(row("alpha", 0.7), row("beta", 0.6, p_value=0.2))).split())
    assert "~: tied, not significantly different from the best in mAP (p >= 0.05)" in said
    assert "paired randomization test over 3 queries, Holm-corrected" in said
    assert "randomization" not in _printed(benchmark(row("alpha", 0.7)))


@pytest.mark.parametrize("width", [100, 120])
def test_numbers_are_whole_at_the_width_of_a_terminal_whatever_the_names(width: int, awkward: BenchmarkResult):
    long = row("omega " + "x" * 120, 0.44, p_value=0.0001, speed=12345)
    printed = _printed(benchmark(*awkward.rows, long), width)
    assert "…" not in printed
    for number in ("0.440", "0.390-0.490", "12,345", "< 0.001", "1.0 kB"):
        assert number in printed
    assert max(map(len, printed.splitlines())) <= width


LONG = "mobilenet_v2 pca256+dba5+aqe5+k-reciprocal20"
_WORD = st.text("abcdefghij_", min_size=1, max_size=14)
_NAME = st.builds(
    lambda words, improvements: " ".join([*words, "+".join(improvements)]),
    st.lists(_WORD, min_size=1, max_size=3),
    st.lists(st.sampled_from(["pca256", "whiten256", "dba5", "aqe5", "k-reciprocal20"]), min_size=1, max_size=4),
)


@given(st.lists(_NAME, min_size=1, max_size=4, unique=True), st.integers(80, 140))
def test_from_80_columns_on_no_name_is_wrapped_inside_a_word(names: list[str], width: int):
    printed = _printed(benchmark(*(row(name, 0.5, p_value=0.04, speed=12345) for name in names)), width)
    lines = printed.splitlines()
    assert max(map(len, lines)) <= width
    table = lines[: next((at for at, line in enumerate(lines) if line.startswith("bold")), len(lines))]
    words = {word for line in table for word in line.split()}
    for name in names:
        for word in re.split(r" |(?<=\+)", name):
            assert any(word in shown for shown in words), (word, printed)


@pytest.mark.parametrize(
    ("width", "gone"),
    [(80, ("95 %", "memory", " d ")), (86, ("95 %", "memory")), (95, ("95 %",)), (120, ())],
)
def test_the_least_needed_columns_give_way_to_names(width: int, gone: tuple[str, ...]):
    rows = [row(LONG, 0.7), row("histogram " + "w" * 28, 0.5, p_value=0.0004, speed=12345)]
    printed = _printed(benchmark(*rows), width)
    assert [head for head in ("95 %", "memory", " d ") if head not in printed] == list(gone)
    for always in ("mAP", "P@1", "P@10", "query", "12,345", "< 0.001"):
        assert always in printed


def test_short_names_in_80_columns_cost_the_interval_alone():
    printed = _printed(benchmark(row("builtin", 0.7), row("histogram", 0.6, p_value=0.2)), 80)
    assert [head for head in ("95 %", "memory", " d ", "query") if head not in printed] == ["95 %"]
    assert "95 %" in _printed(benchmark(row("builtin", 0.7), row("histogram", 0.6, p_value=0.2)), 90)


def test_a_word_longer_than_any_room_is_cut_and_costs_no_column():
    printed = _printed(benchmark(row("histogram", 0.7), row("x" * 200, 0.6, p_value=0.2)), 90)
    assert "95 %" in printed
    assert printed.count("x") == 200


def test_the_views_of_a_name_stay_beside_their_number():
    printed = _printed(benchmark(row("mobilenet_v2 block_16_project +4 views pca256+dba5", 0.7)), 80)
    assert "+4 views" in printed


def test_names_are_no_markup():
    printed = _printed(benchmark(row("[red]alpha[/red]", 0.7), row("\x1b[31mbeta", 0.6, p_value=0.2)))
    assert "[red]alpha[/red]" in printed
    assert "\x1b" not in printed


def test_the_best_row_and_the_best_values_are_bold():
    printed = _printed(benchmark(row("alpha", 0.7), row("beta", 0.6, p_value=0.2)), colours=True)
    assert "\x1b[1malpha" in printed
    assert "\x1b[1mbeta" not in printed
    assert "\x1b[1m0.600" not in printed
