"""Map errors to HTTP responses: a status code, the problem, and what to do."""

from __future__ import annotations

import posixpath
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
from simsearch.images.isolation import DecodingBusy
from simsearch.web.engine import ServerNotReady
from simsearch.web.images import OriginalGone
from simsearch.web.indexing import IndexingFailed
from simsearch.web.jobs import JobCancelled, JobNotFound
from simsearch.web.parameters import InvalidParameters, describe_unknown
from simsearch.web.resources import RETRY_AFTER_S, RequestTimedOut, ServerBusy
from simsearch.web.upload_folder import UploadFailed, UploadFolderFull


class UploadExpired(SimsearchError):
    """An uploaded picture is no longer in memory."""


class WritingForbidden(SimsearchError):
    """The request may not change the collection."""


_STATUS_BY_ERROR: tuple[tuple[type[SimsearchError], int], ...] = (
    (ServerBusy, 503),
    (RequestTimedOut, 503),
    (ServerNotReady, 503),
    (DecodingBusy, 503),
    (UploadExpired, 410),
    (OriginalGone, 410),
    (JobCancelled, 410),
    (JobNotFound, 404),
    (InvalidParameters, 422),
    (WritingForbidden, 403),
    (UploadFailed, 500),
    (UploadFolderFull, 507),
    (IndexingFailed, 503),
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
"""The first class that matches decides."""


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """The content of an error response. `retry_s` is the time before a retry, 0 if a retry does not help."""

    status: int
    problem: str
    advice: str
    retry_s: int = 0

    @property
    def headers(self) -> dict[str, str]:
        """Additional HTTP headers."""
        return {"Retry-After": str(self.retry_s)} if self.retry_s else {}


def to_error_response(error: Exception) -> ErrorResponse:
    """Convert an error to the content of its HTTP response."""
    if isinstance(error, SimsearchError):
        status = next(status for kind, status in _STATUS_BY_ERROR if isinstance(error, kind))
        # Options of the command line are fields of the same name in a request.
        problem = error.problem.removeprefix("--")
        if isinstance(error, ImageError):
            problem = f"cannot read {error.path}: {error.problem}"
        problem, advice = (_hide_folders(text, error) for text in (problem, error.advice))
        return ErrorResponse(status, problem, advice, RETRY_AFTER_S if status == 503 else 0)
    if isinstance(error, RequestValidationError):
        problem = "; ".join(map(_format_validation_error, error.errors()[:5]))
        return ErrorResponse(422, problem, "see /api/v1/openapi.json")
    if isinstance(error, HTTPException):
        advice = "see /api/v1/openapi.json" if error.status_code in (404, 405) else "try again"
        return ErrorResponse(error.status_code, _format_http_error(error), advice)
    return ErrorResponse(500, "internal server error", "see the log of the server")


def _format_validation_error(error: dict[str, object]) -> str:
    location = error["loc"]
    name = ".".join(str(part) for part in location[1:]) if isinstance(location, tuple) else str(location)
    if error["type"] == "extra_forbidden":
        return describe_unknown(name, ())
    return f"{name or 'the request'}: {error['msg']}"


def _format_http_error(error: HTTPException) -> str:
    if error.detail and error.detail != HTTPStatus(error.status_code).phrase:
        return str(error.detail)
    messages = {404: "page not found", 405: "method not allowed for this URL"}
    return messages.get(error.status_code, str(error.detail))


def _hide_folders(text: str, error: SimsearchError) -> str:
    """Name the collection or file of an error without the folders of this machine that lead to it."""
    path = error.collection if isinstance(error, CollectionError) else getattr(error, "path", "")
    return text.replace(path, posixpath.basename(path.rstrip("/")) or path) if path else text
