"""Comparison of the pixels of two aligned pictures, block by block."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simsearch.matching.alignment import Alignment, Matrix
from simsearch.matching.features import SIDE_PX, PictureRendition
from simsearch.matching.opencv import average_windows, blur, refine_map, shrink, warp
from simsearch.matching.sharpness import BLOCK_PX, measure_sharpness, sum_blocks

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

_FINE_SIGMA_PX, _WIDE_SIGMA_PX = 1.0, 2.5
_CORRELATION, _CLOSE_CORRELATION = 0.9, 0.95
_NOISE = 2.0
_MIN_DETAIL = 2.0
_MIN_INSIDE = 0.6
_MAX_SHARPNESS_RATIO = 1.5
_BLURS_PX = (0.4, 0.6, 0.8, 1.0, 1.3, 1.7, 2.2)
_VARIANCE_FLOOR = 1e-3
_MIN_COLORED_BLOCKS, _MIN_CHROMA = 8, 3.0


@dataclass(frozen=True, slots=True)
class PixelComparison:
    """The comparison of the frame of one picture with a part of another picture.

    `to_other` maps the frame to the other picture, in shares of the sides. `n_detailed` counts the blocks that lie in
    both and have detail in one of them. `agreement` is the share of these whose details correlate by at least 0.9, or
    differ by less than 2 gray levels, as compression changes them; `close_agreement` requires 0.95, and
    `central_agreement` is the share of the 6 x 6 blocks in the middle, 1 if none of them has detail. `overlap` is the
    share of the frame that lies in the other picture. `gain` is the contrast of the frame over that of the other
    picture, `offset` the difference of their means, and `difference` the median absolute difference after both, in gray
    levels. `contrast` is the standard deviation of the frame in gray levels. `agrees` (12, 12) tells the blocks that
    `agreement` counts.
    """

    to_other: Matrix
    n_detailed: int
    agreement: float
    close_agreement: float
    central_agreement: float
    overlap: float
    gain: float
    offset: float
    difference: float
    contrast: float
    agrees: Mask


def compare_pixels(
    frame: PictureRendition, other: PictureRendition, alignment: Alignment, *, refine: bool = False
) -> PixelComparison:
    """Compare the frame of one picture with what the alignment, from the frame to the other, shows of the other.

    Detail is the difference of two Gaussian blurs, so that neither gradual light nor the finest grain counts. With
    `refine` the alignment is first refined by the pixels, if that improves their correlation.
    """
    target = frame.square
    source = _shrink_for(other, alignment.to_b, SIDE_PX)
    mapped = _to_pixels(alignment.to_b, source.shape, SIDE_PX)
    sampled, inside = warp(source, mapped, SIDE_PX)
    if refine and (better := refine_map(target, source, mapped)) is not None:
        again, inside_again = warp(source, better, SIDE_PX)
        if _correlate(target, again, inside_again) > _correlate(target, sampled, inside):
            sampled, inside, mapped = again, inside_again, better
    to_other = _from_pixels(mapped, source.shape)
    return _compare_squares(target, sampled, inside, to_other, (frame.sharpness, measure_sharpness(sampled)))


def compare_whole_pictures(a: PictureRendition, b: PictureRendition, alignment: Alignment) -> PixelComparison:
    """Compare two whole pictures as they are, or mirrored if the alignment does; else as `compare_pixels`."""
    sampled = b.square
    if alignment.to_b[0, 0] < 0:
        sampled = np.ascontiguousarray(sampled[:, ::-1])
    everywhere = np.ones((SIDE_PX, SIDE_PX), np.bool_)
    return _compare_squares(a.square, sampled, everywhere, alignment.to_b, (a.sharpness, b.sharpness))


def _compare_squares(
    target: Floats, sampled: Floats, inside: Mask, to_other: Matrix, sharpness: tuple[float, float]
) -> PixelComparison:
    weight = inside.astype(np.float32)
    n_inside = sum_blocks(weight)
    n = np.maximum(n_inside, 1)
    (sharp_a, sharp_b), widening = _equalize_sharpness(target, sampled, sharpness)
    details = [blur(some, _FINE_SIGMA_PX) - blur(some, _WIDE_SIGMA_PX * widening) for some in (sharp_a, sharp_b)]
    a, b = ((some - _spread_blocks((sum_blocks(some * weight) / n).astype(np.float32))) * weight for some in details)
    energy_a, energy_b = sum_blocks(a * a), sum_blocks(b * b)
    correlations = sum_blocks(a * b) / np.sqrt(np.maximum(energy_a * energy_b, _VARIANCE_FLOOR))
    detail = np.sqrt(np.maximum(energy_a, energy_b) / n)
    is_noise = detail * np.sqrt(np.maximum(0, 1 - correlations**2)) <= _NOISE
    is_counted = (n_inside >= _MIN_INSIDE * BLOCK_PX**2) & (detail >= _MIN_DETAIL)
    agrees = is_counted & (is_noise | (correlations >= _CORRELATION))
    agrees_closely = is_counted & (is_noise | (correlations >= _CLOSE_CORRELATION))
    n_detailed = int(is_counted.sum())
    gain, offset, difference = _fit_tone(target, sampled, inside)
    return PixelComparison(
        to_other=to_other,
        n_detailed=n_detailed,
        agreement=int(agrees.sum()) / max(1, n_detailed),
        close_agreement=int(agrees_closely.sum()) / max(1, n_detailed),
        central_agreement=_measure_center(agrees, is_counted, if_none=1.0),
        overlap=float(weight.mean()),
        gain=gain,
        offset=offset,
        difference=difference,
        contrast=float(target.std()),
        agrees=agrees,
    )


def _measure_center(agrees: Mask, is_counted: Mask, *, if_none: float) -> float:
    """The share of the counted blocks or cells (n, n) in the middle half of both sides that agree."""
    quarter = len(agrees) // 4
    center = slice(quarter, -quarter)
    n_counted = int(is_counted[center, center].sum())
    return int((agrees & is_counted)[center, center].sum()) / n_counted if n_counted else if_none


def correlate_colors(frame: PictureRendition, other: PictureRendition, compared: PixelComparison) -> float:
    """The correlation of the colors of two aligned pictures in the blocks that agree, 1 where either has few colors.

    Saturation, gamma and the tint of paper change colors everywhere alike.
    """
    side, n = frame.chroma.shape[1], compared.agrees.shape[0]
    mapped = _to_pixels(compared.to_other, (side, side), side)
    sampled = np.stack([warp(channel, mapped, side)[0] for channel in other.chroma])
    a, b = (
        some.reshape(2, n, side // n, n, side // n).mean((2, 4))[:, compared.agrees] for some in (frame.chroma, sampled)
    )
    if a.shape[1] < _MIN_COLORED_BLOCKS:
        return 1.0
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    energy_a, energy_b = float((a * a).sum()), float((b * b).sum())
    if min(energy_a, energy_b) < _MIN_CHROMA**2 * a.shape[1]:
        return 1.0
    return float((a * b).sum()) / math.sqrt(energy_a * energy_b)


@dataclass(frozen=True, slots=True)
class LocalAgreement:
    """The shares of the detail of two aligned pictures that the other one shows, too, pixel by pixel.

    What covers a picture adds detail to one of them, and hides some of the other. So `larger` is the share of the
    picture of which more is found, `smaller` that of the other one. `coverage` is the share of the 16 x 16 cells with
    detail in which the pictures agree, at least in part, `central_coverage` the same of the 8 x 8 cells in the middle,
    and `gap` that of those cells which lie in one rectangle of cells where they nowhere agree. `difference` is the
    median absolute difference where they agree, in gray levels.
    """

    larger: float
    smaller: float
    coverage: float
    central_coverage: float
    gap: float
    difference: float


_LOCAL_SIDE_PX, _WINDOW_PX, _N_CELLS = 192, 9, 16
_LOCAL_VARIANCE, _LOCAL_CORRELATION, _WORTH_REFINING = 16.0, 0.92, 0.2
_CELL_DETAIL, _CELL_AGREEMENT, _CELL_TRACE = 0.15, 0.25, 0.2


def measure_local_agreement(frame: PictureRendition, other: PictureRendition, alignment: Alignment) -> LocalAgreement:
    """Compare the surroundings of each pixel, 9 px of 192, so that the gaps between letters or lines count."""
    whole, part = (_shrink_for(frame, np.eye(3), _LOCAL_SIDE_PX), _shrink_for(other, alignment.to_b, _LOCAL_SIDE_PX))
    target, _ = warp(whole, _to_pixels(np.eye(3), whole.shape, _LOCAL_SIDE_PX), _LOCAL_SIDE_PX)
    mapped = _to_pixels(alignment.to_b, part.shape, _LOCAL_SIDE_PX)
    found = _agree_locally(target, *warp(part, mapped, _LOCAL_SIDE_PX))
    if alignment.n_inliers == 0 or found.larger < _WORTH_REFINING:
        return found
    better = refine_map(target, part, mapped)
    if better is None:
        return found
    return max(found, _agree_locally(target, *warp(part, better, _LOCAL_SIDE_PX)), key=lambda one: one.smaller)


def _agree_locally(target: Floats, sampled: Floats, inside: Mask) -> LocalAgreement:
    a, b = blur(target, 1.0), blur(sampled, 1.0)
    mean_a, mean_b = average_windows(a, _WINDOW_PX), average_windows(b, _WINDOW_PX)
    variance_a = average_windows(a * a, _WINDOW_PX) - mean_a * mean_a
    variance_b = average_windows(b * b, _WINDOW_PX) - mean_b * mean_b
    covariance = average_windows(a * b, _WINDOW_PX) - mean_a * mean_b
    agrees = covariance > _LOCAL_CORRELATION * np.sqrt(np.maximum(variance_a * variance_b, _VARIANCE_FLOOR))
    has_a, has_b = (inside & (variance > _LOCAL_VARIANCE) for variance in (variance_a, variance_b))
    has_any = has_a | has_b
    agrees &= has_any
    shares = sorted(int((agrees & some).sum()) / max(1, int(some.sum())) for some in (has_a, has_b))
    detail, agreeing = _sum_cells(has_any), _sum_cells(agrees)
    is_counted = detail > _CELL_DETAIL * (_LOCAL_SIDE_PX // _N_CELLS) ** 2
    is_covered = is_counted & (agreeing > _CELL_AGREEMENT * detail)
    return LocalAgreement(
        larger=shares[1],
        smaller=shares[0],
        coverage=int(is_covered.sum()) / max(1, int(is_counted.sum())),
        central_coverage=_measure_center(is_covered, is_counted, if_none=0.0),
        gap=_measure_gap(is_counted, agreeing > _CELL_TRACE * detail),
        difference=float(np.median(np.abs(a - b)[agrees])) if agrees.any() else 255.0,
    )


def _measure_gap(is_counted: Mask, agrees: Mask) -> float:
    """The share of the counted cells (n, n) in one rectangle of cells of which none agrees, at most."""
    tops, bottoms = np.triu_indices(len(agrees))
    n_counted, n_agreeing = (
        sums[bottoms + 1] - sums[tops]
        for sums in (np.pad(mask.cumsum(0), ((1, 0), (0, 0))) for mask in (is_counted, agrees))
    )
    run, largest = np.zeros(len(tops), np.int64), 0
    for n, n_agree in zip(n_counted.T, n_agreeing.T, strict=True):  # the columns, for all ranges of rows at once
        run = np.where(n_agree > 0, 0, run + n)
        largest = max(largest, int(run.max()))
    return largest / max(1, int(is_counted.sum()))


def _sum_cells(mask: Mask) -> NDArray[np.int64]:
    side = _LOCAL_SIDE_PX // _N_CELLS
    sums: NDArray[np.int64] = mask.reshape(_N_CELLS, side, _N_CELLS, side).sum((1, 3))
    return sums


def _equalize_sharpness(a: Floats, b: Floats, sharpness: tuple[float, float]) -> tuple[tuple[Floats, Floats], float]:
    """Blur the sharper picture as much as the other one was blurred or enlarged.

    Also returns the factor by which the bands of detail must widen then. More blur leaves less sharpness, so the blur
    is found by halving its range.
    """
    sharper, target = (a, sharpness[1]) if sharpness[0] > sharpness[1] else (b, sharpness[0])
    if min(sharpness) <= 0 or max(sharpness) < _MAX_SHARPNESS_RATIO * min(sharpness):
        return (a, b), 1.0
    low, high = 0, len(_BLURS_PX) - 1
    while low < high:
        middle = (low + high) // 2
        if measure_sharpness(blur(sharper, _BLURS_PX[middle])) > target:
            low = middle + 1
        else:
            high = middle
    sigma = _BLURS_PX[low]
    best = blur(sharper, sigma)
    return ((best, b) if sharper is a else (a, best)), math.sqrt(1 + (sigma / _FINE_SIGMA_PX) ** 2)


def _fit_tone(target: Floats, sampled: Floats, inside: Mask) -> tuple[float, float, float]:
    """Fit gain and offset of the tones, and compute the mean absolute difference that remains."""
    if not inside.any():
        return 1.0, 255.0, 255.0
    y, x = target[inside], sampled[inside]
    offset = float(y.mean() - x.mean())
    y, x = y - y.mean(), x - x.mean()
    gain = float((x * y).sum() / max(float((x * x).sum()), _VARIANCE_FLOOR))
    return gain, offset, float(np.abs(y - gain * x).mean())


def _correlate(a: Floats, b: Floats, inside: Mask) -> float:
    if inside.sum() < SIDE_PX:
        return -1.0
    x, y = a[inside] - a[inside].mean(), b[inside] - b[inside].mean()
    return float((x * y).sum() / np.sqrt(max(float((x * x).sum() * (y * y).sum()), _VARIANCE_FLOOR)))


def _shrink_for(picture: PictureRendition, to_picture: Matrix, side_px: int) -> Floats:
    """Shrink a rendition so that a pixel of the square covers about one pixel of the result, against aliasing."""
    gray = picture.gray.astype(np.float32)
    height, width = gray.shape
    spans = np.ptp(map_points(to_picture, CORNERS), axis=0)
    across, down = (max(1.0, span * length / side_px) for span, length in zip(spans, (width, height), strict=True))
    size = (max(8, round(height / down)), max(8, round(width / across)))
    return gray if size == gray.shape else shrink(gray, *size)


CORNERS: Matrix = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])
"""The corners of a picture in shares of its sides, clockwise from the upper left."""


def map_points(matrix: Matrix, points: Matrix) -> Matrix:
    """Map points (n, 2) by a homography."""
    mapped = np.column_stack([points, np.ones(len(points))]) @ matrix.T
    depths = mapped[:, 2:]
    result: Matrix = mapped[:, :2] / np.where(np.abs(depths) < 1e-6, 1e-6, depths)
    return result


def _to_pixels(to_picture: Matrix, shape: tuple[int, ...], side_px: int) -> Matrix:
    """The map from pixel centers of a square to pixel centers of a picture of this shape."""
    to_share = np.array([[1 / side_px, 0, 0.5 / side_px], [0, 1 / side_px, 0.5 / side_px], [0, 0, 1]])
    to_pixel = np.array([[shape[1], 0, -0.5], [0, shape[0], -0.5], [0, 0, 1]])
    mapped: Matrix = to_pixel @ to_picture @ to_share
    return mapped


def _from_pixels(mapped: Matrix, shape: tuple[int, ...]) -> Matrix:
    """The inverse of `_to_pixels` for a square of `SIDE_PX`."""
    to_pixel = np.array([[SIDE_PX, 0, -0.5], [0, SIDE_PX, -0.5], [0, 0, 1]])
    to_share = np.array([[1 / shape[1], 0, 0.5 / shape[1]], [0, 1 / shape[0], 0.5 / shape[0]], [0, 0, 1]])
    found = to_share @ mapped @ to_pixel
    normalized: Matrix = found / found[2, 2]
    return normalized


def _spread_blocks(blocks: Floats) -> Floats:
    return np.repeat(np.repeat(blocks, BLOCK_PX, 0), BLOCK_PX, 1)
