"""A web server on this machine that behaves well and badly, for tests that fetch."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BODY = b"0123456789" * 1000


class _Handler(BaseHTTPRequestHandler):
    pictures: dict[str, bytes] = {}
    asked: list[str] = []
    knows_head = True

    def do_HEAD(self) -> None:
        self.asked.append(f"HEAD {self.path}")
        path = self.path.partition("?")[0]
        if not self.knows_head:
            self.send_error(501)
        elif path in self.pictures:
            self._head(len(self.pictures[path]), self.pictures[path])
        else:
            self.send_error(404)

    def do_GET(self) -> None:
        self.asked.append(f"GET {self.path}")
        path = self.path.partition("?")[0]
        with contextlib.suppress(OSError):  # the other side had enough
            if path in self.pictures:
                self._whole(self.pictures[path])
            elif path.startswith("/redirect/"):
                left = int(path.rsplit("/", 1)[1])
                self._redirect(f"/redirect/{left - 1}" if left > 1 else "/body")
            elif path == "/ftp":
                self._redirect("ftp://localhost/x")
            elif path == "/file":
                self._redirect("file:///etc/hostname")
            elif path in ("/body", "/a%20b%C3%A9"):
                self._whole(BODY)
            elif path == "/short":
                self._head(len(BODY) + 5)
                self.wfile.write(BODY)
            elif path == "/endless":
                self._head(None)
                while True:
                    self.wfile.write(BODY)
            elif path == "/dripping":
                self._head(None)
                while True:
                    self.wfile.write(b"x")
                    self.wfile.flush()
                    time.sleep(0.05)
            elif path == "/silent":
                time.sleep(1)
            else:
                self.send_error(404)

    def _whole(self, body: bytes) -> None:
        self._head(len(body), body if body in self.pictures.values() else None)
        self.wfile.write(body)

    def _head(self, length: int | None, content: bytes | None = None) -> None:
        self.send_response(200)
        if content is not None:
            self.send_header("ETag", f'"{hashlib.md5(content).hexdigest()}"')
            self.send_header("Last-Modified", "Sun, 01 Nov 2026 08:00:00 GMT")
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def _redirect(self, place: str) -> None:
        self.send_response(302)
        self.send_header("Location", place)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def serving(
    pictures: dict[str, bytes] | None = None, asked: list[str] | None = None, *, knows_head: bool = True
) -> Iterator[str]:
    """The address of a server; `pictures` are by path, such as `/a.png`. Notes in `asked` what it was asked for."""
    facts = {"pictures": pictures if pictures is not None else {}, "asked": asked if asked is not None else []}
    handler = type("Handler", (_Handler,), facts | {"knows_head": knows_head})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


DRIPS = {
    "status line": (b"HT", b"P"),
    "header": (b"HTTP/1.1 200 OK\r\nX-A: ", b"x"),
    "chunk extension": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x"),
    "100 Continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "body without a length": (b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
    "body of a redirect": (b"HTTP/1.1 302 Found\r\nLocation: /a\r\nContent-Length: 999\r\n\r\n", b"x"),
    "TLS handshake": (b"\x16\x03\x03\x40\x00", b"\x02"),
}
"""Responses that never end, by the part that does not: the first bytes, and those that follow again and again."""


@contextlib.contextmanager
def dripping(start: bytes, drip: bytes, for_s: float = 20.0) -> Iterator[int]:
    """The port of a server that sends `start`, and then `drip` every 0.05 s, on every connection."""
    is_over = threading.Event()

    def answer(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.sendall(start)
            end = time.monotonic() + for_s
            while time.monotonic() < end and not is_over.wait(0.05):
                connection.sendall(drip)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listening.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=accept, daemon=True).start()
        try:
            yield listening.getsockname()[1]
        finally:
            is_over.set()
            listening.shutdown(socket.SHUT_RDWR)
