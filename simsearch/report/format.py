"""Metrics and numbers as text, the same in every kind of report."""

from __future__ import annotations

import math
import re

from simsearch.text import NO_VALUE

_MINUS = "\N{MINUS SIGN}"
_METRIC = re.compile(r"(map_min|map|p|recall|hit|ndcg|mrr|r_precision|ns)(?:_at_(\d+|r))?(?:_([a-z]+))?")
_METRIC_LABELS = {
    "map": "mAP",
    "p": "P",
    "map_min": "mAP_min",
    "recall": "recall",
    "hit": "hit",
    "ndcg": "nDCG",
    "mrr": "MRR",
    "r_precision": "R-precision",
    "ns": "N-S",
}
_METRIC_DESCRIPTIONS = {
    "map": "Mean average precision. The average precision of a query is the mean of the precisions at the ranks of its "
    "relevant images; 1 means that all relevant images come first. With @k only the first k results count, and the sum "
    "is still divided by all relevant images (trec_eval's map_cut); with @R, R is the number of relevant images "
    "(MAP@R of metric learning).",
    "map_min": "mAP@k divided by min(k, relevant images), so that 1 can be reached: mAP@100 of Google Landmarks, "
    "mAP@1k of ILIAS.",
    "p": "Precision at k: the share of relevant images among the first k results. P@1: how often the first result is "
    "relevant.",
    "recall": "Recall at k: the share of all relevant images that is among the first k results. Not the R@k of metric "
    "learning, which is hit@k.",
    "hit": "Hit at k: the share of queries with at least one relevant image among the first k results. "
    "Metric learning (SOP, CUB-200, In-Shop) prints it as R@k, re-identification as CMC@k.",
    "ndcg": "Normalised discounted cumulative gain at k: each relevant image counts 1/log2(rank + 1), "
    "divided by the sum of the best possible order.",
    "mrr": "Mean reciprocal rank: the mean of 1/rank of the first relevant image.",
    "r_precision": "Precision at k, where k is the number of relevant images.",
    "ns": "N-S score of UKBench: how many of the four images of an object are among the first four results.",
}


def format_metric(metric: str) -> str:
    """Format the name of a metric: `recall_at_10` as recall@10, `map` as mAP; an unknown name stays as it is."""
    if not (found := _METRIC.fullmatch(metric)):
        return metric
    base, k, variant = found.groups()
    return _METRIC_LABELS[base] + (f"@{k.upper()}" if k else "") + (f" {variant}" if variant else "")


def describe_metric(metric: str) -> str:
    """Describe a metric in a sentence or two; empty for an unknown one."""
    found = _METRIC.fullmatch(metric)
    return _METRIC_DESCRIPTIONS[found[1]] if found else ""


def format_score(value: float) -> str:
    """Format a metric or a similarity with three decimals."""
    return f"{value:.3f}" if math.isfinite(value) else NO_VALUE


def format_difference(value: float) -> str:
    """Format a difference of two scores with its sign (U+2212 for minus), and 0.000 without one."""
    if not math.isfinite(value):
        return NO_VALUE
    shown = f"{abs(value):.3f}"
    return shown if float(shown) == 0 else f"{_MINUS if value < 0 else '+'}{shown}"


def format_p_value(value: float) -> str:
    """Format a p-value: `p = 0.31`, `p = 0.012` or `p < 0.001`; below 0.1 with three decimals."""
    if not math.isfinite(value):
        return NO_VALUE
    if value < 0.001:
        return "p < 0.001"
    return f"p = {value:.3f}" if value < 0.1 else f"p = {value:.2f}"


def format_share(value: float) -> str:
    """Format a share in [0, 1] in percent, such as 86.5 %; only 0 and 1 are shown as 0 % and 100 %."""
    if not math.isfinite(value):
        return NO_VALUE
    percent = f"{100 * value:.1f}".removesuffix(".0")
    if percent in ("0", "100") and value not in (0, 1):
        return "under 0.1 %" if percent == "0" else "over 99.9 %"
    return f"{percent} %"


def format_number(value: float) -> str:
    """Format a rate or a time with three significant digits: 1,130, 23.4, 4.71."""
    if not math.isfinite(value):
        return NO_VALUE
    for bound, decimals in ((99.95, 0), (9.995, 1)):
        if abs(value) >= bound:
            return f"{value:,.{decimals}f}"
    return f"{value:.2f}"


def format_parameter_count(count: float) -> str:
    """Format a number of parameters: 2.26 M, 138 M, 810 k."""
    for divisor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= divisor:
            return f"{format_number(count / divisor)} {unit}"
    return f"{count:.0f}"


def format_duration(seconds: float) -> str:
    """Format a duration: 4.2 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
