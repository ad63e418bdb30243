"""Plots, as SVG and PNG."""

from __future__ import annotations

import io
import math
import subprocess
import sys
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from PIL import Image

from simsearch.evaluation.results import BenchmarkResult
from simsearch.report.benchmark.inline_svg import inline_svg
from simsearch.report.benchmark.plots import Plot, draw_plots
from tests.support.benchmarks import benchmark, cost, robustness, row

ALL = ["quality_speed", "precision_recall", "precision_at_k", "per_class", "robustness"]


def _texts(svg: str) -> list[str]:
    return [
        "".join(element.itertext()) for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("text")
    ]


def test_everything_that_was_measured_is_drawn(plots: tuple[Plot, ...]):
    assert [plot.name for plot in plots] == ALL
    for plot in plots:
        picture = Image.open(io.BytesIO(plot.png))
        assert picture.width > 600
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 20


def test_names_are_written_as_they_are(plots: tuple[Plot, ...]):
    by_name = {plot.name: _texts(plot.svg) for plot in plots}
    assert 'be<ta>"$x_1$"' in by_name["quality_speed"]
    assert "alpha pca256+dba5" in by_name["precision_recall"]
    assert {"<b>vase</b>", "$x_1$ | `pot`", "猫", "line break"} <= set(by_name["per_class"])


def test_every_row_is_named(plots: tuple[Plot, ...], awkward: BenchmarkResult):
    assert {found.name for found in awkward.rows} <= set(_texts(plots[0].svg))


def test_beyond_eight_rows_a_legend_names_every_row_and_the_best_first():
    rows = [row(f"backbone{number}", 0.9 - number / 50, p_value=0.01, speed=10.0 + number) for number in range(12)]
    shown = [text for text in _texts(draw_plots(benchmark(*rows))[0].svg) if text.startswith("backbone")]
    assert shown == [found.name for found in rows]


def test_names_that_would_cover_each_other_go_to_a_legend():
    apart = [row("alpha", 0.7, speed=10), row("beta", 0.6, speed=40)]
    close = [row(f"a long name {number}", 0.7 + number / 1000, speed=10) for number in range(4)]
    far = [row("elsewhere", 0.2, speed=100)]
    beside, legend = (draw_plots(benchmark(*rows))[0] for rows in (apart, [*close, *far]))
    assert "legend" not in beside.svg
    assert "legend" in legend.svg
    assert {found.name for found in close} <= set(_texts(legend.svg))


def test_the_same_benchmark_gives_the_same_files(plots: tuple[Plot, ...], awkward: BenchmarkResult):
    assert draw_plots(awkward) == plots


def test_what_was_not_measured_is_not_drawn():
    bare = replace(row("alpha", 0.7), per_class={}, cost=cost(math.nan))
    assert [plot.name for plot in draw_plots(benchmark(bare))] == ["precision_recall", "precision_at_k"]


@pytest.mark.parametrize("n_rows", [1, 2, 30])
def test_any_number_of_rows_can_be_drawn(n_rows: int):
    rows = [
        row(f"backbone{number} x", 0.5 + number / 100, p_value=0.01, speed=10.0 + number) for number in range(n_rows)
    ]
    drawn = draw_plots(benchmark(*rows))
    assert rows[-1].name in _texts(drawn[0].svg)


def test_one_answer_and_one_class_can_be_drawn():
    narrow = row("alpha", 1.0)
    narrow = replace(narrow, precision_at=narrow.precision_at[:1], per_class={"only": 1.0})
    made = benchmark(narrow, robustness=tuple(robustness("alpha", {0: math.nan})))
    assert [plot.name for plot in draw_plots(made)] == ALL


def test_in_a_page_colours_follow_the_page_and_ids_meet_no_others(plots: tuple[Plot, ...]):
    seen: set[str] = set()
    for plot in plots[:4]:
        root = ElementTree.fromstring(inline_svg(plot))
        ids = [element.get("id") for element in root.iter() if element.get("id")]
        assert len(ids) == len(set(ids))
        assert not seen & set(ids)
        seen |= set(ids)
        attributes = [value for element in root.iter() for value in element.attrib.values()]
        links = [value.split("#")[1].rstrip(")") for value in attributes if "url(#" in value or value.startswith("#")]
        assert {link.split(")")[0] for link in links} <= set(ids)
        assert any("var(--faint)" in value for value in attributes)
        assert "#6b7280" not in inline_svg(plot)
    assert root.get("aria-label") == "mAP by class"


def test_drawing_touches_no_state_of_pyplot():
    code = "import sys, simsearch.report.benchmark.plots; print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
