"""The server on a collection of vectors that were imported without their pictures."""

from __future__ import annotations

from pathlib import Path

import httpx
import numpy as np

from simsearch import Collection
from simsearch.web.settings import ServerSettings
from tests.web.conftest import serving


def test_vectors_without_pictures_are_served_with_placeholders(tmp_path: Path):
    vectors = np.random.default_rng(0).standard_normal((40, 16))
    keys = [f"item {number:02}" if number % 2 else f"https://pictures.example/{number}.jpg" for number in range(40)]
    with Collection.open(tmp_path / "c", create=True) as collection:
        collection.add_vectors(keys, vectors, "clip")
        expected = [hit.image_id for hit in collection.search(4, k=5)]
    with (
        serving(ServerSettings(collection=str(tmp_path / "c"), port=0)) as address,
        httpx.Client(base_url=address, timeout=30) as client,
    ):
        found = client.get("/api/v1/search", params={"id": "4", "k": 5}).json()
        assert [hit["image_id"] for hit in found["hits"]] == expected
        page = client.get("/", params={"like": "4"})
        assert page.status_code == 200
        assert "item 03" in page.text
        for image_id in (1, 2):  # an address, which is not fetched, and an id
            shown = client.get(f"/api/v1/images/{image_id}/thumbnail", headers={"Sec-Fetch-Dest": "image"})
            assert (shown.status_code, shown.headers["content-type"]) == (410, "image/webp")
            told = client.get(f"/api/v1/images/{image_id}/file")
            assert told.status_code == 410
            assert "imported without its picture" in told.json()["problem"]


def test_addresses_are_shown_from_their_host_on(tmp_path: Path):
    keys = [f"https://pictures.example/{'ab'[number % 2]}/{number}.jpg" for number in range(8)]
    with Collection.open(tmp_path / "c", create=True) as collection:
        collection.add_vectors(keys, np.random.default_rng(0).standard_normal((8, 16)), "clip")
    with serving(ServerSettings(collection=str(tmp_path / "c"), port=0)) as address:
        found = httpx.get(f"{address}/api/v1/images", timeout=30).json()["images"]
    shown = [file["path"] for image in found for file in image["files"]]
    assert shown == [key.removeprefix("https://") for key in keys]
