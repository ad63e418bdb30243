"""The histogram backbone against counting pixel by pixel."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from simsearch.models.histogram import SIDE_PX, WIDTH, compute_histograms
from tests.models.conftest import make_random_pixels


def count_bins(picture):
    """The vector of one picture (side, side, 3), with exact fractions for colors and doubles for edges."""
    side = len(picture)
    colours = np.zeros((2, 2, 8, 3, 3))
    edges = np.zeros((8, 8, 9))
    grey = [[0.299 * r + 0.587 * g + 0.114 * b for r, g, b in row] for row in picture.tolist()]
    for y in range(side):
        for x in range(side):
            hue, saturation, value = convert_to_hsv(*picture[y, x].tolist())
            bins = (min(7, int(hue * 8 / 6)), min(2, int(saturation * 3)), int(value * 3 / 256))
            colours[(y * 2 // side, x * 2 // side, *bins)] += 1
            down = compute_slope([grey[i][x] for i in range(side)], y)
            across = compute_slope(grey[y], x)
            degrees = math.degrees(math.atan2(down, across)) % 180
            edges[y * 8 // side, x * 8 // side, min(8, int(degrees / 20))] += math.hypot(down, across)
    halves = [np.sqrt(counts.ravel() / counts.sum()) for counts in (colours, edges)]
    return np.concatenate(halves) / math.sqrt(2)


def convert_to_hsv(red, green, blue):
    """Hue in sixths of the circle, saturation in [0, 1], value in [0, 255], exactly."""
    value, spread = max(red, green, blue), max(red, green, blue) - min(red, green, blue)
    if not spread:
        return Fraction(0), Fraction(0), Fraction(value)
    if value == red:
        hue = Fraction(green - blue, spread) % 6
    elif value == green:
        hue = Fraction(blue - red, spread) + 2
    else:
        hue = Fraction(red - green, spread) + 4
    return hue, Fraction(spread, value), Fraction(value)


def compute_slope(line, at):
    """Central differences, one-sided at both ends; rounding noise is set to 0."""
    before, after = max(at - 1, 0), min(at + 1, len(line) - 1)
    difference = (line[after] - line[before]) / (after - before)
    return difference if abs(difference) > 1e-9 else 0.0


@pytest.mark.parametrize("side_px", [8, 13, 16])
def test_vectors_are_the_counts_of_every_pixel(side_px):
    batch = make_random_pixels(5, side_px, seed=side_px)
    np.testing.assert_allclose(compute_histograms(batch), [count_bins(picture) for picture in batch], atol=1e-5)


@pytest.mark.parametrize("axis", [1, 2], ids=["lying", "standing"])
def test_stripes_fall_into_the_bin_of_a_straight_edge(axis):
    batch = np.repeat(make_random_pixels(3, 127, seed=1).take([0], axis=axis), 127, axis=axis)
    np.testing.assert_allclose(compute_histograms(batch)[0], count_bins(batch[0]), atol=1e-5)


def test_rows_are_unit_float32_of_the_stated_width():
    vectors = compute_histograms(make_random_pixels(6, SIDE_PX))
    assert (vectors.shape, vectors.dtype) == ((6, WIDTH), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("shade", [0, 128, 255])
def test_a_blank_picture_has_a_unit_row_too(shade):
    vectors = compute_histograms(np.full((1, SIDE_PX, SIDE_PX, 3), shade, dtype=np.uint8))
    np.testing.assert_allclose(np.linalg.norm(vectors), 1, atol=1e-5)


def test_a_picture_has_the_same_vector_alone_and_among_others():
    batch = make_random_pixels(7, 32)
    alone = [compute_histograms(batch[i : i + 1])[0] for i in range(7)]
    np.testing.assert_array_equal(compute_histograms(batch), alone)


def test_a_turned_picture_is_another():
    batch = np.zeros((1, SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    batch[:, : SIDE_PX // 2] = (200, 30, 30)
    upright, turned = compute_histograms(batch)[0], compute_histograms(np.rot90(batch, axes=(1, 2)))[0]
    assert upright @ turned < 0.9
