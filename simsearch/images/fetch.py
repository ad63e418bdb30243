"""A picture from the web, with limits: how large it is, how long it takes, and how often it is sent elsewhere."""

from __future__ import annotations

import time
import urllib.parse
from typing import TYPE_CHECKING, Any

from simsearch.errors import Unreadable

if TYPE_CHECKING:
    import http.client
    import urllib.request

MOST_BYTES = 64_000_000
_MOST_S = 30.0
_SILENT_S = 10.0
_MOST_REDIRECTS = 5
_CHUNK_BYTES = 1 << 16

_KEPT_SIGNS = "%/:=&?~#+!$,;'@()*[]"
"""What has a meaning in a URL; blanks and letters beyond ASCII are escaped."""


def is_url(text: str) -> bool:
    """Whether a text is meant as an address on the web, http or https."""
    return text.lower().startswith(("http://", "https://"))


def fetch(url: str, *, most_bytes: int = MOST_BYTES, most_s: float = _MOST_S) -> bytes:
    """What is at a URL, http or https.

    Raises `Unreadable` when the server answers with an error, sends on more than five times or elsewhere than to
    http and https, is silent for ten seconds, or when there is more, or it takes longer, than allowed.
    """
    import http.client  # these take 0.02 s that only an address needs
    import urllib.error
    import urllib.request

    deadline = time.monotonic() + most_s
    try:
        request = urllib.request.Request(urllib.parse.quote(url, _KEPT_SIGNS), headers={"User-Agent": "simsearch"})
        with _opener().open(request, timeout=min(most_s, _SILENT_S)) as response:
            return _read(response, url, deadline, most_bytes)
    except TimeoutError as error:
        raise _too_slow(url) from error
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in (301, 302, 303, 307, 308):
            problem = f"it is sent on more than {_MOST_REDIRECTS} times, or to no web address"
            raise Unreadable(url, problem, "give the address that it ends at") from error
        raise Unreadable(url, f"the server answers {error.code} {error.reason}", "check the address") from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise _too_slow(url) from error
        cause = getattr(error.reason, "strerror", None) or str(error.reason)
        raise Unreadable(url, f"no connection ({cause})", "check the address and the network") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        cause = str(error) or type(error).__name__
        raise Unreadable(url, f"the connection failed ({cause})", "check the address and try again") from error


def _opener() -> urllib.request.OpenerDirector:
    """One that knows http and https, and no other way of opening anything."""
    import urllib.error
    import urllib.request

    class Redirects(urllib.request.HTTPRedirectHandler):
        max_redirections = _MOST_REDIRECTS

        def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
            """The next request; none to ftp, which Python's own handler would follow."""
            if not is_url(newurl):
                raise urllib.error.HTTPError(newurl, code, msg, headers, fp)
            return super().redirect_request(req, fp, code, msg, headers, newurl)

    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
        Redirects,
    ):
        opener.add_handler(handler())
    return opener


def _read(response: http.client.HTTPResponse, url: str, deadline: float, most_bytes: int) -> bytes:
    chunks, n_bytes = [], 0
    while chunk := response.read1(_CHUNK_BYTES):
        n_bytes += len(chunk)
        if n_bytes > most_bytes:
            problem = f"there is more of it than {most_bytes / 1e6:g} MB"
            raise Unreadable(url, problem, "save a smaller picture and ask with the file")
        if time.monotonic() > deadline:
            raise _too_slow(url)
        chunks.append(chunk)
    if response.length:  # less came than was announced
        raise Unreadable(url, "it ends before its end", "try again")
    return b"".join(chunks)


def _too_slow(url: str) -> Unreadable:
    return Unreadable(url, "it takes too long", "try again, or save the picture and ask with the file")
