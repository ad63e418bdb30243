"""A server over a calibrated collection: probabilities in the API, and unlikely hits on the page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from simsearch import Collection
from simsearch.web.settings import ServerSettings
from tests.conftest import HISTOGRAM, ROOT
from tests.support import oneshot
from tests.web.conftest import serving


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calibrated") / "objects"
    oneshot.ingest(folder, [ROOT / "data" / "objects"], HISTOGRAM)
    with Collection.open(folder) as collection:
        collection.calibrate()
    return folder


@pytest.fixture(scope="module")
def page(calibrated: Path) -> Iterator[httpx.Client]:
    with serving(ServerSettings(collection=str(calibrated), port=0)) as address, httpx.Client(base_url=address) as it:
        yield it


def test_the_api_has_the_probabilities_of_the_library_and_cuts_by_them(page: httpx.Client, calibrated: Path):
    document = page.get("/api/v1/search", params={"id": 5, "k": 30}).json()
    with Collection.open(calibrated) as collection:
        hits = collection.search(5, k=30).hits
        minimum = (hits[10].probability or 0) + 0.002
        kept = collection.search(5, k=30, min_probability=minimum).hits
    assert document["probability_of"] == "of the same class"
    assert [hit["probability"] for hit in document["hits"]] == [hit.probability for hit in hits]
    cut = page.get("/api/v1/search", params={"id": 5, "k": 30, "min_probability": minimum}).json()
    assert [hit["image_id"] for hit in cut["hits"]] == [hit.image_id for hit in kept]
    assert 0 < len(kept) < 30
    posted = page.post("/api/v1/search", data={"id": 5, "k": 30, "min_probability": minimum}).json()
    assert posted["hits"] == cut["hits"]


def test_a_probability_out_of_range_or_of_several_pictures_is_refused(page: httpx.Client):
    assert page.get("/api/v1/search", params={"id": 5, "min_probability": 2}).status_code == 422
    answer = page.get("/api/v1/search", params={"id": [5, 6], "min_probability": 0.5})
    assert answer.status_code in (400, 422)
    assert "without re-ranking" in answer.text


def test_the_page_grays_what_is_below_one_half(page: httpx.Client, calibrated: Path):
    text = page.get("/", params={"like": 5}).text
    with Collection.open(calibrated) as collection:
        hits = collection.search(5, k=48, exclude_self=True).hits
    expected = sum(hit.probability is not None and hit.probability < 0.5 for hit in hits)
    assert expected > 0
    assert len(re.findall(r'<li class="tile a[0-9]+ unlikely"', text)) == expected
    assert "Images below 50 % are gray" in text
