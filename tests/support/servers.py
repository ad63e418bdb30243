"""A web server on this machine that behaves well and badly, for tests that fetch."""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

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


@dataclass
class Hub:
    """A hub of repositories on this machine: `files` by "owner/repository/path"; `asked` has the paths of requests.

    `faults` has for a path the answers before the right one: a status code, "cut" (half of the content, then the
    connection ends), or "redirect". `retry_after` is sent with 429 and 503.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    faults: dict[str, list[int | str]] = field(default_factory=dict)
    commit: str = "0123456789abcdef0123456789abcdef01234567"
    retry_after: str = "0"
    has_digests: bool = True

    def add_folder(self, repository: str, folder: Path) -> None:
        """Publish all files of a folder."""
        for path in folder.rglob("*"):
            if path.is_file():
                self.files[f"{repository}/{path.relative_to(folder).as_posix()}"] = path.read_bytes()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.partition("?")[0].strip("/")
        self.asked.append(path)
        if path.startswith("api/models/"):
            repository = path.removeprefix("api/models/").partition("/revision/")[0]
            fault = self._next_fault(repository)
            if isinstance(fault, int):
                self._send_error(request, fault)
            else:
                self._send_list(request, repository)
            return
        moved = path.removeprefix("moved/")
        owner, name, _, _, inner = (moved.split("/", 4) + [""] * 5)[:5]
        key = f"{owner}/{name}/{inner}"
        fault = self._next_fault(key)
        if isinstance(fault, int):
            self._send_error(request, fault)
        elif fault == "redirect":
            request.send_response(302)
            request.send_header("Location", f"/moved/{moved}")
            request.send_header("Content-Length", "0")
            request.end_headers()
        elif key not in self.files:
            request.send_error(404)
        else:
            self._send_file(request, self.files[key], is_cut=fault == "cut")

    def _next_fault(self, key: str) -> int | str:
        waiting = self.faults.get(key, [])
        return waiting.pop(0) if waiting else ""

    def _send_error(self, request: BaseHTTPRequestHandler, status: int) -> None:
        request.send_response(status)
        if status in (429, 503):
            request.send_header("Retry-After", self.retry_after)
        request.send_header("Content-Length", "0")
        request.end_headers()

    def _send_list(self, request: BaseHTTPRequestHandler, repository: str) -> None:
        start = f"{repository}/"
        entries = [
            {"rfilename": path.removeprefix(start), "size": len(content)}
            | ({"lfs": {"sha256": hashlib.sha256(content).hexdigest()}} if self.has_digests else {})
            for path, content in self.files.items()
            if path.startswith(start)
        ]
        if not entries:
            request.send_error(404)
            return
        body = json.dumps({"sha": self.commit, "siblings": entries}).encode()
        request.send_response(200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def _send_file(self, request: BaseHTTPRequestHandler, content: bytes, *, is_cut: bool) -> None:
        etag, wanted = f'"{hashlib.md5(content).hexdigest()}"', request.headers.get("Range", "")
        start = 0
        if wanted and request.headers.get("If-Range") == etag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            self.ranges.append(wanted)
        request.send_response(206 if start else 200)
        request.send_header("ETag", etag)
        request.send_header("Content-Length", str(len(content) - start))
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        request.end_headers()
        request.wfile.write(content[start : (start + len(content)) // 2] if is_cut else content[start:])
        request.close_connection = True


@contextlib.contextmanager
def serving_hub() -> Iterator[Hub]:
    """A hub at `Hub.url`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with contextlib.suppress(OSError):
                hub.answer(self)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub = Hub(f"http://127.0.0.1:{server.server_port}")
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield hub
        finally:
            server.shutdown()
