"""Label spreading: examples for and against reorder the first results over the graph of their neighbors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

N_CANDIDATES = 200
"""The number of first results that a search reorders, unless the method gives another."""

AGAINST = 0.25
"""The weight of the mean of the examples against in the direction of the first search."""

_N_NEIGHBORS = 6
_POWER = 3
_SPREADING = 0.8
_SEED_AGAINST = 0.5
_PRIOR = 0.03

Vectors = NDArray[np.float32]
Scores = NDArray[np.float64]


def build_direction(vectors: Vectors, weights: Scores) -> Scores:
    """The direction (d,) of examples (e, d): the mean of those for, less `AGAINST` times the mean of those against.

    `weights` (e,) are positive for examples for and negative for examples against, with at least one for. The length is
    not 1; it may be 0.
    """
    return np.asarray(normalize_weights(weights, AGAINST) @ vectors, np.float64)


def normalize_weights(weights: Scores, against: float) -> Scores:
    """Scale positive weights to the sum 1, and negative ones to the sum `-against`."""
    total_for, total_against = weights[weights > 0].sum(), -weights[weights < 0].sum()
    scaled = np.where(weights > 0, weights / total_for, against * weights / max(total_against, 1e-12))
    return np.asarray(scaled, np.float64)


def spread_labels(vectors: Vectors, weights: Scores, similarities: Scores) -> Scores:
    """Score points (m, d) by their connection with examples for and against: (m,), larger is better.

    `weights` (m,) are positive for the points that are examples for, negative for those against, and 0 for the others.
    Each point is joined with its 6 nearest ones, by the third power of the cosine. The labels spread over this graph,
    as in Zhou et al., "Learning with Local and Global Consistency", NIPS 2003; `similarities` (m,), those to the
    direction of the examples, decide between points that the labels hardly reach. The cost grows with m^3: 200 points
    take about 2 ms.
    """
    n = len(vectors)
    affinities = np.maximum(vectors @ vectors.T, 0).astype(np.float64)
    np.fill_diagonal(affinities, 0)
    n_neighbors = min(_N_NEIGHBORS, n - 1)
    spread = np.zeros(n)
    if n_neighbors > 0:
        nearest = np.partition(affinities, n - n_neighbors, axis=1)[:, n - n_neighbors, None]
        edges = np.where(affinities >= nearest, affinities, 0) ** _POWER
        edges = np.maximum(edges, edges.T)
        scale = 1 / np.sqrt(edges.sum(axis=1) + 1e-12)
        system = np.eye(n) - _SPREADING * edges * scale[:, None] * scale[None, :]
        spread = np.linalg.solve(system, normalize_weights(weights, _SEED_AGAINST))
        spread /= max(float(np.abs(spread).max()), 1e-12)
    deviation = float(similarities.std())
    prior = (similarities - similarities.mean()) / deviation if deviation > 0 else np.zeros(n)
    return np.asarray(spread + _PRIOR * prior, np.float64)
