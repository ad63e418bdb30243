"""What is asked with: pictures that answers are to be like or unlike, and how several become one direction."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import UsageError
from simsearch.images.decode import Box

ImageReference = str | os.PathLike[str] | int | bytes
"""A path, an address in a store or on the web, the id of a stored image, or the bytes of a file."""

_WEIGHTED = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+):(.+)", re.DOTALL)
_MIN_LENGTH = 1e-4
"""What is left of pictures that cancel each other out, and is rounding."""


@dataclass(frozen=True, slots=True)
class Crop:
    """A part of an upright picture: its left upper corner and its size.

    In px, or in fractions of the picture's width and height where no number is larger than 1. What is beyond the
    picture's edges is left out. Raises `UsageError` where nothing can be left.
    """

    x: float
    y: float
    width: float
    height: float

    def __post_init__(self) -> None:
        numbers = (self.x, self.y, self.width, self.height)
        if not (all(math.isfinite(number) for number in numbers) and min(numbers) >= 0):
            raise UsageError(f"the crop {self} is no part of a picture", "its numbers are finite and not below 0")
        if self.width == 0 or self.height == 0:
            raise UsageError(f"the crop {self} is empty", "give it a width and a height")

    def __str__(self) -> str:
        return ",".join(f"{number:g}" for number in (self.x, self.y, self.width, self.height))

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `x,y,w,h`. Raises `UsageError`."""
        try:
            x, y, width, height = (float(number) for number in text.split(","))
        except ValueError as error:
            advice = "write x,y,w,h: 40,30,200,100 in pixels, or 0.1,0.1,0.5,0.5 in fractions"
            raise UsageError(f"{text!r} is no crop", advice) from error
        return cls(x, y, width, height)

    def to_box(self, width_px: int, height_px: int) -> Box | None:
        """In whole px of a picture of that size, each that is touched; None where the picture has nothing of it."""
        is_fraction = max(self.x, self.y, self.width, self.height) <= 1
        scale_x, scale_y = (width_px, height_px) if is_fraction else (1, 1)
        left, top = math.floor(self.x * scale_x), math.floor(self.y * scale_y)
        right = min(width_px, math.ceil(_round_length((self.x + self.width) * scale_x)))
        bottom = min(height_px, math.ceil(_round_length((self.y + self.height) * scale_y)))
        return (left, top, right, bottom) if left < right and top < bottom else None


def _round_length(length: float) -> float:
    return round(length, 6)  # 0.1 + 0.2 of 10 px are 3 px


@dataclass(frozen=True, slots=True)
class Example:
    """A picture to ask with. `weight` is how much it counts: below 0, answers are to be unlike it.

    `crop` is the part of it that is meant, `name` what answers call it. Raises `UsageError` on a weight that is 0 or
    not finite.
    """

    picture: ImageReference
    weight: float = 1.0
    crop: Crop | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.weight) or self.weight == 0:
            raise UsageError(f"{self} has the weight {self.weight:g}", "give another number, or leave it out")

    def __str__(self) -> str:
        if self.name is not None:
            return self.name
        if isinstance(self.picture, bytes):
            return f"a picture of {len(self.picture)} bytes"
        return str(self.picture)

    @property
    def label(self) -> str:
        """How answers call it: its name, with its crop, and with its weight unless that is 1."""
        part = "" if self.crop is None else f" ({self.crop})"
        return f"{self}{part}" if self.weight == 1 else f"{self.weight:g}:{self}{part}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """From a path or a URL, or `2:a.jpg`, which counts twice; a file of just that name is the file."""
        if (found := _WEIGHTED.fullmatch(text)) is None or os.path.lexists(text):
            return cls(text)
        return cls(found[2], float(found[1]))


def combine_vectors(vectors: NDArray[np.float32], examples: Sequence[Example]) -> NDArray[np.float32]:
    """The unit vector (d,) along the sum of unit vectors (m, d), each times the weight of its example.

    With equal weights above 0 that is their mean; an example that answers are to be unlike is subtracted (Rocchio,
    "Relevance feedback in information retrieval", 1971, with sums in the place of means).

    Raises `UsageError` when they cancel each other out.
    """
    weights = np.array([example.weight for example in examples], np.float64)
    total = weights @ vectors.astype(np.float64)
    length = np.linalg.norm(total)
    if not length > _MIN_LENGTH * np.abs(weights).sum():
        raise UsageError(
            f"{', '.join(map(str, examples))}: nothing is left to ask with, they cancel each other out",
            "give them other weights, or ask with other pictures",
        )
    unit: NDArray[np.float32] = (total / length).astype(np.float32)
    return unit


ExampleInput = ImageReference | Example
"""A picture to search with, with or without a weight and a crop."""


def make_examples(inputs: ExampleInput | Sequence[ExampleInput]) -> tuple[Example, ...]:
    """One picture or several as examples; those without a weight have the weight 1."""
    several = [inputs] if isinstance(inputs, str | os.PathLike | int | bytes | Example) else inputs
    return tuple(one if isinstance(one, Example) else Example(one) for one in several)
