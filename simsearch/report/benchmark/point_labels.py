"""Labels of a scatter plot: a name for each stack of points and a number beside each point, none over another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

Point = tuple[float, float]

_POINT_RADIUS = 4.0
_NUMBER_GAP = 9.5
"""The least distance of numbers above each other, in points of 1/72 inch, as all lengths here."""
_NUMBER_OFFSET = 8.0
_SAME_COLUMN = 14.0
"""Points of one stack whose distance across is less share a column of numbers."""
_BACKGROUND: dict[str, Any] = {"facecolor": "#ffffff", "edgecolor": "none", "alpha": 0.75, "pad": 0.5}
"""The color of `plots.PAPER`, which is that of the page in a page."""
_NAME_DISTANCES = (9.0, 20.0, 34.0, 50.0, 70.0, 95.0, 125.0)


@dataclass(frozen=True, slots=True)
class PointStack:
    """The points of one backbone with their numbers (empty: none), in the order of the rows; `series` is its place."""

    name: str
    series: int
    points: Sequence[Point]
    numbers: Sequence[str]


def label_stacks(figure: Figure, axes: Axes, stacks: Sequence[PointStack], colors: Sequence[str]) -> None:
    """Write the number of each point right of it, and each name where it covers nothing; the first name is bold.

    A number that would cover another is moved up or down, and a name away, each with a line to its point. Where a plot
    is too full, a name is placed where it covers least.
    """
    figure.draw_without_rendering()  # fixes the layout that the sizes depend on
    layout = _Layout(figure, axes)
    for stack in stacks:
        layout.take_points(stack)
    for stack, color in zip(stacks, colors, strict=True):
        layout.write_numbers(stack, color)
    for number, (stack, color) in enumerate(zip(stacks, colors, strict=True)):
        layout.write_name(stack, color, is_bold=number == 0)


class _Layout:
    """The taken places of a plot, in pixels of the figure."""

    def __init__(self, figure: Figure, axes: Axes) -> None:
        self._axes, self._scale = axes, figure.dpi / 72
        self._frame = axes.get_window_extent().padded(4 * self._scale)
        self._taken: list[Bbox] = []

    def _locate(self, point: Point) -> Point:
        x, y = self._axes.transData.transform(point)
        return float(x), float(y)

    def take_points(self, stack: PointStack) -> None:
        """Keep labels away from the points."""
        radius = _POINT_RADIUS * self._scale
        for x, y in map(self._locate, stack.points):
            self._taken.append(Bbox.from_extents(x - radius, y - radius, x + radius, y + radius))

    def write_numbers(self, stack: PointStack, color: str) -> None:
        """Write the numbers of a stack right of its points, column by column, from the lowest up."""
        for column in self._split_columns(stack):
            places = _spread([self._locate(stack.points[at])[1] / self._scale for at in column])
            right = max(self._locate(stack.points[at])[0] for at in column) / self._scale
            for at, height in zip(column, places, strict=True):
                x, y = (value / self._scale for value in self._locate(stack.points[at]))
                self._annotate(stack.numbers[at], stack.points[at], (right - x + _NUMBER_OFFSET, height - y), color)

    def _split_columns(self, stack: PointStack) -> list[list[int]]:
        """The positions of numbered points by their place across; those of a column from the lowest up."""
        numbered = [at for at, number in enumerate(stack.numbers) if number]
        columns: list[list[int]] = []
        for at in sorted(numbered, key=lambda at: stack.points[at][0]):
            x = self._locate(stack.points[at])[0] / self._scale
            if columns and x - self._locate(stack.points[columns[-1][0]])[0] / self._scale < _SAME_COLUMN:
                columns[-1].append(at)
            else:
                columns.append([at])
        return [sorted(column, key=lambda at: stack.points[at][1]) for column in columns]

    def _annotate(self, text: str, point: Point, offset: Point, color: str) -> None:
        moved = abs(offset[1]) > _NUMBER_GAP / 3
        line = {"arrowstyle": "-", "color": color, "linewidth": 0.6, "alpha": 0.6, "shrinkA": 0, "shrinkB": 2}
        drawn = self._axes.annotate(
            text, point, offset, textcoords="offset points", fontsize=8, va="center", ha="left", color=color,
            arrowprops=line if moved else None,
        )  # fmt: skip
        drawn.set_bbox(_BACKGROUND)
        self._taken.append(drawn.get_window_extent())

    def write_name(self, stack: PointStack, color: str, *, is_bold: bool) -> None:
        """Write the name of a stack beside it, at the first place where it covers nothing."""
        top = max(stack.points, key=lambda point: point[1])
        style: dict[str, Any] = {"fontweight": "bold" if is_bold else "normal", "fontsize": 9.5, "color": color}
        text = self._axes.annotate(stack.name, top, (0, 0), textcoords="offset points", **style)
        text.set_bbox(_BACKGROUND)
        best: tuple[float, Point, str, str, float] | None = None
        for distance, offset, across, up in self._list_places(stack, top):
            text.set(position=offset, horizontalalignment=across, verticalalignment=up)
            cost = self._measure_cost(text.get_window_extent())
            if best is None or cost < best[0]:
                best = cost, offset, across, up, distance
            if cost == 0:
                break
        if best is None:
            return
        _, offset, across, up, distance = best
        text.set(position=offset, horizontalalignment=across, verticalalignment=up)
        self._taken.append(text.get_window_extent())
        if distance > _NAME_DISTANCES[1]:
            line = {"arrowstyle": "-", "color": color, "linewidth": 0.6, "alpha": 0.6}
            self._axes.annotate("", top, offset, textcoords="offset points", arrowprops=line)

    def _list_places(self, stack: PointStack, top: Point) -> Iterator[tuple[float, Point, str, str]]:
        """Places for a name relative to the top point: above, left and right, then below, ever farther away."""
        lowest = min(self._locate(point)[1] for point in stack.points)
        drop = (lowest - self._locate(top)[1]) / self._scale
        for distance in _NAME_DISTANCES:
            yield distance, (0, distance), "center", "bottom"
            yield distance, (-distance, 0), "right", "center"
            yield distance, (distance + _NUMBER_OFFSET, 0), "left", "center"
            yield distance, (0, drop - distance), "center", "top"
            for side in (1, -1):
                across = "left" if side > 0 else "right"
                yield distance, (side * distance, distance), across, "bottom"
                yield distance, (side * distance, drop - distance), across, "top"

    def _measure_cost(self, box: Bbox) -> float:
        """The area of taken places under a box, and of its part outside the frame: 0 where it covers nothing."""
        cost = 0.0
        for taken in self._taken:
            if (shared := Bbox.intersection(box, taken)) is not None:
                cost += shared.width * shared.height
        inside = Bbox.intersection(box, self._frame)
        return cost + 10 * (box.width * box.height - (inside.width * inside.height if inside is not None else 0.0))


def _spread(heights: Sequence[float]) -> list[float]:
    """Move rising heights apart to at least `_NUMBER_GAP`, with the same mean where they had to move."""
    groups: list[tuple[float, int]] = []  # the sum of heights, each less its place in the group, and their number
    for height in heights:
        groups.append((height, 1))
        while len(groups) > 1:
            (low, n_low), (high, n_high) = groups[-2:]
            bottom_of_high = high / n_high - _NUMBER_GAP * (n_high - 1) / 2
            top_of_low = low / n_low + _NUMBER_GAP * (n_low - 1) / 2
            if bottom_of_high - top_of_low >= _NUMBER_GAP:
                break
            groups[-2:] = [(low + high, n_low + n_high)]
    return [
        total / n + _NUMBER_GAP * (place - (n - 1) / 2) for total, n in groups for place in range(n)
    ]  # each group is centered on the mean of its heights
