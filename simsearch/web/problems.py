"""Error documents of the API: `application/problem+json`, as RFC 9457 defines it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

PROBLEM_TYPE = "application/problem+json"


def make_problem(status: int, problem: str, advice: str) -> dict[str, Any]:
    """Make the document of an error. `problem` says what failed, `advice` what to do.

    `problem` has the text of `detail`, under the name that it had before.
    """
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": problem,
        "problem": problem,
        "advice": advice,
    }
