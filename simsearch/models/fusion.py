"""Fused models: the rows of several models, each centered and weighted, joined to one row."""

from __future__ import annotations

import io
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xxhash
from numpy.typing import NDArray

from simsearch.errors import UsageError

Vectors = NDArray[np.float32]

_MIN_LENGTH = 1e-6
"""Rows nearer to the center than this are treated as the center: their difference is rounding."""

_WEIGHTED = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*\*\s*(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class FusionTerm:
    """A backbone in the name of a fused model, and the factor of its rows."""

    backbone: str
    weight: float = 1.0

    def __str__(self) -> str:
        return self.backbone if self.weight == 1 else f"{self.weight:g}*{self.backbone}"


def parse_fusion(name: str) -> tuple[FusionTerm, ...] | None:
    """Parse `builtin+0.3*histogram`; None for the name of a single backbone, or of an existing file.

    Raises `UsageError` on an empty part, a part that is named twice, and a weight that is 0 or infinite.
    """
    if "+" not in name or os.path.lexists(name):
        return None
    terms = []
    for text in name.split("+"):
        found = _WEIGHTED.fullmatch(text)
        term = FusionTerm(text.strip()) if found is None else FusionTerm(found[2].strip(), float(found[1]))
        if not term.backbone:
            raise UsageError(f"{name!r} has an empty part", "join backbones by +, such as builtin+0.3*histogram")
        if not (math.isfinite(term.weight) and term.weight > 0):
            raise UsageError(f"the weight of {term.backbone} in {name!r} is {term.weight:g}", "give a number above 0")
        terms.append(term)
    names = [term.backbone for term in terms]
    if repeated := sorted({one for one in names if names.count(one) > 1}):
        raise UsageError(f"{name!r} names {repeated[0]} twice", "give each backbone once, with one weight")
    return tuple(terms)


def join_terms(terms: Sequence[FusionTerm]) -> str:
    """The name of a fused model: its terms joined by +."""
    return "+".join(map(str, terms))


@dataclass(frozen=True, slots=True, eq=False)
class RowFusion:
    """The centers (d_i,) of the parts and the factors of their rows.

    The rows x_i of an image become `weight_i * (x_i - center_i) / |x_i - center_i|`, joined and normalized to length 1:
    the similarity of two images is the mean of the centered cosines of the parts, weighted by the squares of the
    factors. A part at its center contributes zeros.
    """

    centers: tuple[Vectors, ...]
    weights: tuple[float, ...]

    @property
    def width(self) -> int:
        """The number of dimensions of joined rows."""
        return sum(len(center) for center in self.centers)

    @property
    def digest(self) -> str:
        """A hash of the centers."""
        return xxhash.xxh3_128_hexdigest(self.to_bytes())

    def join(self, parts: Sequence[Vectors]) -> Vectors:
        """Join rows (n, d_i) of the parts to unit rows (n, width); an image at all centers becomes zeros."""
        joined = []
        for rows, center, weight in zip(parts, self.centers, self.weights, strict=True):
            centered = rows - center
            lengths = np.linalg.norm(centered, axis=1, keepdims=True)
            joined.append(centered * (np.float32(weight) * (lengths > _MIN_LENGTH) / np.maximum(lengths, _MIN_LENGTH)))
        rows = np.hstack(joined)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.asarray(rows / np.where(lengths > 0, lengths, 1), np.float32)

    def to_bytes(self) -> bytes:
        """Serialize the centers as an uncompressed `.npz` file."""
        stream = io.BytesIO()
        np.savez(stream, *self.centers)
        return stream.getvalue()

    @classmethod
    def from_bytes(cls, stored: bytes, weights: Sequence[float]) -> RowFusion:
        """Read the output of `to_bytes`. Raises `ValueError` on other bytes, and on another number of centers."""
        try:
            with np.load(io.BytesIO(stored), allow_pickle=False) as arrays:
                centers = tuple(arrays[f"arr_{number}"] for number in range(len(arrays.files)))
        except Exception as error:  # zipfile and NumPy raise many types on damaged bytes
            raise ValueError("the bytes are no centers") from error
        if len(centers) != len(weights):
            raise ValueError("the bytes are the centers of another model")
        return cls(centers, tuple(weights))
