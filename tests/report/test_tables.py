"""The table of the terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from simsearch.evaluation.results import Benchmark
from simsearch.report.tables import terminal_table
from tests.report.benchmarks import benchmark, row


def _printed(made: Benchmark, width: int = 100, *, colours: bool = False) -> str:
    file = io.StringIO()
    Console(file=file, width=width, force_terminal=colours, color_system="standard" if colours else None).print(
        terminal_table(made)
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
    assert "paired randomisation test over 3 queries, Holm-corrected" in said
    assert "randomisation" not in _printed(benchmark(row("alpha", 0.7)))


@pytest.mark.parametrize("width", [100, 120])
def test_numbers_are_whole_at_the_width_of_a_terminal_whatever_the_names(width: int, awkward: Benchmark):
    long = row("omega " + "x" * 120, 0.44, p_value=0.0001, speed=12345)
    printed = _printed(benchmark(*awkward.rows, long), width)
    assert "…" not in printed
    for number in ("0.440", "0.390-0.490", "12,345", "< 0.001", "1.0 kB"):
        assert number in printed
    assert max(map(len, printed.splitlines())) <= width


def test_names_are_no_markup():
    printed = _printed(benchmark(row("[red]alpha[/red]", 0.7), row("\x1b[31mbeta", 0.6, p_value=0.2)))
    assert "[red]alpha[/red]" in printed
    assert "\x1b" not in printed


def test_the_best_row_and_the_best_values_are_bold():
    printed = _printed(benchmark(row("alpha", 0.7), row("beta", 0.6, p_value=0.2)), colours=True)
    assert "\x1b[1malpha" in printed
    assert "\x1b[1mbeta" not in printed
    assert "\x1b[1m0.600" not in printed
