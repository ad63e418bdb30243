"""The door, where a token is asked for; style sheets, script and icon; and pages that say what went wrong."""

from __future__ import annotations

import functools
import hashlib
from importlib import resources
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from simsearch.web.api import find_engine
from simsearch.web.errors import ErrorResponse
from simsearch.web.middleware import COOKIE_NAME, derive_cookie, is_valid_token, sanitize_local_path
from simsearch.web.rendering import render_response

_ASSET_CACHE_CONTROL = "no-cache"
_COOKIE_S = 30 * 24 * 3600

router = APIRouter(include_in_schema=False)


@router.get("/login")
async def login_page(request: Request, token: str = "", next: str = "/") -> Response:
    """Where a token is asked for. One in the address opens at once, and is not left there."""
    expected = find_engine(request).settings.token
    if expected is None:
        return RedirectResponse("/", 303)
    if token:
        return _check_login(request, token, next)
    return render_response("login.html.j2", next=sanitize_local_path(next), is_wrong=False)


@router.post("/login")
async def login(request: Request, token: Annotated[str, Form()] = "", next: Annotated[str, Form()] = "/") -> Response:
    """Let in who has the token."""
    return _check_login(request, token, next)


@router.get("/static/{name}")
async def asset(request: Request, name: str) -> Response:
    """Our own style sheets, script and icon: a fixed list, whatever is asked for."""
    found = _load_assets().get(name)
    if found is None:
        return render_error_page(request, ErrorResponse(404, "there is nothing here", "go back to the first page"), {})
    kind, data, tag = found
    headers = {"ETag": tag, "Cache-Control": _ASSET_CACHE_CONTROL}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=kind, headers=headers)


def render_error_page(request: Request, said: ErrorResponse, headers: dict[str, str]) -> Response:
    """What went wrong, for who looks."""
    return render_response("problem.html.j2", said.status, headers, said=said)


@functools.cache
def _load_assets() -> dict[str, tuple[str, bytes, str]]:
    own, reports = resources.files("simsearch.web") / "static", resources.files("simsearch.report") / "templates"
    files = {
        "app.css": (own / "app.css", "text/css"),
        "style.css": (reports / "style.css", "text/css"),
        "app.js": (own / "app.js", "text/javascript"),
        "icon.svg": (own / "icon.svg", "image/svg+xml"),
    }
    found = {}
    for name, (file, kind) in files.items():
        data = file.read_bytes()
        found[name] = (kind, data, f'"{hashlib.sha256(data).hexdigest()[:16]}"')
    return found


def _check_login(request: Request, token: str, next: str) -> Response:
    expected = find_engine(request).settings.token
    if expected is None:
        return RedirectResponse("/", 303)
    if not is_valid_token(token.strip(), expected):
        return render_response("login.html.j2", 401, next=sanitize_local_path(next), is_wrong=True)
    answer = RedirectResponse(sanitize_local_path(next), 303)
    answer.set_cookie(COOKIE_NAME, derive_cookie(expected), httponly=True, samesite="lax", max_age=_COOKIE_S)
    return answer
