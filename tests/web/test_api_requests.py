"""Requests in all forms that the API takes; long results as jobs; pages of other origins; unknown parameters."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from simsearch import Collection
from simsearch.web.settings import ServerSettings
from tests.web.conftest import TOKEN, jpeg, serving

SEARCH = "/api/v1/search"


def hits(answer: httpx.Response) -> list[int]:
    assert answer.status_code == 200, answer.text
    return [hit["image_id"] for hit in answer.json()["hits"]]


def test_parameters_may_be_in_the_query_string_or_in_a_form(client: httpx.Client):
    wanted = hits(client.get(SEARCH, params={"id": [2, 3], "k": 4}))
    assert hits(client.post(SEARCH, params={"id": [2, 3], "k": 4})) == wanted
    assert hits(client.post(SEARCH, data={"id": ["2", "3"], "k": "4"})) == wanted
    assert hits(client.post(SEARCH, params={"k": 4}, data={"id": ["2", "3"]})) == wanted
    assert client.post(SEARCH, params={"k": 4}, data={"id": "2", "k": "5"}).status_code == 422


def test_a_picture_may_be_a_file_of_either_name_or_the_whole_body(client: httpx.Client):
    wanted = hits(client.post(SEARCH, files={"image": jpeg(3)}, data={"k": "5"}))
    assert hits(client.post(SEARCH, files={"file": jpeg(3)}, data={"k": "5"})) == wanted
    for kind in ("image/jpeg", "application/octet-stream"):
        assert hits(client.post(SEARCH, params={"k": 5}, content=jpeg(3), headers={"Content-Type": kind})) == wanted


@pytest.mark.parametrize(
    ("place", "name", "near"),
    [
        (SEARCH, "limitt", "unknown parameter"),
        (SEARCH, "min_similarty", "did you mean min_similarity"),
        ("/api/v1/images", "sorted", "did you mean sort"),
        ("/api/v1/images/1", "k", "there are none"),
    ],
)
def test_an_unknown_parameter_is_an_error_that_names_near_ones(client: httpx.Client, place: str, name: str, near: str):
    answer = client.get(place, params={"id": 1, name: 1} if place == SEARCH else {name: 1})
    assert answer.status_code == 422
    assert near in answer.json()["detail"]
    if place == SEARCH:
        assert near in client.post(place, data={"id": "1", name: "1"}).json()["detail"]


def test_a_batch_answers_each_search_as_it_is_alone(client: httpx.Client):
    picture = base64.b64encode(jpeg(2)).decode()
    searches = [{"id": [3], "k": 4}, {"image": picture, "k": 3}, {"id": [999]}, {"id": [1], "kk": 2}, {"image": "?"}]
    answers = client.post(f"{SEARCH}/batch", json={"searches": searches}).json()["answers"]
    assert [hit["image_id"] for hit in answers[0]["hits"]] == hits(client.get(SEARCH, params={"id": 3, "k": 4}))
    found = hits(client.post(SEARCH, files={"image": jpeg(2)}, data={"k": "3"}))
    assert [hit["image_id"] for hit in answers[1]["hits"]] == found
    assert [answer["status"] for answer in answers[2:]] == [404, 422, 422]


def test_embedded_pictures_are_the_vectors_of_the_library(client: httpx.Client, collection: Path):
    answer = client.post("/api/v1/embed", files=[("image", jpeg(4)), ("image", jpeg(5))], data={"id": "3"}).json()
    with Collection.open(collection) as opened:
        wanted = opened.embed([jpeg(4), jpeg(5), 3])
    assert (answer["backbone"], answer["width"]) == ("histogram", wanted.shape[1])
    assert np.array_equal(np.array(answer["vectors"], np.float32), wanted)
    assert client.post("/api/v1/embed").status_code == 400
    assert client.post("/api/v1/embed", data={"id": "1", "backbon": "x"}).status_code == 422


def test_a_model_without_a_text_tower_embeds_no_text(client: httpx.Client):
    answer = client.post("/api/v1/embed", data={"text": "lamp"})
    assert answer.status_code == 400
    assert "histogram" in answer.json()["detail"]


def wait_for(client: httpx.Client, place: str, **parameters: Any) -> dict[str, Any]:
    """The result of a job, as a client waits for it."""
    end = time.monotonic() + 60
    while True:
        answer = client.get(place, params=parameters)
        if answer.status_code != 202:
            assert answer.status_code == 200, answer.text
            return dict(answer.json())
        state = client.get(answer.headers["location"]).json()
        assert state["job_id"] == answer.json()["job_id"]
        assert time.monotonic() < end
        time.sleep(0.1)


def test_duplicates_are_those_of_the_library(client: httpx.Client, collection: Path):
    found = wait_for(client, "/api/v1/duplicates", tier="exact")
    with Collection.open(collection) as opened:
        wanted = opened.duplicates().select_tier("exact")
    assert [[member["image_id"] for member in group["members"]] for group in found["groups"]] == [
        [member.image_id for member in group.members] for group in wanted
    ]
    assert [file["path"] for file in found["groups"][0]["members"][0]["files"]] == [
        "photos/lamp/picture_00.png", "photos/vase/copy.png"]  # fmt: skip
    pairs = wait_for(client, "/api/v1/pairs")
    assert pairs["total"] == len(pairs["pairs"])


def test_quality_is_that_of_the_library(client: httpx.Client, collection: Path):
    found = wait_for(client, "/api/v1/quality")
    with Collection.open(collection) as opened:
        report = opened.check_quality()
    assert found["counts"] == report.count()
    assert [one["image_id"] for one in found["findings"]] == [one.image_id for one in report.findings]
    tiny = wait_for(client, "/api/v1/quality", kind="tiny", limit=3)
    assert (tiny["total"], len(tiny["findings"]), tiny["next"]) == (16, 3, 3)
    page = client.get("/quality", params={"kind": "tiny"})
    assert page.text.count('<li class="tile') == 16
    assert client.get("/api/v1/quality", params={"kind": "ugly"}).status_code == 422


def test_clusters_hold_every_image_once_and_the_map_places_it(client: httpx.Client):
    found = wait_for(client, "/api/v1/clusters", k=3)
    assert len(found["clusters"]) == 3
    assert sorted(one for cluster in found["clusters"] for one in cluster["image_ids"]) == list(range(1, 17))
    points = wait_for(client, "/api/v1/map")["points"]
    assert sorted(point["image_id"] for point in points) == list(range(1, 17))
    assert all(0 <= point["x"] <= 1 and 0 <= point["y"] <= 1 for point in points)
    assert client.get("/api/v1/clusters", params={"k": 0}).status_code == 422


def test_a_cancelled_job_is_no_longer_waited_for(client: httpx.Client):
    answer = client.get("/api/v1/clusters", params={"where": "id > 1", "k": 2})
    place = answer.headers.get("location")
    if place is None:  # it was done at once
        return
    state = client.post(f"{place}/cancel").json()["state"]
    assert state in ("cancelled", "done")
    assert client.get(place).json()["state"] == state
    assert wait_for(client, "/api/v1/clusters", where="id > 1", k=2)["images"] == 15


def test_an_error_of_a_job_is_told_once_and_an_unknown_job_is_not_found(client: httpx.Client):
    end = time.monotonic() + 60
    while (answer := client.get("/api/v1/clusters", params={"where": "id > 999"})).status_code == 202:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert answer.status_code == 400
    assert "no image" in answer.json()["detail"]
    assert client.get("/api/v1/jobs/0123456789abcdef").status_code == 404


def test_models_are_listed_with_the_default_first(client: httpx.Client):
    assert [model["backbone"] for model in client.get("/api/v1/models").json()] == ["histogram"]


def test_a_thumbnail_of_a_missing_file_is_gone_and_a_page_shows_a_gray_tile(tmp_path: Path, photos: Path):
    from tests.conftest import HISTOGRAM
    from tests.support import oneshot

    oneshot.ingest(tmp_path / "ix", [photos], HISTOGRAM)
    (photos / "a" / "picture_00.png").unlink()
    with serving(ServerSettings(collection=str(tmp_path / "ix"), port=0)) as address:
        place = f"{address}/api/v1/images/1/thumbnail"
        answer = httpx.get(place)
        assert (answer.status_code, answer.headers["content-type"]) == (410, "application/problem+json")
        shown = httpx.get(place, headers={"Sec-Fetch-Dest": "image"})
        assert (shown.status_code, shown.headers["content-type"]) == (410, "image/webp")
        assert httpx.get(f"{address}/api/v1/images/1/file").status_code == 410


def test_only_pages_of_an_allowed_origin_may_read_the_api(collection: Path):
    friend, stranger = "https://friend.example", "https://stranger.example"
    settings = ServerSettings(collection=str(collection), port=0, token=TOKEN, cors=(friend,))
    with serving(settings) as address, httpx.Client(base_url=address) as client:
        asked = {"Origin": friend, "Access-Control-Request-Method": "POST", "Sec-Fetch-Site": "cross-site"}
        preflight = client.options(SEARCH, headers=asked)
        assert preflight.status_code == 204
        assert preflight.headers["access-control-allow-origin"] == friend
        assert "access-control-allow-credentials" not in preflight.headers
        by_script = {"Origin": friend, "Sec-Fetch-Site": "cross-site", "Authorization": f"Bearer {TOKEN}"}
        answer = client.post(SEARCH, data={"id": "1"}, headers=by_script)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, friend)
        for origin, place in ((stranger, SEARCH), (friend, "/pictures"), (friend + ".evil.example", SEARCH)):
            answer = client.post(place, data={"id": "1"}, headers=by_script | {"Origin": origin})
            assert answer.status_code == 403
            assert "access-control-allow-origin" not in answer.headers
        cookie = client.post("/login", data={"token": TOKEN}).headers["set-cookie"].partition(";")[0]
        with_cookie = {"Origin": friend, "Sec-Fetch-Site": "cross-site", "Cookie": cookie}
        assert client.get(SEARCH, params={"id": 1}, headers=with_cookie).status_code == 401
