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
from simsearch.web.engine import RETRY_AFTER_S, RequestTimedOut, ServerBusy, ServerNotReady

_STATUS_BY_ERROR: tuple[tuple[type[SimsearchError], int], ...] = (
    (ServerBusy, 503),
    (RequestTimedOut, 503),
    (ServerNotReady, 503),
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


class UploadExpired(SimsearchError):
    """A picture that was asked with is not kept any more."""


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """An answer that is none. `retry_s` is when to try again, 0 where that does not help."""

    status: int
    problem: str
    advice: str
    retry_s: int = 0

    @property
    def headers(self) -> dict[str, str]:
        """What tells a program when to try again."""
        return {"Retry-After": str(self.retry_s)} if self.retry_s else {}


def to_error_response(error: Exception) -> ErrorResponse:
    """What to say of an error."""
    if isinstance(error, UploadExpired):
        return ErrorResponse(410, error.problem, error.advice)
    if isinstance(error, ImageError):
        return ErrorResponse(422, f"cannot read {error.path}: {error.problem}", error.advice)
    if isinstance(error, SimsearchError):
        status = next(status for kind, status in _STATUS_BY_ERROR if isinstance(error, kind))
        # What the command line calls an option is here a field of the same name.
        return ErrorResponse(
            status, error.problem.removeprefix("--"), error.advice, RETRY_AFTER_S if status == 503 else 0
        )
    if isinstance(error, RequestValidationError):
        return ErrorResponse(
            422, "; ".join(map(_format_validation_error, error.errors()[:5])), "see /api/v1/openapi.json"
        )
    if isinstance(error, HTTPException):
        advice = "see /api/v1/openapi.json" if error.status_code in (404, 405) else "try again"
        return ErrorResponse(error.status_code, _format_http_error(error), advice)
    return ErrorResponse(500, "the server failed", "its log says why")


def _format_validation_error(error: dict[str, object]) -> str:
    place = error["loc"]
    name = ".".join(str(part) for part in place[1:]) if isinstance(place, tuple) else str(place)
    return f"{name or 'the request'}: {error['msg']}"


def _format_http_error(error: HTTPException) -> str:
    if error.detail and error.detail != HTTPStatus(error.status_code).phrase:
        return str(error.detail)
    return {404: "there is nothing here", 405: "this is not asked like that"}.get(error.status_code, str(error.detail))
