"""A map of vectors that was learned from labels: whitened vectors beside class probabilities."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import xxhash
from numpy.typing import NDArray

from simsearch.models.projection import Projection

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class LabelMap:
    """A projection to whitened unit rows (width w), and the weights (d, k) of a softmax over k classes.

    A row x becomes the whitened row times `sqrt(1 - class_weight)`, beside the class probabilities of x times
    `probability_scale` and `sqrt(class_weight)`, normalized to length 1. The probabilities of an image that is like no
    learned class are nearly equal, so that their part is short and the whitened part decides.
    """

    whitening: Projection
    class_weights: Vectors
    probability_scale: float
    class_weight: float

    @property
    def width(self) -> int:
        """The number of dimensions of mapped rows."""
        return self.whitening.width + (self.class_weights.shape[1] if self.class_weight > 0 else 0)

    @property
    def digest(self) -> str:
        """A hash of the map: equal digests mean equal mapped vectors."""
        return xxhash.xxh3_128_hexdigest(self.to_bytes())

    def compute_probabilities(self, vectors: Vectors) -> Vectors:
        """Compute the class probabilities (n, k) of rows (n, d)."""
        scores = (vectors - self.whitening.mean) @ self.class_weights
        scores -= scores.max(axis=1, keepdims=True)
        np.exp(scores, out=scores)
        return np.asarray(scores / scores.sum(axis=1, keepdims=True), np.float32)

    def apply(self, vectors: Vectors) -> Vectors:
        """Map rows (n, d) to unit rows (n, width); a row at the mean has no direction and becomes zeros."""
        whitened = self.whitening.apply(vectors)
        if self.class_weight <= 0:
            return whitened
        scale = np.float32(self.probability_scale * self.class_weight**0.5)
        probabilities = self.compute_probabilities(vectors) * scale
        probabilities *= np.any(whitened, axis=1, keepdims=True)
        rows = np.hstack([whitened * np.float32((1 - self.class_weight) ** 0.5), probabilities])
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.asarray(rows / np.where(lengths > 0, lengths, 1), np.float32)

    def to_bytes(self) -> bytes:
        """Serialize as an uncompressed `.npz` file."""
        stream = io.BytesIO()
        np.savez(
            stream, mean=self.whitening.mean, axes=self.whitening.axes, class_weights=self.class_weights,
            scales=np.array([self.probability_scale, self.class_weight]),
        )  # fmt: skip
        return stream.getvalue()

    @classmethod
    def from_bytes(cls, stored: bytes) -> LabelMap:
        """Read the output of `to_bytes`. Raises `ValueError` on other bytes."""
        try:
            with np.load(io.BytesIO(stored), allow_pickle=False) as arrays:
                projection = Projection(arrays["mean"], arrays["axes"])
                scale, weight = arrays["scales"].tolist()
                return cls(projection, arrays["class_weights"], scale, weight)
        except Exception as error:  # zipfile and NumPy raise many types on damaged bytes
            raise ValueError("the bytes are not a label map") from error
