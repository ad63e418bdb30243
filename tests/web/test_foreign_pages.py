"""What pages of other sites, guessers of the token, and error messages get from the server."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from simsearch.errors import UsageError
from simsearch.web.guesses import MAX_GUESSES, REFILL_S, GuessLimiter
from simsearch.web.settings import ServerSettings
from tests.conftest import HISTOGRAM
from tests.support import oneshot
from tests.web.conftest import TOKEN, serving

IMAGE = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
FRAME = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}
OTHER_PORT = {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}
LINK = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
OWN = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
PLACES = [
    "/duplicates",
    "/map",
    "/map/view",
    "/?like=1",
    "/api/v1/search?id=1",
    "/api/v1/images/1/thumbnail",
    "/metrics",
]


@pytest.fixture
def own_server(photos: Path, tmp_path: Path) -> Iterator[str]:
    oneshot.ingest(tmp_path / "ix", [photos], HISTOGRAM)
    with serving(ServerSettings(collection=str(tmp_path / "ix"), port=0)) as address:
        yield address


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("headers", [IMAGE, FRAME, OTHER_PORT], ids=["image", "frame", "other port"])
def test_another_site_can_embed_and_start_nothing(client: httpx.Client, place: str, headers: dict[str, str]):
    answer = client.get(place, headers=headers)
    assert answer.status_code == 403
    assert "another site" in answer.json()["problem"]


@pytest.mark.parametrize("place", PLACES)
def test_a_link_of_another_site_leads_to_a_question_before_any_work(client: httpx.Client, place: str):
    answer = client.get(place, headers=LINK)
    assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, "/continue")
    question = client.get(answer.headers["location"], headers=LINK)
    assert question.status_code == 200
    assert f'href="{place.replace("&", "&amp;")}"' in question.text
    answer = client.get(place, headers=OWN)
    assert answer.status_code in (200, 303)
    assert not answer.headers.get("location", "").startswith("/continue")


def test_a_link_of_another_site_to_the_start_page_works(client: httpx.Client):
    assert client.get("/", headers=LINK).status_code == 200
    assert client.get("/api/v1/health", headers=IMAGE).status_code == 200


@pytest.mark.parametrize("next_", ["//evil.example", "https://evil.example", "javascript:alert(1)", "/\\evil.example"])
def test_the_question_leads_to_no_other_site(client: httpx.Client, next_: str):
    assert "evil" not in client.get("/continue", params={"next": next_}).text
    assert "alert" not in client.get("/continue", params={"next": next_}).text


# Guessing the token


def test_guesses_are_counted_by_client_and_forgotten_with_time():
    now = [0.0]
    limiter = GuessLimiter(lambda: now[0])
    for number in range(MAX_GUESSES):
        assert limiter.find_wait_s("192.0.2.1") == 0
        limiter.count_wrong("192.0.2.1", f"guess {number}")
    assert limiter.find_wait_s("192.0.2.1") == pytest.approx(REFILL_S)
    assert limiter.find_wait_s("192.0.2.2") == 0
    now[0] = REFILL_S
    assert limiter.find_wait_s("192.0.2.1") == 0
    limiter.count_wrong("192.0.2.1", "another guess")
    assert limiter.find_wait_s("192.0.2.1") > 0
    now[0] += 1000 * REFILL_S
    for number in range(MAX_GUESSES - 1):
        limiter.count_wrong("192.0.2.1", f"later guess {number}")
    assert limiter.find_wait_s("192.0.2.1") == 0


def test_the_addresses_of_one_ipv6_network_are_one_client():
    limiter = GuessLimiter(lambda: 0.0)
    for number in range(MAX_GUESSES):
        limiter.count_wrong(f"2001:db8::{number:x}", f"guess {number}")
    assert limiter.find_wait_s("2001:db8::ffff") > 0
    assert limiter.find_wait_s("2001:db8:0:1::1") == 0


@pytest.mark.parametrize("way", ["form", "bearer", "cookie"])
def test_a_client_with_too_many_wrong_tokens_is_told_to_wait(collection: Path, way: str):
    def send(client: httpx.Client, guess: str) -> httpx.Response:
        if way == "form":
            return client.post("/login", data={"token": guess})
        port = client.base_url.port
        headers = {
            "bearer": {"Authorization": f"Bearer {guess}"},
            "cookie": {"Cookie": f"simsearch_token_{port}={guess}"},
        }
        return client.get("/api/v1/stats", headers=headers[way])

    with (
        serving(ServerSettings(collection=str(collection), port=0, token=TOKEN)) as address,
        httpx.Client(base_url=address) as client,
    ):
        answers = [send(client, f"wrong-{number:012}") for number in range(MAX_GUESSES + 10)]
        assert {answer.status_code for answer in answers[:MAX_GUESSES]} == {401}
        assert answers[-1].status_code == 429
        assert 1 <= int(answers[-1].headers["retry-after"]) <= REFILL_S
        assert "too many wrong tokens" in answers[-1].text
        assert client.get("/api/v1/health").status_code == 200


def test_an_old_cookie_that_a_browser_sends_again_and_again_counts_once(collection: Path):
    with (
        serving(ServerSettings(collection=str(collection), port=0, token=TOKEN)) as address,
        httpx.Client(base_url=address) as client,
    ):
        old = {"Cookie": f"simsearch_token_{address.rpartition(':')[2]}=old"}
        for _ in range(2 * MAX_GUESSES):
            assert client.get("/api/v1/stats", headers=old).status_code == 401
        assert client.post("/login", data={"token": TOKEN}).status_code == 303


@pytest.mark.parametrize("token", ["a" * 16, "0123456789abcdef", "abcdefgh" * 2, "aaaaaaaabbbbbbbb", "abab" * 8])
def test_a_token_that_is_easy_to_guess_is_refused(token: str):
    with pytest.raises(UsageError, match="easy to guess"):
        ServerSettings(collection="x", token=token)


def test_random_tokens_are_accepted():
    import random

    letters = random.Random(0)
    for _ in range(2000):
        ServerSettings(collection="x", token="".join(letters.choices("0123456789abcdef", k=16)))


# Folders of the server


def test_errors_do_not_tell_the_folders_of_the_server(own_server: str, photos: Path, tmp_path: Path):
    shutil.move(photos / "a", tmp_path / "elsewhere")
    answers = [httpx.get(f"{own_server}/api/v1/images/1/{part}") for part in ("file", "thumbnail")]
    (tmp_path / "ix" / "catalog.db").rename(tmp_path / "away.db")
    answers.append(httpx.get(f"{own_server}/api/v1/images/1"))
    for answer in answers:
        assert answer.status_code in (410, 500)
        assert str(tmp_path) not in answer.text
    assert "image 1: its file is gone" in answers[0].json()["problem"]
    assert "ix" in answers[2].json()["problem"]
