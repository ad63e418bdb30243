"""The examples of a query: pictures that results should be similar or dissimilar to, and their combination."""

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
"""A path, an object storage or web address, the id of a stored image, or the bytes of a file."""

_WEIGHTED = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+):(.+)", re.DOTALL)
_MIN_LENGTH = 1e-4
"""A weighted sum of unit vectors shorter than this, relative to the weights, is rounding: the examples cancel out."""


@dataclass(frozen=True, slots=True)
class Crop:
    """A rectangle of an upright picture: its upper left corner and its size.

    In px, or in fractions of the picture's width and height if no number is larger than 1. The parts beyond the edges
    of the picture are cut off. Raises `UsageError` on an empty rectangle or an invalid number.
    """

    x: float
    y: float
    width: float
    height: float

    def __post_init__(self) -> None:
        numbers = (self.x, self.y, self.width, self.height)
        if not (all(math.isfinite(number) for number in numbers) and min(numbers) >= 0):
            raise UsageError(f"invalid crop {self}", "its numbers must be finite and not below 0")
        if self.width == 0 or self.height == 0:
            raise UsageError(f"the crop {self} is empty", "give it a width and a height")

    def __str__(self) -> str:
        return ",".join(f"{number:g}" for number in (self.x, self.y, self.width, self.height))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `x,y,w,h`. Raises `UsageError` on other text."""
        try:
            x, y, width, height = (float(number) for number in text.split(","))
        except ValueError as error:
            advice = "write x,y,w,h: 40,30,200,100 in pixels, or 0.1,0.1,0.5,0.5 in fractions"
            raise UsageError(f"{text!r} is not a crop", advice) from error
        return cls(x, y, width, height)

    def to_box(self, width_px: int, height_px: int) -> Box | None:
        """Convert to whole px of a picture of that size, rounded outwards; None if it lies outside the picture."""
        is_fraction = max(self.x, self.y, self.width, self.height) <= 1
        scale_x, scale_y = (width_px, height_px) if is_fraction else (1, 1)
        left, top = math.floor(self.x * scale_x), math.floor(self.y * scale_y)
        right = min(width_px, math.ceil(_round_length((self.x + self.width) * scale_x)))
        bottom = min(height_px, math.ceil(_round_length((self.y + self.height) * scale_y)))
        return (left, top, right, bottom) if left < right and top < bottom else None


def _round_length(length: float) -> float:
    return round(length, 6)  # so that 0.1 + 0.2 of 10 px is 3 px


@dataclass(frozen=True, slots=True)
class Example:
    """A picture to search with.

    Results should be similar to a picture with a positive `weight`, and dissimilar to one with a negative `weight`.
    `crop` selects a part of the picture; `name` replaces its path in results. Raises `UsageError` on a weight that is
    0 or not finite.
    """

    picture: ImageReference
    weight: float = 1.0
    crop: Crop | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.weight) or self.weight == 0:
            raise UsageError(f"{self} has the weight {self.weight:g}", "give another number, or omit the weight")

    def __str__(self) -> str:
        if self.name is not None:
            return self.name
        if isinstance(self.picture, bytes):
            return f"a picture of {len(self.picture)} bytes"
        return str(self.picture)

    @property
    def label(self) -> str:
        """The name in results: with the crop, and with the weight unless the weight is 1."""
        part = "" if self.crop is None else f" ({self.crop})"
        return f"{self}{part}" if self.weight == 1 else f"{self.weight:g}:{self}{part}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a path or URL, optionally with a weight (`2:a.jpg`). An existing file of exactly that name wins."""
        if (found := _WEIGHTED.fullmatch(text)) is None or os.path.lexists(text):
            return cls(text)
        return cls(found[2], float(found[1]))


def combine_vectors(vectors: NDArray[np.float32], examples: Sequence[Example]) -> NDArray[np.float32]:
    """Sum unit vectors (m, d), each times the weight of its example, and normalize the sum to a unit vector (d,).

    With equal positive weights this is the direction of the mean; an example with a negative weight is subtracted
    (Rocchio, "Relevance feedback in information retrieval", 1971, with sums instead of means).

    Raises `UsageError` if the vectors cancel out.
    """
    weights = np.array([example.weight for example in examples], np.float64)
    total = weights @ vectors.astype(np.float64)
    length = np.linalg.norm(total)
    if not length > _MIN_LENGTH * np.abs(weights).sum():
        raise UsageError(
            f"the examples {', '.join(map(str, examples))} cancel each other out",
            "give other weights, or use other pictures",
        )
    unit: NDArray[np.float32] = (total / length).astype(np.float32)
    return unit


ExampleInput = ImageReference | Example
"""A picture to search with, with or without a weight and a crop."""


def make_examples(inputs: ExampleInput | Sequence[ExampleInput]) -> tuple[Example, ...]:
    """One picture or several as examples; those without a weight have the weight 1."""
    several = [inputs] if isinstance(inputs, str | os.PathLike | int | bytes | Example) else inputs
    return tuple(one if isinstance(one, Example) else Example(one) for one in several)
