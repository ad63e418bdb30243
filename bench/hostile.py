"""`simsearch serve` while eight clients upload pictures that are made to keep it busy: other searches, and SIGTERM."""

from __future__ import annotations

import io
import itertools
import os
import signal
import socket
import struct
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from bench.serve import make_upload_request, run_server
from bench.setup import format_table, ingest, list_photographs
from simsearch import ModelChoice

DURATION_S = 30.0
N_INDEXED = 1_000
_PAUSE_S = 0.02  # of the visitors whose time is measured: between 20 and 50 searches a second
_SIDE_PX = 7_000  # 49 megapixels, just below the server's limit
_HOST = b"Host: localhost\r\n"
_BACKOFF_S = 0.2
_DRIP_S = 0.5
_DRIP_HEAD = b"POST /api/v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n\r\n"


def make_hostile_pictures() -> dict[str, bytes]:
    """Small or large files, by kind, that cost as much as the limits of the server allow, or are refused late."""
    blank = Image.new("RGB", (_SIDE_PX, _SIDE_PX), (90, 120, 40))
    return {
        "JPEG of 20 scans, 49 Mpx": _repeat_scans(blank, 20),
        "JPEG of 480 scans, 2 Mpx": _repeat_scans(blank.crop((0, 0, 1400, 1400)), 480),
        "PNG of 16 bits, 49 Mpx": _make_png(_SIDE_PX, bits=16, color=0),
        "PNG of 16 bits with alpha, 49 Mpx": _make_png(_SIDE_PX, bits=16, color=6),
        "PNG of 2.6 million chunks": _add_chunks(_make_png(8, bits=8, color=0), 2_600_000),
        "PPM as text, 31 MB": b"P3 3200 3200 255\n" + b"7 " * 15_500_000,
        "WebP, 49 Mpx": _encode(blank, "WEBP", lossless=True),
        "JPEG 2000, 49 Mpx": _encode(blank, "JPEG2000"),
    }


def measure(duration_s: float = DURATION_S) -> str:
    """Measure and format the section of the report."""
    load_before = os.getloadavg()[0]
    pictures = make_hostile_pictures()
    with tempfile.TemporaryDirectory() as folder:
        collection = Path(folder) / "ix"
        ingest(collection, list_photographs()[:N_INDEXED], ModelChoice(backbone="builtin"))
        with run_server(collection) as (port, process):
            quiet = _measure_visitors(port, duration_s / 3)
            with _Attack(port, pictures) as attack:
                attacked = _measure_visitors(port, duration_s)
                statuses = attack.copy_statuses()
                started = time.perf_counter()
                process.send_signal(signal.SIGTERM)
                process.wait(60)
                ended_s = time.perf_counter() - started
    rows = [[f"{name}, {when}", *one.to_cells()] for when, found in (("alone", quiet), ("attacked", attacked))
            for name, one in found.items()]  # fmt: skip
    heads = ["", "searches", "p50 ms", "p99 ms", "longest ms", "503", "longest time of 503, s"]
    outcomes = "; ".join(
        f"{kind}: {', '.join(f'{n} x {status}' for status, n in sorted(found.items()))}"
        for kind, found in statuses.items()
    )
    return (
        "## Hostile uploads\n\nEight clients upload one kind of picture each, again and again with new content, and 20 "
        "connections send a body byte by byte. Meanwhile one visitor searches by id and one by an ordinary photograph, "
        f"for {duration_s:.0f} s. {os.cpu_count()} cores; load average before: {load_before:.1f}.\n\n"
        f"{format_table(heads, rows)}\n\nStatuses of the attack: {outcomes}.\n\n"
        f"SIGTERM during the attack ended the server after {ended_s:.1f} s."
    )


def _repeat_scans(image: Image.Image, n: int) -> bytes:
    """A progressive JPEG whose last scan is repeated until there are `n`."""
    data = _encode(image, "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + scan * (n - data.count(b"\xff\xda")) + b"\xff\xd9"


def _encode(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _make_png(side_px: int, *, bits: int, color: int) -> bytes:
    channels = {0: 1, 6: 4}[color]
    row = bytes(1 + side_px * channels * bits // 8)
    packer = zlib.compressobj(9)
    body = b"".join(packer.compress(row) for _ in range(side_px)) + packer.flush()
    head = struct.pack(">IIBBBBB", side_px, side_px, bits, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _make_chunk(b"IHDR", head) + _make_chunk(b"IDAT", body) + _make_chunk(b"IEND", b"")


def _make_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _add_chunks(png: bytes, n: int) -> bytes:
    return png[:33] + _make_chunk(b"teSt", b"") * n + png[33:]


@dataclass(slots=True)
class _Visits:
    """The answers that one visitor got: seconds, and the times of the requests that were refused."""

    seconds: list[float] = field(default_factory=list)
    refused_at: list[float] = field(default_factory=list)
    longest_refusal_s: float = 0.0

    def to_cells(self) -> list[str]:
        p50, p99, most = (1e3 * float(np.percentile(self.seconds or [np.nan], share)) for share in (50, 99, 100))
        return [
            f"{len(self.seconds):,}", f"{p50:.0f}", f"{p99:.0f}", f"{most:.0f}", str(len(self.refused_at)),
            f"{self.longest_refusal_s:.1f}",
        ]  # fmt: skip


def _measure_visitors(port: int, duration_s: float) -> dict[str, _Visits]:
    uploads = make_upload_request()
    requests: dict[str, Callable[[int], bytes]] = {
        "by id": lambda number: (
            b"GET /api/v1/search?id=%d HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            % (number % N_INDEXED + 1)
        ),
        "by an upload of 0.2 Mpx": lambda number: uploads(number).replace(_HOST, _HOST + b"Connection: close\r\n", 1),
    }
    found = {name: _Visits() for name in requests}
    end = time.perf_counter() + duration_s

    def visit(name: str) -> None:
        visits, refused_since = found[name], None
        for number in itertools.count(int(1e6 * time.time()) % 10**9):
            asked = time.perf_counter()
            if asked > end:
                break
            status = _send(port, [requests[name](number)])
            if status == 200:
                visits.seconds.append(time.perf_counter() - asked)
                refused_since = None
            else:
                visits.refused_at.append(asked)
                refused_since = asked if refused_since is None else refused_since
                visits.longest_refusal_s = max(visits.longest_refusal_s, time.perf_counter() - refused_since)
            time.sleep(_PAUSE_S)

    threads = [threading.Thread(target=visit, args=(name,)) for name in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


class _Attack:
    """Clients that upload hostile pictures until the block ends, and connections that drip."""

    def __init__(self, port: int, pictures: dict[str, bytes]) -> None:
        self._port = port
        self._is_over = threading.Event()
        self.statuses: dict[str, Counter[int]] = {kind: Counter() for kind in pictures}
        self._threads = [threading.Thread(target=self._upload, args=pair) for pair in pictures.items()]
        self._threads += [threading.Thread(target=self._drip) for _ in range(20)]

    def __enter__(self) -> _Attack:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def copy_statuses(self) -> dict[str, Counter[int]]:
        """The statuses of the responses until now."""
        return {kind: Counter(found) for kind, found in self.statuses.items()}

    def _upload(self, kind: str, data: bytes) -> None:
        head = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        for number in itertools.count():
            if self._is_over.is_set():
                break
            end = b"%d\r\n--b--\r\n" % number  # new content each time
            start = (
                b"POST /api/v1/search HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: %d\r\n\r\n"
                % (len(head) + len(data) + len(end))
            )
            status = _send(self._port, [start, head, data, end])
            self.statuses[kind][status] += 1
            if status in (0, 503):
                self._is_over.wait(_BACKOFF_S)

    def _drip(self) -> None:
        while not self._is_over.is_set():
            try:
                with socket.create_connection(("127.0.0.1", self._port), 5) as connection:
                    connection.sendall(
                        b"POST /api/v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n\r\n"
                    )
                    while not self._is_over.wait(_DRIP_S):
                        connection.sendall(b"x")
            except OSError:
                self._is_over.wait(_DRIP_S)


def _send(port: int, parts: list[bytes]) -> int:
    """Send a request, and return the status of the response; 0 where the connection was cut."""
    try:
        with socket.create_connection(("127.0.0.1", port), 120) as connection:
            for part in parts:
                connection.sendall(part)
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
    except OSError:
        return 0
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0
