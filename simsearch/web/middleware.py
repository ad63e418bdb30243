"""What every request passes before anything is done for it: who asks, from where, how much it sends and how slowly.

Plain ASGI, in the order of `Guard.__call__`; what is refused here has cost next to nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import http.cookies
import json
import time
import urllib.parse
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi import HTTPException

from simsearch.web.metrics import ServerMetrics
from simsearch.web.settings import LOOPBACK_HOSTS, ServerSettings

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE_NAME = "simsearch_token"
PUBLIC_PATHS = frozenset({"/login", "/static/app.css", "/static/style.css", "/static/icon.svg", "/api/v1/health"})
"""What is answered without a token: nothing of the collection."""

_POLICY = (
    "default-src 'none'; img-src 'self' blob:; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-src 'self'; base-uri 'none'; frame-ancestors {ancestors}"
)
POLICY = _POLICY.format(ancestors="'none'")
_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # with none at all a form of ours would name no origin
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
_LINGER_S = 2.0
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class SecurityMiddleware:
    """The outermost layer of the app."""

    def __init__(self, app: AsgiApp, settings: ServerSettings, metrics: ServerMetrics) -> None:
        self._app = app
        self._settings = settings
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, answer = time.perf_counter(), _ResponseSender(send, receive)
        try:
            await self._check_request(scope, receive, answer)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.count_request(scope["method"], route, answer.status, time.perf_counter() - started)

    async def _check_request(self, scope: Scope, receive: Receive, answer: _ResponseSender) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if self._settings.token is None and not _is_own_host(headers.get("host", ""), self._settings):
            await answer.refuse(421, "this server is asked by another name", "open it at the address it told")
        elif scope["method"] not in _SAFE_METHODS and not _is_same_origin(headers):
            await answer.refuse(403, "another site sent this request", "ask from the page itself")
        elif not self._is_authorized(scope, headers):
            await _reject_unauthorized(scope, headers, answer)
        elif not _is_within_limit(headers.get("content-length"), self._settings.max_body_bytes):
            await answer.refuse(413, describe_size_limit(self._settings), "send a smaller picture")
        else:
            await self._app(scope, _BoundedBody(receive, self._settings), answer)

    def _is_authorized(self, scope: Scope, headers: dict[str, str]) -> bool:
        token = self._settings.token
        if token is None or scope["path"] in PUBLIC_PATHS:
            return True
        kind, _, shown = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return is_valid_token(shown.strip(), token)
        cookies: http.cookies.SimpleCookie = http.cookies.SimpleCookie()
        try:
            cookies.load(headers.get("cookie", ""))
        except http.cookies.CookieError:
            return False
        return COOKIE_NAME in cookies and is_valid_token(cookies[COOKIE_NAME].value, derive_cookie(token))


def describe_size_limit(settings: ServerSettings) -> str:
    """What is wrong with a request that is."""
    return f"the request is larger than {settings.max_body_bytes / 1e6:g} MB"


def is_valid_token(shown: str, token: str) -> bool:
    """Whether what was shown is the token, in a time that tells nothing of how near it is."""
    return hmac.compare_digest(shown.encode("utf-8", "replace"), token.encode())


def derive_cookie(token: str) -> str:
    """What a browser keeps in place of the token, and from which the token cannot be found."""
    return hmac.new(token.encode(), b"simsearch cookie", hashlib.sha256).hexdigest()


def sanitize_local_path(path: str) -> str:
    """A path to go on to after a form, if it is one of this server; else the first page."""
    is_own = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if is_own else "/"


class _ResponseSender:
    """What goes back, with the headers that every answer has."""

    def __init__(self, send: Send, receive: Receive) -> None:
        self._send = send
        self._receive = receive
        self.status = 500  # of a request that nothing was answered to

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            named = {name.lower() for name, _ in message.get("headers", ())}
            more = [(name.encode(), value.encode()) for name, value in _HEADERS.items() if name.encode() not in named]
            message["headers"] = [*message.get("headers", ()), *more]
        elif self.status == 413 and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._drain_request()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def _drain_request(self) -> None:
        """Take in a little of what is still sent: who is hung up on while sending never gets to read why."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                while (await self._receive()).get("more_body", False):
                    pass

    async def refuse(self, status: int, problem: str, advice: str, *more: tuple[bytes, bytes]) -> None:
        """Say why not, and hang up: what is still to come of the request is not waited for."""
        body = json.dumps({"problem": problem, "advice": advice}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
            *more,
        ]
        await self({"type": "http.response.start", "status": status, "headers": headers})
        await self({"type": "http.response.body", "body": body})


class _BoundedBody:
    """The body of a request, up to a size and a time."""

    def __init__(self, receive: Receive, settings: ServerSettings) -> None:
        self._receive = receive
        self._settings = settings
        self._remaining_bytes = settings.max_body_bytes
        self._deadline = asyncio.get_running_loop().time() + settings.body_timeout_s
        self._is_complete = False

    async def __call__(self) -> Message:
        if self._is_complete:  # now it is waited for the visitor to leave, which has no limit
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError as error:
            problem = f"the request did not arrive within {self._settings.body_timeout_s:g} s"
            raise HTTPException(408, problem, {"connection": "close"}) from error
        self._remaining_bytes -= len(message.get("body", b""))
        if self._remaining_bytes < 0:
            raise HTTPException(413, describe_size_limit(self._settings), {"connection": "close"})
        self._is_complete = not message.get("more_body", False)
        return message


async def _reject_unauthorized(scope: Scope, headers: dict[str, str], answer: _ResponseSender) -> None:
    """To the door for who came to look, 401 for programs."""
    if scope["method"] == "GET" and "text/html" in headers.get("accept", "") and not scope["path"].startswith("/api"):
        wanted = scope["path"] + ("?" + scope["query_string"].decode("latin-1") if scope["query_string"] else "")
        place = "/login?" + urllib.parse.urlencode({"next": sanitize_local_path(wanted)})
        await answer({"type": "http.response.start", "status": 303, "headers": [(b"location", place.encode())]})
        await answer({"type": "http.response.body", "body": b""})
        return
    problem, advice = "this server wants a token", "send it as `Authorization: Bearer TOKEN`"
    await answer.refuse(401, problem, advice, (b"www-authenticate", b"Bearer"))


def _is_own_host(host: str, settings: ServerSettings) -> bool:
    """Whether the name that is asked for is this machine's own: a foreign one may be made to lead here."""
    try:
        name = urllib.parse.urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    return name in LOOPBACK_HOSTS or name == settings.host


def _is_same_origin(headers: dict[str, str]) -> bool:
    """Whether a form or script of this server sends it, or a program, which names no origin."""
    if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    return origin is None or urllib.parse.urlsplit(origin).netloc == headers.get("host")


def _is_within_limit(announced: str | None, most_bytes: int) -> bool:
    return announced is None or (announced.isdecimal() and int(announced) <= most_bytes)
