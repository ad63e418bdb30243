"""Where names in a plot go."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from simsearch.report.benchmark.label_placement import LabelBox, LabelPlacer

FRAME = LabelBox(0, 0, 500, 300)


def test_a_label_stands_right_of_a_point_that_is_alone():
    place = LabelPlacer(FRAME, [(100, 100)], []).place_label((100, 100), 80, 12)
    assert place is not None
    assert place.left > 0
    assert (place.up, place.is_away) == (0, False)


def test_a_label_at_the_right_edge_stands_left_of_its_point():
    place = LabelPlacer(FRAME, [(480, 100)], []).place_label((480, 100), 80, 12)
    assert place is not None
    assert place.left + 80 < 0


def test_no_label_lies_on_another_on_a_point_or_leaves_the_frame():
    random = np.random.default_rng(5)
    points = [(float(x), float(y)) for x, y in random.uniform((20, 20), (300, 280), (15, 2))]
    points += [(150.0, 150.0 + number) for number in range(5)]
    places = LabelPlacer(FRAME, points, [])
    boxes = []
    for x, y in points:
        place = places.place_label((x, y), 70, 11)
        assert place is not None
        left, low = x + place.left, y + place.up - 5.5
        boxes.append((left, low, left + 70, low + 11))
    for a, b in combinations(boxes, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
    for left, low, right, high in boxes:
        assert left >= 0
        assert low >= 0
        assert right <= 500
        assert high <= 300
        assert not any(left < x < right and low < y < high for x, y in points)


def test_a_label_keeps_off_a_line():
    places = LabelPlacer(FRAME, [(50, 100)], [(50, 100), (400, 100)])
    place = places.place_label((50, 100), 80, 12)
    assert place is not None
    assert abs(place.up) > 6


def test_the_line_to_a_label_that_is_away_crosses_no_other_label():
    random = np.random.default_rng(8)
    points = [(float(x), float(y)) for x, y in random.uniform((150, 120), (230, 170), (18, 2))]
    places = LabelPlacer(FRAME, points, [])
    boxes, joints = [], []
    for x, y in points:
        if place := places.place_label((x, y), 60, 10):
            left, middle = x + place.left, y + place.up
            if place.is_away:
                joints.append((len(boxes), np.linspace((x, y), (left + 30, middle), 200)))
            boxes.append((left, middle - 5, left + 60, middle + 5))
    assert len(joints) > 3
    for own, line in joints:
        for number, (left, low, right, high) in enumerate(boxes):
            crossed = (line[:, 0] > left) & (line[:, 0] < right) & (line[:, 1] > low) & (line[:, 1] < high)
            assert number == own or not crossed.any()


def test_where_there_is_no_room_there_is_no_label():
    assert LabelPlacer(LabelBox(0, 0, 60, 300), [(30, 100)], []).place_label((30, 100), 80, 12) is None
