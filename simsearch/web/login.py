"""The door, where a token is asked for; style sheets, script and icon; and pages that say what went wrong."""

from __future__ import annotations

import functools
import hashlib
from importlib import resources
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from simsearch.web.api import engine_of
from simsearch.web.errors import Refusal
from simsearch.web.middleware import COOKIE, cookie_of, is_token, own_path
from simsearch.web.rendering import rendered

_ASSETS_KEPT = "no-cache"
_COOKIE_S = 30 * 24 * 3600

router = APIRouter(include_in_schema=False)


@router.get("/login")
async def door(request: Request, token: str = "", next: str = "/") -> Response:
    """Where a token is asked for. One in the address opens at once, and is not left there."""
    expected = engine_of(request).settings.token
    if expected is None:
        return RedirectResponse("/", 303)
    if token:
        return _entered(request, token, next)
    return rendered("login.html.j2", next=own_path(next), is_wrong=False)


@router.post("/login")
async def enter(request: Request, token: Annotated[str, Form()] = "", next: Annotated[str, Form()] = "/") -> Response:
    """Let in who has the token."""
    return _entered(request, token, next)


@router.get("/static/{name}")
async def asset(request: Request, name: str) -> Response:
    """Our own style sheets, script and icon: a fixed list, whatever is asked for."""
    found = _assets().get(name)
    if found is None:
        return problem_page(request, Refusal(404, "there is nothing here", "go back to the first page"), {})
    kind, data, tag = found
    headers = {"ETag": tag, "Cache-Control": _ASSETS_KEPT}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=kind, headers=headers)


def problem_page(request: Request, said: Refusal, headers: dict[str, str]) -> Response:
    """What went wrong, for who looks."""
    return rendered("problem.html.j2", said.status, headers, said=said)


@functools.cache
def _assets() -> dict[str, tuple[str, bytes, str]]:
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


def _entered(request: Request, token: str, next: str) -> Response:
    expected = engine_of(request).settings.token
    if expected is None:
        return RedirectResponse("/", 303)
    if not is_token(token.strip(), expected):
        return rendered("login.html.j2", 401, next=own_path(next), is_wrong=True)
    answer = RedirectResponse(own_path(next), 303)
    answer.set_cookie(COOKIE, cookie_of(expected), httponly=True, samesite="lax", max_age=_COOKIE_S)
    return answer
