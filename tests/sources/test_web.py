"""Fetching from the web, and its failures."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from simsearch.errors import UnreadableFile
from simsearch.sources.addresses import is_url
from simsearch.sources.retry import AccessDenied, RemoteNotFound, TemporaryFailure
from simsearch.sources.web import fetch, fetch_content
from tests.support.servers import BODY, DRIPS, dripping, serving
from tests.support.stores import proxy


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serving() as address:
        yield address


@pytest.mark.parametrize("path", ["/body", "/redirect/1", "/redirect/5", "/a bé", "/a%20b%C3%A9", "/body?size=3&x=%20"])
def test_content_is_fetched(server: str, path: str):
    assert fetch(server + path) == BODY


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/missing", "the server answers 404 Not Found; check the address"),
        ("/redirect/7", "more than 5 redirects"),
        ("/ftp", "not http or https"),
        ("/file", "not http or https"),
        ("/short", "the response was truncated"),
    ],
)
def test_failure_names_the_address(server: str, path: str, reason: str):
    with pytest.raises(UnreadableFile, match=f"cannot read {server}{path}: .*{reason}"):
        fetch(server + path)


def test_more_than_allowed_is_not_read(server: str):
    assert fetch(f"{server}/body", max_bytes=len(BODY)) == BODY
    for path in ("/body", "/endless"):
        with pytest.raises(UnreadableFile, match=r"larger than 0\.005 MB"):
            fetch(server + path, max_bytes=5000)


@pytest.mark.parametrize("path", ["/silent", "/dripping"])
def test_a_server_that_takes_too_long_is_left(server: str, path: str):
    started = time.monotonic()
    with pytest.raises(UnreadableFile, match="timed out"):
        fetch(server + path, timeout_s=0.3)
    assert time.monotonic() - started < 20  # a hang, not a speed


@pytest.mark.parametrize("part", DRIPS)
def test_a_response_that_never_ends_is_left_at_the_deadline_whatever_part_of_it_is_slow(part: str):
    with dripping(*DRIPS[part]) as port:
        scheme, started = "https" if part == "TLS handshake" else "http", time.monotonic()
        with pytest.raises(UnreadableFile, match=r"timed out|more than 5 redirects"):
            fetch(f"{scheme}://127.0.0.1:{port}/a.jpg", timeout_s=0.3)
        assert time.monotonic() - started < 10  # a hang, not a speed


@pytest.mark.parametrize(
    ("mood", "kind"),
    [("503", TemporaryFailure), ("429", TemporaryFailure), ("408", TemporaryFailure),
     ("drop", TemporaryFailure), ("tear", TemporaryFailure), ("501", UnreadableFile),
     ("403", AccessDenied), ("401", AccessDenied), ("404", RemoteNotFound),
     ("410", RemoteNotFound), ("400", UnreadableFile)],
)  # fmt: skip
def test_failures_are_classified_by_whether_a_retry_may_help(server: str, mood: str, kind: type):
    with proxy(server, lambda method, path: mood) as between:
        with pytest.raises(UnreadableFile) as caught:
            fetch(f"{between.address}/body")
        assert type(caught.value) is kind
        assert len(between.seen) == 1


def test_the_first_bytes_are_read_of_servers_that_know_ranges_and_of_those_that_do_not(server: str):
    assert fetch_content(f"{server}/body", head_bytes=16).data == BODY[:16]
    assert fetch_content(f"{server}/endless", head_bytes=16).data == BODY[:16]


def test_unreachable_server_is_an_error():
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(UnreadableFile, match=r"no connection \(.+\); check the address and the network"):
            fetch(f"http://127.0.0.1:{taken.getsockname()[1]}/x")


@pytest.mark.parametrize("url", ["http://", "http://exa mple:x/", "http://[::1", "https:///x"])
def test_invalid_address_is_an_error(url: str):
    with pytest.raises(UnreadableFile, match="check the address"):
        fetch(url)


def test_only_http_and_https_are_addresses():
    assert [is_url(text) for text in ("http://a/b", "HTTPS://a", "ftp://a", "file:///a", "a.jpg", "http.jpg")] == [
        True, True, False, False, False, False,
    ]  # fmt: skip
