"""Lists, facets, exports and annotations of the API agree with the library and with plain Python over the catalog."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from simsearch import Collection
from simsearch.web.settings import ServerSettings
from tests.conftest import HISTOGRAM, draw_picture
from tests.support import oneshot
from tests.web.conftest import TOKEN, WRITE_TOKEN, serving

IMAGES = "/api/v1/images"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection that tests of this module change: eight images in two folders."""
    home = tmp_path_factory.mktemp("own")
    for seed in range(8):
        draw_picture(home / "photos" / ("lamp" if seed < 3 else "vase") / f"picture_{seed:02}.png", seed)
    oneshot.ingest(home / "ix", [home / "photos"], HISTOGRAM)
    return home / "ix"


@pytest.fixture(scope="module")
def writable(own: Path) -> Iterator[httpx.Client]:
    """A client of a server of that collection, without any token."""
    with (
        serving(ServerSettings(collection=str(own), port=0)) as address,
        httpx.Client(base_url=address, timeout=30) as client,
    ):
        yield client


def list_all(client: httpx.Client, **parameters: Any) -> list[dict[str, Any]]:
    """All images of a list, page by page."""
    images, cursor = [], None
    while True:
        page = client.get(IMAGES, params=parameters | ({"cursor": cursor} if cursor else {})).json()
        assert page["start"] == len(images)
        images += page["images"]
        if (cursor := page["next"]) is None:
            assert len(images) == page["total"]
            return images


@pytest.mark.parametrize("limit", [1, 3, 100])
def test_pages_list_every_image_once(client: httpx.Client, limit: int):
    assert [image["image_id"] for image in list_all(client, limit=limit)] == list(range(1, 17))


@pytest.mark.parametrize(
    ("sort", "key"),
    [
        ("name", lambda image: Path(image["files"][0]["path"]).name.casefold()),
        ("size", lambda image: image["files"][0]["size_bytes"]),
        ("date", lambda image: image["taken_at"] or image["files"][0]["modified_at"]),
        ("folder", lambda image: Path(image["files"][0]["path"]).parent.as_posix().casefold()),
    ],
)
def test_an_order_is_that_of_the_property(client: httpx.Client, sort: str, key: Any):
    for order in ("ascending", "descending"):
        keys = [key(image) for image in list_all(client, sort=sort, order=order, limit=5)]
        assert keys == sorted(keys, reverse=order == "descending")


def test_a_filter_selects_what_the_search_selects(client: httpx.Client, collection: Path):
    for where in ("class = 'lamp'", "not class = 'lamp' and width >= 48", "name ~ 'copy'", "id in (3, 5)"):
        with Collection.open(collection) as opened:
            wanted = {hit.image_id for hit in opened.search(1, k=None, where=where).hits}
        assert {image["image_id"] for image in list_all(client, where=where)} == wanted
    assert client.get(IMAGES, params={"where": "wdith > 3"}).status_code == 400


def test_a_cursor_of_another_list_is_refused(client: httpx.Client):
    cursor = client.get(IMAGES, params={"limit": 2}).json()["next"]
    assert client.get(IMAGES, params={"cursor": cursor, "sort": "name"}).status_code == 400
    for invalid in ("x", "====", cursor[:-3], "W10", "bnVsbA"):
        assert client.get(IMAGES, params={"cursor": invalid}).status_code == 400


def test_a_list_goes_on_after_its_last_image_where_images_were_added_and_removed(tmp_path: Path, photos: Path):
    oneshot.ingest(tmp_path / "ix", [photos], HISTOGRAM)
    with (
        serving(ServerSettings(collection=str(tmp_path / "ix"), port=0)) as address,
        httpx.Client(base_url=address, timeout=30) as client,
    ):
        first = client.get(IMAGES, params={"limit": 5, "sort": "name"}).json()
        seen = [image["image_id"] for image in first["images"]]
        draw_picture(photos / "a" / "a_comes_first.png", 78)
        (photos / "a" / "picture_00.png").unlink()
        oneshot.ingest(tmp_path / "ix", [photos], HISTOGRAM)
        rest = client.get(IMAGES, params={"sort": "name", "cursor": first["next"]}).json()["images"]
        seen += [image["image_id"] for image in rest]
    assert len(seen) == len(set(seen)) == 12


def test_facets_count_what_their_filters_select(client: httpx.Client):
    whole = client.get("/api/v1/facets").json()
    assert whole["total"] == 16
    counted = {facet["name"]: {one["value"]: one["images"] for one in facet["values"]} for facet in whole["facets"]}
    assert counted["class"] == {"lamp": 7, "vase": 8, "odd": 2}  # one image has a file in two folders
    assert counted["format"] == {"png": 16}
    for facet in whole["facets"]:
        assert facet["distinct"] == len(facet["values"])
        for one in facet["values"]:
            assert len(list_all(client, where=one["where"])) == one["images"], one
    some = client.get("/api/v1/facets", params={"where": "class = 'odd'", "limit": 1}).json()
    assert some["total"] == 2


def test_no_answer_shows_a_folder_of_the_server_unless_it_shows_paths(client: httpx.Client, collection: Path):
    secret = str(collection.parent)
    places = [IMAGES, f"{IMAGES}/1", "/api/v1/search?id=1", "/api/v1/facets", "/api/v1/exports?format=list",
              "/api/v1/exports?format=json", "/images/1", "/?like=1", "/", "/docs", "/api/v1/stats"]  # fmt: skip
    for place in places:
        answer = client.get(place)
        assert answer.status_code == 200, place
        assert secret not in answer.text, place
    with serving(ServerSettings(collection=str(collection), port=0, show_paths=True)) as address:
        found = httpx.get(f"{address}{IMAGES}/2").json()["files"][0]["path"]
    assert found == str(collection.parent / "photos" / "lamp" / "picture_01.png")


def test_an_archive_has_the_files_as_they_are(client: httpx.Client, collection: Path):
    answer = client.post("/api/v1/exports", data={"ids": "2,3,999", "format": "zip"})
    assert answer.headers["content-disposition"] == 'attachment; filename="images.zip"'
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["photos/lamp/picture_01.png", "photos/lamp/picture_02.png"]
        for name in archive.namelist():
            assert archive.read(name) == (collection.parent / name).read_bytes()


def test_lists_and_tables_keep_the_order_of_the_ids(client: httpx.Client):
    lines = client.post("/api/v1/exports", data={"ids": "3,2,3", "format": "list"}).text.splitlines()
    assert lines == ["photos/lamp/picture_02.png", "photos/lamp/picture_01.png"]
    table = client.get("/api/v1/exports", params={"where": "class = 'vase'", "sort": "name"}).text
    rows = list(csv.DictReader(io.StringIO(table)))
    assert [row["image_id"] for row in rows] == [str(image["image_id"]) for image in list_all(
        client, where="class = 'vase'", sort="name")]  # fmt: skip
    assert rows[0]["format"] == "PNG"
    assert client.post("/api/v1/exports", data={"ids": "1;2"}).status_code == 422


def test_values_are_set_deleted_and_set_back(writable: httpx.Client):
    def labels() -> Counter[str | None]:
        return Counter(image["columns"].get("label") for image in list_all(writable))

    before = labels()
    change = {"image_ids": [1, 2, 3], "column": "label", "value": "bright"}
    first = writable.post("/api/v1/annotations", json={"changes": [change]}).json()
    assert first["values"] == 3
    assert labels() == {"bright": 3, None: 5}
    assert len(list_all(writable, where="label = 'bright'")) == 3
    second = writable.post("/api/v1/annotations", json={"changes": [change | {"image_ids": [2], "value": None}]}).json()
    assert labels() == {"bright": 2, None: 6}
    for answer in (second, first):
        assert writable.post("/api/v1/annotations", json={"changes": answer["undo"]}).status_code == 200
    assert labels() == before


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"image_ids": [999], "column": "label", "value": "x"}, 404),
        ({"image_ids": [], "column": "label", "value": "x"}, 400),
        ({"image_ids": [1], "column": "path", "value": "x"}, 400),
        ({"image_ids": [1], "column": "a\nb", "value": "x"}, 400),
        ({"image_ids": [1], "column": "label", "value": "\ud800"}, 422),
        ({"image_ids": [1], "column": "label", "value": [1]}, 422),
        ({"image_ids": [1], "colum": "label", "value": "x"}, 422),
    ],
)
def test_an_invalid_change_changes_nothing(writable: httpx.Client, change: dict[str, Any], status: int):
    answer = writable.post(
        "/api/v1/annotations", content=json.dumps({"changes": [change]}), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == status, answer.text
    assert all(image["columns"] == {} for image in list_all(writable))


def test_a_change_needs_the_write_token_where_there_is_a_token(own: Path):
    change = {"changes": [{"image_ids": [1], "column": "label", "value": None}]}
    settings = ServerSettings(collection=str(own), port=0, token=TOKEN, write_token=WRITE_TOKEN)
    with serving(settings) as address:
        statuses = {
            token: httpx.post(
                f"{address}/api/v1/annotations", json=change, headers={"Authorization": f"Bearer {token}"}
            ).status_code
            for token in (TOKEN, WRITE_TOKEN, "wrong-wrong-wrong-wrong")
        }
        assert statuses == {TOKEN: 403, WRITE_TOKEN: 200, "wrong-wrong-wrong-wrong": 401}
        cookie = httpx.post(f"{address}/login", data={"token": WRITE_TOKEN}).headers["set-cookie"].partition(";")[0]
        by_cookie = httpx.post(f"{address}/api/v1/annotations", json=change, headers={"Cookie": cookie})
        assert by_cookie.status_code == 200
    with serving(ServerSettings(collection=str(own), port=0, token=TOKEN)) as address:
        answer = httpx.post(f"{address}/api/v1/annotations", json=change, headers={"Authorization": f"Bearer {TOKEN}"})
        assert answer.status_code == 403
