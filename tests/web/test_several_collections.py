"""Several collections in one server: each answers under its own address as it does alone."""

from __future__ import annotations

import re
import urllib.parse
from html import unescape
from pathlib import Path

import httpx
import pytest

from simsearch.errors import UsageError
from simsearch.web.settings import ServerSettings, choose_roots
from tests.web.conftest import OTHER_NAME, TOKEN, jpeg, serving
from tests.web.test_routes import wait_for_pages

OTHER_ROOT = "/c/" + urllib.parse.quote(OTHER_NAME, safe="")


def find_base(address: str) -> str:
    parts = urllib.parse.urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"


@pytest.fixture
def server(several: str):
    with httpx.Client(base_url=find_base(several), timeout=60) as made:
        yield made


def test_each_collection_answers_as_it_does_alone(server: httpx.Client, address: str, other_collection: Path):
    with serving(ServerSettings(collection=str(other_collection), port=0)) as other:
        for root, alone in (("/c/ix", address), (OTHER_ROOT, other)):
            for place in ("/api/v1/images?limit=100", "/api/v1/search?id=3&k=50", "/api/v1/facets", "/api/v1/stats"):
                found, wanted = server.get(root + place).json(), httpx.get(alone + place).json()
                for varying in ("milliseconds", "size_bytes"):
                    found.pop(varying, None)
                    wanted.pop(varying, None)
                assert found == wanted


def test_the_collections_are_listed_for_programs_and_visitors(server: httpx.Client):
    listed = server.get("/api/v1/collections").json()
    assert listed == [
        {"name": "ix", "root": "/c/ix", "images": 16}, {"name": OTHER_NAME, "root": OTHER_ROOT, "images": 5}
    ]  # fmt: skip
    assert server.get("/c/ix/api/v1/collections").json() == listed
    page = server.get("/").text
    for one in listed:
        assert f'<a href="{one["root"]}/">' in page
        assert f">{one['name'].replace('&', '&amp;')}</b>" in page
    assert server.get("/c/ix").headers["location"] == "/c/ix/"


def test_one_collection_keeps_its_addresses(address: str):
    assert httpx.get(f"{address}/api/v1/collections").json() == [{"name": "ix", "root": "", "images": 16}]
    assert httpx.get(f"{address}/c/ix/").status_code == 404
    assert httpx.get(f"{address}/browse").status_code == 200


@pytest.mark.parametrize(
    "place",
    ["/browse", "/api/v1/search?id=1", "/c/nothing/", "/c/nothing", "/c/", "/c/ix/nothing", "/c/%2e%2e/api/v1/stats",
     "/c/ix%2f..%2f/api/v1/stats"],
)  # fmt: skip
def test_an_address_of_no_collection_is_not_found(server: httpx.Client, place: str):
    answer = server.get(place)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("root", ["/c/ix", OTHER_ROOT])
def test_every_address_on_every_page_stays_in_its_collection_and_works(server: httpx.Client, root: str):
    """A walk over all links and pictures from the start page on; forms that write are not sent."""
    wait_for_pages(server, root)
    seen, waiting = set[str](), [f"{root}/", f"{root}/?like=1&where=width>1", f"{root}/nothing"]
    while waiting and len(seen) < 400:
        place = waiting.pop(0)
        if place in seen:
            continue
        seen.add(place)
        answer = server.get(place, headers={"Accept": "text/html,image/*"})
        assert answer.status_code == (404 if place == f"{root}/nothing" else 200), place
        if "text/html" not in answer.headers["content-type"] or "/map/view" in place:
            continue
        switch = re.search(r'<details class="switch">.*?</details>', answer.text, re.DOTALL)
        page = answer.text.replace(switch[0], "") if switch else answer.text
        for found in re.findall(r'\b(?:href|src|action)="([^"#]+)"', page):
            url = unescape(found)
            assert url.startswith((f"{root}/", "/static/")), (place, url)
            if "action=" not in url and "/exports" not in url and "rejections" not in url and "/pictures" not in url:
                waiting.append(url)
    assert {f"{root}/browse", f"{root}/duplicates", f"{root}/quality", f"{root}/map", f"{root}/docs"} <= seen


def test_the_points_of_the_map_lead_to_images_of_the_collection(server: httpx.Client):
    wait_for_pages(server, OTHER_ROOT)
    assert f"{OTHER_ROOT}/images/" in server.get(f"{OTHER_ROOT}/map/view").text


def test_redirects_and_jobs_stay_in_the_collection(server: httpx.Client):
    answer = server.get(f"{OTHER_ROOT}/images/1", headers={"Sec-Fetch-Dest": "image"})
    assert answer.headers["location"].startswith(f"{OTHER_ROOT}/api/v1/images/1/")
    answer = server.post("/c/ix/pictures", files={"picture": jpeg(1)})
    assert answer.headers["location"].startswith("/c/ix/?like=u-")
    answer = server.post(f"{OTHER_ROOT}/duplicates/rejections", data={"ids": "1,2", "action": "reject"})
    assert answer.headers["location"].startswith(f"{OTHER_ROOT}/duplicates?")
    server.post(f"{OTHER_ROOT}/duplicates/rejections", data={"ids": "1,2", "action": "unreject"})
    started = server.get(f"{OTHER_ROOT}/api/v1/clusters?k=2&members=3")
    if started.status_code == 202:
        assert started.headers["location"].startswith(f"{OTHER_ROOT}/api/v1/jobs/")
        job_id = started.json()["job_id"]
        assert server.get(started.headers["location"]).status_code == 200
        assert server.get(f"/c/ix/api/v1/jobs/{job_id}").status_code == 404


def test_the_description_names_the_address_of_the_collection(server: httpx.Client, address: str):
    described = server.get(f"{OTHER_ROOT}/api/v1/openapi.json").json()
    assert described.pop("servers") == [{"url": OTHER_ROOT}]
    assert described == httpx.get(f"{address}/api/v1/openapi.json").json()
    own = server.get("/api/v1/openapi.json").json()["paths"]
    assert set(own) == {"/api/v1/collections", "/api/v1/health", "/api/v1/ready", "/metrics"}
    base = str(server.base_url).rstrip("/")
    assert f"{base}{OTHER_ROOT}/api/v1/search" in unescape(server.get(f"{OTHER_ROOT}/docs").text)


def test_the_switch_keeps_the_page_the_words_and_the_uploaded_picture(server: httpx.Client):
    def find_switch(place: str) -> str:
        page = server.get(place).text
        links = re.findall(r'<a class="user" href="([^"]*)"(?: aria-current="true")?>', page.partition("</details>")[0])
        return unescape(links[1])

    assert find_switch("/c/ix/browse?where=width+>+5") == f"{OTHER_ROOT}/browse"
    assert find_switch("/c/ix/images/1") == f"{OTHER_ROOT}/"
    assert find_switch("/c/ix/?like=3&where=width>5") == f"{OTHER_ROOT}/"
    uploaded = server.post("/c/ix/pictures", files={"picture": jpeg(1)}).headers["location"]
    moved = find_switch(f"{uploaded}&like=3&where=width>5&crop=0,0,0.5,0.5")
    assert moved == f"{OTHER_ROOT}/?" + uploaded.partition("?")[2] + "&crop=0,0,0.5,0.5"
    assert server.get(moved).status_code == 200


def test_requests_are_counted_by_collection(server: httpx.Client):
    server.get("/c/ix/api/v1/search?id=1")
    server.get(f"{OTHER_ROOT}/api/v1/search?id=1")
    text = server.get("/metrics").text
    for name in ("ix", OTHER_NAME):
        counted = f'simsearch_requests_total{{collection="{name}",method="GET",route="/api/v1/search",status="200"}}'
        assert counted in text
        assert f'simsearch_search_stage_seconds_count{{collection="{name}",stage="search"}}' in text


def test_one_login_opens_all_collections_and_without_it_names_are_not_told(several_guarded: str):
    with httpx.Client(base_url=find_base(several_guarded)) as browser:
        for place in ("/", "/c/ix/", "/c/nothing/", "/c/ix", "/api/v1/collections", "/c/ix/api/v1/health"):
            assert browser.get(place).status_code == 401
        asked = browser.get(f"{OTHER_ROOT}/browse?sort=name", headers={"Accept": "text/html"})
        entered = browser.post(
            "/login", data={"token": TOKEN} | dict(urllib.parse.parse_qsl(asked.headers["location"].partition("?")[2]))
        )
        assert entered.headers["location"] == f"{OTHER_ROOT}/browse?sort=name"
        for place in ("/", "/c/ix/", OTHER_ROOT + "/"):
            assert browser.get(place).status_code == 200
        assert browser.get("/api/v1/health", headers={"Cookie": ""}).status_code == 200


def test_a_link_of_another_site_may_lead_to_a_start_page_and_asks_for_others(server: httpx.Client):
    visit = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert server.get("/c/ix/", headers=visit).status_code == 200
    asked = server.get(f"{OTHER_ROOT}/?text=lamp", headers=visit)
    assert asked.headers["location"].startswith("/continue?next=")
    shown = server.get(asked.headers["location"])
    assert f'href="{OTHER_ROOT}/?text=lamp"' in shown.text


def test_two_folders_of_one_name_are_refused(tmp_path: Path):
    settings = ServerSettings(collection="x", port=0)
    with pytest.raises(UsageError, match="two collections are named 'photos'") as found:
        choose_roots(settings, [str(tmp_path / "a" / "photos"), str(tmp_path / "b" / "photos")])
    assert "symbolic link" in found.value.advice


def test_a_change_in_one_collection_leaves_the_other(server: httpx.Client):
    before = server.get(f"{OTHER_ROOT}/api/v1/stats").json()
    change = {"changes": [{"image_ids": [1], "column": "label", "value": "x"}]}
    done = server.post("/c/ix/api/v1/annotations", json=change)
    assert done.status_code == 200
    assert server.get("/c/ix/api/v1/facets").json()["facets"][-1]["name"] == "label"
    assert server.get(f"{OTHER_ROOT}/api/v1/stats").json() == before
    server.post("/c/ix/api/v1/annotations", json={"changes": done.json()["undo"]})
