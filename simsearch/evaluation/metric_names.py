"""Names of metrics, and the scores that they stand for: `map`, `p_at_1`, `hit_at_1000`, `map_min_at_100`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import UsageError
from simsearch.evaluation import metrics
from simsearch.evaluation.metrics import Rankings

DEFAULT_METRIC = "map"
"""The metric by which rows are ranked and compared where no other is chosen."""

STANDARD_METRICS = (
    "p_at_1", "p_at_5", "p_at_10", "recall_at_1", "recall_at_10", "recall_at_100", "recall_at_1000",
    "hit_at_1", "hit_at_10", "hit_at_100", "hit_at_1000", "map", "map_at_10", "map_min_at_10", "map_min_at_100",
    "map_at_r", "mrr", "ndcg_at_10", "r_precision",
)  # fmt: skip
"""The metrics that are always computed, in the order of reports."""

_WITH_CUTOFF: Mapping[str, Callable[[Rankings, int], NDArray[np.float64]]] = {
    "p": metrics.precision_at,
    "recall": metrics.recall_at,
    "hit": metrics.hit_at,
    "map": metrics.average_precision_at,
    "map_min": metrics.average_precision_min_at,
    "ndcg": metrics.ndcg_at,
}
_WITHOUT_CUTOFF: Mapping[str, Callable[[Rankings], NDArray[np.float64]]] = {
    "map": metrics.average_precision,
    "map_at_r": metrics.average_precision_at_r,
    "mrr": metrics.reciprocal_rank,
    "r_precision": metrics.r_precision,
}
TASK_METRICS = ("ns", "map_easy", "map_hard")
"""Metrics of UKBench and of graded lists, which are computed for their tasks only."""

_OTHER_SPELLINGS = {
    "precision": "p", "cmc": "hit", "success": "hit", "hit_rate": "hit", "ap": "map", "map_r": "map_at_r",
    "rprec": "r_precision", "rprecision": "r_precision", "n_s": "ns",
}  # fmt: skip
_NAME = re.compile(r"([a-z_]+?)(?:_at_(\d+))?")
_MAX_CUTOFF = 1_000_000
_EXAMPLES = "P@1, hit@10, recall@10, mAP, mAP@10, map_min@100, MAP@R, R-precision, nDCG@10 or MRR"


def parse_metric(text: str) -> str:
    """Convert the name of a metric as people write it to its key: `P@1` to `p_at_1`, `R-precision` to `r_precision`.

    Raises `UsageError` for an unknown name, a missing or invalid cutoff, and for R@k, which has two meanings.
    """
    key = re.sub(r"[\s-]+", "_", text.strip().lower()).replace("@", "_at_")
    found = _NAME.fullmatch(key)
    base, k = (found[1], found[2]) if found else (key, None)
    if base == "r":
        raise UsageError(
            f"{text} has two meanings",
            "name hit@k (R@k of metric learning: is any relevant image among the first k?) or recall@k (their share)",
        )
    base = _OTHER_SPELLINGS.get(base, base)
    if k is None:
        if base in _WITHOUT_CUTOFF or base in TASK_METRICS:
            return base
        if base in _WITH_CUTOFF:
            raise UsageError(f"the metric {text} needs a number of results", f"write {text}@10, for example")
    elif base in _WITH_CUTOFF:
        if not 1 <= int(k) <= _MAX_CUTOFF:
            raise UsageError(f"the metric {text} looks at {k} results", f"give a number from 1 to {_MAX_CUTOFF:,}")
        return f"{base}_at_{int(k)}"
    raise UsageError(f"unknown metric {text!r}", f"give {_EXAMPLES}")


def compute_metric(name: str, rankings: Rankings) -> NDArray[np.float64]:
    """Compute the metric of a key from `parse_metric`: (q,) scores; KeyError for one that only some tasks have."""
    if name in _WITHOUT_CUTOFF:
        return _WITHOUT_CUTOFF[name](rankings)
    base, _, k = name.rpartition("_at_")
    return _WITH_CUTOFF[base](rankings, int(k))
