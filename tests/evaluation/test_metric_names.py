"""Names of metrics as people write them."""

from __future__ import annotations

import pytest

from simsearch.errors import UsageError
from simsearch.evaluation.metric_names import STANDARD_METRICS, parse_metric


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("P@1", "p_at_1"), ("precision@20", "p_at_20"), ("mAP", "map"), ("map_at_10", "map_at_10"),
        ("mAP@10", "map_at_10"), ("map_min@100", "map_min_at_100"), ("MAP@R", "map_at_r"),
        ("R-precision", "r_precision"),
        ("Rprec", "r_precision"), ("nDCG@10", "ndcg_at_10"), ("MRR", "mrr"), ("hit@1", "hit_at_1"),
        ("CMC@5", "hit_at_5"),
        ("recall@1000", "recall_at_1000"), ("N-S", "ns"), ("map_easy", "map_easy"), (" p_at_01 ", "p_at_1"),
    ],
)  # fmt: skip
def test_usual_spellings_are_understood(text: str, key: str):
    assert parse_metric(text) == key


def test_the_key_of_every_standard_metric_is_its_own_name():
    assert tuple(map(parse_metric, STANDARD_METRICS)) == STANDARD_METRICS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("R@10", r"R@10 has two meanings; name hit@k .* or recall@k"),
        ("P", r"the metric P needs a number of results; write P@10"),
        ("P@0", r"looks at 0 results"),
        ("P@9999999", r"looks at 9999999 results"),
        ("mrr@5", r"unknown metric 'mrr@5'; give P@1, "),
        ("accuracy", r"unknown metric 'accuracy'"),
        ("map_at_", r"unknown metric"),
        ("", r"unknown metric ''"),
    ],
)
def test_other_names_are_refused_with_what_to_write(text: str, message: str):
    with pytest.raises(UsageError, match=message):
        parse_metric(text)
