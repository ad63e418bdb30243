"""How names, metrics and numbers are put for people, in every kind of report alike."""

from __future__ import annotations

import math
import re

from simsearch.text import NO_VALUE

_MINUS = "\N{MINUS SIGN}"
_METRIC = re.compile(r"(map|p|recall|hit|ndcg|mrr|r_precision|ns)(?:_at_(\d+))?(?:_([a-z]+))?")
_METRIC_LABELS = {
    "map": "mAP",
    "p": "P",
    "recall": "R",
    "hit": "hit",
    "ndcg": "nDCG",
    "mrr": "MRR",
    "r_precision": "R-precision",
    "ns": "N-S",
}
_METRIC_DESCRIPTIONS = {
    "map": "Mean average precision. The average precision of a query is the mean of the precisions at the ranks of its "
    "right answers; 1 means that all right answers come first. With @k only the first k answers count.",
    "p": "Precision at k: the share of right ones among the first k answers. P@1: how often the first one is right.",
    "recall": "Recall at k: the share of all right answers that is among the first k.",
    "hit": "Hit at k: the share of queries with at least one right answer among the first k.",
    "ndcg": "Normalised discounted cumulative gain at k: right answers count 1/log2(rank + 1), divided by what the "
    "best order would get.",
    "mrr": "Mean reciprocal rank: the mean of 1/rank of the first right answer.",
    "r_precision": "Precision at as many answers as there are right ones.",
    "ns": "N-S score of UKBench: how many of the four pictures of an object are among the first four answers.",
}


def format_metric(metric: str) -> str:
    """`recall_at_10` as R@10, `map` as mAP; a metric that is not known as it is."""
    if not (found := _METRIC.fullmatch(metric)):
        return metric
    base, k, variant = found.groups()
    return _METRIC_LABELS[base] + (f"@{k}" if k else "") + (f" {variant}" if variant else "")


def describe_metric(metric: str) -> str:
    """What a metric says, in a sentence; empty for one that is not known."""
    found = _METRIC.fullmatch(metric)
    return _METRIC_DESCRIPTIONS[found[1]] if found else ""


def format_score(value: float) -> str:
    """A metric with three decimals."""
    return f"{value:.3f}" if math.isfinite(value) else NO_VALUE


def format_difference(value: float) -> str:
    """A difference of two scores with its sign, a true minus, and no sign before nothing."""
    if not math.isfinite(value):
        return NO_VALUE
    shown = f"{abs(value):.3f}"
    return shown if float(shown) == 0 else f"{_MINUS if value < 0 else '+'}{shown}"


def format_p_value(value: float) -> str:
    """`p = 0.31`, `p = 0.012` or `p < 0.001`, never rounded over the bound of 0.05."""
    if not math.isfinite(value):
        return NO_VALUE
    if value < 0.001:
        return "p < 0.001"
    return f"p = {value:.3f}" if value < 0.1 else f"p = {value:.2f}"


def format_share(value: float) -> str:
    """A share of one in percent: 86.5 %; what is not all is never shown as 100 %, what is not nothing not as 0 %."""
    if not math.isfinite(value):
        return NO_VALUE
    percent = f"{100 * value:.1f}".removesuffix(".0")
    if percent in ("0", "100") and value not in (0, 1):
        return "under 0.1 %" if percent == "0" else "over 99.9 %"
    return f"{percent} %"


def format_number(value: float) -> str:
    """A rate or a time with three digits that count: 1,130, 23.4, 4.71."""
    if not math.isfinite(value):
        return NO_VALUE
    for bound, decimals in ((99.95, 0), (9.995, 1)):
        if abs(value) >= bound:
            return f"{value:,.{decimals}f}"
    return f"{value:.2f}"


def format_parameter_count(count: int) -> str:
    """A number of parameters: 2.26 M, 138 M, 810 k."""
    for divisor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= divisor:
            return f"{format_number(count / divisor)} {unit}"
    return str(count)


def format_duration(seconds: float) -> str:
    """A time that a person waited: 4.2 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
