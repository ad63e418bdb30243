"""The examples of a query: pictures and texts that results should be similar or dissimilar to; their combination."""

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
from simsearch.models.text.encoder import merge_directions, normalize_directions


@dataclass(frozen=True, slots=True, eq=False)
class QueryVector:
    """A vector (d,) float32 of unit length to search with, in place of a picture."""

    row: NDArray[np.float32]


ImageReference = str | os.PathLike[str] | int | bytes | QueryVector
"""A path, an object storage or web address, the id of a stored image, the bytes of a file, or a vector."""

_WEIGHTED = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+):(.+)", re.DOTALL)
_MIN_LENGTH = 1e-4
"""A weighted sum of unit vectors shorter than this, relative to the weights, is rounding: the examples cancel out."""

_MAX_QUERY_VECTORS = 32


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
        _check_weight(self.weight, str(self))

    def __str__(self) -> str:
        if self.name is not None:
            return self.name
        if isinstance(self.picture, bytes):
            return f"a picture of {len(self.picture)} bytes"
        if isinstance(self.picture, QueryVector):
            return f"a vector of {len(self.picture.row)} numbers"
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


@dataclass(frozen=True, slots=True)
class TextExample:
    """A text to search with: what results should show, or with a negative `weight` should not show.

    Raises `UsageError` on an empty text or a weight that is 0 or not finite.
    """

    text: str
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise UsageError("the query text is empty", "give a word or a description")
        _check_weight(self.weight, str(self))

    def __str__(self) -> str:
        return self.text

    @property
    def label(self) -> str:
        """The text in results, with the weight unless the weight is 1."""
        return self.text if self.weight == 1 else f"{self.weight:g}:{self.text}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a text, optionally with a weight: `2:lamp`."""
        found = _WEIGHTED.fullmatch(text)
        return cls(text) if found is None else cls(found[2], float(found[1]))


def _check_weight(weight: float, name: str) -> None:
    if not math.isfinite(weight) or weight == 0:
        raise UsageError(f"{name} has the weight {weight:g}", "give another number, or omit the weight")


AnyExample = Example | TextExample


def combine_vectors(vectors: Sequence[NDArray[np.float32]], examples: Sequence[AnyExample]) -> NDArray[np.float32]:
    """Sum unit vectors, each times the weight of its example, and normalize the sums to unit vectors (m, d).

    With equal positive weights this is the direction of the mean; an example with a negative weight is subtracted
    (Rocchio, "Relevance feedback in information retrieval", 1971, with sums instead of means).

    An example is one vector (1, d), or several alternatives (n, d), the directions of a text; then there is a sum for
    each choice of alternatives. Where these would be more than 32, neighbouring alternatives are merged; those of a
    negative example always are.

    Raises `UsageError` if the vectors cancel out.
    """
    if len(vectors) == len(vectors[0]) == 1 and examples[0].weight > 0:
        return vectors[0]  # a unit vector as it is
    n_with_choice = sum(len(rows) > 1 and example.weight > 0 for rows, example in zip(vectors, examples, strict=True))
    n_each = int(_MAX_QUERY_VECTORS ** (1 / max(n_with_choice, 1)))
    sums = np.zeros((1, vectors[0].shape[1]), np.float64)
    for rows, example in zip(vectors, examples, strict=True):
        alternatives = merge_directions(rows, n_each if example.weight > 0 else 1)
        sums = (sums[:, None] + example.weight * alternatives.astype(np.float64)).reshape(-1, sums.shape[1])
    lengths = np.linalg.norm(sums, axis=1)
    sums = sums[lengths > _MIN_LENGTH * sum(abs(example.weight) for example in examples)]
    if not len(sums):
        raise UsageError(
            f"the examples {', '.join(map(str, examples))} cancel each other out",
            "give other weights, or use other examples",
        )
    return normalize_directions(sums)


def make_text_examples(
    texts: str | Sequence[str] = (), unlike_texts: str | Sequence[str] = ()
) -> tuple[TextExample, ...]:
    """Texts as examples with the weight 1, then those that results should not show, with the weight -1."""
    likes, unlikes = ([one] if isinstance(one, str) else one for one in (texts, unlike_texts))
    return (*map(TextExample, likes), *(TextExample(text, -1.0) for text in unlikes))
