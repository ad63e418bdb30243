"""Results of a benchmark as plain data, and their JSON form."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simsearch.dataframes import build_arrow_table, build_data_frame, collect_columns
from simsearch.evaluation.metric_names import DEFAULT_METRIC
from simsearch.evaluation.statistics import SIGNIFICANCE_LEVEL
from simsearch.text import name_counts


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Images or labels that are left out, in whole or in part: the rule, the number of cases, and some examples."""

    rule: str
    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSummary:
    """Images, classes and queries of a benchmark. `n_queries_of` is the number of queries before sampling.

    `protocol` is one of `evaluation.protocol.PROTOCOLS`, `task` says which images are queries.
    """

    source: str
    protocol: str
    task: str
    labels: str
    n_images: int
    n_classes: int
    n_queries: int
    n_queries_of: int
    exclusions: tuple[Exclusion, ...]


@dataclass(frozen=True, slots=True)
class Score:
    """The mean of a metric over the queries, with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RowCost:
    """The cost of a row, measured on this machine. NaN: unknown.

    `embedded_per_second` are images/s of the network alone, `images_per_second` images/s from files to stored vectors;
    both count all views of an image. `query_ms_*` are milliseconds of a warm query by a new image (decode, embed,
    search, re-rank). `disk_bytes_per_image` counts the vectors in the catalog and in the FAISS file,
    `memory_bytes_per_image` the FAISS file. `parameters` and `weights_bytes` are the size of the network.
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
    """One image in the ranking of a query."""

    path: str
    label: str
    similarity: float
    is_relevant: bool


@dataclass(frozen=True, slots=True)
class WorstQuery:
    """A query with a low score, and its first answers in order of rank."""

    path: str
    label: str
    average_precision: float
    answers: tuple[RetrievedImage, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkRow:
    """One combination of backbone, precision, layer, pooling, augmentation and re-ranking.

    `scores` and `per_query` ((q,) float64 each, in the order of `BenchmarkResult.queries`) are by metric. `p_value` is
    of a paired test in `BenchmarkResult.main_metric` against the best row, corrected for the number of rows; None for
    the best row. `precision_recall` (101,) is the interpolated precision at recall 0, 0.01, ..., 1; `precision_at` (k,)
    the precision at rank 1, 2, ..., k. `per_class` is the mean of the main metric by label. `worst` are the queries of
    the lowest scores, the lowest first. `preprocessing` says how a picture becomes the network's input, `protocol` by
    which protocol the row was measured; both are for readers.
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
    preprocessing: str = ""
    protocol: str = ""

    @property
    def is_tied(self) -> bool:
        """Whether this row, which is not the best one, does not differ significantly from the best row."""
        return self.p_value is not None and self.p_value >= SIGNIFICANCE_LEVEL

    def to_dict(self, *, is_best: bool) -> dict[str, Any]:
        """The row in the JSON of a benchmark; `per_query` is left out."""
        cost = self.cost
        return {
            "name": self.name,
            "backbone": self.backbone,
            "model": self.model,
            "precision": self.precision,
            "layer": self.layer,
            "pooling": self.pooling,
            "augment": self.augment,
            "rerank": self.rerank,
            "d": self.width,
            "preprocessing": self.preprocessing,
            "protocol": self.protocol,
            **{metric: score.mean for metric, score in self.scores.items()},
            "intervals": {metric: [score.low, score.high] for metric, score in self.scores.items()},
            "p_value": self.p_value,
            "is_best": is_best,
            "is_tied_with_best": self.is_tied,
            "embedded_per_second": cost.embedded_per_second,
            "images_per_second": cost.images_per_second,
            "query_ms_p50": cost.query_ms_p50,
            "query_ms_p99": cost.query_ms_p99,
            "bytes_per_image": cost.memory_bytes_per_image,
            "disk_bytes_per_image": cost.disk_bytes_per_image,
            "parameters": cost.parameters,
            "weights_bytes": cost.weights_bytes,
            "precision_recall": self.precision_recall,
            "precision_at": self.precision_at,
            "per_class": dict(self.per_class),
            "worst": [dataclasses.asdict(query) for query in self.worst],
        }


@dataclass(frozen=True, slots=True)
class RobustnessResult:
    """How a model responds to one kind of perturbation at one strength.

    `similarity` is the mean cosine of an image and its perturbed form, `similarity_low` the 5th percentile. `hit_at_1`
    is the share of perturbed images whose nearest image is the original, by the number of augmented views of every
    image in the index (0: none).
    """

    model: str
    kind: str
    strength: str
    similarity: float
    similarity_low: float
    hit_at_1: Mapping[int, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSetResult:
    """The answers of a model at a minimum probability, for queries of classes that were held out from its calibration.

    Of the first ten hits those from `min_similarity` on are answers. `false_per_query` is their mean number if no image
    of the class is in the database, `share_with_false` the share of queries with any. If the class is there, the share
    `right_kept` of the right hits are answers, and the share `precision` of the answers is right; NaN without any. The
    last three are as in `search.calibration.CalibrationError`.
    """

    model: str
    min_probability: float
    min_similarity: float
    n_queries: int
    n_classes: int
    false_per_query: float
    share_with_false: float
    right_kept: float
    precision: float
    calibration_error: float
    brier: float
    brier_constant: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TextScores:
    """Text-to-image retrieval of a model: the mean of each metric over the texts, without re-ranking.

    `hit_at_k` is what tables of text-to-image retrieval call R@k: the share of texts with a relevant image among the
    first k. `unknown` are texts that the model cannot encode; they are left out.
    """

    model: str
    n_texts: int
    unknown: tuple[str, ...]
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class FusionTrial:
    """A pair of backbones joined, as `--backbone NAME` does it.

    The weight of the second part in `name` is the best one. `after` is cross-validated: the weight for the queries of
    half of the classes was chosen with the other half. `before` is the better part alone, `p_value` that of the paired
    test of both, corrected for the number of pairs. `query_ms` is the median time to embed a picture with both parts
    and to search, `memory_bytes_per_image` counts the index.
    """

    name: str
    before: Score
    after: Score
    p_value: float
    query_ms: float
    memory_bytes_per_image: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningRow:
    """A re-ranking method, or `learned`, on images that were held out from learning.

    `task` is `known` (new images of the learned classes) or `new` (other classes). `p_value` is that of the paired test
    against `none` in the same task, corrected for the number of rows; None for `none`. `answer_ms` is the median time
    of an answer without embedding the picture.
    """

    backbone: str
    model: str
    task: str
    method: str
    n_queries: int
    score: Score
    p_value: float | None
    answer_ms: float
    memory_bytes_per_image: float


@dataclass(frozen=True, slots=True)
class LabeledQuery:
    """A query: its file and its label (empty where queries have lists of positives instead of labels)."""

    path: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class BenchmarkResult:
    """A complete benchmark.

    `rows` are in the requested order; `metrics` are the keys of `BenchmarkRow.scores`, and `main_metric` the one of
    them by which rows are ranked and compared.
    """

    dataset: DatasetSummary
    metrics: tuple[str, ...]
    queries: tuple[LabeledQuery, ...]
    rows: tuple[BenchmarkRow, ...]
    robustness: tuple[RobustnessResult, ...]
    n_robustness_images: int
    open_set: tuple[OpenSetResult, ...] = ()
    notes: tuple[str, ...]
    seed: int
    command: str
    machine: str
    versions: Mapping[str, str]
    made_at: str
    elapsed_s: float
    texts: tuple[TextScores, ...] = ()
    fusions: tuple[FusionTrial, ...] = ()
    learning: tuple[LearningRow, ...] = ()
    main_metric: str = DEFAULT_METRIC

    @property
    def best(self) -> BenchmarkRow:
        """The row with the highest mean of the main metric; the first one of several equal rows."""
        return max(self.rows, key=lambda row: row.scores[self.main_metric].mean)

    def __repr__(self) -> str:
        """The best row, and the number of rows, images and queries."""
        best, dataset = self.best, self.dataset
        return (
            f"BenchmarkResult({len(self.rows)} rows on {dataset.n_images:,} images, {dataset.n_queries:,} queries; "
            f"best {self.main_metric}: {best.scores[self.main_metric].mean:.4f} of {best.name})"
        )

    def to_pandas(self) -> Any:
        """The rows as a `pandas.DataFrame`: settings, means of the metrics with their intervals, costs.

        Raises `MissingExtra` without pandas.
        """
        return build_data_frame(self._collect_columns())

    def to_arrow(self) -> Any:
        """The rows as a `pyarrow.Table`, as `to_pandas`. Raises `MissingExtra` without pyarrow."""
        return build_arrow_table(self._collect_columns())

    def _collect_columns(self) -> dict[str, list[Any]]:
        best, rows = self.best, []
        for row in self.rows:
            cells = row.to_dict(is_best=row is best)
            for name, score in row.scores.items():
                cells |= {f"{name}_low": score.low, f"{name}_high": score.high}
            is_nested = {name: isinstance(value, Mapping | list | np.ndarray) for name, value in cells.items()}
            rows.append({name: value for name, value in cells.items() if not is_nested[name]})
        return collect_columns(rows)

    def to_dict(self, *, summary: Sequence[str]) -> dict[str, Any]:
        """The JSON of `simsearch benchmark --json` and of report.json; NaN and infinities are null.

        `summary` are the sentences of the report. Bytes of a path that are not UTF-8 are lone surrogates, which
        `json.dumps` writes as escapes.
        """
        best = self.best
        document = {
            "dataset": name_counts(dataclasses.asdict(self.dataset)),
            "headline": self.main_metric,
            "best": best.name,
            "summary": list(summary),
            "metrics": list(self.metrics),
            "rows": [row.to_dict(is_best=row is best) for row in self.rows],
            "robustness": [dataclasses.asdict(result) for result in self.robustness],
            "robustness_images": self.n_robustness_images,
            "open_set": [dataclasses.asdict(result) for result in self.open_set],
            "texts": [dataclasses.asdict(scores) for scores in self.texts],
            "fusions": [dataclasses.asdict(trial) for trial in self.fusions],
            "learning": [dataclasses.asdict(row) for row in self.learning],
            "notes": list(self.notes),
            "seed": self.seed,
            "command": self.command,
            "machine": self.machine,
            "versions": dict(self.versions),
            "made_at": self.made_at,
            "seconds": self.elapsed_s,
        }
        return {name: _to_json_value(value) for name, value in document.items()}


def _to_json_value(value: Any) -> Any:
    """Convert NumPy arrays and tuples to lists, keys to strings, and NaN and infinities to None."""
    if hasattr(value, "tolist"):
        return _to_json_value(value.tolist())
    if isinstance(value, Mapping):
        return {str(name): _to_json_value(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json_value(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
