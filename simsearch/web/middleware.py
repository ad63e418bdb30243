"""Security middleware: host and origin checks, the access token, limits on size and time of a body, response headers.

Plain ASGI. The checks run in the order of `SecurityMiddleware._check_request`, before a request costs much.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import math
import re
import time
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any, Literal

from fastapi import HTTPException

from simsearch.web.guesses import GuessLimiter
from simsearch.web.metrics import ServerMetrics
from simsearch.web.problems import PROBLEM_TYPE, make_problem
from simsearch.web.rate_limit import RateLimiter
from simsearch.web.settings import LOOPBACK_HOSTS, ServerSettings

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

HEALTH_PATH = "/api/v1/health"
PUBLIC_PATHS = frozenset(
    {
        "/login",
        "/continue",
        "/favicon.ico",
        "/static/app.css",
        "/static/style.css",
        "/static/icon.svg",
        HEALTH_PATH,
    }
)
"""Paths that need no token and start no work. They reveal nothing about the collection."""

_POLICY = (
    "default-src 'none'; img-src 'self' blob:; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-src 'self'; base-uri 'none'; frame-ancestors {ancestors}"
)
POLICY = _POLICY.format(ancestors="'none'")
_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # with no-referrer our own forms would send no origin
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
WRONG_TOKENS = "too many wrong tokens were sent from this address"
IMAGE_POLICY = "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'"
"""The policy of a picture: a browser that shows it in a tab builds a page with an inline style around it."""

_COLLECTION_PATTERN = re.compile(r"/c/[^/]+(?=/)")
_LINGER_S = 2.0
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class SecurityMiddleware:
    """The outermost ASGI layer of the app. `names` are those of the collections, by what their paths begin with."""

    def __init__(
        self,
        app: AsgiApp,
        settings: ServerSettings,
        metrics: ServerMetrics,
        guesses: GuessLimiter,
        names: Mapping[str, str],
    ) -> None:
        self._app = app
        self._rates = None if settings.rate_limit is None else RateLimiter(settings.rate_limit)
        self._names = names
        self._guesses = guesses
        self._settings = settings
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle or reject a request, and count it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sender = _ResponseSender(send, receive, _list_cors_headers(scope, self._settings))
        started = time.perf_counter()
        try:
            await self._check_request(scope, receive, sender)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            name = self._names.get(scope.get("root_path", ""), "")
            self._metrics.count_request(name, scope["method"], route, sender.status, time.perf_counter() - started)

    async def _check_request(self, scope: Scope, receive: Receive, sender: _ResponseSender) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        is_foreign = bool(sender.more_headers)  # of an origin that may use the API
        if (pause_s := self._count_request(scope)) > 0:
            await _reject_too_many(sender, "too many requests were sent from this address", pause_s)
        elif self._settings.token is None and not _is_own_host(headers.get("host", ""), self._settings):
            await sender.reject(421, "the Host header does not name this server", "use the URL that the server printed")
        elif is_foreign and scope["method"] == "OPTIONS":
            await _answer_preflight(sender)
        elif not is_foreign and scope["method"] not in _SAFE_METHODS and not _is_same_origin(headers):
            await sender.reject(403, "the request comes from another site", "send it from a page of this server")
        elif not is_foreign and _is_foreign_read(scope, headers):
            await _reject_foreign_read(scope, headers, sender)
        elif (wait_s := self._find_wait_s(scope, headers)) > 0:
            await _reject_too_many(sender, WRONG_TOKENS, wait_s)
        elif not self._is_authorized(scope, headers, is_foreign=is_foreign):
            await _reject_unauthorized(scope, headers, sender)
        elif not _is_within_limit(headers.get("content-length"), self._settings.max_body_bytes):
            await sender.reject(413, describe_size_limit(self._settings), "send a smaller picture")
        else:
            await self._app(scope, _BoundedBody(receive, self._settings), sender)

    def _count_request(self, scope: Scope) -> float:
        """Count a request of its client; the seconds until it may send one if it has sent too many."""
        if self._rates is None or scope["path"] == HEALTH_PATH:
            return 0.0
        return self._rates.count_request(find_client(scope))

    def _is_authorized(self, scope: Scope, headers: dict[str, str], *, is_foreign: bool) -> bool:
        """Whether a request may be answered; whether it may change the collection is noted in its scope."""
        settings = self._settings
        scope[CAN_WRITE] = settings.can_anyone_write
        candidates = [] if is_foreign and not _has_bearer(headers) else _list_credentials(scope, headers)
        rights = find_rights(candidates, settings, is_cookie=not _has_bearer(headers))
        scope[CAN_WRITE] |= rights == "write"
        if rights is not None or scope["path"] in PUBLIC_PATHS:
            return True
        for candidate in candidates if settings.needs_login else ():
            self._guesses.count_wrong(find_client(scope), candidate)
        return settings.token is None

    def _find_wait_s(self, scope: Scope, headers: dict[str, str]) -> float:
        """The time until a token is looked at of a client that has sent too many wrong ones."""
        is_open = not self._settings.needs_login or scope["path"] in PUBLIC_PATHS
        if is_open or not _list_credentials(scope, headers):
            return 0.0
        return self._guesses.find_wait_s(find_client(scope))


Rights = Literal["read", "write"]
CAN_WRITE = "simsearch.can_write"
"""The entry of a scope that says whether its request may change the collection."""


def find_rights(candidates: Sequence[str], settings: ServerSettings, *, is_cookie: bool) -> Rights | None:
    """Find what tokens, or the values of login cookies, allow; None where none of them is right."""
    tokens: tuple[tuple[str | None, Rights], ...] = ((settings.write_token, "write"), (settings.token, "read"))
    for token, rights in tokens:
        if token is None:
            continue
        expected = derive_cookie(token) if is_cookie else token
        if any(is_valid_token(candidate, expected) for candidate in candidates):
            return rights
    return None


def name_cookie(scope: Scope) -> str:
    """Name the login cookie after the port of this server: browsers send cookies to every port of a host."""
    _, port = scope.get("server") or ("", None)
    return f"simsearch_token_{port or 0}"


def find_client(scope: Scope) -> str:
    """Return the address of the client; empty where the connection has none."""
    return str((scope.get("client") or ("", 0))[0])


def _has_bearer(headers: dict[str, str]) -> bool:
    return headers.get("authorization", "").partition(" ")[0].lower() == "bearer"


def _list_credentials(scope: Scope, headers: dict[str, str]) -> list[str]:
    """List what a request presents: its bearer token, otherwise its login cookies."""
    if _has_bearer(headers):
        return [headers["authorization"].partition(" ")[2].strip()]
    sent = b";".join(value for name, value in scope["headers"] if name == b"cookie").decode("latin-1")
    return _list_cookies(sent, name_cookie(scope))


def _list_cookies(header: str, name: str) -> list[str]:
    """List the values of the cookies with this name; cookies of other applications may be in any form."""
    pairs = (part.partition("=") for part in header.split(";"))
    return [value.strip() for key, _, value in pairs if key.strip() == name]


def strip_root(path: str) -> str:
    """Return a path within its collection: `/c/NAME/browse` is `/browse`."""
    found = _COLLECTION_PATTERN.match(path)
    return path[found.end() :] if found else path


def accepts_page(accept: str, path: str) -> bool:
    """Whether a request is a browser's for a page, by its Accept header, and not one for the API."""
    return "text/html" in accept and not strip_root(path).startswith("/api")


def describe_size_limit(settings: ServerSettings) -> str:
    """Describe a request that is larger than the limit."""
    return f"the request is larger than {settings.max_body_bytes / 1e6:g} MB"


def is_valid_token(candidate: str, token: str) -> bool:
    """Whether the candidate equals the token, compared in constant time."""
    return hmac.compare_digest(candidate.encode("utf-8", "replace"), token.encode())


def derive_cookie(token: str) -> str:
    """Derive the cookie value from the token by HMAC, so that the cookie does not reveal the token."""
    return hmac.new(token.encode(), b"simsearch cookie", hashlib.sha256).hexdigest()


def sanitize_local_path(path: str) -> str:
    """Return a path of this server to redirect to; `/` if the given path could lead to another site."""
    is_local = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if is_local else "/"


class _ResponseSender:
    """Sends a response with the security headers that every response has."""

    def __init__(self, send: Send, receive: Receive, more_headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        self._send = send
        self.more_headers = tuple(more_headers)
        self._receive = receive
        self.status = 500  # if the app sends no response

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            present = {name.lower() for name, _ in message.get("headers", ())}
            missing = [
                (name.encode(), value.encode()) for name, value in _HEADERS.items() if name.encode() not in present
            ]
            message["headers"] = [*message.get("headers", ()), *missing, *self.more_headers]
        elif self.status == 413 and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._drain_request()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def _drain_request(self) -> None:
        """Read the rest of the request for a moment, as a client that is cut off while sending reads no response."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                while (await self._receive()).get("more_body", False):
                    pass

    async def reject(self, status: int, problem: str, advice: str, *more: tuple[bytes, bytes]) -> None:
        """Send an error response and close the connection without waiting for the rest of the request."""
        body = json.dumps(make_problem(status, problem, advice)).encode()
        headers = [
            (b"content-type", PROBLEM_TYPE.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
            *more,
        ]
        await self({"type": "http.response.start", "status": status, "headers": headers})
        await self({"type": "http.response.body", "body": body})


class _BoundedBody:
    """Receives the body of a request up to a limit in bytes and time."""

    def __init__(self, receive: Receive, settings: ServerSettings) -> None:
        self._receive = receive
        self._settings = settings
        self._remaining_bytes = settings.max_body_bytes
        self._deadline = asyncio.get_running_loop().time() + settings.body_timeout_s
        self._is_complete = False

    async def __call__(self) -> Message:
        if self._is_complete:  # the app now waits for the client to disconnect, without a limit
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError as error:
            problem = f"the request body did not arrive within {self._settings.body_timeout_s:g} s"
            raise HTTPException(408, problem, {"connection": "close"}) from error
        self._remaining_bytes -= len(message.get("body", b""))
        if self._remaining_bytes < 0:
            raise HTTPException(413, describe_size_limit(self._settings), {"connection": "close"})
        self._is_complete = not message.get("more_body", False)
        return message


async def _reject_too_many(sender: _ResponseSender, problem: str, wait_s: float) -> None:
    """Tell a client when it may send a request again."""
    seconds = math.ceil(wait_s)
    await sender.reject(429, problem, f"try again in {seconds} s", (b"retry-after", b"%d" % seconds))


async def _reject_unauthorized(scope: Scope, headers: dict[str, str], sender: _ResponseSender) -> None:
    """Redirect a browser to the login page; send 401 to a program."""
    if scope["method"] == "GET" and accepts_page(headers.get("accept", ""), scope["path"]):
        await _redirect("/login", scope, sender)
        return
    problem, advice = "a token is required", "send it as `Authorization: Bearer TOKEN`"
    await sender.reject(401, problem, advice, (b"www-authenticate", b"Bearer"))


def _is_foreign_read(scope: Scope, headers: dict[str, str]) -> bool:
    """Whether a page of another site makes the browser read something that can start work, or is embedded there.

    Browsers say so for https and for this machine. Elsewhere the cookie, which they keep back, has the same effect.
    """
    if scope["path"] in PUBLIC_PATHS or headers.get("sec-fetch-site", "none") in ("same-origin", "none"):
        return False
    return not (_is_visit(headers) and strip_root(scope["path"]) == "/" and not scope["query_string"])


def _is_visit(headers: dict[str, str]) -> bool:
    """Whether a user follows a link, in a tab of the browser."""
    return headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"


async def _reject_foreign_read(scope: Scope, headers: dict[str, str], sender: _ResponseSender) -> None:
    """Ask a user who follows a link of another site; reject everything else."""
    if scope["method"] == "GET" and _is_visit(headers):
        await _redirect("/continue", scope, sender)
        return
    await sender.reject(403, "the request comes from another site", "open a page of this server instead")


async def _redirect(place: str, scope: Scope, sender: _ResponseSender) -> None:
    """Redirect to a page that leads to the requested one as its `next`."""
    target = urllib.parse.quote(scope["path"]) + (
        "?" + scope["query_string"].decode("latin-1") if scope["query_string"] else ""
    )
    location = f"{place}?" + urllib.parse.urlencode({"next": sanitize_local_path(target)})
    await sender({"type": "http.response.start", "status": 303, "headers": [(b"location", location.encode())]})
    await sender({"type": "http.response.body", "body": b""})


def _is_own_host(host: str, settings: ServerSettings) -> bool:
    """Whether the Host header names this machine. A foreign name can resolve to it (DNS rebinding)."""
    try:
        name = urllib.parse.urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    return name in LOOPBACK_HOSTS or name == settings.host


def _is_same_origin(headers: dict[str, str]) -> bool:
    """Whether the request comes from a page of this server, or from a program, which sends no origin."""
    if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    return origin is None or urllib.parse.urlsplit(origin).netloc == headers.get("host")


def _list_cors_headers(scope: Scope, settings: ServerSettings) -> list[tuple[bytes, bytes]]:
    """The headers that let a page of another origin read the response, where the server allows that origin its API.

    No cookies are allowed: such a page sends a token itself.
    """
    if not settings.cors or not strip_root(scope["path"]).startswith("/api/"):
        return []
    sent = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"origin"), "")
    if sent not in settings.cors:
        return []
    return [
        (b"access-control-allow-origin", sent.encode("latin-1")),
        (b"access-control-expose-headers", b"ETag, Link, Location, Retry-After"),
        (b"vary", b"Origin"),
    ]


async def _answer_preflight(sender: _ResponseSender) -> None:
    """Tell a browser that a page of an allowed origin may send a request with these methods and headers."""
    headers = [
        (b"access-control-allow-methods", b"GET, POST"),
        (b"access-control-allow-headers", b"Authorization, Content-Type, If-None-Match"),
        (b"access-control-max-age", b"600"),
    ]
    await sender({"type": "http.response.start", "status": 204, "headers": headers})
    await sender({"type": "http.response.body", "body": b""})


def _is_within_limit(announced: str | None, most_bytes: int) -> bool:
    return announced is None or (announced.isdecimal() and int(announced) <= most_bytes)
