"""Comparison of the pixels of two aligned pictures, block by block."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simsearch.matching.alignment import Alignment, Matrix
from simsearch.matching.features import PictureRendition
from simsearch.matching.opencv import blur, refine_map, shrink, warp

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

SIDE_PX, N_BLOCKS = 96, 12
"""The side of the compared square, and the number of blocks along it."""

_BLOCK_PX = SIDE_PX // N_BLOCKS
_FINE_SIGMA_PX, _WIDE_SIGMA_PX = 1.0, 2.5
_CORRELATION, _CLOSE_CORRELATION = 0.9, 0.95
_NOISE = 2.0
_MIN_DETAIL = 2.0
_MIN_INSIDE = 0.6
_MAX_SHARPNESS_RATIO = 1.5
_BLURS_PX = (0.4, 0.6, 0.8, 1.0, 1.3, 1.7, 2.2)
_VARIANCE_FLOOR = 1e-3


@dataclass(frozen=True, slots=True)
class PixelComparison:
    """The comparison of the frame of one picture with a part of another picture.

    `to_other` maps the frame to the other picture, in shares of the sides. `n_detailed` counts the blocks that lie in
    both and have detail in one of them. `agreement` is the share of these whose details correlate by at least 0.9, or
    differ by less than 2 gray levels, as compression changes them; `close_agreement` requires 0.95. `coherence` is the
    share of the neighbors of agreeing blocks that agree, too. `overlap` is the share of the frame that lies in the
    other picture. `gain` is the contrast of the frame over that of the other
    picture, `offset` the difference of their means, and `difference` the mean absolute difference after both, in gray
    levels. `contrast` is the standard deviation of the frame in gray levels.
    """

    to_other: Matrix
    n_detailed: int
    agreement: float
    close_agreement: float
    coherence: float
    overlap: float
    gain: float
    offset: float
    difference: float
    contrast: float


def compare_pixels(
    frame: PictureRendition, other: PictureRendition, alignment: Alignment, *, refine: bool = False
) -> PixelComparison:
    """Compare the frame of one picture with what the alignment, from the frame to the other, shows of the other.

    Detail is the difference of two Gaussian blurs, so that neither gradual light nor the finest grain counts. With
    `refine` the alignment is first refined by the pixels, if that improves their correlation.
    """
    whole_frame = _shrink_for(frame, np.eye(3))
    target, _ = warp(whole_frame, _to_pixels(np.eye(3), whole_frame.shape), SIDE_PX)
    source = _shrink_for(other, alignment.to_b)
    mapped = _to_pixels(alignment.to_b, source.shape)
    sampled, inside = warp(source, mapped, SIDE_PX)
    if refine and (better := refine_map(target, source, mapped)) is not None:
        again, inside_again = warp(source, better, SIDE_PX)
        if _correlate(target, again, inside_again) > _correlate(target, sampled, inside):
            sampled, inside, mapped = again, inside_again, better
    return _compare_blocks(target, sampled, inside, _from_pixels(mapped, source.shape))


def _compare_blocks(target: Floats, sampled: Floats, inside: Mask, to_other: Matrix) -> PixelComparison:
    weight = inside.astype(np.float32)
    n_inside = _sum_blocks(weight)
    n = np.maximum(n_inside, 1)
    (sharp_a, sharp_b), widening = _equalize_sharpness(target, sampled)
    details = [blur(some, _FINE_SIGMA_PX) - blur(some, _WIDE_SIGMA_PX * widening) for some in (sharp_a, sharp_b)]
    a, b = ((some - _spread_blocks((_sum_blocks(some * weight) / n).astype(np.float32))) * weight for some in details)
    energy_a, energy_b = _sum_blocks(a * a), _sum_blocks(b * b)
    correlations = _sum_blocks(a * b) / np.sqrt(np.maximum(energy_a * energy_b, _VARIANCE_FLOOR))
    detail = np.sqrt(np.maximum(energy_a, energy_b) / n)
    is_noise = detail * np.sqrt(np.maximum(0, 1 - correlations**2)) <= _NOISE
    is_counted = (n_inside >= _MIN_INSIDE * _BLOCK_PX**2) & (detail >= _MIN_DETAIL)
    agrees = is_counted & (is_noise | (correlations >= _CORRELATION))
    agrees_closely = is_counted & (is_noise | (correlations >= _CLOSE_CORRELATION))
    n_detailed = int(is_counted.sum())
    gain, offset, difference = _fit_tone(target, sampled, inside)
    return PixelComparison(
        to_other=to_other,
        n_detailed=n_detailed,
        agreement=int(agrees.sum()) / max(1, n_detailed),
        close_agreement=int(agrees_closely.sum()) / max(1, n_detailed),
        coherence=_measure_coherence(agrees, is_counted),
        overlap=float(weight.mean()),
        gain=gain,
        offset=offset,
        difference=difference,
        contrast=float(target.std()),
    )


def _equalize_sharpness(a: Floats, b: Floats) -> tuple[tuple[Floats, Floats], float]:
    """Blur the sharper picture as much as the other one was blurred or enlarged.

    Also returns the factor by which the bands of detail must widen then.
    """
    sharpness = [_measure_sharpness(some) for some in (a, b)]
    sharper, target = (a, sharpness[1]) if sharpness[0] > sharpness[1] else (b, sharpness[0])
    if min(sharpness) <= 0 or max(sharpness) < _MAX_SHARPNESS_RATIO * min(sharpness):
        return (a, b), 1.0
    blurred = [(sigma, blur(sharper, sigma)) for sigma in _BLURS_PX]
    sigma, best = min(blurred, key=lambda pair: abs(np.log(max(_measure_sharpness(pair[1]), 1e-6) / target)))
    return ((best, b) if sharper is a else (a, best)), math.sqrt(1 + (sigma / _FINE_SIGMA_PX) ** 2)


def _measure_sharpness(picture: Floats) -> float:
    """The energy of the finest detail as a share of that of coarser detail: the median of the blocks."""
    fine, wide = blur(picture, 0.7), blur(picture, 2.0)
    coarse_energy = _sum_blocks(np.square(fine - wide))
    has_detail = coarse_energy > _BLOCK_PX**2
    if not has_detail.any():
        return 0.0
    return float(np.median(_sum_blocks(np.square(picture - fine))[has_detail] / coarse_energy[has_detail]))


def _measure_coherence(agrees: Mask, is_counted: Mask) -> float:
    """The share of the counted neighbors (right and below) of agreeing blocks that agree."""
    n_both = n_either = 0
    for a, b in (((slice(None), slice(1, None)), (slice(None), slice(-1))), ((slice(1, None),), (slice(-1),))):
        are_counted = is_counted[a] & is_counted[b]
        n_both += int((agrees[a] & agrees[b] & are_counted).sum())
        n_either += int(((agrees[a] | agrees[b]) & are_counted).sum())
    return n_both / max(1, n_either)


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


def _shrink_for(picture: PictureRendition, to_picture: Matrix) -> Floats:
    """Shrink a rendition so that a pixel of the square covers about one pixel of the result, against aliasing."""
    gray = picture.gray.astype(np.float32)
    height, width = gray.shape
    spans = np.ptp(map_points(to_picture, CORNERS), axis=0)
    across, down = (max(1.0, span * length / SIDE_PX) for span, length in zip(spans, (width, height), strict=True))
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


def _to_pixels(to_picture: Matrix, shape: tuple[int, ...]) -> Matrix:
    """The map from pixel centers of the square to pixel centers of a picture of this shape."""
    to_share = np.array([[1 / SIDE_PX, 0, 0.5 / SIDE_PX], [0, 1 / SIDE_PX, 0.5 / SIDE_PX], [0, 0, 1]])
    to_pixel = np.array([[shape[1], 0, -0.5], [0, shape[0], -0.5], [0, 0, 1]])
    mapped: Matrix = to_pixel @ to_picture @ to_share
    return mapped


def _from_pixels(mapped: Matrix, shape: tuple[int, ...]) -> Matrix:
    """The inverse of `_to_pixels`."""
    to_pixel = np.array([[SIDE_PX, 0, -0.5], [0, SIDE_PX, -0.5], [0, 0, 1]])
    to_share = np.array([[1 / shape[1], 0, 0.5 / shape[1]], [0, 1 / shape[0], 0.5 / shape[0]], [0, 0, 1]])
    found = to_share @ mapped @ to_pixel
    normalized: Matrix = found / found[2, 2]
    return normalized


def _sum_blocks(values: Floats) -> Floats:
    sums: Floats = values.reshape(N_BLOCKS, _BLOCK_PX, N_BLOCKS, _BLOCK_PX).sum((1, 3))
    return sums


def _spread_blocks(blocks: Floats) -> Floats:
    return np.repeat(np.repeat(blocks, _BLOCK_PX, 0), _BLOCK_PX, 1)
