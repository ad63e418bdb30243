"""The order in which images are searched: alike images one after the other.

Candidates are mostly alike. In this order the renditions that one image needs are still kept when the next one needs
them, so that large collections are not decoded several times.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simsearch.duplicates.similarity_graph import OriginalVectors, Positions

_CELL_IMAGES, _MAX_CELLS = 256, 2048
_BLOCK_ROWS = 8192
_SEED = 0


def order_by_likeness(originals: OriginalVectors, rows: Positions) -> Positions:
    """Order the images at positions `rows` (m,) so that alike ones follow each other; the same order each time.

    Each image belongs to the most similar one of m / 256 that are drawn at random, at most 2,048; each of these is
    followed by the one most similar to it, of those that are left.
    """
    n_cells = min(_MAX_CELLS, len(rows) // _CELL_IMAGES)
    if n_cells < 2:
        return rows
    drawn = np.random.default_rng(_SEED).choice(len(rows), n_cells, replace=False)
    centers = originals.read_vectors(rows[drawn])
    places = np.empty(n_cells, np.intp)
    places[_chain(centers @ centers.T)] = np.arange(n_cells)
    cells = np.empty(len(rows), np.intp)
    for start in range(0, len(rows), _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        cells[block] = (originals.read_vectors(rows[block]) @ centers.T).argmax(1)
    return rows[np.argsort(places[cells], kind="stable")]


def _chain(similarities: NDArray[np.float32]) -> list[int]:
    """Chain items (n, n): from the first on, always to the most similar one that is left."""
    is_left = np.ones(len(similarities), np.bool_)
    chain = [0]
    for _ in range(len(similarities) - 1):
        is_left[chain[-1]] = False
        chain.append(int(np.where(is_left, similarities[chain[-1]], -np.inf).argmax()))
    return chain
