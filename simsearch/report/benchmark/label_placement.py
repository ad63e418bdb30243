"""Where the names beside the points of a plot go: none on another, none on a point or a line."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

Point = tuple[float, float]

_BESIDE, _AWAY = 9.0, 18.0
_MOST_STEPS = 16
_POINT_RADIUS = 6.0
_LINE_STEP = 4.0


@dataclass(frozen=True, slots=True)
class LabelBox:
    """A rectangle by its lower left and upper right corner; upwards is positive."""

    left: float
    low: float
    right: float
    high: float

    def overlaps(self, other: LabelBox) -> bool:
        """Whether the two share more than an edge."""
        return self.left < other.right and other.left < self.right and self.low < other.high and other.low < self.high

    def contains(self, other: LabelBox) -> bool:
        """Whether the other lies inside."""
        return (
            self.left <= other.left and other.right <= self.right and self.low <= other.low and other.high <= self.high
        )


@dataclass(frozen=True, slots=True)
class LabelPosition:
    """Where a label goes: its left end and its middle height, as seen from its point.

    One that is away is joined to its point by a line towards its middle.
    """

    left: float
    up: float
    is_away: bool


class LabelPlacer:
    """Hands out places within a frame, first come, first served; all lengths in one unit, such as points."""

    def __init__(self, frame: LabelBox, points: Sequence[Point], line: Sequence[Point]) -> None:
        self._frame = frame
        self._taken = [_make_box(point, _POINT_RADIUS) for point in points]
        self._taken += [_make_box(point, 1.0) for point in _generate_points(line)]
        self._labels: list[LabelBox] = []

    def place_label(self, point: Point, width: float, height: float) -> LabelPosition | None:
        """The free place nearest to the point, from now on taken; None if there is none."""
        for place in _generate_positions(width, height):
            x, y = point[0] + place.left, point[1] + place.up
            box = LabelBox(x, y - height / 2, x + width, y + height / 2)
            joint = (
                [_make_box(at, 1.0) for at in _generate_points([point, (x + width / 2, y)])] if place.is_away else []
            )
            if self._is_free(box, joint):
                self._labels.append(box)
                self._taken += [box, *joint]
                return place
        return None

    def _is_free(self, box: LabelBox, joint: Sequence[LabelBox]) -> bool:
        """Whether a label may lie there and its line run there; that may pass over points and lines, but no label."""
        if not self._frame.contains(box) or any(box.overlaps(other) for other in self._taken):
            return False
        return not any(piece.overlaps(label) for piece in joint for label in self._labels)


def _generate_positions(width: float, height: float) -> Iterator[LabelPosition]:
    """Right or left of the point, over or under it, then away from it, further and further up and down."""
    yield from (LabelPosition(_BESIDE, 0, False), LabelPosition(-_BESIDE - width, 0, False))
    near = height / 2 + _POINT_RADIUS + 0.5
    for left in (-_POINT_RADIUS, _POINT_RADIUS - width):
        yield from (LabelPosition(left, near, False), LabelPosition(left, -near, False))
    for number in range(1, _MOST_STEPS):
        up = number * height * 0.75
        for left in (_AWAY, -_AWAY - width):
            yield from (LabelPosition(left, up, True), LabelPosition(left, -up, True))


def _make_box(point: Point, reach: float) -> LabelBox:
    return LabelBox(point[0] - reach, point[1] - reach, point[0] + reach, point[1] + reach)


def _generate_points(line: Sequence[Point]) -> Iterator[Point]:
    """Points on a line, so close that nothing fits between."""
    for start, end in pairwise(line):
        n_steps = math.ceil(math.dist(start, end) / _LINE_STEP)
        for number in range(n_steps + 1):
            part = number / max(1, n_steps)
            yield start[0] + part * (end[0] - start[0]), start[1] + part * (end[1] - start[1])
