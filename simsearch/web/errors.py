"""Errors as HTTP has them: a status, what happened, what to do next."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from simsearch.errors import (
    CollectionBusy,
    CollectionError,
    ImageError,
    ImageNotFound,
    ModelError,
    ModelNotIndexed,
    SimsearchError,
    StoreUnavailable,
    UsageError,
)
from simsearch.web.engine import RETRY_S, Busy, NotReady, TooSlow

_STATUS: tuple[tuple[type[SimsearchError], int], ...] = (
    (Busy, 503),
    (TooSlow, 503),
    (NotReady, 503),
    (ImageNotFound, 404),
    (ModelNotIndexed, 404),
    (CollectionBusy, 503),
    (StoreUnavailable, 503),
    (CollectionError, 500),
    (ImageError, 422),
    (UsageError, 400),
    (ModelError, 500),
    (SimsearchError, 500),
)
"""The first that fits."""


class Gone(SimsearchError):
    """A picture that was asked with is not kept any more."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is none. `retry_s` is when to try again, 0 where that does not help."""

    status: int
    problem: str
    advice: str
    retry_s: int = 0

    @property
    def headers(self) -> dict[str, str]:
        """What tells a program when to try again."""
        return {"Retry-After": str(self.retry_s)} if self.retry_s else {}


def refusal(error: Exception) -> Refusal:
    """What to say of an error."""
    if isinstance(error, Gone):
        return Refusal(410, error.problem, error.advice)
    if isinstance(error, ImageError):
        return Refusal(422, f"cannot read {error.path}: {error.problem}", error.advice)
    if isinstance(error, SimsearchError):
        status = next(status for kind, status in _STATUS if isinstance(error, kind))
        # What the command line calls an option is here a field of the same name.
        return Refusal(status, error.problem.removeprefix("--"), error.advice, RETRY_S if status == 503 else 0)
    if isinstance(error, RequestValidationError):
        return Refusal(422, "; ".join(map(_complaint, error.errors()[:5])), "see /api/v1/openapi.json")
    if isinstance(error, HTTPException):
        advice = "see /api/v1/openapi.json" if error.status_code in (404, 405) else "try again"
        return Refusal(error.status_code, _sentence(error), advice)
    return Refusal(500, "the server failed", "its log says why")


def _complaint(error: dict[str, object]) -> str:
    place = error["loc"]
    name = ".".join(str(part) for part in place[1:]) if isinstance(place, tuple) else str(place)
    return f"{name or 'the request'}: {error['msg']}"


def _sentence(error: HTTPException) -> str:
    if error.detail and error.detail != HTTPStatus(error.status_code).phrase:
        return str(error.detail)
    return {404: "there is nothing here", 405: "this is not asked like that"}.get(error.status_code, str(error.detail))
