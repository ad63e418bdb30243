"""Embed examples outside of a search: the stored vector where there is one, else one from the model, in batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import ImageError, UsageError
from simsearch.images.decode import Pixels
from simsearch.models.embedder import MIN_VECTOR_NORM, Embedder
from simsearch.search.examples import AnyExample, Example
from simsearch.search.query_vectors import ReadLimits, resolve_example
from simsearch.store.catalog import Catalog, StoredModel

BATCH_SIZE = 32


def embed_examples(
    examples: Sequence[AnyExample],
    catalog: Catalog,
    stored: StoredModel,
    limits: ReadLimits,
    open_embedder: Callable[[Pixels], Embedder],
) -> NDArray[np.float32]:
    """Embed examples with a stored model: (n, d) unit rows, in the order given. Weights do not count.

    `open_embedder` is called with pixels (n, side, side, 3) only where an example has no stored vector. Raises
    `UsageError` on a text, and what `resolve_example` raises.
    """
    pictures = select_pictures(examples)
    rows = np.empty((len(pictures), stored.width), np.float32)
    for start in range(0, len(pictures), BATCH_SIZE):
        batch = pictures[start : start + BATCH_SIZE]
        contents = [resolve_example(example, catalog, stored, limits) for example in batch]
        new = [at for at, content in enumerate(contents) if content.pixels is not None]
        for at, content in enumerate(contents):
            if content.vector is not None:
                rows[start + at] = content.vector
        if new:
            pixels = np.stack([pixels for content in contents if (pixels := content.pixels) is not None])
            vectors = open_embedder(pixels).embed(pixels)
            check_directions([batch[at] for at in new], vectors, stored.model.backbone)
            rows[[start + at for at in new]] = vectors
    return rows


def select_pictures(examples: Sequence[AnyExample]) -> list[Example]:
    """The examples, all of which must be pictures. Raises `UsageError`."""
    pictures = [example for example in examples if isinstance(example, Example)]
    if len(pictures) < len(examples):
        raise UsageError("a text cannot be embedded as a picture", "search with it: `Collection.search(text=...)`")
    return pictures


def check_directions(examples: Sequence[Example], vectors: NDArray[np.float32], backbone: str) -> None:
    """Check that each vector (n, d) of an example has a direction. Raises `ImageError`."""
    is_short = ~(np.linalg.norm(vectors, axis=1) > MIN_VECTOR_NORM)
    if is_short.any():
        problem = f"{backbone} returned an all-zero feature vector for this image"
        raise ImageError(str(examples[int(is_short.argmax())]), problem, "use another picture")
