"""Images in a distant object store: gain of reading many at once."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from xml.sax.saxutils import escape

from bench.setup import format_table, ingest, measure_seconds, multiply
from simsearch import ModelChoice
from simsearch.images.decode import RawFile, compute_default_max_pixels, decode_square, read_raw_file
from simsearch.images.resize import ResizeRule
from simsearch.sources.reader import ConcurrentReader
from simsearch.sources.scan import FoundFile, scan_sources

N_PICTURES = 1280
DELAY_S = 0.05
SIDE_PX = 224
READERS = (1, 2, 8, 32, 64)
_N_PENDING = 96


def measure() -> str:
    """Measure and format the section of the report."""
    with (
        tempfile.TemporaryDirectory() as name,
        _run_remote_store(multiply(N_PICTURES, Path(name) / "pictures")) as folder,
    ):
        found = scan_sources(["s3://bench/pictures"]).files
        assert len(found) == N_PICTURES
        rows = [[str(n), *_measure_rate(found[: 320 if n < 8 else None], n)] for n in READERS]
        rows.append(["files on the disk", *_measure_rate(scan_sources([str(folder)]).files, 1)])
        whole = [_measure_ingest(Path(name), source) for source in ("s3://bench/pictures", str(folder))]
        before = _measure_ingest(Path(name), "s3://bench/pictures", is_new=False)
    return "\n\n".join(
        [
            "## Object storage",
            f"{N_PICTURES} images on a server on this machine that implements S3 and waits {1000 * DELAY_S:.0f} ms "
            f"before each response, read and decoded for {SIDE_PX} px; the server shares the cores.",
            format_table(["readers at once", "images/s"], rows),
            f"`Collection.ingest` end to end, histogram backbone: {whole[0]:.0f} images/s from the store, "
            f"{whole[1]:.0f} from the disk. A second run from the store, which lists but reads nothing: {before:.0f} "
            "images/s.",
        ]
    )


def _measure_rate(files: list[FoundFile], n_readers: int) -> list[str]:
    return [f"{len(files) / measure_seconds(lambda: _read_all(files, n_readers)):.0f}"]


def _read_all(files: list[FoundFile], n_readers: int) -> None:
    limit = compute_default_max_pixels()

    def work(raw: RawFile) -> None:
        decode_square(raw, ResizeRule(SIDE_PX, "squash"), max_pixels=limit)

    waiting: deque[Future[None]] = deque()
    with ConcurrentReader(n_readers=n_readers) as reading:
        for file in files:
            one = partial(read_raw_file, file.path, has_picture_extension=True, max_pixels=limit)
            waiting.append(reading.submit(file, one, work))
            if len(waiting) > _N_PENDING:
                waiting.popleft().result()
        for job in waiting:
            job.result()


def _measure_ingest(folder: Path, source: str, *, is_new: bool = True) -> float:
    """Measure images/s of a complete ingest into a separate collection."""
    collection = folder / source.rpartition("/")[0].replace("/", "_")
    report = ingest(collection, [source], ModelChoice(backbone="histogram"))
    assert report.n_embedded == (N_PICTURES if is_new else 0)
    return N_PICTURES / report.elapsed_s


@contextlib.contextmanager
def _run_remote_store(folder: Path) -> Iterator[Path]:
    """Serve the folder as the bucket `bench` of a server in a separate process."""
    server = subprocess.Popen([sys.executable, "-m", "bench.remote", str(folder)], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    os.environ |= {
        "AWS_ENDPOINT_URL": server.stdout.readline().strip(), "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip
    try:
        yield folder
    finally:
        server.terminate()
        server.wait()


class _BucketHandler(BaseHTTPRequestHandler):
    """The part of S3 that is needed to list and to read."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    folder: Path

    def do_HEAD(self) -> None:
        time.sleep(DELAY_S)
        self._send_answer(404, b"")

    def do_GET(self) -> None:
        time.sleep(DELAY_S)
        path, _, query = self.path.partition("?")
        if "list-type" in query:
            self._send_answer(200, self._build_listing(urllib.parse.parse_qs(query)))
        else:
            self._send_answer(200, (self.folder / path.rpartition("/")[2]).read_bytes())

    def _build_listing(self, asked: dict[str, list[str]]) -> bytes:
        files = sorted(self.folder.iterdir())
        start = int(asked.get("continuation-token", ["0"])[0])
        entries = "".join(
            f"<Contents><Key>pictures/{escape(file.name)}</Key><Size>{file.stat().st_size}</Size><ETag>{file.name}</ETag>"
            "<LastModified>2026-11-01T08:00:00.000Z</LastModified></Contents>"
            for file in files[start : start + 1000]
        )
        end = start + 1000
        more = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{end}</NextContinuationToken>"
        more = more if end < len(files) else "<IsTruncated>false</IsTruncated>"
        return f"<ListBucketResult>{entries}{more}</ListBucketResult>".encode()

    def _send_answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("ETag", self.path.rpartition("/")[2])
        self.send_header("Last-Modified", "Sun, 01 Nov 2026 08:00:00 GMT")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Write no log."""


class _BucketServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    _BucketHandler.folder = Path(sys.argv[1])
    with _BucketServer(("127.0.0.1", 0), _BucketHandler) as server:
        print(f"http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()
