"""The web app: the API and the pages behind the security middleware, with one form of error responses.

A server with one collection has it at `/`. One with several has each at `/c/NAME/`, in an app of its own, and a list of
them at `/`.
"""

from __future__ import annotations

import contextlib
import logging
import urllib.parse
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager

import anyio.to_thread
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match, Mount

from simsearch import __version__
from simsearch.errors import SimsearchError
from simsearch.web import (
    api,
    api_browse,
    api_jobs,
    api_upload,
    login,
    page_browse,
    page_collections,
    page_duplicates,
    page_label,
    pages,
)
from simsearch.web.engine import SearchEngine
from simsearch.web.errors import to_error_response
from simsearch.web.guesses import GuessLimiter
from simsearch.web.middleware import AsgiApp, Message, Receive, Scope, SecurityMiddleware, Send, accepts_page
from simsearch.web.problems import PROBLEM_TYPE, make_problem
from simsearch.web.safe_fetch import Fetcher

_log = logging.getLogger("simsearch.web")

_DESCRIPTION = """Search a collection of images by example. The parameters are those of the command line.

If the server requires a token, send it as `Authorization: Bearer TOKEN`."""

SERVER_ROUTERS = (api.server_router, api.metrics_router)
COLLECTION_ROUTERS = (
    api.router, api_browse.router, api_jobs.router, api_upload.router, pages.router, page_browse.router,
    page_duplicates.router, page_label.router,
)  # fmt: skip

_Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def make_app(engines: Sequence[SearchEngine], fetcher: Fetcher | None = None) -> AsgiApp:
    """Make the ASGI app of started engines, one for each collection. The app closes the engines when it stops."""
    settings, metrics = engines[0].settings, engines[0].resources.metrics
    guesses, fetcher = GuessLimiter(), fetcher or Fetcher(max_bytes=settings.max_body_bytes)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        for engine in engines:
            await anyio.to_thread.run_sync(engine.close)

    def make(
        routers: Sequence[APIRouter], engine: SearchEngine | None = None, lifespan: _Lifespan | None = None
    ) -> FastAPI:
        app = FastAPI(
            title="simsearch", version=__version__, description=_DESCRIPTION, lifespan=lifespan,
            openapi_url=f"{api.PREFIX}/openapi.json", docs_url=None, redoc_url=None, redirect_slashes=False,
            root_path_in_servers=False, servers=[{"url": engine.root}] if engine is not None and engine.root else None,
        )  # fmt: skip
        app.state.engines, app.state.guesses, app.state.fetcher = tuple(engines), guesses, fetcher
        app.state.engine = engine
        for router in routers:
            app.include_router(router)
        for kind in (SimsearchError, RequestValidationError, HTTPException, Exception):
            app.add_exception_handler(kind, _render_error)
        _describe_errors(app)
        if settings.token is not None:
            _describe_token(app, is_at_root=engine is None or not engine.root)
        return app

    if not settings.root:
        app = make([*COLLECTION_ROUTERS, *SERVER_ROUTERS, login.router], engines[0], lifespan)
    else:
        app = make([*SERVER_ROUTERS, login.router, page_collections.router], None, lifespan)
        apps = {engine.settings.name: make([*COLLECTION_ROUTERS, *SERVER_ROUTERS], engine) for engine in engines}
        app.router.routes.append(Mount("/c/{collection}", _CollectionApps(apps)))
    names = {urllib.parse.unquote(engine.root): engine.settings.name for engine in engines}
    return SecurityMiddleware(_HeadRequests(app), settings, metrics, guesses, names)


class _HeadRequests:
    """Responds to HEAD on every route of GET: with its status and headers, and without its body."""

    def __init__(self, app: AsgiApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_without_body(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        inner = {**scope, "method": "GET"}
        await self._app(inner, receive, send_without_body)
        scope.update(inner, method="HEAD")


class _CollectionApps:
    """The apps of the collections, by the name in the path."""

    def __init__(self, apps: Mapping[str, FastAPI]) -> None:
        self._apps = apps

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request to the app of its collection. Raises `HTTPException` (404) if there is none of that name."""
        app = self._apps.get(scope["path_params"]["collection"])
        if app is None:
            raise HTTPException(404, "there is no collection of this name")
        await app(scope, receive, send)


def _render_error(request: Request, error: Exception) -> Response:
    """Render an error as a page for browsers and as JSON for programs."""
    response = to_error_response(error)
    if response.status == 500:
        _log.error("%s %s", request.method, request.url.path, exc_info=error)
    headers = response.headers | dict((error.headers or {}) if isinstance(error, HTTPException) else {})
    if response.status == 405:
        headers["Allow"] = ", ".join(_list_methods(request))
    if accepts_page(request.headers.get("accept", ""), request.scope["path"]):
        engine: SearchEngine | None = request.app.state.engine
        return login.render_error_page(response, headers, root=engine.root if engine else "")
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


def _describe_token(app: FastAPI, *, is_at_root: bool) -> None:
    """Add the token to the OpenAPI description. Only the server itself, not a collection, tells its health without."""
    description = app.openapi()
    description.setdefault("components", {})["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    description["security"] = [{"token": []}]
    if is_at_root:
        description["paths"][f"{api.PREFIX}/health"]["get"]["security"] = []
