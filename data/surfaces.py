"""Seeded procedural surfaces: the finishes of the objects, and the tables and walls behind them.

A surface is a function of position and palette, not of the class, so a bell and a bowl can have the same glaze.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]
LATTICE = np.random.default_rng(1).random(1 << 16, dtype=np.float32)
PRIMES = (73856093, 19349663, 83492791)

# main, light and accent color of each palette
PALETTES = tuple(tuple(line.split()) for line in (
    "8fb8a2 f2ebdd 2f4a45", "1f3f8f f4f1e8 c9a24b", "b5573a f0d9c0 3a2a26", "d9a29a f6ece4 7a3b3f",
    "d6a02e f3e7cb 3c4a57", "26303f d8d5cc b3523b", "7d8b69 ede7d6 4a3b2f", "7c1f26 ead9c4 1f2a38",
    "1e6e74 efe6d2 d98e4a", "9c8fb8 f1edf2 3e3659", "e6d3ad f7f1e3 7a4a30", "7fa9c9 f5f1e6 c2573f",
))  # fmt: skip
CLAYS = ("b5613c", "9c4a32", "c98b5e", "7a5240", "d3bc9c", "4a423d")
METALS = ("d9a84e", "c9785a", "c4c2bd", "6d6c72", "e0b9a0", "b58f45")
TINTS = ("3f8f7a", "2b62a8", "b8741c", "8a2f4a", "5c8f3a", "7fb6c4", "5b4a8c", "c98a94")
# (table, wall) pairs; the wall "" is a sweep: the table curves up into the background
SETTINGS = (
    ("plain", ""),
    ("wood", "plaster"),
    ("stone", "tiles"),
    ("linen", "plaster"),
    ("wood", "lights"),
    ("plain", ""),
    ("terrazzo", "plaster"),
    ("wood", "tiles"),
    ("linen", ""),
    ("stone", "lights"),
)
WALLS = (
    "c9c2b6",
    "b9c4c0",
    "d8c3ae",
    "8d9a9b",
    "5f6f73",
    "3c434d",
    "cfa58d",
    "a9b39a",
    "e0d9cc",
    "74605a",
    "b7b3c4",
    "2f3a3a",
    "c7a86d",
    "6d8296",
)
WOODS = ("8a5a36", "5d3b27", "b98a5a", "a2714a", "3f2c22")


def decode_srgb(code: str) -> Array:
    """Convert a hexadecimal sRGB color to linear light."""
    c = np.array([int(code[i : i + 2], 16) for i in (0, 2, 4)], np.float32) / 255
    return np.where(c < 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4).astype(np.float32)


def smoothstep(low: float, high: float, x: Array) -> Array:
    """Interpolate smoothly: 0 below low, 1 above high."""
    t: Array = np.clip((x - np.float32(low)) / np.float32(high - low), 0, 1)
    eased: Array = t * t * (3 - 2 * t)
    return eased


def mix(a: Array, b: Array, t: Array) -> Array:
    """Blend colors a and b with the weights t, one per point."""
    return a + (b - a) * t[:, None].astype(np.float32)


def hash_cells(cell: NDArray[np.int32], seed: int) -> Array:
    """Hash integer cells to fixed random numbers in 0..1."""
    key = np.full(len(cell), seed * 2654435761 & 0x7FFFFFFF, np.int32)
    for axis in range(cell.shape[1]):
        key ^= cell[:, axis] * np.int32(PRIMES[axis])
    return LATTICE.take((key ^ key >> 13) & 0xFFFF)


def noise(p: Array, seed: int) -> Array:
    """Compute value noise in 0..1, in the dimension of the points."""
    base = np.floor(p).astype(np.int32)
    f = p - base
    f = f * f * (3 - 2 * f)
    total = np.zeros(len(p), np.float32)
    for corner in product((0, 1), repeat=p.shape[1]):
        weight = np.prod(np.where(np.array(corner) == 1, f, 1 - f), axis=1)
        total += weight * hash_cells(base + np.array(corner, np.int32), seed)
    return total


def fbm(p: Array, seed: int, octaves: int = 4) -> Array:
    """Compute fractal noise: the sum of noises at doubling frequencies, about 0..1."""
    total = np.zeros(len(p), np.float32)
    for i in range(octaves):
        total += noise(p * 2.03**i, seed + i) * 0.5**i
    return total / (2 - 0.5 ** (octaves - 1))


def find_nearest_cells(p: Array, seed: int) -> tuple[Array, Array, Array]:
    """Find the distances to the nearest two of scattered points (Worley noise), and a random number of the nearest."""
    base = np.floor(p).astype(np.int32)
    first, second, mark = (np.full(len(p), v, np.float32) for v in (9, 9, 0))
    for corner in product((-1, 0, 1), repeat=p.shape[1]):
        cell = base + np.array(corner, np.int32)
        center = np.stack([hash_cells(cell, seed + 11 * axis) for axis in range(p.shape[1])], 1) + cell
        d = np.linalg.norm(p - center, axis=1)
        second = np.minimum(second, np.maximum(d, first))
        mark = np.where(d < first, hash_cells(cell, seed + 77), mark)
        first = np.minimum(first, d)
    return first, second, mark


@dataclass(frozen=True)
class SurfacePoints:
    """Points on a body, with their positions for painting."""

    p: Array  # in body coordinates
    turn: Array  # angle about the axis, 0..1
    along: Array  # position on the profile, 0..1
    inside: Mask  # on the inner wall of a vessel
    girth: float  # profile length / circumference; keeps pattern cells square


@dataclass
class Coat:
    """The finish at points."""

    albedo: Array
    gloss: Array  # strength of the clear coat, 0..1
    rough: float = 0.08
    metal: bool = False
    clear: bool = False
    glow: float = 0.0


@dataclass(frozen=True)
class Style:
    """The colors and the seed of one picture."""

    main: Array
    light: Array
    accent: Array
    clay: Array
    seed: int

    @property
    def rng(self) -> np.random.Generator:
        """A new generator on each access, so that painting twice gives the same result."""
        return np.random.default_rng(self.seed)


def fill(spot: SurfacePoints, value: float) -> Array:
    """Make an array with the same value for all points."""
    return np.full(len(spot.p), value, np.float32)


def paint_glaze(spot: SurfacePoints, style: Style) -> Coat:
    """Paint one colored glaze, thinner at the rim, often crackled."""
    rng = style.rng
    pool = fbm(spot.p * 3, style.seed, 3)
    color = mix(style.main, style.main * 0.72, smoothstep(0.35, 0.75, pool))
    color = mix(color, style.light, 0.5 * smoothstep(0.93, 1.0, spot.along))
    if rng.random() < 0.6:
        near, next_, _ = find_nearest_cells(spot.p * rng.uniform(6, 9) + 0.4 * pool[:, None], style.seed)
        color = mix(color, style.accent * 0.5, 0.65 * (1 - smoothstep(0.015, 0.05, next_ - near)))
    return Coat(color, fill(spot, 1))


def paint_reactive(spot: SurfacePoints, style: Style) -> Coat:
    """Paint two glazes that run into each other, the upper one in drips."""
    rng = style.rng
    run = fbm(spot.p * [7, 1.3, 7], style.seed, 3) - 0.5
    t = smoothstep(-0.12, 0.16, spot.along - rng.uniform(0.4, 0.65) + 0.5 * run)
    fleck = smoothstep(0.55, 0.75, fbm(spot.p * 26, style.seed + 5, 2))
    color = mix(mix(style.accent, style.main, t), style.light, 0.85 * 4 * t * (1 - t) * (0.5 + 0.5 * fleck))
    return Coat(mix(color, style.light, 0.2 * fleck), fill(spot, 1))


def paint_terracotta(spot: SurfacePoints, style: Style) -> Coat:
    """Paint unglazed clay with throwing lines, sometimes with bands of pale slip."""
    rng = style.rng
    grain = fbm(spot.p * 9, style.seed, 4) * 0.35 + 0.12 * noise(spot.p * [1, 70, 1], style.seed + 9) + 0.75
    color: Array = style.clay * grain[:, None]
    if rng.random() < 0.65:
        color = mix(color, style.light * 0.9 * grain[:, None], 0.85 * draw_stripes(spot, style, rng))
    return Coat(color, fill(spot, 0.12), rough=0.7)


def paint_speckle(spot: SurfacePoints, style: Style) -> Coat:
    """Paint pale stoneware with iron specks of two sizes."""
    tint = mix(style.light, style.main, fill(spot, style.rng.choice([0.08, 0.25, 0.9])))
    color = tint * (0.88 + 0.2 * fbm(spot.p * 4, style.seed, 3))[:, None]
    for scale, size in ((16, 0.3), (34, 0.28)):
        near, _, mark = find_nearest_cells(spot.p * scale, style.seed + scale)
        color = mix(color, style.accent * 0.4, 0.8 * (1 - smoothstep(0.6, 1, near / (size * mark + 0.02))))
    return Coat(color, fill(spot, 0.5), rough=0.3)


def paint_dip(spot: SurfacePoints, style: Style) -> Coat:
    """Paint bare clay below and glaze above, with the uneven edge of a dipped pot."""
    level = spot.along - style.rng.uniform(0.42, 0.68) + 0.05 * (noise(spot.p * 3.1, style.seed) - 0.5)
    level += 0.1 * spot.p[:, 0] * style.rng.uniform(-1, 1)
    t = np.where(spot.inside, 1, smoothstep(-0.004, 0.004, level))
    bare = style.clay * (0.8 + 0.3 * fbm(spot.p * 11, style.seed))[:, None]
    coat = mix(style.main, style.main * 0.75, fbm(spot.p * 3, style.seed + 3))
    coat = mix(coat, style.light, 0.5 * (1 - smoothstep(0, 0.03, np.abs(level))))
    return Coat(mix(bare, coat, t), 0.08 + 0.92 * t, rough=0.12)


def draw_stripes(spot: SurfacePoints, style: Style, rng: np.random.Generator) -> Array:
    """Draw the coverage of a few hand-drawn bands around the body."""
    way = spot.along + 0.006 * (noise(spot.p * 4, style.seed + 2) - 0.5)
    cover = np.zeros(len(way), np.float32)
    for middle in rng.uniform(0.3, 0.95) - np.arange(int(rng.integers(2, 6))) * rng.uniform(0.05, 0.12):
        half = rng.choice([0.006, 0.012, 0.026])
        cover = np.maximum(cover, 1 - smoothstep(half - 0.003, half + 0.003, np.abs(way - middle)))
    return np.where(spot.inside, 0, cover)


def paint_bands(spot: SurfacePoints, style: Style) -> Coat:
    """Paint bands in the main color on a pale ground, or the reverse."""
    rng = style.rng
    ground, first = (style.light, style.main) if rng.random() < 0.6 else (style.main, style.light)
    zone = smoothstep(-0.003, 0.003, np.abs(spot.along - rng.uniform(0.5, 0.75)) - rng.uniform(0.06, 0.16))
    color = mix(first, ground, np.where(spot.inside, 1, zone))
    color = mix(color, style.accent, draw_stripes(spot, style, rng))
    return Coat(color * (0.93 + 0.12 * fbm(spot.p * 6, style.seed))[:, None], fill(spot, 0.9))


def paint_pattern(spot: SurfacePoints, style: Style) -> Coat:
    """Paint checks, dots, chevrons or vertical stripes around the body."""
    rng = style.rng
    kind, count = rng.integers(4), int(rng.choice([14, 18, 22]))
    x, y = spot.turn * count, spot.along * count * spot.girth
    if kind == 0:
        cover = ((np.floor(x) + np.floor(y)) % 2).astype(np.float32)
    elif kind == 1:
        x = x + 0.5 * (np.floor(y) % 2)
        cover = 1 - smoothstep(0.24, 0.3, np.hypot(x - np.floor(x) - 0.5, y - np.floor(y) - 0.5))
    elif kind == 2:
        cover = smoothstep(0.44, 0.5, np.abs((y * 0.7 + np.abs(x - np.floor(x) - 0.5)) % 1 - 0.5) * 2)
    else:
        cover = smoothstep(0.2, 0.24, np.abs((x + rng.uniform(-1, 1) * y * 0.5) % 1 - 0.5))
    zone = (spot.along > rng.uniform(0.1, 0.3)) & (spot.along < rng.uniform(0.88, 1)) & ~spot.inside
    first, second = (style.light, style.main) if rng.random() < 0.6 else (style.main, style.light)
    color = mix(first, second, cover * zone) * (0.95 + 0.1 * fbm(spot.p * 6, style.seed))[:, None]
    return Coat(color, fill(spot, 0.9))


def paint_marble(spot: SurfacePoints, style: Style) -> Coat:
    """Paint veined stone or marbled slips: the same pattern in weaker or stronger colors."""
    rng = style.rng
    swirl = np.stack([fbm(spot.p * 1.3 + 3.7 * i, style.seed + 9 * i, 3) for i in range(3)], 1)
    flow = spot.p @ draw_direction(rng) * 1.6 + 2.4 * (swirl[:, 0] - 0.5) + 0.5 * (swirl[:, 1] - 0.5)
    vein = 1 - smoothstep(0.0, 0.04 + 0.2 * float(rng.random() < 0.4), np.abs(flow % 0.5 - 0.25))
    vein = np.maximum(vein, 0.5 - 0.5 * smoothstep(0, 0.05, np.abs((flow * 1.7 + swirl[:, 2]) % 0.6 - 0.3)))
    ground, line = (style.light, style.accent) if rng.random() < 0.5 else (style.main, style.light)
    cloud = mix(ground, ground * 0.65 + style.main * 0.15, smoothstep(0.35, 0.8, swirl[:, 1]))
    return Coat(mix(cloud, line, 0.8 * vein), fill(spot, 0.7), rough=0.06)


def draw_direction(rng: np.random.Generator) -> Array:
    """Draw a random direction."""
    v = rng.normal(size=3)
    return v / np.linalg.norm(v)


def paint_metal(spot: SurfacePoints, style: Style) -> Coat:
    """Paint polished or satin metal with slight variations of tone."""
    rng = style.rng
    tone = 0.86 + 0.18 * fbm(spot.p * 2.5, style.seed)
    color = decode_srgb(str(rng.choice(METALS))) * tone[:, None]
    return Coat(color, fill(spot, 1), rough=float(rng.choice([0.12, 0.25, 0.4])), metal=True)


def paint_glass(spot: SurfacePoints, style: Style) -> Coat:
    """Paint tinted glass; the albedo is the color after a short path through it."""
    tint = decode_srgb(str(style.rng.choice(TINTS)))
    return Coat(np.broadcast_to(tint, spot.p.shape), fill(spot, 1), rough=0.03, clear=True)


LOOKS: dict[str, Callable[[SurfacePoints, Style], Coat]] = {
    "glaze": paint_glaze,
    "reactive": paint_reactive,
    "terracotta": paint_terracotta,
    "speckle": paint_speckle,
    "dip": paint_dip,
    "bands": paint_bands,
    "pattern": paint_pattern,
    "marble": paint_marble,
    "metal": paint_metal,
    "glass": paint_glass,
}


def paint_planks(x: Array, z: Array, color: Array, seed: int) -> Array:
    """Paint boards that run away from the camera, each with its own tone and grain."""
    board = np.floor(x / 0.42).astype(np.int32)
    own = hash_cells(np.stack([board, board * 0], 1), seed)
    q = np.stack([x * 9, z * 0.9 + own * 40], 1)
    ring = fbm(q * 0.5, seed + 1, 2) * 7
    grain = 0.5 * np.abs(ring % 1 - 0.5) * 2 + 0.5 * fbm(q * [4, 1], seed + 4, 3)
    seam = smoothstep(0.0, 0.014, np.abs((x / 0.42) % 1 - 0.5) * -1 + 0.5)
    tone: Array = (0.62 + 0.25 * own + 0.42 * grain) * (0.35 + 0.65 * seam)
    return color * tone[:, None]


def paint_table(kind: str, p: Array, color: Array, seed: int) -> Array:
    """Paint the tabletop at points of the plane y = 0."""
    xz = np.ascontiguousarray(p[:, [0, 2]])
    if kind == "wood":
        return paint_planks(p[:, 0], p[:, 2], color, seed)
    if kind == "stone":
        swirl = np.stack([fbm(xz * 1.1 + 5 * i, seed + i, 3) for i in range(2)], 1)
        vein = 1 - smoothstep(0, 0.06, np.abs(fbm(xz * 0.9 + 2 * swirl, seed + 8) - 0.5))
        return mix(color, color * 0.4, 0.55 * vein + 0.2 * swirl[:, 0])
    if kind == "terrazzo":
        near, next_, mark = find_nearest_cells(xz * 7, seed)
        chip = smoothstep(0.05, 0.1, (next_ - near) - 0.5 * (1 - mark)) * (mark > 0.35)
        return mix(color, color * 0.35 + decode_srgb(PALETTES[seed % 12][0]) * 0.5, chip * (mark * 7 % 1))
    if kind == "linen":
        weave = np.sin(xz[:, 0] * 95) * np.sin(xz[:, 1] * 95) * 0.05 + 0.16 * fbm(xz * [3, 40], seed, 2)
        return color * (0.86 + weave + 0.12 * fbm(xz * [40, 3], seed + 5, 2))[:, None]
    return color * (0.97 + 0.05 * fbm(xz * 2, seed, 3))[:, None]


def paint_wall(kind: str, p: Array, color: Array, seed: int) -> Array:
    """Paint the wall, slightly out of focus."""
    xy = np.ascontiguousarray(p[:, :2])
    if kind == "tiles":
        size = np.array([0.62, 0.31]) if seed % 2 else np.array([0.4, 0.4])
        q = xy / size
        q[:, 0] += 0.5 * (np.floor(q[:, 1]) % 2) * (seed % 2)
        tile = np.floor(q).astype(np.int32)
        edge = (0.5 - np.abs(q - tile - 0.5)) * size
        face = color * (0.8 + 0.22 * hash_cells(tile, seed) + 0.1 * (q[:, 1] - tile[:, 1]))[:, None]
        return mix(color * 0.45, face, smoothstep(0.004, 0.026, edge.min(1)))
    if kind == "lights":
        glow = color * 0.06 * (0.6 + 0.8 * smoothstep(0, 2.5, xy[:, 1]))[:, None]
        rng = np.random.default_rng(seed)
        for _ in range(34):
            spot, width = rng.uniform([-3.2, 0.1], [3.2, 3.4]), rng.uniform(0.1, 0.26)
            hue = mix(
                decode_srgb("ffb561"), decode_srgb(str(rng.choice(["ff7a4a", "ffe2b0", "9fc4ff"]))), rng.random(1)
            )[0]
            d = np.hypot(*(xy - spot).T) / width
            disc = (1 - smoothstep(0.85, 1.05, d)) * (0.7 + 0.3 * d**4)
            glow = glow + hue * (rng.uniform(0.2, 0.9) * disc)[:, None]
        return glow
    return color * (0.86 + 0.24 * fbm(xy * 1.6, seed, 5))[:, None]
