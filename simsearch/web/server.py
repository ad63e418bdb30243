"""Run the web server until a signal stops it. The only import of uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import secrets
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, cast

import uvicorn

from simsearch.errors import UsageError
from simsearch.web.app import make_app
from simsearch.web.connections import MAX_CONNECTIONS, MAX_PER_ADDRESS, ConnectionCounter
from simsearch.web.engine import SearchEngine
from simsearch.web.middleware import AsgiApp, Receive, Scope, Send
from simsearch.web.resources import ServerResources
from simsearch.web.safe_fetch import Fetcher
from simsearch.web.settings import ServerSettings

_KEEP_ALIVE_S = 15
_SHUTDOWN_S = 4
"""Time for requests in progress to finish after a signal; the threads then have two seconds more."""

_REPEAT_S = 60.0  # between equal lines of the log


def bind_socket(settings: ServerSettings) -> socket.socket:
    """Bind a socket to the address in the settings.

    Raises `UsageError` if the address is in use or does not belong to this machine.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind(address)
        except OSError:
            bound.close()
            raise
    except OSError as error:
        problem = f"cannot serve at {settings.host} port {settings.port} ({error.strerror or error})"
        raise UsageError(problem, "choose another --port or another --host") from error
    return bound


def make_token() -> str:
    """Generate a random access token with 192 bits."""
    return secrets.token_urlsafe(24)


def serve(bound: socket.socket, settings: Sequence[ServerSettings], on_ready: Callable[[], None]) -> bool:
    """Serve collections until SIGINT or SIGTERM; requests in progress have some seconds to finish.

    Returns whether every thread has ended. If not, the caller should end the process by `os._exit`: the interpreter
    would wait for the thread, as long as it takes. Raises the errors of opening the collection and its model.
    """
    engines = start_engines(settings)
    return run_server(make_server(engines, on_ready), engines, bound)


def start_engines(settings: Sequence[ServerSettings]) -> list[SearchEngine]:
    """Start the engines of collections. Raises the errors of opening a collection and its model."""
    resources = ServerResources(settings[0])
    engines = [SearchEngine(one, resources) for one in settings]
    for engine in engines:
        engine.start()
    return engines


def run_server(server: uvicorn.Server, engines: Sequence[SearchEngine], bound: socket.socket) -> bool:
    """Run a server until a signal, and return whether every thread has ended; see `serve`."""
    for number in (signal.SIGINT, signal.SIGTERM):  # uvicorn handles them, and raises them again when it has stopped
        signal.signal(number, lambda *_: None)
    server.run([bound])
    return not any(engine.has_running_work for engine in engines)


def make_server(
    engines: Sequence[SearchEngine], on_ready: Callable[[], None], fetcher: Fetcher | None = None
) -> uvicorn.Server:
    """Make the server of started engines; `on_ready` is called once it accepts requests."""
    _limit_repeated_lines()
    proxies = engines[0].settings.trusted_proxies
    config = uvicorn.Config(
        _report_requests(make_app(engines, fetcher)),
        http=functools.partial(_GuardedProtocol, ConnectionCounter(), engines[0].settings.head_timeout_s),  # type: ignore[arg-type]  # called as a class is
        ws="none", lifespan="on", proxy_headers=bool(proxies), forwarded_allow_ips=list(proxies),
        log_config=None, access_log=False, server_header=False, timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_SHUTDOWN_S, limit_concurrency=MAX_CONNECTIONS, backlog=256,
    )  # fmt: skip
    return _NotifyingServer(config, on_ready)


class RepeatFilter(logging.Filter):
    """Lets one of equal warnings pass in a time, so that refused connections do not fill the log of a server."""

    def __init__(self, repeat_s: float = _REPEAT_S) -> None:
        super().__init__()
        self._repeat_s = repeat_s
        self._last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record passes: every error, and a warning that has not been logged for a while."""
        if record.levelno != logging.WARNING:
            return True
        text, now = str(record.msg), time.monotonic()  # without its arguments, of which there may be any number
        if now - self._last.get(text, -self._repeat_s) < self._repeat_s:
            return False
        self._last[text] = now
        return True


def _limit_repeated_lines() -> None:
    """Limit what uvicorn logs about refused connections and invalid requests. One filter serves all servers."""
    logger = logging.getLogger("uvicorn.error")
    if not any(isinstance(one, RepeatFilter) for one in logger.filters):
        logger.addFilter(RepeatFilter())


class _NotifyingServer(uvicorn.Server):
    """A server that calls `on_ready` once it accepts requests."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()


# The timeout of a request's head. uvicorn has no setting for it: `timeout_keep_alive` counts between requests only.


def _load_http_protocol() -> Callable[..., asyncio.Protocol]:
    """Load uvicorn's protocol class for HTTP by the name of the option, `httptools`."""

    async def reject(scope: Scope, receive: Receive, send: Send) -> None:
        raise NotImplementedError  # no server runs with this config

    config = uvicorn.Config(reject, http="httptools", ws="none", log_config=None)
    config.load()
    return config.http_protocol_class


_http_protocol = _load_http_protocol()  # at import, where `simsearch serve` reports that httptools is not installed


_log = logging.getLogger("uvicorn.error")  # its warnings are limited to one a minute

_TOO_MANY_CONNECTIONS = (
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\nContent-Type: application/json\r\n\r\n"
    b'{"problem": "too many connections from this address", "advice": "close some, or keep and reuse them"}'
)

_connection: ContextVar[_GuardedProtocol] = ContextVar("connection")
"""The connection that the current task serves."""


class _GuardedProtocol(asyncio.Protocol):
    """A connection that is refused if its client has too many, and closed if a head takes longer than `head_timeout_s`.

    It delegates to uvicorn's protocol, and is given to uvicorn by the public `http=` option of `uvicorn.Config`. The
    time runs from the connection's first moment, and later from the first bytes after a response. It ends when uvicorn
    calls the app, which it does as soon as a head is complete. uvicorn starts the app's task while it handles received
    data, so the task inherits `_connection`; `_report_requests` reads it there.
    """

    def __init__(self, counter: ConnectionCounter, head_timeout_s: float, **options: Any) -> None:
        self._inner = _http_protocol(**options)
        self._counter = counter
        self._head_timeout_s = head_timeout_s
        self._client: str | None = None  # None once the connection was refused
        self._n_active = 0  # a request may arrive before the app has quite finished with the one before
        self._has_unread_data = False
        self._has_head_begun = True
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # that of uvloop has another base class
        peer = transport.get_extra_info("peername")
        self._client = self._counter.admit(str(peer[0]) if peer else "")
        if self._client is None:
            _log.warning("refused a connection: its address has %d open already", MAX_PER_ADDRESS)
            self._transport.write(_TOO_MANY_CONNECTIONS)
            transport.close()
            return
        self._start_timer()
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._client is None:
            return
        if self._n_active:
            self._has_unread_data = True
        elif not self._has_head_begun:
            self._has_head_begun = True
            self._start_timer()
        _connection.set(self)
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return None if self._client is None else self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._client is None:
            return
        self._stop_timer()
        self._counter.release(self._client)
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        if self._client is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._client is not None:
            self._inner.resume_writing()

    @contextlib.contextmanager
    def serve_request(self) -> Iterator[None]:
        """Mark that a head is complete, and that its request is being served."""
        self._stop_timer()
        self._n_active += 1
        self._has_unread_data = self._has_head_begun = False
        try:
            yield
        finally:
            self._n_active -= 1
            if self._n_active == 0 and self._has_unread_data and not self._transport.is_closing():
                self._start_timer()  # the data was a body, or the beginning of the next head

    def _start_timer(self) -> None:
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(self._head_timeout_s, self._transport.close)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _report_requests(app: AsgiApp) -> AsgiApp:
    """Wrap the app so that the connection knows when a request begins and ends."""

    async def report(scope: Scope, receive: Receive, send: Send) -> None:
        connection = _connection.get(None) if scope["type"] == "http" else None
        with contextlib.nullcontext() if connection is None else connection.serve_request():
            await app(scope, receive, send)

    return report
