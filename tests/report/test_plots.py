"""Plots, as SVG and PNG."""

from __future__ import annotations

import io
import math
import subprocess
import sys
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from simsearch.evaluation.results import BenchmarkResult, BenchmarkRow
from simsearch.report.benchmark.inline_svg import inline_svg
from simsearch.report.benchmark.plots import Plot, draw_plots
from simsearch.report.benchmark.point_labels import PointStack, label_stacks
from tests.support.benchmarks import benchmark, cost, robustness, row

pytestmark = pytest.mark.long

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


def shown_in_quality_speed(*rows: BenchmarkRow) -> list[str]:
    return _texts(draw_plots(benchmark(*rows))[0].svg)


def steps_of(backbone: str, quality: float, speed: float, n: int = 4) -> list[BenchmarkRow]:
    """Rows of one backbone with ever more re-ranking, at one speed."""
    names = [f"{backbone} {step}".strip() for step in ("", "pca256", "pca256+dba5", "pca256+dba5+aqe5")[:n]]
    rows = [row(name, quality + at / 100, p_value=0.01, speed=speed) for at, name in enumerate(names)]
    return [replace(found, backbone=backbone) for found in rows]


def test_every_backbone_is_named_once_and_every_point_has_the_number_of_its_step():
    rows = [*steps_of("alpha", 0.6, 200), *steps_of("beta", 0.5, 400), *steps_of("gamma", 0.1, 900, n=2)]
    shown = shown_in_quality_speed(*rows)
    assert [text for text in shown if text in ("alpha", "beta", "gamma")] == ["alpha", "beta", "gamma"]
    numbers = [text for text in shown if text in ("1", "2", "3", "4")]
    assert sorted(numbers) == sorted("1234" * 2 + "12")
    assert "steps: 1 plain 2 pca256 3 pca256+dba5 4 pca256+dba5+aqe5" in [" ".join(text.split()) for text in shown]


def test_a_plot_of_one_row_for_each_backbone_has_names_alone():
    shown = shown_in_quality_speed(row("alpha", 0.7, speed=10), row("beta", 0.6, speed=40))
    assert {"alpha", "beta"} <= set(shown)
    assert not any(text.startswith("steps") or text == "1" for text in shown)


@pytest.mark.parametrize("n_backbones", [2, 8, 12])
def test_labels_cover_neither_each_other_nor_the_points(n_backbones: int):
    """The boxes of all texts and points of a figure, as matplotlib measures them."""
    random = np.random.default_rng(n_backbones)
    rows = [
        found
        for number in range(n_backbones)
        for found in steps_of(f"backbone_{number}", 0.3 + 0.5 * random.random(), 10 ** (1 + 1.8 * random.random()))
    ]
    figure, axes = Figure(figsize=(7.4, 4.6)), None
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xscale="log", xlim=(5, 2000), ylim=(0.2, 0.95))
    stacks = [
        PointStack(
            name, number, [(r.cost.images_per_second, r.scores["map"].mean) for r in rows[4 * number :][:4]], "1234"
        )
        for number, name in enumerate(dict.fromkeys(r.backbone for r in rows))
    ]
    label_stacks(figure, axes, stacks, ["#000000"] * n_backbones)
    texts = [text for text in axes.texts if text.get_text()]
    assert [text.get_text() for text in texts if len(text.get_text()) > 1] == [stack.name for stack in stacks]
    boxes = [text.get_window_extent() for text in texts if len(text.get_text()) > 1]
    n_covered = sum(bool(box.count_overlaps(boxes[at + 1 :])) for at, box in enumerate(boxes))
    points = [axes.transData.transform(point) for stack in stacks for point in stack.points]
    assert n_covered == 0
    assert not any(box.contains(*point) for box in boxes for point in points)


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
    assert {found.backbone for found in rows} <= set(_texts(drawn[0].svg))


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
