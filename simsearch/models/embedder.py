"""One contract for every runtime: uint8 pixels in, unit vectors out."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from simsearch.models import histogram
from simsearch.models.model import Model


class Embedder(Protocol):
    """A model, loaded. `width` is d, the length of its vectors."""

    model: Model
    width: int

    def embed(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(n, side, side, 3) uint8 RGB to (n, d) float32 unit rows; a row with no direction is near zero."""
        ...


class HistogramEmbedder:
    """Counts colours and edges."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.width = histogram.WIDTH

    def embed(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(n, side, side, 3) uint8 RGB to (n, d) float32 unit rows."""
        return histogram.histogram_vectors(batch)


def open_embedder(model: Model) -> Embedder:
    """Load a model. Seconds for a network, nothing for the histogram.

    Raises `ModelError` when the network cannot be built or its weights do not fit.
    """
    if model.runtime == "histogram":
        return HistogramEmbedder(model)
    if model.runtime == "onnx":
        from simsearch.models.openvino_runtime import OpenVinoEmbedder

        return OpenVinoEmbedder(model)
    from simsearch.models.keras_runtime import KerasEmbedder

    return KerasEmbedder(model)
