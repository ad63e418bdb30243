"""The plots of a benchmark as SVG and PNG. The state of pyplot is not touched."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, NullFormatter
from numpy.typing import NDArray

from simsearch.evaluation.results import BenchmarkResult, BenchmarkRow
from simsearch.files import OUTPUT_MARK
from simsearch.report.benchmark.findings import (
    find_pareto_front,
    group_series,
    has_speed,
    rank_rows,
    select_extreme_classes,
)
from simsearch.report.benchmark.point_labels import PointStack, label_stacks
from simsearch.report.benchmark.robustness import RobustnessGrid, build_robustness_grid, describe_change
from simsearch.report.format import format_metric, format_number
from simsearch.text import clean_text, shorten_text

Point = tuple[float, float]

PAPER, INK, FAINT, RULE = "#ffffff", "#1d1f23", "#6b7280", "#e2e5e9"
PALETTE = ("#2f6f8f", "#c8643c", "#5b8a3c", "#8a5a9e", "#b8902a", "#3c8f86", "#a84a68")
"""Colors of the series, the best series first; the series after them have `OTHER_COLOR`."""
OTHER_COLOR = "#8b929c"

_MARKERS = "osD^vPX"
_DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 1.6)),
    (0, (1.4, 1.2)),
    (0, (6, 1.5, 1.4, 1.5)),
    (0, (3, 1)),
    (0, (8, 2)),
    (0, (1, 2)),
)
_KEY_LINE_IN = 0.22
_KEY_LINE_LENGTH = 100
_MAX_NAME_LENGTH = 40
_MAX_MARKED_SERIES = 4
_SOFTWARE = f"simsearch ({OUTPUT_MARK})"
_PNG_DPI = 160
_FALLBACK_FONTS = ("Noto Sans CJK JP", "Noto Sans CJK SC", "Hiragino Sans", "Microsoft YaHei", "Malgun Gothic")
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: small, searchable, and in the font of the page
    "text.parse_math": False,  # a dollar sign in a name is no formula
    "font.size": 10.0,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": FAINT,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
}


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot: the name of its files, its title, an SVG document and a PNG."""

    name: str
    title: str
    svg: str
    png: bytes


def draw_plots(benchmark: BenchmarkResult) -> tuple[Plot, ...]:
    """Draw the plots that the benchmark has data for, in a fixed order; equal benchmarks give equal bytes."""
    with matplotlib.rc_context({**_STYLE, "font.family": _find_font_families()}), warnings.catch_warnings():
        # In a script without an installed font, a name is boxes in the PNG and correct in the SVG.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        return tuple(Plot(name, title, *_save_figure(figure, name)) for name, title, figure in _draw_figures(benchmark))


def _find_font_families() -> list[str]:
    installed = set(font_manager.get_font_names())
    return ["DejaVu Sans", *(name for name in _FALLBACK_FONTS if name in installed)]


def _draw_figures(benchmark: BenchmarkResult) -> Iterator[tuple[str, str, Figure]]:
    label = format_metric(benchmark.main_metric)
    if any(has_speed(row) for row in benchmark.rows):
        yield "quality_speed", f"{label} against images indexed per second", _draw_quality_speed(benchmark)
    yield "precision_recall", "Precision against recall", _draw_precision_recall(benchmark)
    yield "precision_at_k", "Precision at k", _draw_precision_at_k(benchmark)
    if benchmark.best.per_class:
        yield "per_class", f"{label} by class", _draw_per_class(benchmark)
    if benchmark.robustness:
        yield (
            "robustness",
            "Similarity to the original, and share found first, after changes of the image",
            _draw_robustness(benchmark),
        )


def _save_figure(figure: Figure, name: str) -> tuple[str, bytes]:
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # the layout is final, and computing it again is slow
    svg, png = io.StringIO(), io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):  # fixed ids
        figure.savefig(
            svg, format="svg", metadata={"Date": None, "Creator": f"simsearch ({OUTPUT_MARK})"}, transparent=True
        )
    figure.savefig(png, format="png", dpi=_PNG_DPI, facecolor=PAPER, metadata={"Software": _SOFTWARE})
    return svg.getvalue(), png.getvalue()


def _make_figure(width_in: float, height_in: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="y", color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", length=0)
    return figure, axes


def _set_titles(axes: Axes, x_title: str, y_title: str) -> None:
    """Title the axes; the title of the vertical axis is written horizontally above it."""
    axes.set_xlabel(x_title)
    axes.set_title(y_title, loc="left", fontsize=10, color=FAINT, pad=10)


def _choose_color(number: int) -> str:
    return PALETTE[number] if number < len(PALETTE) else OTHER_COLOR


def _choose_marker_style(series: int, member: int = 0) -> dict[str, Any]:
    """A series has a color, and its rows have different markers."""
    marker = _MARKERS[(series + member) % len(_MARKERS)]
    return {"color": _choose_color(series), "marker": marker, "edgecolor": PAPER, "linewidth": 0.8, "zorder": 3}


def _format_row_name(row: BenchmarkRow) -> str:
    return shorten_text(clean_text(row.name), _MAX_NAME_LENGTH)


def _draw_quality_speed(benchmark: BenchmarkResult) -> Figure:
    """Quality against speed: every backbone is named once, and its rows have the numbers of their steps.

    The key of the numbers is below the plot; without several steps there are neither.
    """
    rows = [row for row in rank_rows(benchmark) if has_speed(row)]
    steps = list(dict.fromkeys(_name_step(row) for row in benchmark.rows if has_speed(row)))
    key = _wrap_key(steps) if len(steps) > 1 else []
    figure, axes = _make_figure(7.4, 4.6 + _KEY_LINE_IN * len(key))
    front = [_locate_row(row, benchmark.main_metric) for row in find_pareto_front(rows, benchmark.main_metric)]
    axes.plot(*zip(*front, strict=True), color=FAINT, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    backbones = list(dict.fromkeys(row.backbone for row in rows))
    stacks = []
    for number, backbone in enumerate(backbones):
        members = [row for row in benchmark.rows if row.backbone == backbone and has_speed(row)]
        points = [_locate_row(row, benchmark.main_metric) for row in members]
        axes.plot(*zip(*points, strict=True), color=_choose_color(number), linewidth=1, alpha=0.4, zorder=2)
        across, up = zip(*points, strict=True)
        axes.scatter(across, up, s=44, **_choose_marker_style(number))
        numbers = [str(steps.index(_name_step(row)) + 1) if key else "" for row in members]
        stacks.append(PointStack(shorten_text(clean_text(backbone), _MAX_NAME_LENGTH), number, points, numbers))
    axes.set_xscale("log")
    _set_limits(axes, [_locate_row(row, benchmark.main_metric) for row in rows])
    _set_titles(
        axes,
        "images/s, from files to stored vectors",
        f"{format_metric(benchmark.main_metric)} (up and to the right is better)",
    )
    if key:
        bottom = _KEY_LINE_IN * len(key) / figure.get_figheight()
        figure.set_layout_engine(ConstrainedLayoutEngine(rect=(0, bottom, 1, 1 - bottom)))
        figure.text(0.01, 0.005, "\n".join(key), fontsize=9, color=INK, va="bottom", linespacing=1.35)
    label_stacks(figure, axes, stacks, [_choose_color(stack.series) for stack in stacks])
    return figure


def _name_step(row: BenchmarkRow) -> str:
    """Name what a row has beside its backbone: precision, layer, pooling, views, re-ranking."""
    return shorten_text(clean_text(row.name.removeprefix(row.backbone).strip()), _MAX_NAME_LENGTH) or "plain"


def _wrap_key(steps: Sequence[str]) -> list[str]:
    """Write the numbered steps in lines."""
    lines = ["steps:"]
    for number, step in enumerate(steps, 1):
        entry = f"{number} {step}"
        if len(lines[-1]) + len(entry) > _KEY_LINE_LENGTH:
            lines.append("")
        lines[-1] += f"     {entry}"
    return lines


def _locate_row(row: BenchmarkRow, metric: str) -> Point:
    return row.cost.images_per_second, row.scores[metric].mean


def _set_limits(axes: Axes, points: Sequence[Point]) -> None:
    """Leave room for names right of the points, and label the logarithmic axis with plain numbers."""
    across, up = zip(*points, strict=True)
    axes.set_xlim(min(across) / 1.5, max(max(across) * 1.9, min(across) * 4))
    margin = max(0.02, 0.12 * (max(up) - min(up)))
    axes.set_ylim(min(up) - margin, max(up) + margin)
    left, right = axes.get_xlim()
    powers = range(math.floor(math.log10(left)), math.ceil(math.log10(right)) + 1)
    ticks = [base * 10.0**power for power in powers for base in (1, 2, 5)]
    axes.set_xticks([tick for tick in ticks if left <= tick <= right])
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else format_number(value))
    )
    axes.xaxis.set_minor_formatter(NullFormatter())


def _draw_curves(axes: Axes, benchmark: BenchmarkResult, curves: dict[str, NDArray[np.float64]]) -> None:
    """Draw the curve (n, 2) of each row: a named thick line for the best row of a series, thin lines for the others."""
    for number, (_, members) in reversed(list(enumerate(group_series(benchmark)))):
        for row in members[1:]:
            axes.plot(*curves[row.name].T, color=_choose_color(number), linewidth=0.9, alpha=0.4, zorder=2)
        dash = _DASHES[number % len(_DASHES)]
        shown = _format_row_name(members[0]) if number < len(PALETTE) else None
        axes.plot(
            *curves[members[0].name].T, color=_choose_color(number), linestyle=dash, linewidth=2, label=shown, zorder=4
        )
    axes.set_ylim(0, 1.02)
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], frameon=False, labelcolor=INK, fontsize=9, handlelength=3)


def _draw_precision_recall(benchmark: BenchmarkResult) -> Figure:
    figure, axes = _make_figure(5.6, 4.2)
    recall = np.linspace(0, 1, 101)
    _draw_curves(
        axes, benchmark, {row.name: np.stack([recall, row.precision_recall], axis=1) for row in benchmark.rows}
    )
    axes.set_xlim(0, 1)
    _set_titles(axes, "recall", "precision (interpolated, mean over the queries)")
    return figure


def _draw_precision_at_k(benchmark: BenchmarkResult) -> Figure:
    figure, axes = _make_figure(5.6, 4.2)
    ranks = {row.name: np.arange(1, len(row.precision_at) + 1) for row in benchmark.rows}
    _draw_curves(
        axes, benchmark, {row.name: np.stack([ranks[row.name], row.precision_at], 1) for row in benchmark.rows}
    )
    most = max(len(row.precision_at) for row in benchmark.rows)
    axes.set_xlim(1, max(2, most))
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, most) if most / step <= 12)
    axes.set_xticks(sorted({1, *range(step, most + 1, step)} - ({2} if step == 2 else set())))
    _set_titles(axes, "k", "precision of the first k results")
    return figure


def _draw_per_class(benchmark: BenchmarkResult) -> Figure:
    """Draw bars for the best row, and markers for the best rows of the next series."""
    shown, n_between = select_extreme_classes(benchmark.best.per_class)
    gap = len(shown) // 2 if n_between else len(shown)  # an empty place stands for the classes left out
    places = [number + (number >= gap) for number in range(len(shown))]
    figure, axes = _make_figure(7.4, 1.0 + 0.24 * (len(shown) + bool(n_between)))
    values = [benchmark.best.per_class[name] for name in shown]
    handles: list[Any] = [axes.barh(places, values, height=0.66, color=PALETTE[0], alpha=0.5, zorder=2)]
    rows = [members[0] for _, members in group_series(benchmark)][:_MAX_MARKED_SERIES]
    for number, row in enumerate(rows[1:], start=1):
        marks = [row.per_class.get(name, math.nan) for name in shown]
        handles.append(axes.scatter(marks, places, s=30, clip_on=False, **_choose_marker_style(number)))
    if n_between:
        axes.text(0.005, gap, f"… {n_between:,} more between …", va="center", fontsize=9, color=FAINT)
    axes.set_yticks(places, [shorten_text(clean_text(name), 32) for name in shown], color=INK, fontsize=9)
    axes.set_ylim(max(places) + 0.7, -0.7)
    axes.set_xlim(0, max(1.0, *values))
    axes.grid(visible=False, axis="y")
    axes.grid(axis="x", color=RULE, linewidth=0.8)
    axes.set_xlabel(f"{format_metric(benchmark.main_metric)} by class of the query")
    style: dict[str, Any] = {"frameon": False, "fontsize": 9, "labelcolor": INK, "ncols": 2}
    figure.legend(handles, [_format_row_name(row) for row in rows], loc="outside upper left", **style)
    return figure


def _draw_robustness(benchmark: BenchmarkResult) -> Figure:
    grid = build_robustness_grid(benchmark)
    cells = np.array([[grid.find_value(change, column) for column in grid.columns] for change in grid.changes])
    figure, axes = _make_figure(3.4 + 0.86 * len(grid.columns), 1.7 + 0.27 * len(grid.changes))
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    low = min(0.9, float(np.nanmin(cells)))
    shades = LinearSegmentedColormap.from_list("accent", ["#f4f7f9", PALETTE[0]])
    axes.pcolormesh(np.ma.masked_invalid(cells), cmap=shades, vmin=low, vmax=1, edgecolor=PAPER, linewidth=1)
    for (down, across), value in np.ndenumerate(cells):
        if math.isfinite(value):
            style: dict[str, Any] = {"color": PAPER if value > (low + 1) / 2 else INK, "ha": "center", "va": "center"}
            shown = f"{value:.2f}" if grid.columns[across].views is None else f"{100 * value:.0f} %"
            axes.text(across + 0.5, down + 0.5, shown, fontsize=8.5, **style)
    changes = [clean_text(describe_change(change)) for change in grid.changes]
    axes.set_yticks(np.arange(len(changes)) + 0.5, changes, color=INK)
    axes.invert_yaxis()
    _draw_column_headings(axes, grid)
    return figure


def _draw_column_headings(axes: Axes, grid: RobustnessGrid) -> None:
    """Write the measures above the columns and the models above the measures, with a gap between models."""
    titles = [column.title.replace(" ", "\n", 1).replace(", ", ",\n") for column in grid.columns]
    axes.set_xticks(np.arange(len(titles)) + 0.5, titles, fontsize=8)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    start = 0
    for model, name in grid.names.items():
        n_columns = len(grid.list_columns(model))
        place: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "ha": "center"}
        title = shorten_text(clean_text(name), 28)
        axes.annotate(title, (start + n_columns / 2, 1), (0, 42), fontweight="bold", **place)
        start += n_columns
        if start < len(titles):
            axes.axvline(start, color=PAPER, linewidth=4)
