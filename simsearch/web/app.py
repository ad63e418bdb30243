"""The web app: the API and the pages behind the security middleware, with one form of error responses."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator

import anyio.to_thread
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match

from simsearch import __version__
from simsearch.errors import SimsearchError
from simsearch.web import api, api_browse, api_jobs, login, page_browse, page_duplicates, page_label, pages
from simsearch.web.engine import SearchEngine
from simsearch.web.errors import to_error_response
from simsearch.web.guesses import GuessLimiter
from simsearch.web.middleware import AsgiApp, SecurityMiddleware
from simsearch.web.problems import PROBLEM_TYPE, make_problem
from simsearch.web.safe_fetch import Fetcher

_log = logging.getLogger("simsearch.web")

_DESCRIPTION = """Search a collection of images by example. The parameters are those of the command line.

If the server requires a token, send it as `Authorization: Bearer TOKEN`."""


def make_app(engine: SearchEngine, fetcher: Fetcher | None = None) -> AsgiApp:
    """Make the ASGI app of a started engine. The app closes the engine when it stops."""
    settings, metrics = engine.settings, engine.metrics

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await anyio.to_thread.run_sync(engine.close)

    app = FastAPI(
        title="simsearch", version=__version__, description=_DESCRIPTION, lifespan=lifespan,
        openapi_url=f"{api.PREFIX}/openapi.json", docs_url=None, redoc_url=None, redirect_slashes=False,
    )  # fmt: skip
    app.state.engine, app.state.metrics, app.state.guesses = engine, metrics, GuessLimiter()
    app.state.fetcher = fetcher or Fetcher(max_bytes=settings.max_body_bytes)
    for part in (api, api_browse, api_jobs):
        app.include_router(part.router)
    app.include_router(api.metrics_router)
    for page in (pages, page_browse, page_duplicates, page_label):
        app.include_router(page.router)
    app.include_router(login.router)
    for kind in (SimsearchError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, _render_error)
    _describe_errors(app)
    if settings.token is not None:
        _describe_token(app)
    return SecurityMiddleware(app, settings, metrics, app.state.guesses)


def _render_error(request: Request, error: Exception) -> Response:
    """Render an error as a page for browsers and as JSON for programs."""
    response = to_error_response(error)
    if response.status == 500:
        _log.error("%s %s", request.method, request.url.path, exc_info=error)
    headers = response.headers | dict((error.headers or {}) if isinstance(error, HTTPException) else {})
    if response.status == 405:
        headers["Allow"] = ", ".join(_list_methods(request))
    if "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/api"):
        return login.render_error_page(response, headers)
    document = make_problem(response.status, response.problem, response.advice)
    return JSONResponse(document, response.status, headers, PROBLEM_TYPE)


def _list_methods(request: Request) -> list[str]:
    """List the methods of all routes with the path of the request."""
    routes = (route for route in request.app.routes if route.matches(request.scope)[0] != Match.NONE)
    return sorted({method for route in routes for method in getattr(route, "methods", None) or ()})


def _describe_errors(app: FastAPI) -> None:
    """Describe every error in OpenAPI as the one kind of document that errors have."""
    for operations in app.openapi()["paths"].values():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if status >= "400" and "content" in response:
                    response["content"] = {PROBLEM_TYPE: response["content"][PROBLEM_TYPE]}


def _describe_token(app: FastAPI) -> None:
    """Add the token to the OpenAPI description."""
    description = app.openapi()
    description.setdefault("components", {})["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    description["security"] = [{"token": []}]
    description["paths"][f"{api.PREFIX}/health"]["get"]["security"] = []
