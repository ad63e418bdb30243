"""A real S3 server on this machine, and a proxy in front of it that counts, delays, refuses, tears and drops."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import logging
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket of a server at `endpoint`, written to as any client of S3 would."""

    name: str
    endpoint: str
    client: Any

    @property
    def address(self) -> str:
        return f"s3://{self.name}"

    def put(self, key: str, data: bytes) -> str:
        """The ETag of what was put there."""
        return self.client.put_object(Bucket=self.name, Key=key, Body=data)["ETag"].strip('"')

    def put_folder(self, folder: Path, prefix: str = "") -> None:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            self.put(prefix + path.relative_to(folder).as_posix(), path.read_bytes())

    def delete(self, *keys: str) -> None:
        for key in keys:
            self.client.delete_object(Bucket=self.name, Key=key)


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """The address of a server that holds what it is given in memory."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    from moto.server import ThreadedMotoServer  # half a second, in every worker

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def new_bucket(endpoint: str) -> Bucket:
    import boto3

    client = boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="key", aws_secret_access_key="secret"
    )
    name = f"pictures-{next(_numbers)}"
    client.create_bucket(Bucket=name)
    return Bucket(name, endpoint, client)


def configure(endpoint: str, patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Say in the environment where S3 is and as whom it is asked, and that nothing else on this machine says so."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_ENDPOINT_URL_S3"):
        patch.delenv(name, raising=False)
    for name, value in CREDENTIALS.items():
        patch.setenv(name, value)
    patch.setenv("AWS_ENDPOINT_URL", endpoint)
    patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    patch.setenv("AWS_CONFIG_FILE", str(folder / "no-config"))
    patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "no-credentials"))


Mood = Callable[[str, str], str]
"""From method and path to what becomes of a request: `pass`, a status as text, or the name of a mischief."""


def well(method: str, path: str) -> str:
    return "pass"


def half(seed: int) -> Mood:
    """Every second request or so comes to grief, in one way or another."""
    dice = random.Random(seed)
    lock = threading.Lock()

    def mood(method: str, path: str) -> str:
        with lock:
            return dice.choice(["503", "500", "drop", "tear", "pass", "pass", "pass", "slow"])

    return mood


@dataclass(slots=True)
class Proxy:
    """Where clients connect, what becomes of their requests, and which came."""

    address: str
    mood: Mood = well
    seen: list[tuple[str, str]] = field(default_factory=list)

    def of(self, method: str, part: str = "") -> list[str]:
        """The paths asked for with that method that hold a part."""
        return [path for asked, path in self.seen if asked == method and part in path]


@contextlib.contextmanager
def proxy(upstream: str, mood: Mood = well) -> Iterator[Proxy]:
    """A proxy in front of a server."""
    made = Proxy("", mood)
    handler = type("Handler", (_Handler,), {"proxy": made, "upstream": upstream.removeprefix("http://")})
    with _Server(("127.0.0.1", 0), handler) as server:
        made.address = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield made
        finally:
            server.shutdown()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """Say nothing of clients that were dropped."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    proxy: Proxy
    upstream: str

    def do_GET(self) -> None:
        self.proxy.seen.append((self.command, self.path))
        mood = self.proxy.mood(self.command, self.path)
        if mood.startswith("wait "):
            time.sleep(float(mood.removeprefix("wait ")))
            mood = "pass"
        if mood == "drop":
            self._hang_up()
        elif mood.isdecimal():
            self._refuse(int(mood))
        else:
            self._pass_on(mood)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _pass_on(self, mood: str) -> None:
        connection = http.client.HTTPConnection(self.upstream)
        # http.client would read a path that begins with two slashes as one with a host
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
        connection.request(self.command, self.path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        self.send_response(answer.status)
        self._send_headers(dict(answer.getheaders()), len(body))
        if self.command == "HEAD":
            return
        if mood == "tear" and body:
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self._hang_up()
        elif mood == "hold" and body:
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            time.sleep(30)
        elif mood == "slow":
            for start in range(0, len(body), 1 + len(body) // 4):
                self.wfile.write(body[start : start + 1 + len(body) // 4])
                self.wfile.flush()
                time.sleep(0.02)
        else:
            self.wfile.write(body)

    def _send_headers(self, headers: Mapping[str, str], n_bytes: int) -> None:
        ours = ("connection", "transfer-encoding", "server", "date")
        for name, value in headers.items():
            if name.lower() not in ours and not (name.lower() == "content-length" and self.command != "HEAD"):
                self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(n_bytes))
        self.end_headers()

    def _refuse(self, status: int) -> None:
        codes = {403: "AccessDenied", 503: "SlowDown", 500: "InternalError"}
        code = codes.get(status, "Strange")
        body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode() if self.command == "GET" else b""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _hang_up(self) -> None:
        """Close the connection such that the other side sees an error, and not an end."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def log_message(self, *_: object) -> None:
        """Say nothing."""
