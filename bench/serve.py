"""`simsearch serve` under load on loopback: eight clients that send new images, and ids of indexed ones."""

from __future__ import annotations

import io
import json
import os
import re
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from bench.setup import SIMSEARCH, format_table, ingest, list_photographs
from simsearch import ModelChoice

N_CLIENTS = 8
UPLOAD_S = 300.0
BY_ID_S = 20.0
WARM_S = 5.0
N_INDEXED = 1_000
PIXELS = 200_000

Request = Callable[[int], bytes]
"""From the number of a request to its bytes."""


@dataclass(frozen=True, slots=True)
class LoadResult:
    """The result of a load test: seconds of each answered request, number of failures, total time."""

    seconds: list[float]
    n_failed: int
    elapsed_s: float

    def to_row(self, name: str) -> list[str]:
        """The row of the table."""
        p50, p99 = (1e3 * float(np.percentile(self.seconds, share)) for share in (50, 99))
        rate = len(self.seconds) / self.elapsed_s
        return [name, f"{rate:,.0f}", f"{p50:.1f}", f"{p99:.1f}", f"{self.n_failed}", f"{len(self.seconds):,}"]


def measure(upload_s: float = UPLOAD_S, by_id_s: float = BY_ID_S) -> str:
    """Measure and format the section of the report."""
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        collection = Path(folder) / "ix"
        ingest(collection, list_photographs()[:N_INDEXED], ModelChoice(backbone="builtin"))
        with run_server(collection) as (port, process):
            by_picture, by_id = make_upload_request(), _make_id_request()
            _run_clients(port, by_picture, WARM_S)
            memory = _MemorySampler(process.pid)
            uploads = _run_clients(port, by_picture, upload_s)
            resident = memory.stop()
            _run_clients(port, by_id, WARM_S)
            ids = _run_clients(port, by_id, by_id_s)
    rows = [uploads.to_row(f"by an uploaded JPEG of 0.2 Mpx, new content each, for {upload_s:.0f} s")]
    rows.append(ids.to_row(f"by id, for {by_id_s:.0f} s"))
    heads = ["search, k = 20", "requests/s", "p50 ms", "p99 ms", "errors", "requests"]
    fifth = max(1, len(resident) // 5)
    early, late = statistics.median(resident[fifth : 2 * fifth]), statistics.median(resident[-fifth:])
    return (
        f"## Serving\n\n{N_CLIENTS} clients on this machine, which share its {os.cpu_count()} cores with the server; "
        f"{N_INDEXED:,} photographs under the built-in backbone. Load average before: {load_before:.1f}.\n\n"
        f"{format_table(heads, rows)}\n\n"
        f"Memory of the server during uploads: {early / 1e6:.0f} MB in the second fifth of the time, "
        f"{late / 1e6:.0f} MB in the last."
    )


@contextmanager
def run_server(collection: Path) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """Run a server over a collection, and give its port and process."""
    command = [str(SIMSEARCH), "serve", "--in", str(collection), "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        found = re.search(r":(\d+)/", line)
        assert found, line
        yield int(found[1]), process
    finally:
        process.terminate()
        process.wait(30)


def make_upload_request() -> Request:
    """Make requests with photographs of 0.2 Mpx; a few bytes after the end of the image make each content new."""
    pictures = [_resize_photograph(path) for path in list_photographs()[:64]]
    head = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'

    def request(number: int) -> bytes:
        body = head + pictures[number % len(pictures)] + b"%d" % number + b"\r\n--b--\r\n"
        return (
            b"POST /api/v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body)
        ) + body

    return request


def _make_id_request() -> Request:
    def request(number: int) -> bytes:
        return b"GET /api/v1/search?id=%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % (number % N_INDEXED + 1)

    return request


def _resize_photograph(path: Path) -> bytes:
    image = Image.open(path).convert("RGB")
    scale = (PIXELS / (image.width * image.height)) ** 0.5
    file = io.BytesIO()
    image.resize((round(image.width * scale), round(image.height * scale))).save(file, "JPEG", quality=88)
    return file.getvalue()


def _run_clients(port: int, request: Request, duration_s: float) -> LoadResult:
    """Run the clients; each sends its next request when it has received the response."""
    seconds: list[list[float]] = [[] for _ in range(N_CLIENTS)]
    failed = [0] * N_CLIENTS
    started = time.perf_counter()

    def client(own: int) -> None:
        number = own + 1_000_000 * int(started)
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while time.perf_counter() - started < duration_s:
                number += N_CLIENTS
                wire = request(number)
                asked = time.perf_counter()
                connection.sendall(wire)
                status, document = _read_response(connection)
                seconds[own].append(time.perf_counter() - asked)
                failed[own] += status != 200 or len(document["hits"]) != 20

    threads = [threading.Thread(target=client, args=(own,)) for own in range(N_CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return LoadResult([one for some in seconds for one in some], sum(failed), time.perf_counter() - started)


def _read_response(connection: socket.socket) -> tuple[int, dict[str, list[object]]]:
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    found = re.search(rb"content-length: (\d+)", head.lower())
    assert found, head
    while len(body) < int(found[1]):
        body += connection.recv(65536)
    return int(head.split(b" ", 2)[1]), json.loads(body)


class _MemorySampler:
    """Samples the resident memory of a process in bytes, every second until it is stopped."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._samples: list[float] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()

    def _sample(self) -> None:
        while not self._stopped.wait(1.0):
            pages = int(Path(f"/proc/{self._pid}/statm").read_text().split()[1])
            self._samples.append(pages * os.sysconf("SC_PAGE_SIZE"))

    def stop(self) -> list[float]:
        """Stop, and return the samples."""
        self._stopped.set()
        self._thread.join()
        return self._samples or [0.0]
