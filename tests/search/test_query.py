"""A query refuses values out of range, and an answer has one JSON for the command line and one for the API."""

from __future__ import annotations

from typing import Any

import pytest

from simsearch import Answer, Example, Hit, View
from simsearch.errors import UsageError
from simsearch.search.inputs import make_examples
from simsearch.search.query import Query

EXAMPLES = (Example("a.jpg"),)
PARAMETERS = {"mirrored": True}
HIT = Hit(1, 0.5, 7, "a.jpg", ("a.jpg", "b.jpg"), View("augmented", PARAMETERS))
ANSWER = Answer(("a.jpg",), "mobilenet_v2", "1f", (HIT,), {"load": 1.23456}, ())
FIELDS = {"rank": 1, "similarity": 0.5, "image_id": 7, "path": "a.jpg", "paths": ["a.jpg", "b.jpg"]}


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"examples": ()}, "the query has no example"),
        ({"k": 0}, "k is 0"),
        ({"offset": -1}, "the offset is -1"),
        ({"min_similarity": 1.5}, "the minimum similarity is 1.5"),
        ({"min_similarity": float("nan")}, "the minimum similarity is nan"),
    ],
)
def test_a_query_out_of_range_is_refused(values: dict[str, Any], problem: str):
    with pytest.raises(UsageError, match=problem):
        Query(**({"examples": EXAMPLES} | values))


def test_one_input_or_several_become_examples():
    assert make_examples("a.jpg") == EXAMPLES
    assert make_examples(["a.jpg", Example(3, -1.0)]) == (*EXAMPLES, Example(3, -1.0))


def test_the_json_of_the_command_line_leaves_out_what_is_not_there():
    expected = {
        "query": ["a.jpg"],
        "backbone": "mobilenet_v2",
        "model": "1f",
        "default_backbone": "",
        "hits": [FIELDS | {"view": {"kind": "augmented", "mirrored": True}}],
        "milliseconds": {"load": 1.23},
    }
    assert ANSWER.to_dict() == expected
    assert list(ANSWER.to_dict()) == list(expected)


def test_the_json_of_the_api_has_every_field():
    assert ANSWER.to_api_dict() == {
        "query": ["a.jpg"],
        "backbone": "mobilenet_v2",
        "model": "1f",
        "rerank": "none",
        "probability_of": "",
        "hits": [
            FIELDS
            | {"view": {"kind": "augmented", "parameters": PARAMETERS}, "probability": None, "verification": None}
        ],
        "milliseconds": {"load": 1.235},
        "notes": [],
    }
