"""Shapes of the rendered collection: bodies of revolution, stored as distance fields.

A body of revolution is described by its section in the (radius, height) half-plane, so its exact three-dimensional
distance function is one two-dimensional table, read at (hypot(x, z), y). Handles, spouts and posts are tubes along a
plane curve, with one more table each. So ray marching, soft shadows, occlusion and refraction are fast enough in NumPy,
and surfaces have no facets.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
STEP = 0.006  # spacing of a table: about one pixel of the picture
ROUNDING = 0.008  # radius of convex edges; a sharp edge shows no highlight
MARGIN = 0.12  # margin around a body in its tables


@dataclass(frozen=True)
class Recipe:
    """A design. Curves are text: points "r,y" in hundredths; "!" marks a corner, "|" starts a second part."""

    profile: str
    wall: float = 0.0  # wall thickness of an open vessel; 0 is a solid with a profile that ends on the axis
    floor: float = 0.0  # lowest point of the hollow, for vessels with a stem
    tubes: tuple[tuple[str, float, float, int], ...] = ()  # (path, radius at start, at end, copies)
    fluted: tuple[float, float] = (0.0, 0.0)  # heights between which vertical flutes may be carved


HANDLE = ("44,98 62,110 76,92 68,62 46,44", 0.045, 0.05, 1)
DESIGNS: dict[str, tuple[Recipe, ...]] = {
    "amphora": (
        Recipe(
            "0,0! 20,0! 21,5 15,11 26,28 47,72 44,100 22,126 15,140 16,158 25,172!",
            0.05,
            tubes=(("13,160 26,168 42,154 47,128 38,106", 0.036, 0.036, 2),),
        ),
        Recipe(
            "0,0! 17,0! 18,4 12,10 22,30 42,66 50,98 36,126 19,142 19,166 27,176!",
            0.05,
            tubes=(("17,162 36,172 50,150 52,124 40,114", 0.04, 0.034, 2),),
        ),
        Recipe(
            "0,0! 24,0! 24,4! 17,10 33,30 50,60 48,86 27,108 20,122 22,140 31,150!",
            0.05,
            tubes=(("20,138 44,148 58,122 56,92 46,78", 0.04, 0.04, 2),),
        ),
    ),
    "bell": (
        Recipe("0,82! 30,70 36,36 56,3! 62,0! 66,2! 60,9 46,34 41,66 30,90 10,98! 7,100 6,112 12,122 12,132 0,141!"),
        Recipe(
            "0,76! 26,68 33,34 46,3! 50,0! 55,2! 51,9 41,32 36,64 26,84 9,89! 7,92 5,104 8,116 5,128 9,148 7,162 0,167!"
        ),
        Recipe(
            "0,92! 32,80 37,42 52,3! 57,0! 61,2! 56,12 46,40 42,74 30,98 6,106! 0,106!",
            tubes=(("0,104 -15,112 -16,132 0,142 16,132 15,112 0,104", 0.042, 0.042, 1),),
        ),
    ),
    "bottle": (
        Recipe("0,0! 27,0! 29,4 29,45 29,88 25,106 12,124 10,138 10,157! 13,158! 13,166! 13,168!", 0.045),
        Recipe("0,0! 34,0! 36,4 38,40 34,66 16,92 9,118 8,148 8,156! 12,158 11,166!", 0.045),
        Recipe("0,0! 32,0! 34,4! 35,30 34,66! 30,76 11,84 10,92 10,112! 15,114 14,122!", 0.045),
        Recipe("0,0! 24,0! 26,4 27,40 27,84 27,112! 24,120 9,127 9,136 9,146! 12,147! 12,154!", 0.045),
    ),
    "bowl": (
        Recipe("0,0! 25,0! 24,7! 50,17 68,40 74,68!", 0.05, 0.14, fluted=(0.14, 0.6)),
        Recipe("0,0! 22,0! 20,9! 44,26 68,50 88,76!", 0.045, 0.15, fluted=(0.14, 0.66)),
        Recipe("0,0! 30,0! 33,3 62,22 72,46 66,68!", 0.05, 0.1, fluted=(0.1, 0.5)),
        Recipe("0,0! 34,0! 28,10 22,22 40,32 70,46 82,66 86,74!", 0.045, 0.3),
    ),
    "candlestick": (
        Recipe("0,0! 40,0! 41,4 34,9 14,16 9,24 14,34 8,46 7,66 11,84 7,92 20,100! 21,103! 9,105!| 9,160! 0,161!"),
        Recipe("0,0! 36,0! 36,6! 28,8! 12,14 17,28 20,38 8,56 6,80 13,94 15,110! 8,111!| 8,152! 0,153!"),
        Recipe("0,0! 46,0! 48,3 44,8! 18,10 12,18 10,26 15,34 15,44! 10,45!| 10,118! 0,119!"),
        Recipe(
            "0,0! 38,0! 33,8 10,13! 13,20 13,24 6,30! 11,37 11,41 6,47! 10,54 "
            "10,58 6,64! 24,72 25,76! 11,77!| "
            "11,104! 0,105!"
        ),
    ),
    "goblet": (
        Recipe("0,0! 36,0! 36,3 14,8 6,18 5,44 7,62 26,72 42,96 42,122 38,142!", 0.035, 0.7),
        Recipe("0,0! 34,0! 34,4! 20,7 8,18 12,30 13,36 6,46 12,58 32,68 40,92 46,130!", 0.04, 0.68),
        Recipe("0,0! 40,0! 40,3 16,7 6,16 5,36 9,50 40,64 58,86 60,106!", 0.035, 0.6),
        Recipe("0,0! 33,0! 33,3 12,8 5,20 4.5,60 7,78 17,90 24,116 26,148 24,172!", 0.032, 0.86),
    ),
    "hourglass": (
        Recipe(
            "0,0! 48,0! 48,8! 34,9! 38,24 37,44 20,62 6,74 20,86 37,104 38,124 34,139! 48,140! 48,148! 0,148!",
            tubes=(("42,4 43,74 42,144", 0.035, 0.035, 3),),
        ),
        Recipe(
            "0,0! 52,0! 54,5 50,10! 30,11! 42,26 40,46 16,58 6,66 16,74 40,86 "
            "42,106 30,121! 50,122! 54,127 52,132! 0,132!",
            tubes=(("47,6 47,66 47,126", 0.032, 0.032, 4),),
        ),
        Recipe("0,0! 44,0! 45,4 40,10! 34,12! 36,36 28,60 7,78 28,96 36,120 34,144! 40,146! 45,152 44,156! 0,156!"),
    ),
    "lamp": (
        Recipe("0,0! 30,0! 32,4 40,22 34,48 12,72 6,84! 5,86! 5,140!| 32,140! 54,84! 57,84! 34,146! 0,146!"),
        Recipe("0,0! 34,0! 35,4! 12,9 5,18 8,36 5,54 5,80! 5,126!| 36,126! 44,78! 47,78! 39,132! 0,132!"),
        Recipe("0,0! 24,0! 34,14 20,34 12,42 24,56 14,74 5,82! 5,134!| 22,134! 60,82! 64,82! 24,140! 0,140!"),
        Recipe("0,0! 36,0! 36,5 20,10 12,30 11,62 11,70!| 50,70! 57,70! 56,86 40,106 14,117 0,118!"),
    ),
    "plate": (
        Recipe("0,0! 42,0! 44,3! 60,5 78,12 98,17!", 0.045, 0.085),
        Recipe("0,0! 38,0! 40,3! 66,5 86,10 98,20!", 0.045, 0.085),
        Recipe("0,0! 50,0! 52,3! 78,5 90,8 94,13!", 0.045, 0.085),
    ),
    "teapot": (
        Recipe(
            "0,0! 30,0! 33,4 56,30 54,58 32,80! 30,82! 14,90 5,93 5,97 10,104 8,111 0,113!",
            tubes=(
                ("46,28 64,34 74,54 82,76 92,84", 0.11, 0.05, 1),
                ("-42,68 -66,82 -86,68 -80,38 -50,24", 0.045, 0.045, 1),
            ),
        ),
        Recipe(
            "0,0! 34,0! 40,3 62,20 60,40 36,58! 34,60! 18,67 6,69 5,72 11,79 0,86!",
            tubes=(("50,16 70,22 84,42 98,58", 0.1, 0.048, 1), ("-52,46 -72,62 -94,50 -86,24 -56,16", 0.042, 0.042, 1)),
        ),
        Recipe(
            "0,0! 26,0! 30,3 40,20 46,50 40,84 28,98! 27,100! 16,110 5,113 4,117 8,124 0,131!",
            tubes=(
                ("36,40 54,50 60,76 74,98 82,102", 0.09, 0.042, 1),
                ("-34,88 -58,104 -76,84 -68,46 -38,30", 0.04, 0.045, 1),
            ),
        ),
    ),
    "top": (
        Recipe("0,0! 3,2 12,14 46,42 60,58 54,70 20,78 8,84 6,96 8,112 0,118!"),
        Recipe("0,0! 3,3 8,20 30,34 58,44 60,54! 40,60! 14,64 6,72 5,104 7,112 0,116!"),
        Recipe("0,0! 4,3 20,26 44,56 50,78 42,94 14,104! 8,106! 8,128! 0,130!"),
        Recipe("0,0! 3,3 6,22! 62,30! 66,36 62,42! 22,46 8,54 5,70 6,96 0,101!"),
    ),
    "vase": (
        Recipe("0,0! 24,0! 28,5 46,44 50,76 36,112 21,132 22,142 31,151!", 0.05, fluted=(0.1, 1.15)),
        Recipe("0,0! 27,0! 25,8 17,30 18,68 26,108 47,148!", 0.045, fluted=(0.2, 1.3)),
        Recipe("0,0! 23,0! 28,4 51,34 44,64 17,86 12,110 13,138 19,152!", 0.045, fluted=(0.08, 0.7)),
        Recipe("0,0! 24,0! 24,10 31,50 46,94 42,118 20,134 17,142 23,151!", 0.05, fluted=(0.1, 1.1)),
    ),
}


def parse_curve(text: str) -> tuple[Array, NDArray[np.bool_]]:
    """Parse the text of a curve: its points, and which of them are corners."""
    words = text.split()
    points = np.array([[float(v) / 100 for v in word.rstrip("!|").split(",")] for word in words], np.float32)
    return points, np.array(["!" in word for word in words])


def interpolate_hermite(points: Array, samples: int) -> Array:
    """Interpolate points with a centripetal Catmull-Rom spline; it does not loop or overshoot on uneven spacing."""
    if len(points) == 2:
        return np.linspace(points[0], points[1], samples, dtype=np.float32)
    knots = np.append(0, np.cumsum(np.sqrt(np.linalg.norm(np.diff(points, axis=0), axis=1))))
    slope = np.diff(points, axis=0) / np.diff(knots)[:, None]
    inner = slope[:-1] + slope[1:] - (points[2:] - points[:-2]) / (knots[2:] - knots[:-2])[:, None]
    tangent = np.vstack([1.5 * slope[:1] - inner[:1] / 2, inner, 1.5 * slope[-1:] - inner[-1:] / 2])
    t = np.linspace(0, knots[-1], samples * (len(points) - 1))
    i = np.clip(np.searchsorted(knots, t, "right") - 1, 0, len(points) - 2)
    h = (knots[i + 1] - knots[i])[:, None]
    s = (t - knots[i])[:, None] / h
    a, b = points[i], points[i + 1]
    pull = (1 - s) * tangent[i] - s * tangent[i + 1]
    curve: Array = a + s * s * (3 - 2 * s) * (b - a) + s * (1 - s) * h * pull
    return np.asarray(curve, np.float32)


def interpolate_spline(points: Array, corner: NDArray[np.bool_], samples: int = 14) -> Array:
    """Interpolate points with a curve that is smooth except at the corners."""
    cuts = sorted({0, len(points) - 1, *np.flatnonzero(corner).tolist()})
    spans = [interpolate_hermite(points[a : b + 1], samples) for a, b in pairwise(cuts)]
    return np.vstack([span[:-1] for span in spans] + [points[-1:]]).astype(np.float32)


def smooth_max(a: Array, b: Array, k: float) -> Array:
    """Compute a maximum whose crease is rounded over a width k (the negative of a smooth minimum)."""
    h = np.maximum(k - np.abs(a - b), 0) / k
    return np.maximum(a, b) + h * h * (k / 4)


def find_nearest(points: Array, path: Array) -> tuple[Array, Array]:
    """Find the distance of points to a polyline, and the position on it (a fractional vertex number)."""
    a, ab = path[:-1], np.diff(path, axis=0)
    length2 = np.maximum((ab**2).sum(1), 1e-12)
    best, where = np.empty(len(points), np.float32), np.empty(len(points), np.float32)
    for start in range(0, len(points), 4096):
        block = slice(start, start + 4096)
        rx, ry = (points[block, axis, None] - a[:, axis] for axis in (0, 1))
        t = np.clip((rx * ab[:, 0] + ry * ab[:, 1]) / length2, 0, 1)
        d2 = (rx - t * ab[:, 0]) ** 2 + (ry - t * ab[:, 1]) ** 2
        i = d2.argmin(1)
        rows = np.arange(len(i))
        best[block], where[block] = np.sqrt(d2[rows, i]), i + t[rows, i]
    return best, where


def is_enclosed(points: Array, outline: Array) -> NDArray[np.bool_]:
    """Test whether points are inside an outline, by the even-odd rule."""
    inside = np.zeros(len(points), bool)
    for (r0, y0), (r1, y1) in pairwise(outline):
        if y0 != y1:
            spans = (points[:, 1] < y0) != (points[:, 1] < y1)
            inside ^= spans & (points[:, 0] < r0 + (r1 - r0) * (points[:, 1] - y0) / (y1 - y0))
    return inside


@dataclass(frozen=True)
class GridTable:
    """A table of values on a regular grid in a plane, read with bilinear interpolation."""

    origin: tuple[float, float]
    values: Array  # indexed [row of y, column of x]

    @classmethod
    def make_nodes(cls, low: Array, high: Array) -> tuple[tuple[float, float], tuple[int, int], Array]:
        """Make origin, shape and node positions of a grid that covers a rectangle."""
        columns, rows = (int(n) for n in np.ceil((high - low) / STEP) + 1)
        y, x = np.mgrid[:rows, :columns].astype(np.float32) * np.float32(STEP)
        origin = (float(low[0]), float(low[1]))
        return origin, (rows, columns), np.stack([x.ravel() + origin[0], y.ravel() + origin[1]], 1)

    def __call__(self, x: Array, y: Array, beyond: bool = True) -> Array:
        """Read the table. Outside the grid, the distance to the grid is added (Pythagoras); it is never too large."""
        rows, columns = self.values.shape
        fx = (x - np.float32(self.origin[0])) / np.float32(STEP)
        fy = (y - np.float32(self.origin[1])) / np.float32(STEP)
        cx = np.clip(fx, 0, np.float32(columns - 1.001))
        cy = np.clip(fy, 0, np.float32(rows - 1.001))
        ix, iy = cx.astype(np.int32), cy.astype(np.int32)
        tx, ty = cx - ix, cy - iy
        flat, i = self.values.ravel(), iy * columns + ix
        low: Array = flat.take(i)
        high: Array = flat.take(i + columns)
        low += tx * (flat.take(i + 1) - low)
        high += tx * (flat.take(i + columns + 1) - high)
        low += ty * (high - low)
        if beyond:
            out = ((fx - cx) ** 2 + (fy - cy) ** 2) * np.float32(STEP * STEP)
            low = np.where(out > 0, np.sqrt(low * low + out), low)
        return low


@dataclass(frozen=True)
class Tube:
    """A round tube along a curve in a half-plane through the axis, repeated `copies` times around it."""

    path: Array
    center: GridTable
    radius: GridTable
    copies: int

    @classmethod
    def build(cls, path: Array, start: float, end: float, copies: int) -> Tube:
        """Build the tables of the distance to the center line, and of the radius at its nearest point."""
        origin, shape, nodes = GridTable.make_nodes(path.min(0) - MARGIN, path.max(0) + MARGIN)
        distance, where = find_nearest(nodes, path)
        radius = start + (end - start) * where / (len(path) - 1)
        return cls(path, GridTable(origin, distance.reshape(shape)), GridTable(origin, radius.reshape(shape)), copies)

    def measure_distance(self, p: Array) -> Array:
        """Measure the signed distance; the angle is folded, so copies need no further lookups."""
        x, z = p[:, 0], p[:, 2]
        if self.copies > 1:
            angle, r, fold = np.arctan2(z, x), np.hypot(x, z), np.float32(2 * np.pi / self.copies)
            angle -= fold * np.round(angle / fold)
            x, z = r * np.cos(angle), r * np.sin(angle)
        return np.hypot(self.center(x, p[:, 1]), z) - self.radius(x, p[:, 1], beyond=False)


@dataclass(frozen=True)
class Body:
    """A finished shape: its distance field, and the values for painting and placing it."""

    outline: Array
    section: GridTable
    solid: GridTable  # the section before hollowing; separates outer and inner walls
    along: GridTable  # position on the outline, from 0 at the bottom axis to 1 at the rim
    tubes: tuple[Tube, ...]
    wall: float
    part: float  # position on the outline where a second part (candle, shade) begins
    fluted: tuple[float, float]
    flutes: int
    twist: float
    low: Array  # corners of the bounding box
    high: Array

    def measure_distance(self, p: Array) -> Array:
        """Measure the signed distance of points in body coordinates (axis up, standing on y = 0)."""
        y = p[:, 1]
        d = self.section(np.hypot(p[:, 0], p[:, 2]), y)
        if self.flutes:
            a, b = self.fluted
            fade = np.clip((y - a) / 0.12, 0, 1) * np.clip((b - y) / 0.12, 0, 1)
            angle = np.arctan2(p[:, 2], p[:, 0]) * self.flutes + self.twist * y
            d = d + fade * (0.012 * np.abs(np.sin(angle / 2)).astype(np.float32) ** 2)
        for tube in self.tubes:
            d = -smooth_max(-d, -tube.measure_distance(p), 0.045)
        return d

    def compute_normal(self, p: Array) -> Array:
        """Compute unit normals: the gradient of the distance, by differences of about one table step."""
        n = np.zeros_like(p)
        for corner in ((1, -1, -1), (-1, -1, 1), (-1, 1, -1), (1, 1, 1)):
            e = np.array(corner, np.float32)
            n += e * self.measure_distance(p + e * np.float32(STEP * 0.7))[:, None]
        n /= np.maximum(np.linalg.norm(n, axis=1, keepdims=True), 1e-6)
        return n

    def list_surface_points(self) -> Array:
        """List points all over the surface, for placing the body on the table and for framing."""
        angle = np.linspace(0, 2 * np.pi, 49)[:-1]
        r, y = self.outline[::3].T
        rings = [np.outer(r, np.cos(angle)), np.outer(y, np.ones(48)), np.outer(r, np.sin(angle))]
        clouds = [np.stack(rings, -1).reshape(-1, 3)]
        for tube in self.tubes:
            for turn in np.arange(tube.copies) * 2 * np.pi / tube.copies:
                x, y = tube.path.T
                clouds.append(np.stack([x * np.cos(turn), y, x * np.sin(turn)], -1) * [1.05, 1, 1.05])
        return np.vstack(clouds).astype(np.float32)


def draw_proportions(rng: np.random.Generator, top: float) -> tuple[float, ...]:
    """Draw the proportions of one body: width, height, and a slow variation of the radius with the height."""
    return rng.uniform(0.86, 1.16), rng.uniform(0.9, 1.12), rng.uniform(0.02, 0.1), rng.uniform(0, 6.3), top


def apply_proportions(points: Array, proportions: tuple[float, ...]) -> Array:
    """Apply proportions to a curve; profile and handles share them, so that the handles stay attached."""
    wide, tall, swell, phase, top = proportions
    r, y = points.T
    return np.stack([r * wide * (1 + swell * np.sin(5 * y / top + phase)), y * tall], 1).astype(np.float32)


def carve(recipe: Recipe, outline: Array, nodes: Array, blown: bool) -> tuple[Array, Array, Array]:
    """Compute section distance, solid distance and position on the outline at the nodes."""
    rim, lean = outline[-1], outline[-1] - outline[-4]
    lean = lean / np.linalg.norm(lean)
    if recipe.wall:  # continue past the rim, so that the wall can be cut at a right angle
        outline = np.vstack([outline, rim + lean * 0.15]).astype(np.float32)
    distance, where = find_nearest(nodes, outline)
    closed = np.vstack([outline, [0, outline[-1, 1]]])
    solid = np.where(is_enclosed(nodes, closed), -distance, distance) - np.float32(ROUNDING)
    section = smooth_max(solid, -solid - 0.05, 0.01) if blown else solid
    if recipe.wall:
        hollow = smooth_max(solid + recipe.wall, recipe.floor - nodes[:, 1], 0.1)
        section = smooth_max(smooth_max(solid, -hollow, 0.01), (nodes - rim) @ lean, recipe.wall * 0.7)
    return section.astype(np.float32), solid.astype(np.float32), where / len(outline)


def compute_bounding_box(outline: Array, tubes: list[Tube]) -> tuple[Array, Array]:
    """Compute the corners of the bounding box, for any orientation of the tubes."""
    parts = [(outline, 0.03), *((tube.path, tube.radius.values.max() + 0.03) for tube in tubes)]
    reach = max(np.abs(path[:, 0]).max() + room for path, room in parts)
    top = max(path[:, 1].max() + room for path, room in parts)
    return np.array([-reach, -0.03, -reach], np.float32), np.array([reach, top, reach], np.float32)


def make_body(recipe: Recipe, rng: np.random.Generator, blown: bool = False) -> Body:
    """Make one body from a design. A blown body is hollow like glass, even where it is closed."""
    points, corner = parse_curve(recipe.profile)
    proportions = draw_proportions(
        rng, max(float(points[:, 1].max()), 0.8)
    )  # a plate is too flat for a variation with the height
    points[:, 0] *= np.where(corner, 1, rng.normal(1, 0.025, len(points)).clip(0.94, 1.06))
    outline = interpolate_spline(apply_proportions(points, proportions), corner)
    outline[:, 0] = np.maximum(outline[:, 0], 0)
    high = outline.max(0) + MARGIN + (0.1 if recipe.wall else 0)
    origin, shape, nodes = GridTable.make_nodes(np.array([0, outline[:, 1].min() - MARGIN], np.float32), high)
    section, solid, along = (GridTable(origin, t.reshape(shape)) for t in carve(recipe, outline, nodes, blown))
    tubes = []
    for text, start, end, copies in recipe.tubes:
        path = interpolate_spline(apply_proportions(parse_curve(text)[0], proportions), parse_curve(text)[1])
        tubes.append(Tube.build(path, start, end, copies))
    part = 9.0
    if "|" in recipe.profile:
        joint = apply_proportions(points, proportions)[[("|" in word) for word in recipe.profile.split()]]
        part = float(np.linalg.norm(outline - joint, axis=1).argmin() - 0.5) / len(outline)
    flutes = int(rng.integers(14, 30)) if recipe.fluted[1] and rng.random() < 0.4 else 0
    twist = float(rng.uniform(-4, 4) * (rng.random() < 0.5))
    low, top = compute_bounding_box(outline, tubes)
    turned = (outline, section, solid, along, tuple(tubes), recipe.wall, part, recipe.fluted)
    return Body(*turned, flutes, twist, low, top)
