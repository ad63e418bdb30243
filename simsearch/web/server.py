"""A server that runs until it is told to stop. The only import of uvicorn."""

from __future__ import annotations

import asyncio
import secrets
import signal
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from simsearch.errors import UsageError
from simsearch.web.app import make_app
from simsearch.web.engine import SearchEngine
from simsearch.web.safe_fetch import Fetcher
from simsearch.web.settings import ServerSettings

HEAD_TIMEOUT_S = 10.0
_KEEP_ALIVE_S = 15
_SHUTDOWN_S = 10
_MAX_CONNECTIONS = 512


class _HeadTimeoutProtocol(HttpToolsProtocol):
    """HTTP that hangs up on who connects and does not come to the end of a request's head."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._start_timer()

    def on_message_begin(self) -> None:
        self._stop_timer()
        self._start_timer()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._stop_timer()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(HEAD_TIMEOUT_S, self.transport.close)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


def listen(settings: ServerSettings) -> socket.socket:
    """The address, taken. Raises `UsageError` where it is in use or is none of this machine."""
    try:
        family, _, _, _, place = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        taken = socket.socket(family, socket.SOCK_STREAM)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(place)
        except OSError:
            taken.close()
            raise
    except OSError as error:
        problem = f"cannot serve at {settings.host} port {settings.port} ({error.strerror or error})"
        raise UsageError(problem, "choose another --port, or another --host") from error
    return taken


def make_token() -> str:
    """A token that nobody guesses."""
    return secrets.token_urlsafe(24)


def serve(taken: socket.socket, settings: ServerSettings, on_ready: Callable[[], None]) -> None:
    """Serve until a signal says to stop; what was begun is finished first.

    Raises what opening the collection and its model raises.
    """
    engine = SearchEngine(settings)
    engine.start()
    server = make_server(engine, on_ready)
    for number in (signal.SIGINT, signal.SIGTERM):  # uvicorn stops at them, and then raises them again
        signal.signal(number, lambda *_: None)
    server.run([taken])


def make_server(engine: SearchEngine, on_ready: Callable[[], None], fetcher: Fetcher | None = None) -> uvicorn.Server:
    """A server of a started engine, to be run on a socket; `on_ready` is called when it answers."""
    config = uvicorn.Config(
        make_app(engine, fetcher), http=_HeadTimeoutProtocol, ws="none", lifespan="on", log_config=None,
        access_log=False,
        server_header=False, timeout_keep_alive=_KEEP_ALIVE_S, timeout_graceful_shutdown=_SHUTDOWN_S,
        limit_concurrency=_MAX_CONNECTIONS, backlog=256,
    )  # fmt: skip
    return _NotifyingServer(config, on_ready)


class _NotifyingServer(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()
