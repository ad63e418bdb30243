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
from simsearch.web.engine import Engine
from simsearch.web.safe_fetch import Fetcher
from simsearch.web.settings import Settings

HEAD_S = 10.0
_IDLE_S = 15
_STOP_S = 10
_MOST_CONNECTIONS = 512


class _Patient(HttpToolsProtocol):
    """HTTP that hangs up on who connects and does not come to the end of a request's head."""

    _clock: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._start_clock()

    def on_message_begin(self) -> None:
        self._stop_clock()
        self._start_clock()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._stop_clock()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_clock()
        super().connection_lost(exc)

    def _start_clock(self) -> None:
        self._clock = self.loop.call_later(HEAD_S, self.transport.close)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()


def listen(settings: Settings) -> socket.socket:
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


def made_token() -> str:
    """A token that nobody guesses."""
    return secrets.token_urlsafe(24)


def serve_at(taken: socket.socket, settings: Settings, on_ready: Callable[[], None]) -> None:
    """Serve until a signal says to stop; what was begun is finished first.

    Raises what opening the collection and its model raises.
    """
    engine = Engine(settings)
    engine.start()
    server = make_server(engine, on_ready)
    for number in (signal.SIGINT, signal.SIGTERM):  # uvicorn stops at them, and then raises them again
        signal.signal(number, lambda *_: None)
    server.run([taken])


def make_server(engine: Engine, on_ready: Callable[[], None], fetcher: Fetcher | None = None) -> uvicorn.Server:
    """A server of a started engine, to be run on a socket; `on_ready` is called when it answers."""
    config = uvicorn.Config(
        make_app(engine, fetcher), http=_Patient, ws="none", lifespan="on", log_config=None, access_log=False,
        server_header=False, timeout_keep_alive=_IDLE_S, timeout_graceful_shutdown=_STOP_S,
        limit_concurrency=_MOST_CONNECTIONS, backlog=256,
    )  # fmt: skip
    return _Server(config, on_ready)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()
