"""A time limit for one exchange over the network that holds in every phase: connecting, TLS, headers and body.

The timeout of a socket limits one call only, so a server that sends a byte now and then is never too slow for it. A
`Deadline` has one timer, which shuts the sockets of the exchange down; every call on them then returns at once.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from types import TracebackType
from typing import Self


class Deadline:
    """A time limit in s for all network calls in its `with` block, on sockets that `connect` opened.

    Only the lookup of a host name cannot be ended; the resolver of the system limits it.
    """

    def __init__(self, timeout_s: float) -> None:
        self._end = time.monotonic() + timeout_s
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(timeout_s, self._shut_down)
        self._timer.daemon = True

    @property
    def left_s(self) -> float:
        """The time left; negative after the end."""
        return self._end - time.monotonic()

    @property
    def is_over(self) -> bool:
        """Whether the time is over. What a call returned after that may be truncated."""
        return self.left_s <= 0

    def connect(
        self, address: tuple[str, int], timeout_s: float, source_address: tuple[str, int] | None = None
    ) -> socket.socket:
        """Connect to a host and port; each of its addresses is tried within the time left.

        `timeout_s` is the limit of every later call on the socket. Raises `OSError`, also where the time is over.
        """
        failure: OSError = TimeoutError("timed out")
        for family, kind, protocol, _, place in socket.getaddrinfo(*address, type=socket.SOCK_STREAM):
            if self.is_over:
                raise TimeoutError("timed out")
            made = socket.socket(family, kind, protocol)
            try:
                made.settimeout(min(timeout_s, max(self.left_s, 0.001)))
                if source_address is not None:
                    made.bind(source_address)
                made.connect(place)
                made.settimeout(timeout_s)
                self._watch(made)
            except OSError as error:
                made.close()
                failure = error
            else:
                return made
        raise failure

    def _watch(self, connected: socket.socket) -> None:
        """Shut this socket down at the end. The copy stays valid when TLS takes the socket over."""
        with self._lock:
            self._sockets.append(connected.dup())
        if self.is_over:  # the timer may have run already
            self._shut_down()

    def _shut_down(self) -> None:
        with self._lock:
            for one in self._sockets:
                with contextlib.suppress(OSError):  # already closed by the other side
                    one.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timer.cancel()
        with self._lock:
            for one in self._sockets:
                one.close()
            self._sockets.clear()
