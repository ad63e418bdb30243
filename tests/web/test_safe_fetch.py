"""URLs of visitors are fetched from the public internet only, however they are written or redirected.

No test here leaves this machine. One port of this machine, which the fetcher of the tests allows, stands for the public
internet; all other local addresses are forbidden as usual.
"""

from __future__ import annotations

import contextlib
import ipaddress
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from simsearch.errors import UnreadableFile
from simsearch.web.safe_fetch import Fetcher, ForbiddenAddress, IpAddress, are_allowed, is_public
from simsearch.web.settings import ServerSettings
from tests.support.servers import DRIPS, dripping
from tests.web.conftest import jpeg, serving


class _Web:
    """A web server that records the requested paths."""

    def __init__(self, answers: Callable[[BaseHTTPRequestHandler], None]) -> None:
        self.asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(inner) -> None:  # noqa: N805 - `self` is the web server's
                self.asked.append(inner.path)
                with contextlib.suppress(OSError):
                    answers(inner)

            def log_message(inner, *_: object) -> None:  # noqa: N805
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]


@contextlib.contextmanager
def web(answers: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[_Web]:
    made = _Web(answers)
    threading.Thread(target=made.server.serve_forever, daemon=True).start()
    try:
        yield made
    finally:
        made.server.shutdown()
        made.server.server_close()


def say(handler: BaseHTTPRequestHandler, status: int, body: bytes = b"", **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def fetcher(*ports: int, max_bytes: int = 1_000_000, timeout_s: float = 5.0) -> Fetcher:
    """A fetcher that treats these local ports as the public internet."""

    def is_allowed(address: IpAddress, port: int) -> bool:
        return port in ports or is_public(address, port)

    return Fetcher(max_bytes=max_bytes, timeout_s=timeout_s, is_allowed=is_allowed)


@pytest.mark.parametrize(
    "text",
    ["127.0.0.1", "127.9.9.9", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
     "224.0.0.1", "255.255.255.255", "240.0.0.1", "192.0.2.1", "198.18.0.1", "::1", "::", "fe80::1", "fc00::1",
     "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2002:c0a8:101::",
     "2001:db8::1", "2001:0:7f00:1::80ff:fffe", "2001:0:101:101::fefe:fefe", "2002:101:101::", "192.0.0.192",
     "192.0.0.9", "192.88.99.1", "fec0::1", "3fff::1", "64:ff9b:1::101:101", "64:ff9b::c000:c0", "::ffff:192.0.0.192",
     "::101:101", "5f00::1", "100::1", "fe80::1%eth0", "4000::1", "203.0.113.1", "198.51.100.1"],
)  # fmt: skip
def test_private_addresses_are_not_public_in_any_embedding(text: str):
    assert not is_public(ipaddress.ip_address(text), 443)


@pytest.mark.parametrize("text", ["93.184.216.34", "1.1.1.1", "2606:4700:4700::1111", "64:ff9b::101:101"])
def test_public_addresses_are_public_at_the_ports_80_and_443_only(text: str):
    address = ipaddress.ip_address(text)
    assert is_public(address, 80)
    assert is_public(address, 443)
    assert not any(is_public(address, port) for port in (22, 25, 3306, 6379, 8080))


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1/", "http://localhost/", "http://[::1]/", "http://0/", "http://2130706433/", "http://0x7f.1/",
     "http://127.1/", "http://017700000001/", "http://[::ffff:127.0.0.1]/", "http://169.254.169.254/latest/meta-data/",
     "https://localhost/", "http://localhost:22/", "file:///etc/passwd", "ftp://localhost/a.jpg", "gopher://x/", "//x/",
     "/etc/passwd", "data:image/png;base64,AAAA", "http://user:word@example.org/", "http:///a.jpg", "http://[::1", ""],
)  # fmt: skip
def test_local_addresses_and_other_schemes_are_refused(url: str):
    with pytest.raises(ForbiddenAddress):
        Fetcher(max_bytes=1000).fetch(url)


def test_a_picture_is_fetched_after_a_redirect():
    def answers(handler: BaseHTTPRequestHandler) -> None:
        if handler.path == "/there":
            say(handler, 302, Location="/a%20b.jpg?size=2")
        else:
            say(handler, 200, jpeg(1))

    with web(answers) as open_web:
        assert fetcher(open_web.port).fetch(f"http://127.0.0.1:{open_web.port}/there") == jpeg(1)
        assert open_web.asked == ["/there", "/a%20b.jpg?size=2"]


def test_a_redirect_to_a_private_address_is_not_followed():
    with web(lambda handler: say(handler, 200, b"secret")) as private:
        for place in (f"http://127.0.0.1:{private.port}/", f"http://localhost:{private.port}/", "file:///etc/passwd"):
            with (
                web(lambda handler, place=place: say(handler, 302, Location=place)) as open_web,
                pytest.raises(ForbiddenAddress),
            ):
                fetcher(open_web.port).fetch(f"http://127.0.0.1:{open_web.port}/a.jpg")
        assert private.asked == []


def test_endless_redirects_are_stopped():
    with (
        web(lambda handler: say(handler, 302, Location=handler.path + "x")) as open_web,
        pytest.raises(UnreadableFile, match="more than 5 redirects"),
    ):
        fetcher(open_web.port).fetch(f"http://127.0.0.1:{open_web.port}/")
    assert len(open_web.asked) == 6


def test_an_endless_or_slow_response_is_stopped():
    def answers(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(bytes(50_000) if handler.path == "/large" else b".")
            time.sleep(0.0 if handler.path == "/large" else 0.1)

    with web(answers) as open_web:
        ours = fetcher(open_web.port, timeout_s=1.0)
        with pytest.raises(UnreadableFile, match="larger than 1 MB"):
            ours.fetch(f"http://127.0.0.1:{open_web.port}/large")
        with pytest.raises(UnreadableFile, match="timed out"):
            ours.fetch(f"http://127.0.0.1:{open_web.port}/slow")


@pytest.mark.parametrize("part", DRIPS)
def test_a_response_that_never_ends_is_left_at_the_deadline_whatever_part_of_it_is_slow(part: str):
    with dripping(*DRIPS[part]) as port:
        scheme, started = "https" if part == "TLS handshake" else "http", time.monotonic()
        with pytest.raises(UnreadableFile, match=r"timed out|more than 5 redirects"):
            fetcher(port, timeout_s=0.3).fetch(f"{scheme}://127.0.0.1:{port}/a.jpg")
        assert time.monotonic() - started < 10  # a hang, not a speed


def test_an_error_of_the_other_server_is_reported():
    with web(lambda handler: say(handler, 404, b"no")) as open_web, pytest.raises(UnreadableFile, match="status 404"):
        fetcher(open_web.port).fetch(f"http://127.0.0.1:{open_web.port}/")
    with pytest.raises(UnreadableFile, match="cannot connect"):
        fetcher(open_web.port).fetch(f"http://127.0.0.1:{open_web.port}/")


def test_a_server_fetches_no_url_unless_allowed(client: httpx.Client):
    with web(lambda handler: say(handler, 200, jpeg(1))) as open_web:
        url = f"http://127.0.0.1:{open_web.port}/"
        assert client.post("/api/v1/search", data={"url": url}).status_code == 400
        assert client.post("/pictures", data={"url": url}).status_code == 400
        assert open_web.asked == []


def test_with_allow_url_a_public_picture_is_searched_and_a_private_one_never_fetched(collection: Path):
    def answers(handler: BaseHTTPRequestHandler) -> None:
        if handler.path == "/inside":
            say(handler, 302, Location="http://127.0.0.1:9/")
        else:
            say(handler, 200, jpeg(1) if handler.path == "/rose.jpg" else b"no picture")

    settings = ServerSettings(collection=str(collection), port=0, allow_url=True)
    with web(answers) as open_web, serving(settings, fetcher(open_web.port)) as address:
        outside = f"http://127.0.0.1:{open_web.port}"
        by_url = httpx.post(f"{address}/api/v1/search", data={"url": f"{outside}/rose.jpg"})
        by_bytes = httpx.post(f"{address}/api/v1/search", files={"image": jpeg(1)})
        assert by_url.status_code == 200
        assert by_url.json()["hits"] == by_bytes.json()["hits"]
        for url, status in (
            (f"{outside}/inside", 400),
            (f"{address}/api/v1/stats", 400),
            (f"{outside}/text", 422),
            ("http://169.254.169.254/", 400),
        ):
            assert httpx.post(f"{address}/api/v1/search", data={"url": url}).status_code == status, url
            assert httpx.post(f"{address}/pictures", data={"url": url}).status_code == status, url
        kept = httpx.post(f"{address}/pictures", data={"url": f"{outside}/rose.jpg"})
        assert kept.status_code == 303
        assert "like=u-" in kept.headers["location"]


def test_a_host_with_a_private_address_among_its_addresses_is_not_fetched_from():
    assert are_allowed(["93.184.216.34", "2606:2800:220:1::1"], 443)
    for addresses in (["93.184.216.34", "127.0.0.1"], ["10.0.0.1", "93.184.216.34"], ["::1"], []):
        assert not are_allowed(addresses, 443)
