"""From a cosine to a probability: how likely a hit shows what the query shows, for one model and one collection.

A cosine of 0.6 is much under one backbone and little under another, and search always returns the nearest images, even
if nothing in the collection is similar. So the hits of sample queries are counted: half of the hits are those of a
collection that has relevant images, half those of one from which they were removed. The share of relevant hits by
cosine, made monotone by isotonic regression (M. Ayer et al., An empirical distribution function for sampling with
incomplete information, Annals of Mathematical Statistics 26, 1955), is the probability.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

N_HITS = 10
"""The number of first hits of a query that are counted."""

MIN_LABELS_TO_CHECK = 4
"""With fewer labels, none can be held out to check the probabilities."""

_N_BINS = 60
_MIN_PAIRS_IN_BIN = 20
_N_ERROR_BINS = 10
_BLOCK_QUERIES = 32

Floats = NDArray[np.floating[Any]]
Flags = NDArray[np.bool_]
Positions = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ProbabilityCurve:
    """A monotone function from cosine to probability: straight lines between points, constant beyond the ends."""

    similarities: tuple[float, ...]
    probabilities: tuple[float, ...]

    def compute(self, similarities: Floats) -> Floats:
        """Compute the probabilities (n,) of cosines (n,)."""
        return np.interp(similarities, self.similarities, self.probabilities)

    def find_similarity(self, probability: float) -> float:
        """Find the lowest cosine that has at least this probability; above 1 if none has."""
        rising = np.array(self.probabilities)
        if rising[-1] < probability:
            return 2.0
        first = int(np.argmax(rising >= probability))
        if first == 0:
            return -1.0
        (low, high), (below, above) = self.similarities[first - 1 : first + 1], rising[first - 1 : first + 1]
        return float(low + (high - low) * (probability - below) / (above - below))


@dataclass(frozen=True, slots=True)
class CalibrationError:
    """How well probabilities agree with labels that were held out.

    `expected` is the expected calibration error (the mean difference between probability and share of relevant hits,
    over ten bins of probability), `brier` the mean squared error, `brier_constant` that of a constant probability.
    """

    expected: float
    brier: float
    brier_constant: float


@dataclass(frozen=True, slots=True)
class ProbabilityCalibration:
    """A calibration as it is stored with a model.

    `relation` says what the probability is of, such as `of the same class`. `n_queries` queries with `n_labels` labels
    among `n_images` images were counted. `error` was measured with half of the labels held out; None if there are too
    few.
    """

    relation: str
    curve: ProbabilityCurve
    n_queries: int
    n_labels: int
    n_images: int
    error: CalibrationError | None

    def to_dict(self) -> dict[str, Any]:
        """The calibration in JSON."""
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        """Serialize as a JSON object for `from_json`."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Parse the text that `to_json` wrote."""
        fields = json.loads(text)
        curve = ProbabilityCurve(*(tuple(fields["curve"][name]) for name in ("similarities", "probabilities")))
        error = None if fields["error"] is None else CalibrationError(**fields["error"])
        return cls(**(fields | {"curve": curve, "error": error}))


@dataclass(frozen=True, slots=True)
class SampleQueries:
    """Queries (m, d) of a calibration: their labels (m,), and their own positions (m,) in the database, -1 for none."""

    vectors: NDArray[np.float32]
    labels: Positions
    own: Positions

    def select(self, rows: Positions | Flags) -> SampleQueries:
        """Select some of the queries."""
        return SampleQueries(self.vectors[rows], self.labels[rows], self.own[rows])


@dataclass(frozen=True, slots=True)
class CountedHits:
    """The first hits of queries, (m, 10) each: cosines, relevance, and whether relevant images were in the database."""

    similarities: Floats
    is_relevant: Flags


def collect_hits(
    queries: SampleQueries, rows: NDArray[np.float32], labels: Positions
) -> tuple[CountedHits, CountedHits]:
    """Collect the first hits of each query among rows (n, d) with labels (n,): of all, and without the relevant ones.

    A query is never a hit of itself. Missing hits of a small database have the cosine -inf.
    """
    present, absent = [], []
    for start in range(0, len(queries.labels), _BLOCK_QUERIES):
        block = queries.select(np.arange(start, min(start + _BLOCK_QUERIES, len(queries.labels))))
        similarities = np.clip(block.vectors @ rows.T, -1, 1)
        inside = np.flatnonzero(block.own >= 0)
        similarities[inside, block.own[inside]] = -np.inf
        is_relevant = block.labels[:, None] == labels[None]
        present.append(_select_first(similarities, is_relevant))
        absent.append(_select_first(np.where(is_relevant, np.float32(-np.inf), similarities), is_relevant))
    return _join_hits(present), _join_hits(absent)


def _select_first(similarities: Floats, is_relevant: Flags) -> CountedHits:
    n = min(N_HITS, similarities.shape[1])
    first = np.argpartition(-similarities, n - 1, axis=1)[:, :n]
    order = np.take_along_axis(first, np.argsort(-np.take_along_axis(similarities, first, 1), axis=1, kind="stable"), 1)
    return CountedHits(np.take_along_axis(similarities, order, 1), np.take_along_axis(is_relevant, order, 1))


def _join_hits(parts: Sequence[CountedHits]) -> CountedHits:
    return CountedHits(
        np.concatenate([part.similarities for part in parts]), np.concatenate([part.is_relevant for part in parts])
    )


def fit_curve(*counted: CountedHits) -> ProbabilityCurve:
    """Fit a curve to hits by isotonic regression over bins of at least 20 hits.

    The share of relevant hits in a bin is (relevant + 1) / (hits + 2), so that no bin claims certainty.
    """
    similarities = np.concatenate([hits.similarities.ravel() for hits in counted]).astype(np.float64)
    relevant = np.concatenate([hits.is_relevant.ravel() for hits in counted])
    known = np.isfinite(similarities)
    order = np.argsort(similarities[known], kind="stable")
    similarities, relevant = similarities[known][order], relevant[known][order]
    n_bins = max(1, min(_N_BINS, len(similarities) // _MIN_PAIRS_IN_BIN))
    bins = np.array_split(np.arange(len(similarities)), n_bins)
    pools: list[list[int]] = []
    for number, members in enumerate(bins):
        pools.append([number, len(members), int(relevant[members].sum())])
        while len(pools) > 1 and _compute_share(pools[-2]) >= _compute_share(pools[-1]):
            _, n, n_relevant = pools.pop()
            pools[-1][1] += n
            pools[-1][2] += n_relevant
    starts = np.cumsum([0, *(pool[1] for pool in pools)])
    means = [float(similarities[a:b].mean()) for a, b in itertools.pairwise(starts)]
    return ProbabilityCurve(tuple(means), tuple(_compute_share(pool) for pool in pools))


def _compute_share(pool: Sequence[int]) -> float:
    _, n, n_relevant = pool
    return (n_relevant + 1) / (n + 2)


def measure_error(curve: ProbabilityCurve, *counted: CountedHits) -> CalibrationError:
    """Measure how well a curve agrees with hits that it was not fitted to."""
    similarities = np.concatenate([hits.similarities.ravel() for hits in counted])
    known = np.isfinite(similarities)
    relevant = np.concatenate([hits.is_relevant.ravel() for hits in counted])[known].astype(np.float64)
    probabilities = curve.compute(similarities[known])
    bins = np.minimum((probabilities * _N_ERROR_BINS).astype(int), _N_ERROR_BINS - 1)
    gaps = np.bincount(bins, probabilities - relevant, _N_ERROR_BINS)
    share = float(relevant.mean())
    return CalibrationError(
        float(np.abs(gaps).sum() / len(relevant)),
        float(np.mean((probabilities - relevant) ** 2)),
        share * (1 - share),
    )


def split_labels(labels: Positions, seed: int) -> Flags:
    """Split queries by their labels (m,) at random: True for those of half of the labels, which are held out."""
    different = np.unique(labels)
    held_out = np.random.default_rng(seed).permutation(different)[: len(different) // 2]
    return np.isin(labels, held_out)


def calibrate(
    queries: SampleQueries, rows: NDArray[np.float32], labels: Positions, relation: str, seed: int
) -> ProbabilityCalibration:
    """Fit a calibration to all queries; its error is that of a curve fitted to the queries of half of the labels."""
    hits = collect_hits(queries, rows, labels)
    n_labels, error = len(np.unique(queries.labels)), None
    if n_labels >= MIN_LABELS_TO_CHECK:
        is_held_out = split_labels(queries.labels, seed)
        curve = fit_curve(*(select_hits(part, ~is_held_out) for part in hits))
        error = measure_error(curve, *(select_hits(part, is_held_out) for part in hits))
    return ProbabilityCalibration(relation, fit_curve(*hits), len(queries.labels), n_labels, len(rows), error)


def select_hits(hits: CountedHits, rows: Flags) -> CountedHits:
    """Select the hits of some queries, (m,) flags."""
    return CountedHits(hits.similarities[rows], hits.is_relevant[rows])
