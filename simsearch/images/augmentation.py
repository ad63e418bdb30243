"""Seeded random views of a picture: the seven transformations of Keras's `ImageDataGenerator`, in one affine warp.

A view is drawn from (seed, digest of the image, number of the view) alone, so it is the same in whatever order,
thread or process it is made. Lengths are fractions of the picture: a picture of one pixel has its views too.
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
    """The widest range that still leaves a picture, and how a message asks for one."""

    widest: float
    name: str
    unit: str


_LIMITS = {
    "rotation_deg": _RangeLimit(180, "rotation", "degrees"),
    "width_shift": _RangeLimit(0.99, "width shift", "a fraction of the picture's width"),
    "height_shift": _RangeLimit(0.99, "height shift", "a fraction of the picture's height"),
    "shear_deg": _RangeLimit(89, "shear", "degrees"),
    "zoom": _RangeLimit(0.99, "zoom", "a fraction of the picture's sides"),
    "channel_shift": _RangeLimit(255, "channel shift", "grey levels"),
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
"""The numbers of a transformation: the range each is drawn from and its middle. In another order, views are others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentationRanges:
    """How far views may go, to either side, each evenly distributed; kept to a millionth.

    Shifts are fractions of the width and the height, a shift by pixels is refused. A zoom of 0.1 shows from 0.9 to
    1.1 of each side, drawn for each on its own. `shear_deg` is degrees, as Keras means it: 0.15 hardly shows.
    `channel_shift` is grey levels, the same in all channels. Half of the views are flipped if any.

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
            if not 0 <= value <= limit.widest:  # holds for what is no number, too
                problem = f"a range of {value:g} for the {limit.name}"
                raise UsageError(problem, f"give {limit.unit}, from 0 (none) to {limit.widest:g}")
            object.__setattr__(self, field, _round(value))


@dataclass(frozen=True, slots=True, kw_only=True)
class Transformation:
    """What makes one view of a picture; with nothing given, the picture itself. Numbers are kept to a millionth.

    `rotation_deg` turns to the left (anticlockwise) about the picture's centre. `shift_x` and `shift_y` move to the
    right and down by a fraction of the width and the height. `zoom_x` and `zoom_y` are how much of each side is
    seen: 0.9 enlarges. `channel_shift` is grey levels, as whole ones applied. Flipping comes last.

    Raises `UsageError` beyond the widest ranges that `Ranges` allows.
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
                    f"a transformation whose {field} is {value:g}", f"keep it within {middle:g} +- {widest:g}"
                )
            object.__setattr__(self, field, _round(value))

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, object]) -> Self:
        """The transformation whose fields these are; other keys, as the number of a view, are passed over.

        Raises `UsageError` where a field is missing or of a wrong type.
        """
        try:
            values = {field.name: parameters[field.name] for field in dataclasses.fields(cls)}
        except KeyError as error:
            raise UsageError(f"a transformation without {error.args[0]}", "give all of its fields") from error
        for field, value in values.items():
            if isinstance(value, bool) != (field == "is_flipped") or not isinstance(value, int | float):
                raise UsageError(f"a transformation whose {field} is {value!r}", "give what `to_json` writes")
        return cls(**values)  # type: ignore[arg-type]  # each was looked at

    def to_json(self) -> str:
        """A JSON object of all fields, in order: the same text for the same transformation."""
        return json.dumps(dataclasses.asdict(self))

    def describe(self) -> str:
        """What was done, in a few words; what rounds to nothing is left out."""
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
    """The transformation of view `number` of the image of that digest.

    One hash (BLAKE2b, 64 bytes) of seed, digest and number is all the chance there is, eight bytes of it a parameter:
    a range set to nothing changes no other parameter, and no version of a random generator changes a view.
    """
    words = struct.unpack("<8Q", hashlib.blake2b(f"{seed}/{digest}/{number}".encode()).digest())
    *shares, flip = [word / 2**64 for word in words]
    numbers = {
        field: middle + (2 * share - 1) * getattr(ranges, range_name)
        for share, (field, (range_name, middle)) in zip(shares, _PARAMETER_RANGES.items(), strict=True)
    }
    return Transformation(**numbers, is_flipped=ranges.horizontal_flip and flip < 0.5)


def apply_transformation(pixels: Pixels, transformation: Transformation) -> Pixels:
    """The view of a picture: (h, w, 3) uint8 to the same shape, beyond the edges the nearest pixel of the picture.

    Pillow interpolates between four pixels and drops the fraction, so a view is half a grey level darker than the
    exact one on average.
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
    return round(float(value), _DECIMALS) + 0.0  # a negative zero would be another text


def _compute_affine(transformation: Transformation, width: int, height: int) -> tuple[float, ...]:
    """(a, b, c, d, e, f): the point (x, y) of the view shows the picture's (ax + by + c, dx + ey + f).

    Keras's product, rotation * shift * shear * zoom, times the flip, about the centre. Pixel centres are at halves.
    Keras 3.15 mistakes width and height for each other, so that in a picture that is no square it turns and zooms
    about another point, and shifts sideways by fractions of the height.
    """
    turn, lean = math.radians(transformation.rotation_deg), math.radians(transformation.shear_deg)
    zoom_x = -transformation.zoom_x if transformation.is_flipped else transformation.zoom_x
    a, b = zoom_x * math.cos(turn), -transformation.zoom_y * math.sin(turn + lean)
    d, e = zoom_x * math.sin(turn), transformation.zoom_y * math.cos(turn + lean)
    x, y = width / 2, height / 2
    right, down = transformation.shift_x * width, transformation.shift_y * height
    c = x - right * math.cos(turn) + down * math.sin(turn) - (a * x + b * y)
    f = y - right * math.sin(turn) - down * math.cos(turn) - (d * x + e * y)
    # a whole pixel is to stay one: what lies a rounding error below it would lose a grey level
    return tuple(round(value, 10) for value in (a, b, c, d, e, f))


def _measure_overhang(affine: tuple[float, ...], width: int, height: int) -> tuple[int, int, int, int]:
    """How many pixels beyond the left, top, right and bottom edge a view of that size looks at."""
    a, b, c, d, e, f = affine
    corners = [(x, y) for x in (0.5, width - 0.5) for y in (0.5, height - 0.5)]
    xs, ys = [a * x + b * y + c for x, y in corners], [d * x + e * y + f for x, y in corners]
    before = [max(0, math.ceil(_ROUNDING_STEP - min(some))) for some in (xs, ys)]
    after = [max(0, math.floor(max(some) + _ROUNDING_STEP) + 1 - side) for some, side in ((xs, width), (ys, height))]
    return before[0], before[1], after[0], after[1]


def _extend_edges(pixels: Pixels, left: int, top: int, right: int, bottom: int) -> Pixels:
    """The picture with its edge pixels repeated; `np.pad(mode="edge")` gives the same, more slowly."""
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
    """All channels that many grey levels up or down, within the darkest and the brightest value there is, as Keras."""
    darkest, brightest = int(pixels.min()), int(pixels.max())
    step = min(max(n_levels, darkest - brightest), brightest - darkest)
    # clipped first, so that the sum fits; np.clip is ten times faster with limits of the pixels' own type
    low, high = np.uint8(darkest - min(step, 0)), np.uint8(brightest - max(step, 0))
    return np.clip(pixels, low, high) + np.uint8(step % 256)  # a step down wraps around to it
