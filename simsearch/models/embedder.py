"""The interface of a loaded model: (n, side, side, 3) uint8 pixels to (n, d) float32 unit vectors."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import ModelError
from simsearch.models import histogram
from simsearch.models.model import Model

MIN_VECTOR_NORM = 0.99
"""A row shorter than this is no unit vector: the network returned zeros or values that are not finite."""


class Embedder(Protocol):
    """A loaded model.

    `width` is d, the length of its vectors. `n_parallel` is the number of batches that may be embedded at the same
    time, each by its own thread. `notes` are messages for the user, such as that a slower engine is used.
    """

    model: Model
    width: int
    engine: str
    n_parallel: int
    notes: tuple[str, ...]

    def embed(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed (n, side, side, 3) uint8 RGB as (n, d) float32 unit rows; a row without a direction is near zero."""
        ...


class HistogramEmbedder:
    """The embedder of the histogram backbone."""

    engine = "numpy"
    n_parallel = 1
    notes: tuple[str, ...] = ()

    def __init__(self, model: Model) -> None:
        self.model = model
        self.width = histogram.WIDTH

    def embed(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed (n, side, side, 3) uint8 RGB as (n, d) float32 unit rows."""
        return histogram.compute_histograms(batch)


def check_can_embed(model: Model) -> None:
    """Raise `ModelError` for imported vectors: no further picture can be embedded with such a model."""
    if model.runtime == "imported":
        problem = f"{model.backbone} has imported vectors only and cannot embed pictures"
        raise ModelError(problem, "search with an image of the collection (--id), or with another --backbone")
    for part in () if model.fusion is None else model.fusion.parts:
        check_can_embed(part.model)
