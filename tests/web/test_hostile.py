"""Attacks on the server: each gets the right response, and no files are left behind."""

from __future__ import annotations

import contextlib
import io
import socket
import sqlite3
import sys
import tempfile
import threading
import time
import urllib.parse
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from simsearch.errors import UsageError
from simsearch.web.connections import MAX_PER_ADDRESS, group_address
from simsearch.web.settings import ServerSettings
from tests.support import oneshot
from tests.web.conftest import SCRIPT_NAME, TOKEN, jpeg, serving

pytestmark = pytest.mark.long

SEARCH = "/api/v1/search"
TRAVERSALS = ["../../../../etc/passwd", "/etc/passwd", "..%2f..%2fetc%2fpasswd", "file:///etc/passwd", "1/../../etc"]


@pytest.fixture(autouse=True, scope="module")
def temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for temporary files of this process only, as other processes leave theirs in the usual one."""
    previous, tempfile.tempdir = tempfile.tempdir, str(tmp_path_factory.mktemp("temporary"))
    yield Path(tempfile.tempdir)
    tempfile.tempdir = previous


@pytest.fixture(autouse=True)
def nothing_is_left_behind(collection: Path, temporary_folder: Path):
    def list_files() -> set[Path]:
        files = {path for path in collection.parent.rglob("*") if not path.name.startswith("catalog.db-")}
        return files | set(temporary_folder.rglob("*"))

    before = list_files()
    yield
    assert list_files() - before == set()


def raw(address: str, request: bytes) -> bytes:
    """The response to exactly these bytes."""
    parts = urllib.parse.urlsplit(address)
    with socket.create_connection((parts.hostname, parts.port), 20) as connection:
        connection.sendall(request)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
        return answer


# Paths


@pytest.mark.parametrize("text", TRAVERSALS)
@pytest.mark.parametrize(
    "place",
    ["/static/{}", "/pictures/{}", "/api/v1/images/{}", "/api/v1/images/{}/file", "/api/v1/images/{}/thumbnail",
     "/images/{}", "/{}"],
)  # fmt: skip
def test_no_url_path_leads_to_a_file(client: httpx.Client, place: str, text: str):
    for written in (text, urllib.parse.quote(text, safe="")):
        answer = client.get(place.format(written))
        assert answer.status_code in (404, 410, 422)
        assert b"root:" not in answer.content


@pytest.mark.parametrize("text", TRAVERSALS)
def test_no_parameter_accepts_a_path(client: httpx.Client, text: str):
    for name in ("id", "unlike_id", "crop", "where", "backbone", "rerank", "k", "offset", "min_similarity"):
        answer = client.get(SEARCH, params={"id": "1"} | {name: text})
        assert answer.status_code in (400, 404, 422), (name, answer.text)
    for name in ("like", "unlike", "crop", "where", "min", "backbone", "beside", "from"):
        answer = client.get("/", params={"like": "1"} | {name: text})
        assert answer.status_code in (400, 404), (name, answer.text)
    # as the name of an upload a path is nothing but a name
    answer = client.post(SEARCH, files={"image": (text, jpeg(1))})
    assert answer.status_code == 200
    assert answer.json()["query"] == ["the uploaded picture"]


def test_no_directory_is_listed(client: httpx.Client):
    for place in ("/static", "/static/", "/pictures/", "/images/", "/api/v1/images/", "/api/v1", "/api/"):
        assert client.get(place).status_code in (404, 405)


def test_a_file_replaced_by_a_symlink_is_not_served(tmp_path: Path, photos: Path):
    from tests.conftest import HISTOGRAM

    oneshot.ingest(tmp_path / "ix", [photos], HISTOGRAM)
    file = photos / "a" / "picture_00.png"
    file.unlink()
    file.symlink_to("/etc/passwd")
    with serving(ServerSettings(collection=str(tmp_path / "ix"), port=0)) as address:
        answer = httpx.get(f"{address}/api/v1/images/1/file")
    assert answer.status_code == 410
    assert b"root:" not in answer.content


# Pictures


def bomb(side_px: int) -> bytes:
    """A gray PNG with this side in px, in a few kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)

    head = side_px.to_bytes(4) + side_px.to_bytes(4) + bytes([8, 0, 0, 0, 0])
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(side_px + 1)) for _ in range(side_px)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_a_decompression_bomb_is_not_decoded(client: httpx.Client):
    data = bomb(10_000)
    assert len(data) < 200_000
    for answer in (
        client.post(SEARCH, files={"image": data}),
        client.post(SEARCH, files={"image": data}, data={"crop": "0,0,0.1,0.1"}),
        client.post("/pictures", files={"picture": data}),
    ):
        assert answer.status_code == 422
        assert "limit of 50 megapixels" in answer.json()["problem"]


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 100, b"\xff\xd8\xff", jpeg(1)[:400], b"<svg onload=alert(1)>", b"GIF89a", b"II*\0" * 9]
)
def test_a_file_that_is_not_a_picture_is_refused_with_advice(client: httpx.Client, data: bytes):
    for field, place in (("image", SEARCH), ("picture", "/pictures")):
        answer = client.post(place, files={field: ("rose.jpg", data)})
        assert answer.status_code in (400, 422), answer.text
        assert answer.json()["advice"]


def test_an_uploaded_picture_is_shown_only_as_our_own_webp(client: httpx.Client):
    sneaky = jpeg(1) + b"<html><script>alert(1)</script>"
    place = client.post("/pictures", files={"picture": sneaky}).headers["location"]
    name = place.partition("u-")[2]
    answer = client.get(f"/pictures/{name}")
    assert answer.headers["content-type"] == "image/webp"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert b"script" not in answer.content


# Bodies


def test_a_body_of_a_gigabyte_is_refused_before_it_is_received(address: str):
    head = f"POST {SEARCH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    answer = raw(address, (head + "Content-Length: 1000000000\r\n\r\n").encode())
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer.lower()


def test_a_chunked_body_is_cut_at_the_limit(address: str):
    head = f"POST {SEARCH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    start = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    block = b"%x\r\n" % 1_000_000 + bytes(1_000_000) + b"\r\n"
    body = b"%x\r\n" % len(start) + start + b"\r\n" + block * 3
    assert raw(address, (head + "Transfer-Encoding: chunked\r\n\r\n").encode() + body).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("length", ["-1", "1e3", "99999999999999999999", "abc"])
def test_an_invalid_content_length_is_refused(address: str, length: str):
    request = f"POST {SEARCH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"
    assert raw(address, request.encode()).split(b" ", 2)[1] in (b"400", b"413")


def test_a_slow_body_times_out(address: str):
    head = f"POST {SEARCH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    started = time.monotonic()
    answer = raw(address, (head + "Content-Length: 1000\r\n\r\n--x").encode())
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - started < 15


@pytest.fixture(scope="module")
def hurried(collection: Path) -> Iterator[str]:
    """A server that waits two seconds for the head of a request."""
    with serving(ServerSettings(collection=str(collection), port=0, head_timeout_s=2.0)) as found:
        yield found


@pytest.mark.parametrize("head", [b"", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "])
def test_a_head_that_never_ends_times_out(hurried: str, head: bytes):
    started = time.monotonic()
    assert raw(hurried, head) == b""
    assert time.monotonic() - started > 1


def test_a_second_head_that_never_ends_times_out_too(hurried: str):
    request = b"GET /api/v1/health HTTP/1.1\r\nHost: localhost\r\n"
    parts = urllib.parse.urlsplit(hurried)
    with socket.create_connection((parts.hostname, parts.port), 20) as connection:
        connection.sendall(request + b"\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        connection.sendall(request)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    assert b"HTTP/1.1 " not in answer


@pytest.mark.thorough  # fifteen seconds: it counts as a connection that waits for a request
def test_a_second_head_that_arrives_with_the_first_and_never_ends_times_out_too(hurried: str):
    request = b"GET /api/v1/health HTTP/1.1\r\nHost: localhost\r\n"
    answer = raw(hurried, request + b"\r\n" + request)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("body", [b"", b"--x", b"--y\r\n\r\n", b"\0" * 50, b"--x\r\nContent-Disposition: bad\r\n\r\n"])
def test_a_body_that_is_not_a_form_is_a_client_error(client: httpx.Client, body: bytes):
    for place in (SEARCH, "/pictures", "/login"):
        for kind in ("multipart/form-data; boundary=x", "multipart/form-data", "text/plain", "application/json"):
            answer = client.post(place, content=body, headers={"Content-Type": kind})
            assert answer.status_code in (303, 400, 422), (place, kind, answer.text)


def test_thousands_of_fields_are_refused(client: httpx.Client):
    answer = client.post(SEARCH, files=[("image", jpeg(1))] * 40)
    assert answer.status_code == 422
    answer = client.post(SEARCH, files=[("image", b"x")] * 1001)
    assert answer.status_code in (400, 422)
    assert client.get("/?" + "&".join(["like=1", *(f"like={n}" for n in range(2, 60))])).status_code == 400


def test_a_full_queue_answers_503_with_retry_after(collection: Path):
    settings = ServerSettings(collection=str(collection), port=0, n_workers=1, max_waiting=1)
    with serving(settings) as address:
        answers: list[httpx.Response] = []

        def ask(seed: int) -> None:
            answers.append(httpx.post(address + SEARCH, files={"image": jpeg(seed, (2000, 2000))}, timeout=60))

        threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        statuses = [answer.status_code for answer in answers]
        assert set(statuses) == {200, 503}
        assert all(answer.headers["retry-after"] == "1" for answer in answers if answer.status_code == 503)
        assert httpx.get(address + SEARCH, params={"id": 1}).status_code == 200  # and then it serves again


# Connections


@contextlib.contextmanager
def connections(address: str, n: int, source: str) -> Iterator[list[socket.socket]]:
    """Open connections from an address of this machine, each with an unfinished head."""
    parts = urllib.parse.urlsplit(address)
    with contextlib.ExitStack() as stack:
        opened = []
        for _ in range(n):
            one = socket.create_connection((parts.hostname or "", parts.port or 0), 20, source_address=(source, 0))
            one.sendall(b"GET /api/v1/health HTTP/1.1\r\nHost: localhost\r\n")
            opened.append(stack.enter_context(one))
        yield opened


def receive(connection: socket.socket) -> bytes:
    answer = b""
    with contextlib.suppress(ConnectionResetError):  # what we sent was not read
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


@pytest.mark.skipif(sys.platform != "linux", reason="every address of 127.0.0.0/8 is this machine on Linux")
def test_one_address_cannot_take_all_connections(collection: Path):
    with (
        serving(ServerSettings(collection=str(collection), port=0)) as address,
        connections(address, MAX_PER_ADDRESS, "127.0.0.2") as opened,
    ):
        with connections(address, 1, "127.0.0.2") as (refused,):
            answer = receive(refused)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"too many connections from this address" in answer
        assert httpx.get(f"{address}/api/v1/health").status_code == 200  # another address
        for one in opened:
            one.sendall(b"Connection: close\r\n\r\n")
            assert receive(one).startswith(b"HTTP/1.1 200 ")
        with connections(address, 1, "127.0.0.2") as (again,):
            again.sendall(b"Connection: close\r\n\r\n")
            assert receive(again).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::1%eth1", True),
    ],
)
def test_a_client_is_an_ipv4_address_or_a_network_of_ipv6(one: str, other: str, is_same: bool):
    assert (group_address(one) == group_address(other)) == is_same


# Texts


def dump(collection: Path) -> list[str]:
    """The content of the catalog, read by SQLite.

    Opening the file in the process of the server would end the server's locks when it is closed (POSIX): another
    process could then delete the log that the server reads.
    """
    with contextlib.closing(sqlite3.connect(f"file:{collection}/catalog.db?mode=ro", uri=True)) as connection:
        return list(connection.iterdump())


def test_sql_in_a_filter_is_not_executed(client: httpx.Client, collection: Path):
    before = dump(collection)
    for where in (
        "1=1; DROP TABLE images",
        "class = 'lamp'; DELETE FROM files",
        "id = 1 UNION SELECT value FROM settings",
        "class = 'x' OR 1=1 --",
        "width > 0) OR (SELECT count(*) FROM images) > (0",
        '" OR ""="',
    ):
        assert client.get(SEARCH, params={"id": 1, "where": where}).status_code == 400, where
        assert client.get("/", params={"like": 1, "where": where}).status_code == 400, where
    text = "class = 'x'' OR ''1''=''1'"
    assert client.get(SEARCH, params={"id": 1, "where": text}).json().get("hits", []) == []
    assert client.get("/api/v1/stats").json()["images"] == 16
    assert dump(collection) == before


@pytest.mark.parametrize("where", ["(" * 500, "not " * 500 + "id = 1", "id in (" + "1," * 900 + "1)", "x" * 3000])
def test_a_filter_that_is_too_long_or_too_deep_is_refused(client: httpx.Client, where: str):
    assert client.get(SEARCH, params={"id": 1, "where": where}).status_code in (400, 422)
    assert client.get("/", params={"like": 1, "where": where}).status_code == 400


def test_file_names_and_parameters_are_escaped_on_every_page(client: httpx.Client):
    hits = client.get(SEARCH, params={"id": 1, "k": 100}).json()["hits"]
    odd = next(hit["image_id"] for hit in hits if hit["path"].endswith(SCRIPT_NAME))
    evil = "\"'><script>alert(3)</script>"
    pages = [
        client.get("/", params={"like": odd}),
        client.get("/", params={"like": 1}),
        client.get("/"),
        client.get(f"/images/{odd}"),
        client.get("/", params={"like": 1, "where": evil}, headers={"Accept": "text/html"}),
        client.get("/", params={"like": 1, "backbone": evil}, headers={"Accept": "text/html"}),
        client.get("/" + evil, headers={"Accept": "text/html"}),
    ]
    assert any("alert(2)" in page.text for page in pages)  # the name is there, as text
    for page in pages:
        assert page.headers["content-type"].startswith("text/html")
        for spoken in ("<script>alert", "<img src=x"):
            assert spoken not in page.text
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy


# Who asks


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "["])
def test_a_foreign_host_header_is_refused(address: str, host: str):
    assert httpx.get(f"{address}/api/v1/stats", headers={"Host": host}).status_code in (400, 421)


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]
)
def test_a_cross_site_form_is_refused(client: httpx.Client, headers: dict[str, str]):
    assert client.post("/pictures", files={"picture": jpeg(1)}, headers=headers).status_code == 403
    assert client.post(SEARCH, files={"image": jpeg(1)}, headers=headers).status_code == 403


def test_a_same_origin_form_is_accepted(client: httpx.Client, address: str):
    answer = client.post("/pictures", files={"picture": jpeg(1)}, headers={"Origin": address})
    assert answer.status_code == 303


@pytest.mark.parametrize("place", ["/api/v1/stats", "/api/v1/images/1/file", "/metrics", "/", "/api/v1/openapi.json"])
@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer wrong-wrong-wrong-wrong"}, {"Authorization": f"Basic {TOKEN}"},
     {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": "Bearer"}, {"Authorization": "Bearer t\u00f6ken"},
     {"Cookie": f"simsearch_token_PORT={TOKEN}"}, {"Cookie": "simsearch_token_PORT=\u00e4; ="}],
)  # fmt: skip
def test_without_the_token_nothing_is_served(guarded: str, place: str, headers: dict[str, str]):
    port = guarded.rpartition(":")[2]
    sent = {name: value.replace("PORT", port).encode("latin-1") for name, value in headers.items()}
    answer = httpx.get(guarded + place, headers=sent)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert httpx.get(f"{guarded}{place}?token={TOKEN}").status_code == 401  # not in just any address


def test_with_the_token_everything_is_served(guarded: str):
    headers = {"Authorization": f"Bearer {TOKEN}"}
    for place in ("/api/v1/stats", "/api/v1/images/1/file", "/metrics", "/"):
        assert httpx.get(guarded + place, headers=headers).status_code == 200
    assert httpx.get(f"{guarded}/api/v1/health").status_code == 200


def test_a_browser_is_redirected_to_the_login_page_and_gets_a_cookie_that_is_not_the_token(guarded: str):
    with httpx.Client(base_url=guarded, headers={"Accept": "text/html"}) as browser:
        door = browser.get("/?like=1")
        assert (door.status_code, door.headers["location"]) == (303, "/login?next=%2F%3Flike%3D1")
        assert browser.post("/login", data={"token": "wrong-wrong-wrong-wrong"}).status_code == 401
        assert browser.get("/").status_code == 303
        entered = browser.post("/login", data={"token": TOKEN, "next": "/?like=1"})
        assert (entered.status_code, entered.headers["location"]) == (303, "/?like=1")
        assert TOKEN not in entered.headers["set-cookie"]
        assert "httponly" in entered.headers["set-cookie"].lower()
        assert browser.get("/?like=1").status_code == 200


@pytest.mark.parametrize(
    "others",
    ['prefs={"a":1}', "x=a b c", "a[b]=1", "flag", "=", "n\u00e4me=\u00fc", 'a"b=1', "simsearch_token=old", ";;"],
)
def test_cookies_of_other_applications_lock_nobody_out(guarded: str, others: str):
    entered = httpx.post(f"{guarded}/login", data={"token": TOKEN})
    own = entered.headers["set-cookie"].partition(";")[0]
    for sent in (f"{others}; {own}", f"{own}; {others}", f"{own}x; {others}; {own}"):
        assert httpx.get(f"{guarded}/api/v1/stats", headers={"Cookie": sent.encode("latin-1")}).status_code == 200


def test_two_servers_on_one_host_do_not_log_each_other_out(guarded: str, collection: Path):
    with (
        serving(ServerSettings(collection=str(collection), port=0, token=f"{TOKEN}-2")) as second,
        httpx.Client() as browser,
    ):
        browser.post(f"{guarded}/login", data={"token": TOKEN})
        browser.post(f"{second}/login", data={"token": f"{TOKEN}-2"})
        for address in (guarded, second):
            assert browser.get(f"{address}/api/v1/stats").status_code == 200


@pytest.mark.parametrize("next_", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)"])
def test_the_login_page_redirects_to_no_other_site(guarded: str, next_: str):
    answer = httpx.post(f"{guarded}/login", data={"token": TOKEN, "next": next_})
    assert answer.headers["location"] == "/"
    answer = httpx.get(f"{guarded}/login", params={"token": TOKEN, "next": next_})
    assert answer.headers["location"] == "/"


def test_an_address_that_others_can_reach_needs_a_valid_token():
    with pytest.raises(UsageError, match="can be reached from other machines"):
        ServerSettings(collection="x", host="0.0.0.0")
    for token in ("short", "sixteen letters and blanks", "sechzehn-zeichen-\u00fc"):
        with pytest.raises(UsageError, match="token"):
            ServerSettings(collection="x", token=token)


def test_the_oldest_uploads_are_dropped_when_memory_is_full():
    from simsearch.web.uploads import UploadCache

    uploads = UploadCache(max_bytes=1000)
    first, *others = [uploads.put(bytes([number]) * 300) for number in range(4)]
    assert uploads.get(first) is None
    assert [len(uploads.get(name) or b"") for name in others] == [300] * 3
    assert io.BytesIO(uploads.get(others[-1]) or b"").read(1) == b"\x03"
