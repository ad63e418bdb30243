"""Pixel alignment: decide whether two pictures are edits of one picture.

A network finds that two pictures show similar things: two motorbikes in front of the same white wall are as close as a
picture and its crop. Alignment compares the pixels. One thumbnail is warped onto the other, mirrored if necessary, by
the affine map that fits best; the map is found by inverse compositional alignment from coarse to fine (S. Baker and
I. Matthews, Lucas-Kanade 20 Years On, IJCV 56, 2004, section 3.2). The result is the correlation of the fine detail.
Gain and offset of the brightness are free.
"""

from __future__ import annotations

import functools
from itertools import product

import numpy as np
from numpy.typing import NDArray

from simsearch.images.decode import Pixels

SIDE_PX = 32
"""The side of the compared thumbnails."""

MIN_LIKENESS = 0.965
"""The minimum likeness of two edits of one picture.

For each edit in `edits.py`, at least 98 % of 500 photographs reach it. Of the 1,500 pairs of `caltech101_small` that
are most similar by MobileNetV2, 13 reach it, and all are the same picture; the next pair has 0.962.
"""

Floats = NDArray[np.float32]

_N_IN_BATCH = 64  # fits into the cache of a processor
_START_FACTOR = 2
_STEPS = ((2, 8), (1, 4))
"""For each scale, the factor by which thumbnails are reduced, and the number of alignment steps."""
_DAMPING = np.float32(1e-2)
_FINE_BOX, _WIDE_BOX = 3, 7
_MIN_VARIATION = 1e-6
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601 luma, as Pillow's "L"
_IDENTITY = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
_MIN_MAP = np.array([[0.75, -0.25, -0.25], [-0.25, 0.75, -0.25]], np.float32)
_MAX_MAP = np.array([[1.35, 0.25, 0.25], [0.25, 1.35, 0.25]], np.float32)
_SHIFTS = (-0.08, 0.0, 0.08)
_STARTS = (
    _IDENTITY,
    *(np.array([[s, 0, x], [0, s, y]], np.float32) for s, x, y in product((0.92, 1.09), _SHIFTS, _SHIFTS)),
)
"""The initial maps of the alignment: no change, and crops from the center, the sides and the corners."""


def measure_likeness(a: Pixels, b: Pixels) -> Floats:
    """Measure how well each of `b` aligns with that of `a`: thumbnails (p, 32, 32, 3), likenesses (p,) in [-1, 1].

    The likeness is the correlation of fine color detail where the two overlap; 1 means the same picture. A picture
    without detail has a low likeness with every picture. Pairs that reach `MIN_LIKENESS` unaligned are not aligned.
    """
    batches = range(0, len(a), _N_IN_BATCH)
    found = [_measure_batch(a[start : start + _N_IN_BATCH], b[start : start + _N_IN_BATCH]) for start in batches]
    return np.concatenate(found) if found else np.empty(0, np.float32)


def _measure_batch(a: Pixels, b: Pixels) -> Floats:
    """Compare unaligned first, then align the rest: most edits need no alignment, which takes ten times as long."""
    target, other = (np.ascontiguousarray(batch.transpose(0, 3, 1, 2), np.float32) for batch in (a, b))
    best = _compare_unaligned(target, other)
    poor = np.flatnonzero(best < MIN_LIKENESS)
    if len(poor):
        best[poor] = np.maximum(best[poor], _compare_aligned(target[poor], other[poor]))
    return best


def _compare_unaligned(target: Floats, other: Floats) -> Floats:
    """Compute the likeness (p,) of channels (p, 3, side, side) without a map, upright or mirrored."""
    everywhere = np.ones((1, 1, SIDE_PX * SIDE_PX), np.float32)
    a, b = _extract_detail(target), _extract_detail(other)
    return np.maximum(_correlate(a, b, everywhere), _correlate(a, b[..., ::-1], everywhere))


def _compare_aligned(target: Floats, other: Floats) -> Floats:
    """Compute the likeness (p,) under the best map, starting from the best initial map, upright or mirrored."""
    maps, is_mirrored = _choose_starts(target, other)
    source = np.where(is_mirrored[:, None, None, None], other[..., ::-1], other)
    for factor, n_steps in _STEPS:
        maps = _refine_maps(_convert_to_gray(target, factor), _convert_to_gray(source, factor), maps, n_steps)
    warped, is_inside = _warp(source.reshape(-1, SIDE_PX, SIDE_PX), np.repeat(maps, 3, axis=0))
    inside = is_inside[::3, None].astype(np.float32)
    completed = _fill_outside(warped.reshape(len(maps), 3, -1), target.reshape(len(maps), 3, -1), inside)
    return _correlate(_extract_detail(target), _extract_detail(completed.reshape(target.shape)), inside)


def _choose_starts(target: Floats, other: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Choose the best initial map (p, 2, 3) before any step, and whether the picture is mirrored (p,)."""
    n = len(target)
    warps, inside = _build_start_warps()
    gray_target, upright = _convert_to_gray(target, _START_FACTOR), _convert_to_gray(other, _START_FACTOR)
    flat, n_inside = gray_target.reshape(n, -1), inside.sum(1)
    total_a = flat @ inside.T
    spread_a = (flat * flat) @ inside.T - total_a**2 / n_inside
    fits = []
    for source in (upright, upright[:, :, ::-1]):
        warped = (source.reshape(n, -1) @ warps).reshape(n, *inside.shape) * inside
        total_b = warped.sum(2)
        spread_b = (warped * warped).sum(2) - total_b**2 / n_inside
        both = (warped @ flat[..., None])[..., 0] - total_a * total_b / n_inside
        fits.append(both / np.sqrt(np.maximum(spread_a * spread_b, _MIN_VARIATION)))
    best = np.argmax(np.concatenate(fits, axis=1), axis=1)
    return np.stack(_STARTS)[best % len(_STARTS)], best >= len(_STARTS)


@functools.cache
def _build_start_warps() -> tuple[Floats, Floats]:
    """Build one matrix (side^2, starts * side^2) for all initial warps, which are linear, and masks of their inside."""
    side = SIDE_PX // _START_FACTOR
    pixels = np.eye(side * side, dtype=np.float32).reshape(-1, side, side)
    warped = [_warp(pixels, np.broadcast_to(start, (side * side, 2, 3))) for start in _STARTS]
    inside = np.stack([is_inside[0] for _, is_inside in warped])
    return np.concatenate([some for some, _ in warped], axis=1), inside.astype(np.float32)


def _convert_to_gray(channels: Floats, factor: int) -> Floats:
    """Convert to reduced gray pictures (p, side / factor, side / factor), each with mean 0 and deviation 1."""
    n, side = len(channels), SIDE_PX // factor
    gray = np.einsum("pcyx,c->pyx", channels, _LUMA)
    smaller = gray.reshape(n, side, factor, side, factor).mean((2, 4))
    centered = smaller - smaller.mean((1, 2), keepdims=True)
    return np.asarray(centered / np.maximum(centered.std((1, 2), keepdims=True), 1e-3), np.float32)


def _fill_outside(warped: Floats, target: Floats, inside: Floats) -> Floats:
    """Fill the pixels outside the overlap from the target, with the contrast and brightness of the inside: (p, 3, n).

    Any other filling would appear as detail along the edge of the overlap.
    """
    n_inside = np.maximum(inside.sum(2, keepdims=True), 1)
    means = [(some * inside).sum(2, keepdims=True) / n_inside for some in (warped, target)]
    spreads = [
        np.sqrt((((some - mean) * inside) ** 2).sum(2, keepdims=True) + _MIN_VARIATION)
        for some, mean in zip((warped, target), means, strict=True)
    ]
    return np.where(inside > 0, warped, (target - means[1]) * (spreads[0] / spreads[1]) + means[0])


def _extract_detail(channels: Floats) -> Floats:
    """Extract fine detail: without large-scale light, and without the finest grain, which resampling changes."""
    return _blur(channels, _FINE_BOX) - _blur(channels, _WIDE_BOX)


def _blur(channels: Floats, side_px: int) -> Floats:
    """Average over squares of an odd side; edge pixels are repeated outwards."""
    reach, length = side_px // 2, channels.shape[-1]
    padded = np.pad(channels, [(0, 0), (0, 0), (reach, reach), (reach, reach)], mode="edge")
    rows = padded[..., :length, :].copy()
    for offset in range(1, side_px):
        rows += padded[..., offset : offset + length, :]
    total = rows[..., :length].copy()
    for offset in range(1, side_px):
        total += rows[..., offset : offset + length]
    return total / np.float32(side_px**2)


def _correlate(a: Floats, b: Floats, inside: Floats) -> Floats:
    """Compute the Pearson correlation (p,) of channels (p, 3, side, side) inside a mask (p, 1, side^2).

    Each channel is centered on its own mean.
    """
    n_inside = np.maximum(inside.sum(2, keepdims=True), 1)
    flat = (some.reshape(len(some), 3, -1) * inside for some in (a, b))
    a, b = (some - inside * (some.sum(2, keepdims=True) / n_inside) for some in flat)
    spread = (a * a).sum((1, 2)) * (b * b).sum((1, 2))
    return np.asarray((a * b).sum((1, 2)) / np.sqrt(np.maximum(spread, _MIN_VARIATION)), np.float32)


def _refine_maps(target: Floats, other: Floats, maps: Floats, n_steps: int) -> Floats:
    """Refine maps (p, 2, 3) so that gray `other` aligns best with gray `target`, (p, side, side) each."""
    n, side = target.shape[:2]
    steepest = _compute_steepest_descent(target)
    hessian = steepest @ steepest.transpose(0, 2, 1) + _DAMPING * side**2 * np.eye(6, dtype=np.float32)
    to_step = np.linalg.inv(hessian) @ steepest
    best_fit, best = np.full(n, -np.inf, np.float32), maps.copy()
    for _ in range(n_steps):
        fit, residual = _compute_fit(target, other, maps)
        is_better = fit > best_fit
        best_fit[is_better], best[is_better] = fit[is_better], maps[is_better]
        maps = _update_maps(maps, (to_step @ residual[..., None])[..., 0])
    fit, _ = _compute_fit(target, other, maps)
    is_better = fit > best_fit
    best[is_better] = maps[is_better]
    return best


def _update_maps(maps: Floats, step: Floats) -> Floats:
    """Compose each map with the inverse of the small map that `step` (p, 6) describes, limited to slight edits."""
    small = np.tile(np.eye(3, dtype=np.float32), (len(maps), 1, 1))
    small[:, :2] += step.reshape(-1, 2, 3)
    whole = np.tile(np.eye(3, dtype=np.float32), (len(maps), 1, 1))
    whole[:, :2] = maps
    moved = (whole @ np.linalg.inv(small))[:, :2]
    return np.clip(moved, _MIN_MAP, _MAX_MAP)


def _compute_steepest_descent(target: Floats) -> Floats:
    """Compute the derivative of each pixel of `target` by each of the six numbers of a map: (p, 6, side * side)."""
    n, side = target.shape[:2]
    down, right = np.gradient(target, axis=(1, 2))
    grid = _build_pixel_grid(side)[None] * np.float32(side / 2)
    return np.concatenate([right.reshape(n, 1, -1) * grid, down.reshape(n, 1, -1) * grid], axis=1)


def _compute_fit(target: Floats, other: Floats, maps: Floats) -> tuple[Floats, Floats]:
    """Compute the correlation (p,) under maps, and the residual of each pixel (p, side * side) at equal contrast."""
    warped, is_inside = _warp(other, maps)
    weight = is_inside.astype(np.float32)
    n_inside = np.maximum(weight.sum(1, keepdims=True), 1)
    flat = target.reshape(len(target), -1)
    a, b = ((some - (some * weight).sum(1, keepdims=True) / n_inside) * weight for some in (flat, warped))
    spread_a, spread_b = (np.maximum((some * some).sum(1), _MIN_VARIATION) for some in (a, b))
    return (a * b).sum(1) / np.sqrt(spread_a * spread_b), b * np.sqrt(spread_a / spread_b)[:, None] - a


def _warp(pictures: Floats, maps: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Warp pictures (p, side, side) by maps with bilinear interpolation: (p, side * side), and a mask of the inside."""
    n, side = pictures.shape[:2]
    at = (maps @ _build_pixel_grid(side)) * np.float32(side / 2) + np.float32((side - 1) / 2)
    is_inside = ((at >= -0.5) & (at <= side - 0.5)).all(1)
    at = np.clip(at, 0, np.float32(side - 1.001))
    whole = at.astype(np.int32)
    part = at - whole
    rows = pictures.reshape(-1)
    first = np.arange(n, dtype=np.int32)[:, None] * (side * side) + whole[:, 1] * side + whole[:, 0]
    upper = rows[first]
    upper += (rows[first + 1] - upper) * part[:, 0]
    lower = rows[first + side]
    lower += (rows[first + side + 1] - lower) * part[:, 0]
    upper += (lower - upper) * part[:, 1]
    return upper, is_inside


def _build_pixel_grid(side: int) -> Floats:
    """Build x, y and 1 of the center of each pixel, (3, side * side); the picture spans -1 to 1."""
    middles = ((np.arange(side) - (side - 1) / 2) / (side / 2)).astype(np.float32)
    y, x = np.meshgrid(middles, middles, indexing="ij")
    return np.stack([x.ravel(), y.ravel(), np.ones(side * side, np.float32)])
