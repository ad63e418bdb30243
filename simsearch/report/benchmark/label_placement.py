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
class Box:
    """A rectangle by its lower left and upper right corner; upwards is positive."""

    left: float
    low: float
    right: float
    high: float

    def meets(self, other: Box) -> bool:
        """Whether the two share more than an edge."""
        return self.left < other.right and other.left < self.right and self.low < other.high and other.low < self.high

    def holds(self, other: Box) -> bool:
        """Whether the other lies inside."""
        return (
            self.left <= other.left and other.right <= self.right and self.low <= other.low and other.high <= self.high
        )


@dataclass(frozen=True, slots=True)
class Place:
    """Where a label goes: its left end and its middle height, as seen from its point.

    One that is away is joined to its point by a line towards its middle.
    """

    left: float
    up: float
    is_away: bool


class LabelPlaces:
    """Hands out places within a frame, first come, first served; all lengths in one unit, such as points."""

    def __init__(self, frame: Box, points: Sequence[Point], line: Sequence[Point]) -> None:
        self._frame = frame
        self._taken = [_around(point, _POINT_RADIUS) for point in points]
        self._taken += [_around(point, 1.0) for point in _along(line)]
        self._labels: list[Box] = []

    def take(self, point: Point, width: float, height: float) -> Place | None:
        """The free place nearest to the point, from now on taken; None if there is none."""
        for place in _candidates(width, height):
            x, y = point[0] + place.left, point[1] + place.up
            box = Box(x, y - height / 2, x + width, y + height / 2)
            joint = [_around(at, 1.0) for at in _along([point, (x + width / 2, y)])] if place.is_away else []
            if self._is_free(box, joint):
                self._labels.append(box)
                self._taken += [box, *joint]
                return place
        return None

    def _is_free(self, box: Box, joint: Sequence[Box]) -> bool:
        """Whether a label may lie there and its line run there; that may pass over points and lines, but no label."""
        if not self._frame.holds(box) or any(box.meets(other) for other in self._taken):
            return False
        return not any(piece.meets(label) for piece in joint for label in self._labels)


def _candidates(width: float, height: float) -> Iterator[Place]:
    """Right or left of the point, over or under it, then away from it, further and further up and down."""
    yield from (Place(_BESIDE, 0, False), Place(-_BESIDE - width, 0, False))
    near = height / 2 + _POINT_RADIUS + 0.5
    for left in (-_POINT_RADIUS, _POINT_RADIUS - width):
        yield from (Place(left, near, False), Place(left, -near, False))
    for number in range(1, _MOST_STEPS):
        up = number * height * 0.75
        for left in (_AWAY, -_AWAY - width):
            yield from (Place(left, up, True), Place(left, -up, True))


def _around(point: Point, reach: float) -> Box:
    return Box(point[0] - reach, point[1] - reach, point[0] + reach, point[1] + reach)


def _along(line: Sequence[Point]) -> Iterator[Point]:
    """Points on a line, so close that nothing fits between."""
    for start, end in pairwise(line):
        n_steps = math.ceil(math.dist(start, end) / _LINE_STEP)
        for number in range(n_steps + 1):
            part = number / max(1, n_steps)
            yield start[0] + part * (end[0] - start[0]), start[1] + part * (end[1] - start[1])
