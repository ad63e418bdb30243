"""Seeded random views of a picture: the seven transformations of Keras's `ImageDataGenerator`, in one affine warp.

A view depends only on (seed, digest of the image, number of the view), so it is the same in any order, thread or
process. Lengths are fractions of the picture, so that a picture of one pixel has views as well.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from PIL import Image

from simsearch.errors import UsageError
from simsearch.images.decode import Pixels

_DECIMALS = 6
_ROUNDING_STEP = 10.0**-_DECIMALS


class _RangeLimit(NamedTuple):
    """The widest range that still leaves a picture, with the name and unit for messages."""

    widest: float
    name: str
    unit: str


_LIMITS = {
    "rotation_deg": _RangeLimit(180, "rotation", "degrees"),
    "width_shift": _RangeLimit(0.99, "width shift", "a fraction of the picture's width"),
    "height_shift": _RangeLimit(0.99, "height shift", "a fraction of the picture's height"),
    "shear_deg": _RangeLimit(89, "shear", "degrees"),
    "zoom": _RangeLimit(0.99, "zoom", "a fraction of the picture's sides"),
    "channel_shift": _RangeLimit(255, "channel shift", "gray levels"),
}

_PARAMETER_RANGES = {
    "rotation_deg": ("rotation_deg", 0.0),
    "shift_x": ("width_shift", 0.0),
    "shift_y": ("height_shift", 0.0),
    "shear_deg": ("shear_deg", 0.0),
    "zoom_x": ("zoom", 1.0),
    "zoom_y": ("zoom", 1.0),
    "channel_shift": ("channel_shift", 0.0),
}
"""The parameters of a transformation: the range each is sampled from, and its center. The order defines the views."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentationRanges:
    """The ranges of the random parameters, uniform around zero change, rounded to 6 decimals.

    Shifts are fractions of the width and the height; a shift in pixels is rejected. A zoom of 0.1 shows from 0.9 to 1.1
    of each side, sampled for each side separately. `shear_deg` is in degrees, as in Keras: 0.15 is hardly visible.
    `channel_shift` is in gray levels, the same in all channels. With `horizontal_flip` half of the views are flipped.

    Raises `UsageError` where a range is negative, not finite or leaves no picture.
    """

    rotation_deg: float = 30.0
    width_shift: float = 0.1
    height_shift: float = 0.1
    shear_deg: float = 0.15
    zoom: float = 0.1
    channel_shift: float = 10.0
    horizontal_flip: bool = True

    def __post_init__(self) -> None:
        for field, limit in _LIMITS.items():
            value = getattr(self, field)
            if not 0 <= value <= limit.widest:  # false for NaN as well
                problem = f"invalid {limit.name} range {value:g}"
                raise UsageError(problem, f"give {limit.unit}, from 0 (none) to {limit.widest:g}")
            object.__setattr__(self, field, _round(value))


@dataclass(frozen=True, slots=True, kw_only=True)
class Transformation:
    """The parameters of one view; the defaults leave the picture unchanged. Numbers are rounded to 6 decimals.

    `rotation_deg` rotates counterclockwise about the center. `shift_x` and `shift_y` move the picture right and down by
    fractions of its width and height. `zoom_x` and `zoom_y` are the visible fractions of the sides: 0.9 enlarges.
    `channel_shift` is in gray levels and is applied as a whole number. The horizontal flip is applied last.

    Raises `UsageError` beyond the widest ranges that `AugmentationRanges` allows.
    """

    rotation_deg: float = 0.0
    shift_x: float = 0.0
    shift_y: float = 0.0
    shear_deg: float = 0.0
    zoom_x: float = 1.0
    zoom_y: float = 1.0
    channel_shift: float = 0.0
    is_flipped: bool = False

    def __post_init__(self) -> None:
        for field, (range_name, middle) in _PARAMETER_RANGES.items():
            value, widest = getattr(self, field), _LIMITS[range_name].widest
            if not abs(value - middle) <= widest + _ROUNDING_STEP:
                raise UsageError(
                    f"invalid transformation: {field} is {value:g}", f"keep it within {middle:g} +- {widest:g}"
                )
            object.__setattr__(self, field, _round(value))

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, object]) -> Self:
        """Build a transformation from a mapping of its fields; other keys, such as the view's number, are ignored.

        Raises `UsageError` where a field is missing or has the wrong type.
        """
        try:
            values = {field.name: parameters[field.name] for field in dataclasses.fields(cls)}
        except KeyError as error:
            raise UsageError(f"invalid transformation: {error.args[0]} is missing", "give all fields") from error
        for field, value in values.items():
            if isinstance(value, bool) != (field == "is_flipped") or not isinstance(value, int | float):
                raise UsageError(f"invalid transformation: {field} is {value!r}", "give what `to_json` writes")
        return cls(**values)  # type: ignore[arg-type]  # the type of each was checked

    def to_json(self) -> str:
        """Serialize all fields, in order, as a JSON object: equal transformations give equal texts."""
        return json.dumps(dataclasses.asdict(self))

    def describe(self) -> str:
        """Describe the transformation in a few words; parameters that round to zero are left out."""
        right, down = round(100 * self.shift_x), round(100 * self.shift_y)
        wide, high = round(100 / self.zoom_x), round(100 / self.zoom_y)
        words = []
        if turn := round(self.rotation_deg):
            words.append(f"rotated {abs(turn)} deg {'left' if turn > 0 else 'right'}")
        ways = ((right, "right" if right > 0 else "left"), (down, "down" if down > 0 else "up"))
        if moves := [f"{abs(percent)} % {way}" for percent, way in ways if percent]:
            words.append(f"moved {' and '.join(moves)}")
        if lean := round(self.shear_deg):
            words.append(f"sheared {lean} deg")
        if (wide, high) != (100, 100):
            words.append(f"scaled to {wide} x {high} %")
        if levels := round(self.channel_shift):
            words.append(f"{'brighter' if levels > 0 else 'darker'} by {abs(levels)}")
        if self.is_flipped:
            words.append("flipped")
        return ", ".join(words) or "unchanged"


def sample_transformation(ranges: AugmentationRanges, seed: int, digest: str, number: int) -> Transformation:
    """Sample the transformation of view `number` of the image with this digest.

    The only source of randomness is one hash (BLAKE2b, 64 bytes) of seed, digest and number, with eight bytes for each
    parameter: a range of zero changes no other parameter, and no version of a random generator changes a view.
    """
    words = struct.unpack("<8Q", hashlib.blake2b(f"{seed}/{digest}/{number}".encode()).digest())
    *shares, flip = [word / 2**64 for word in words]
    numbers = {
        field: middle + (2 * share - 1) * getattr(ranges, range_name)
        for share, (field, (range_name, middle)) in zip(shares, _PARAMETER_RANGES.items(), strict=True)
    }
    return Transformation(**numbers, is_flipped=ranges.horizontal_flip and flip < 0.5)


def apply_transformation(pixels: Pixels, transformation: Transformation) -> Pixels:
    """Apply a transformation to a picture (h, w, 3) uint8; areas beyond its edges repeat the nearest pixel.

    Pillow interpolates between four pixels and truncates, so a view is half a gray level darker than exact on average.
    """
    height, width = pixels.shape[:2]
    affine = _compute_affine(transformation, width, height)
    left, top, right, bottom = _measure_overhang(affine, width, height)
    a, b, c, d, e, f = affine
    warped = Image.fromarray(_extend_edges(pixels, left, top, right, bottom)).transform(
        (width, height),
        Image.Transform.AFFINE,
        (a, b, c + left, d, e, f + top),
        resample=Image.Resampling.BILINEAR,
    )
    return _shift_channels(np.asarray(warped), round(transformation.channel_shift))


def _round(value: float) -> float:
    return round(float(value), _DECIMALS) + 0.0  # -0.0 would be serialized differently from 0.0


def _compute_affine(transformation: Transformation, width: int, height: int) -> tuple[float, ...]:
    """Compute (a, b, c, d, e, f): the point (x, y) of the view shows the picture's (ax + by + c, dx + ey + f).

    The product is that of Keras, rotation * shift * shear * zoom, times the flip, about the center. Pixel centers have
    coordinates ending in .5. Keras 3.15 swaps width and height, so that for a picture that is not square it rotates and
    zooms about another point, and shifts horizontally by fractions of the height.
    """
    turn, lean = math.radians(transformation.rotation_deg), math.radians(transformation.shear_deg)
    zoom_x = -transformation.zoom_x if transformation.is_flipped else transformation.zoom_x
    a, b = zoom_x * math.cos(turn), -transformation.zoom_y * math.sin(turn + lean)
    d, e = zoom_x * math.sin(turn), transformation.zoom_y * math.cos(turn + lean)
    x, y = width / 2, height / 2
    right, down = transformation.shift_x * width, transformation.shift_y * height
    c = x - right * math.cos(turn) + down * math.sin(turn) - (a * x + b * y)
    f = y - right * math.sin(turn) - down * math.cos(turn) - (d * x + e * y)
    # whole pixels must stay whole: a value just below one would lose a gray level by truncation
    return tuple(round(value, 10) for value in (a, b, c, d, e, f))


def _measure_overhang(affine: tuple[float, ...], width: int, height: int) -> tuple[int, int, int, int]:
    """Measure how many pixels beyond the left, top, right and bottom edge a view of this size reads."""
    a, b, c, d, e, f = affine
    corners = [(x, y) for x in (0.5, width - 0.5) for y in (0.5, height - 0.5)]
    xs, ys = [a * x + b * y + c for x, y in corners], [d * x + e * y + f for x, y in corners]
    before = [max(0, math.ceil(_ROUNDING_STEP - min(some))) for some in (xs, ys)]
    after = [max(0, math.floor(max(some) + _ROUNDING_STEP) + 1 - side) for some, side in ((xs, width), (ys, height))]
    return before[0], before[1], after[0], after[1]


def _extend_edges(pixels: Pixels, left: int, top: int, right: int, bottom: int) -> Pixels:
    """Extend a picture by repeating its edge pixels; `np.pad(mode="edge")` gives the same but is slower."""
    height, width = pixels.shape[:2]
    extended = np.empty((top + height + bottom, left + width + right, 3), dtype=np.uint8)
    rows = extended[top : top + height]
    rows[:, left : left + width] = pixels
    rows[:, :left] = pixels[:, :1]
    rows[:, left + width :] = pixels[:, -1:]
    extended[:top] = rows[0]
    extended[top + height :] = rows[-1]
    return extended


def _shift_channels(pixels: Pixels, n_levels: int) -> Pixels:
    """Shift all channels by n gray levels, clipped to the darkest and brightest value of the picture, as Keras does."""
    darkest, brightest = int(pixels.min()), int(pixels.max())
    step = min(max(n_levels, darkest - brightest), brightest - darkest)
    # clip first, so that the sum fits in uint8; np.clip is ten times faster with uint8 limits
    low, high = np.uint8(darkest - min(step, 0)), np.uint8(brightest - max(step, 0))
    return np.clip(pixels, low, high) + np.uint8(step % 256)  # a negative step wraps around
