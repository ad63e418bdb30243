"""Fetch pictures and list files from the web, with limits on size, time and the number of redirects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from simsearch.errors import UnreadableFile
from simsearch.sources.addresses import escape_url, is_url
from simsearch.sources.deadline import Deadline
from simsearch.sources.retry import AccessDenied, RemoteContent, RemoteNotFound, RemoteState, TemporaryFailure

if TYPE_CHECKING:
    import http.client
    import urllib.error
    import urllib.request

MAX_BYTES = 64_000_000
_TIMEOUT_S = 30.0
_READ_TIMEOUT_S = 10.0
MAX_REDIRECTS = 5
CHUNK_BYTES = 1 << 16
REDIRECT_CODES = (301, 302, 303, 307, 308)
_RETRYABLE_CODES = frozenset(
    {408, 425, 429, *range(500, 600)} - {501, 505}
)  # a server that lacks a feature still lacks it later


class RangeNotSatisfiable(UnreadableFile):
    """The content has no bytes in the requested range."""


def fetch(url: str, *, max_bytes: int = MAX_BYTES, timeout_s: float = _TIMEOUT_S) -> bytes:
    """Fetch the content of a URL. Raises like `fetch_content`."""
    return fetch_content(url, max_bytes=max_bytes, timeout_s=timeout_s).data


def fetch_state(url: str, *, timeout_s: float = _TIMEOUT_S) -> RemoteState:
    """Fetch the state of a URL; the size is 0 where the server does not report it. Raises like `fetch_content`."""
    return fetch_content(url, method="HEAD", timeout_s=timeout_s).state


def fetch_content(
    url: str,
    *,
    method: str = "GET",
    head_bytes: int | None = None,
    max_bytes: int = MAX_BYTES,
    timeout_s: float = _TIMEOUT_S,
) -> RemoteContent:
    """Fetch the content of a URL (http or https), whole or its first bytes, with the state that the server reports.

    Raises `UnreadableFile` when the server answers with an error, redirects more than five times or to another scheme,
    sends nothing for ten seconds, or when the content is larger or takes longer than allowed. Its subclasses are
    `RemoteNotFound`, `AccessDenied`, and `TemporaryFailure`, which may be retried.
    """
    with Deadline(timeout_s) as deadline:
        try:
            content = _exchange(url, deadline, method=method, head_bytes=head_bytes, max_bytes=max_bytes)
        except UnreadableFile as error:
            if deadline.is_over:
                raise _make_timeout_error(url) from error
            raise
        if deadline.is_over:  # a body without a length ends where the socket was shut down
            raise _make_timeout_error(url)
    return content


def _exchange(url: str, deadline: Deadline, *, method: str, head_bytes: int | None, max_bytes: int) -> RemoteContent:
    """Send a request and follow its redirects. Raises `UnreadableFile`."""
    headers = {} if head_bytes is None else {"Range": f"bytes=0-{head_bytes - 1}"}
    try:
        with open_response(url, deadline, method=method, headers=headers) as response:
            data = b"" if method == "HEAD" else _read_body(response, url, head_bytes=head_bytes, max_bytes=max_bytes)
            return RemoteContent(data, _parse_state(response.headers))
    except RangeNotSatisfiable:
        if head_bytes is None:
            raise
        return _exchange(url, deadline, method=method, head_bytes=None, max_bytes=max_bytes)  # an empty content


@contextmanager
def open_response(
    url: str, deadline: Deadline, *, method: str = "GET", headers: Mapping[str, str] | None = None
) -> Iterator[http.client.HTTPResponse]:
    """Send a request, follow its redirects, and yield the response to read from.

    Raises `UnreadableFile`, also for failures in the `with` block; its subclasses are those of `fetch_content` and
    `RangeNotSatisfiable`.
    """
    import http.client  # these imports take 0.02 s, and only addresses need them
    import urllib.error
    import urllib.request

    try:
        request = urllib.request.Request(
            escape_url(url), headers={"User-Agent": "simsearch", **(headers or {})}, method=method
        )
        timeout_s = max(0.001, min(deadline.left_s, _READ_TIMEOUT_S))
        with _build_opener(deadline).open(request, timeout=timeout_s) as response:
            yield response
    except TimeoutError as error:
        raise _make_timeout_error(url) from error
    except urllib.error.HTTPError as error:
        error.close()
        raise _translate_http_error(error, url) from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise _make_timeout_error(url) from error
        cause = getattr(error.reason, "strerror", None) or str(error.reason)
        kind = TemporaryFailure if isinstance(error.reason, OSError) else UnreadableFile
        raise kind(url, f"no connection ({cause})", "check the address and the network") from error
    except ValueError as error:
        raise UnreadableFile(url, f"the connection failed ({error})", "check the address") from error
    except (OSError, http.client.HTTPException) as error:
        cause = str(error) or type(error).__name__
        raise TemporaryFailure(url, f"the connection failed ({cause})", "check the address and try again") from error


def _translate_http_error(error: urllib.error.HTTPError, url: str) -> UnreadableFile:
    if error.code in REDIRECT_CODES:
        problem = f"there are more than {MAX_REDIRECTS} redirects, or one to an address that is not http or https"
        return UnreadableFile(url, problem, "give the final address")
    problem = f"the server answers {error.code} {error.reason}"
    if error.code in _RETRYABLE_CODES:
        after = error.headers.get("Retry-After", "")
        return TemporaryFailure(url, problem, "check the address", float(after) if after.isdecimal() else 0.0)
    kind = {
        401: AccessDenied,
        403: AccessDenied,
        404: RemoteNotFound,
        410: RemoteNotFound,
        416: RangeNotSatisfiable,
    }.get(error.code, UnreadableFile)
    return kind(url, problem, "check the address")


def _parse_state(headers: Any) -> RemoteState:
    """Parse size, time and ETag where the server reports them; for a partial response, the size of the whole."""
    import email.utils  # imported here for the same reason

    size = headers.get("Content-Range", "").rpartition("/")[2] or headers.get("Content-Length", "")
    try:
        mtime_s = email.utils.parsedate_to_datetime(headers.get("Last-Modified", "")).timestamp()
    except (ValueError, OverflowError):
        mtime_s = 0.0
    etag = headers.get("ETag")
    return RemoteState(int(size) if size.isdecimal() else 0, round(mtime_s * 1e9), etag and etag.strip('"'))


def _build_opener(deadline: Deadline) -> urllib.request.OpenerDirector:
    """Build an opener for http and https only, whose sockets are shut down at the deadline."""
    import http.client
    import urllib.error
    import urllib.request

    class Redirects(urllib.request.HTTPRedirectHandler):
        max_redirections = MAX_REDIRECTS

        def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
            """Refuse redirects to other schemes; Python's default handler would follow one to ftp."""
            if not is_url(newurl):
                raise urllib.error.HTTPError(newurl, code, msg, headers, fp)
            fp.close()  # Python's default handler would read the body of the redirect, however long it is
            return super().redirect_request(req, fp, code, msg, headers, newurl)

    class Connection(http.client.HTTPConnection):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self._create_connection = deadline.connect  # the one place before a proxy or TLS is spoken to

    class TlsConnection(http.client.HTTPSConnection, Connection):
        pass

    class PlainRequests(urllib.request.HTTPHandler):
        def http_open(self, req: Any) -> Any:
            return self.do_open(Connection, req)

    class TlsRequests(urllib.request.HTTPSHandler):
        def https_open(self, req: Any) -> Any:
            return self.do_open(TlsConnection, req)

    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        PlainRequests,
        TlsRequests,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
        Redirects,
    ):
        opener.add_handler(handler())
    return opener


def _read_body(response: http.client.HTTPResponse, url: str, *, head_bytes: int | None, max_bytes: int) -> bytes:
    chunks, n_bytes = [], 0
    while chunk := response.read1(CHUNK_BYTES):
        n_bytes += len(chunk)
        chunks.append(chunk)
        if head_bytes is not None and n_bytes >= head_bytes:  # a server may ignore the requested range
            return b"".join(chunks)[:head_bytes]
        if n_bytes > max_bytes:
            problem = f"the response is larger than {max_bytes / 1e6:g} MB"
            raise UnreadableFile(url, problem, "use a smaller picture, or save it and search with the file")
    if response.length:  # fewer bytes than Content-Length
        raise TemporaryFailure(url, "the response was truncated", "try again")
    return b"".join(chunks)


def _make_timeout_error(url: str) -> UnreadableFile:
    return TemporaryFailure(url, "the request timed out", "try again, or save the picture and search with the file")
