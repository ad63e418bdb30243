"""The login page, static files, and rendering of pages and error pages."""

from __future__ import annotations

import functools
import hashlib
import math
from importlib import resources
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from simsearch.report.html import render_package_page
from simsearch.web.api import list_engines
from simsearch.web.errors import ErrorResponse
from simsearch.web.guesses import GuessLimiter
from simsearch.web.middleware import (
    WRONG_TOKENS,
    derive_cookie,
    find_client,
    find_rights,
    name_cookie,
    sanitize_local_path,
)

_ASSET_CACHE_CONTROL = "no-cache"
_COOKIE_S = 30 * 24 * 3600

router = APIRouter(include_in_schema=False)


@router.get("/login")
async def login_page(request: Request, token: str = "", next: str = "/") -> Response:
    """Show the login form. A token in the URL logs in at once and is then removed from the URL."""
    if not list_engines(request)[0].settings.needs_login:
        return RedirectResponse("/", 303)
    if token:
        return _check_login(request, token, next)
    return render_response("login.html.j2", next=sanitize_local_path(next), is_wrong=False)


@router.post("/login")
async def login(request: Request, token: Annotated[str, Form()] = "", next: Annotated[str, Form()] = "/") -> Response:
    """Check the token of the login form and set the cookie."""
    return _check_login(request, token, next)


@router.get("/continue")
async def confirm_link(next: str = "/") -> Response:
    """Ask a user who has followed a link of another site."""
    return render_response("continue.html.j2", next=sanitize_local_path(next))


@router.get("/favicon.ico")
async def favicon(request: Request) -> Response:
    """Send the icon where browsers look for it, beside a picture in a tab of its own."""
    return await asset(request, "icon.svg")


@router.get("/static/{name}")
async def asset(request: Request, name: str) -> Response:
    """Send one of our style sheets, the script or the icon; no other file can be requested."""
    found = _load_assets().get(name)
    if found is None:
        return render_error_page(ErrorResponse(404, "page not found", "go to the start page"), {})
    kind, data, tag = found
    headers = {"ETag": tag, "Cache-Control": _ASSET_CACHE_CONTROL}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=kind, headers=headers)


def render_response(
    template: str, status: int = 200, headers: dict[str, str] | None = None, *, root: str = "", **values: Any
) -> Response:
    """Render a template to a page that browsers may store but must revalidate.

    `root` is what the addresses of the collection begin with, for the links of the page.
    """
    html = render_package_page("simsearch.web", template, root=root, **values)
    return HTMLResponse(html, status, {"Cache-Control": "private, no-cache", **(headers or {})})


def render_error_page(error: ErrorResponse, headers: dict[str, str], *, root: str = "", back: str = "") -> Response:
    """Render an error for a browser, with a link back to a search if there was one."""
    return render_response("error.html.j2", error.status, headers, root=root, error=error, back=back)


@functools.cache
def _load_assets() -> dict[str, tuple[str, bytes, str]]:
    """Load the static files: media type, content and ETag by name."""
    own, reports = resources.files("simsearch.web") / "static", resources.files("simsearch.report") / "templates"
    files = {
        "app.css": (own / "app.css", "text/css"),
        "style.css": (reports / "style.css", "text/css"),
        "app.js": (own / "app.js", "text/javascript"),
        "browse.js": (own / "browse.js", "text/javascript"),
        "label.js": (own / "label.js", "text/javascript"),
        "map.js": (own / "map.js", "text/javascript"),
        "select.js": (own / "select.js", "text/javascript"),
        "icon.svg": (own / "icon.svg", "image/svg+xml"),
    }
    assets = {}
    for name, (file, kind) in files.items():
        data = file.read_bytes()
        assets[name] = (kind, data, f'"{hashlib.sha256(data).hexdigest()[:16]}"')
    return assets


def _check_login(request: Request, token: str, next: str) -> Response:
    settings = list_engines(request)[0].settings
    if not settings.needs_login:
        return RedirectResponse("/", 303)
    guesses: GuessLimiter = request.app.state.guesses
    client = find_client(request.scope)
    if (wait_s := math.ceil(guesses.find_wait_s(client))) > 0:
        error = ErrorResponse(429, WRONG_TOKENS, f"try again in {wait_s} s", wait_s)
        return render_error_page(error, error.headers)
    rights = find_rights([token.strip()], settings, is_cookie=False)
    if rights is None:
        guesses.count_wrong(client, token.strip())
        return render_response("login.html.j2", 401, next=sanitize_local_path(next), is_wrong=True)
    response = RedirectResponse(sanitize_local_path(next), 303)
    name = name_cookie(request.scope)
    expected = (settings.write_token if rights == "write" else settings.token) or ""
    response.set_cookie(name, derive_cookie(expected), httponly=True, samesite="lax", max_age=_COOKIE_S)
    return response
