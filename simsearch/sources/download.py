"""Download a large file to disk: resumed where it was interrupted, retried, and complete or not there at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from simsearch.errors import UnreadableFile
from simsearch.files import translate_write_errors
from simsearch.sources.deadline import Deadline
from simsearch.sources.retry import Retrier, RetryPolicy, TemporaryFailure
from simsearch.sources.web import RangeNotSatisfiable, open_response

if TYPE_CHECKING:
    import http.client

_CHUNK_BYTES = 1 << 20
_TIMEOUT_S = 12 * 3600.0
DOWNLOAD_RETRIES = RetryPolicy(max_attempts=6, first_pause_s=0.5, max_pause_s=10.0, max_total_s=600.0)
"""A transfer that is cut goes on where it ended; every attempt that receives data starts the count again."""

OnBytes = Callable[[int, int], None]
"""(bytes that are here, bytes of the whole file or 0)"""


class WrongContent(UnreadableFile):
    """The server sent a complete file, but not the one that was published."""


def download_file(
    url: str,
    target: Path,
    *,
    size_bytes: int = 0,
    sha256: str = "",
    on_bytes: OnBytes = lambda *_: None,
    retries: RetryPolicy = DOWNLOAD_RETRIES,
) -> str:
    """Download `url` to `target`, unless it is there, and return the SHA-256 digest of its content.

    Of several processes that download the same file one does it, and the others wait. The content is received in
    `target` + `.part`, which a later call resumes if the server still has the same file. It is renamed once its size
    and digest are right; 0 and "" stand for unknown ones.

    Raises `UnreadableFile` as `fetch_content` does, `WrongContent` where size or digest are wrong, `SimsearchError`
    where the file cannot be written.
    """
    with translate_write_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{target}.lock")
        lock.acquire()
    try:
        if target.is_file():
            return compute_sha256(target)
        part = _PartialFile(target, url, size_bytes, on_bytes)
        n_before = -1
        while True:
            try:
                Retrier(retries)(part.receive)
                break
            except TemporaryFailure:
                if part.n_bytes <= n_before:
                    raise
                n_before = part.n_bytes
        return part.finish(sha256)
    finally:
        lock.release()


def compute_sha256(file: Path) -> str:
    """The SHA-256 digest of a file, 64 hexadecimal digits. Raises `SimsearchError` where it cannot be read."""
    with translate_write_errors(file), open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


class _PartialFile:
    """The part of a file that was received, and the ETag of the version that it is of."""

    def __init__(self, target: Path, url: str, size_bytes: int, on_bytes: OnBytes) -> None:
        self._target, self._url, self._size_bytes, self._on_bytes = target, url, size_bytes, on_bytes
        self._file = target.with_name(f"{target.name}.part")
        self._etag_file = target.with_name(f"{target.name}.part.etag")

    @property
    def n_bytes(self) -> int:
        """The number of bytes that were received."""
        return self._file.stat().st_size if self._file.is_file() else 0

    def receive(self) -> None:
        """Receive the rest of the file, or all of it where the server has another version. Raises `UnreadableFile`."""
        etag = self._etag_file.read_text(encoding="utf-8") if self._etag_file.is_file() else ""
        start = self.n_bytes if etag else 0
        headers = {"Range": f"bytes={start}-", "If-Range": etag} if start else {}
        try:
            with Deadline(_TIMEOUT_S) as deadline, open_response(self._url, deadline, headers=headers) as response:
                self._write(response, start if response.status == 206 else 0)
        except RangeNotSatisfiable:  # nothing is left to receive, or it is another file
            if not self._size_bytes or start != self._size_bytes:
                self._discard()
                raise TemporaryFailure(self._url, "the partial file does not fit", "try again") from None

    def _write(self, response: http.client.HTTPResponse, start: int) -> None:
        total = start + (response.length or 0)
        etag = response.headers.get("ETag", "")
        if self._size_bytes and response.length is not None and total != self._size_bytes:
            self._discard()
            problem = f"the file has {total:,} bytes, and the published one {self._size_bytes:,}"
            raise WrongContent(self._url, problem, "try another mirror")
        with translate_write_errors(self._file):
            if not start:
                self._discard()
            if etag and not etag.startswith("W/"):
                self._etag_file.write_text(etag, encoding="utf-8")
            file: Any = open(self._file, "ab" if start else "wb")  # noqa: SIM115 - closed below
        with contextlib.closing(file):
            n_bytes = start
            while chunk := response.read1(_CHUNK_BYTES):
                with translate_write_errors(self._file):
                    file.write(chunk)
                n_bytes += len(chunk)
                self._on_bytes(n_bytes, total or self._size_bytes)
        if response.length:  # fewer bytes than Content-Length
            raise TemporaryFailure(self._url, "the response was truncated", "try again")

    def finish(self, sha256: str) -> str:
        """Check size and digest, move the file into place, and return its digest. Raises `WrongContent`."""
        digest = compute_sha256(self._file)
        if self._size_bytes and self.n_bytes != self._size_bytes:
            problem = f"the file has {self.n_bytes:,} bytes, and the published one {self._size_bytes:,}"
        elif sha256 and digest != sha256:
            problem = f"the file has the SHA-256 digest {digest[:12]}..., and the published one {sha256[:12]}..."
        else:
            with translate_write_errors(self._target):
                os.replace(self._file, self._target)
                self._etag_file.unlink(missing_ok=True)
            return digest
        self._discard()
        raise WrongContent(self._url, problem, "try another mirror")

    def _discard(self) -> None:
        for file in (self._file, self._etag_file):
            file.unlink(missing_ok=True)
