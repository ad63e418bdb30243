"""What a benchmark found out, as plain data: what reports are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAIN_METRIC = "map"
"""The metric that rows are ranked by and compared in."""


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Images or labels that take no part, or not the whole of it: a rule, how many it met, and some of them."""

    rule: str
    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSummary:
    """What was asked of what. `n_queries_of` is how many queries there were before sampling."""

    source: str
    protocol: str
    labels: str
    n_images: int
    n_classes: int
    n_queries: int
    n_queries_of: int
    exclusions: tuple[Exclusion, ...]


@dataclass(frozen=True, slots=True)
class Score:
    """The mean of a metric over the queries, with a 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RowCost:
    """What a row costs on this machine.

    Images/s of the network alone, and from files to stored vectors, all views of an image counted; milliseconds of a
    warm query by an unknown picture (decode, embed, search, re-rank); bytes an image on disk (vectors in the catalog
    and in the FAISS file) and in memory (the FAISS file); the network's parameters and the size of its weights. NaN
    is what is not known.
    """

    embedded_per_second: float
    images_per_second: float
    query_ms_p50: float
    query_ms_p99: float
    disk_bytes_per_image: float
    memory_bytes_per_image: float
    parameters: float
    weights_bytes: float


@dataclass(frozen=True, slots=True)
class RetrievedImage:
    """One answer to a query, in order of rank."""

    path: str
    label: str
    similarity: float
    is_relevant: bool


@dataclass(frozen=True, slots=True)
class WorstQuery:
    """A query that went badly, and what it got."""

    path: str
    label: str
    average_precision: float
    answers: tuple[RetrievedImage, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkRow:
    """One combination of backbone, precision, layer, pooling, augmentation and re-ranking.

    `scores` and `per_query` ((q,) float64 each, in the order of `Benchmark.queries`) are by metric. `p_value` is of
    a paired test in `HEADLINE` against the best row, corrected for the number of rows; None for the best itself.
    `precision_recall` is the interpolated precision at recall 0, 0.01, ..., 1, (101,); `precision_at` that at rank
    1, 2, ..., (k,). `per_class` is `HEADLINE` by label. `worst` are the worst queries, the worst first.
    """

    name: str
    backbone: str
    model: str
    precision: str
    layer: str | None
    pooling: str
    augment: int
    rerank: str
    width: int
    scores: Mapping[str, Score]
    per_query: Mapping[str, NDArray[np.float64]]
    p_value: float | None
    precision_recall: NDArray[np.float64]
    precision_at: NDArray[np.float64]
    per_class: Mapping[str, float]
    worst: tuple[WorstQuery, ...]
    cost: RowCost


@dataclass(frozen=True, slots=True)
class RobustnessResult:
    """How a model takes one kind of change at one strength.

    `similarity` is the mean cosine of an image and its changed self, `similarity_low` its 5th percentile;
    `hit_at_1` the share of changed images whose nearest image is the original, by the number of augmented views of
    every image in the index (0: none).
    """

    model: str
    kind: str
    strength: str
    similarity: float
    similarity_low: float
    hit_at_1: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class LabeledQuery:
    """A query: its file and its label (empty where queries come with lists of positives)."""

    path: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkResult:
    """A whole benchmark. `rows` are in the order asked for; `metrics` are the names in `Row.scores`, in order."""

    dataset: DatasetSummary
    metrics: tuple[str, ...]
    queries: tuple[LabeledQuery, ...]
    rows: tuple[BenchmarkRow, ...]
    robustness: tuple[RobustnessResult, ...]
    n_robustness_images: int
    notes: tuple[str, ...]
    seed: int
    command: str
    machine: str
    versions: Mapping[str, str]
    made_at: str
    elapsed_s: float

    @property
    def best(self) -> BenchmarkRow:
        """The row of the highest headline score; among equal ones the first."""
        return max(self.rows, key=lambda row: row.scores[MAIN_METRIC].mean)
