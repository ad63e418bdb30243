"""The page of images to label next: which images it shows, which labels it offers, and who may label."""

from __future__ import annotations

import html
import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from simsearch import Collection
from simsearch.learn.suggestions import suggest_images
from simsearch.web.settings import ServerSettings
from tests.web.conftest import TOKEN, WRITE_TOKEN, serving


@pytest.fixture
def client(own_collection: Path) -> Iterator[httpx.Client]:
    with (
        serving(ServerSettings(collection=str(own_collection), port=0)) as address,
        httpx.Client(base_url=address, timeout=60, headers={"Origin": address}) as made,
    ):
        yield made


def read_page(client: httpx.Client, column: str = "label") -> str:
    """The page once the search is done."""
    deadline = time.monotonic() + 120
    while "Looking for images" in (text := client.get("/label", params={"column": column}).text):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return text


def list_ids(page: str) -> list[int]:
    return [int(one) for one in re.findall(r'<li class="tile [^"]*" data-id="(\d+)"', page)]


def list_offered(page: str) -> list[str]:
    return [html.unescape(one) for one in re.findall(r'data-value="([^"]*)"', page)]


def label(own_collection: Path, column: str = "label") -> None:
    """Give two images of each folder the name of their folder."""
    with Collection.open(own_collection) as collection:
        found: dict[str, list[int]] = {"lamp": [], "vase": []}
        for image in collection:
            if (folder := Path(image.files[0].path).parent.name) in found:
                found[folder].append(image.image_id)
        collection.set_values({(id_, column): name for name, ids in found.items() for id_ in ids[:2]})


def test_it_shows_the_suggestions_of_the_library_with_what_the_labels_say(client: httpx.Client, own_collection: Path):
    label(own_collection)
    page = read_page(client)
    with Collection.open(own_collection) as collection:
        expected = suggest_images(collection, 24)
    assert list_ids(page) == [one.image_id for one in expected]
    assert len(expected) == 12
    remarks = re.findall(r'class="remark" title="([^"]*)"', page)
    for one, remark in zip(expected, remarks, strict=True):
        if one.reason == "new":
            assert remark == "unlike all labeled"
        else:
            (first, share), (second, _) = one.labels
            assert remark.startswith(f"{first} {share:.0%} or {second} ")
    assert list_offered(page) == ["lamp", "vase"]


def test_without_labels_all_are_new_and_the_folders_are_offered(client: httpx.Client):
    page = read_page(client)
    assert len(list_ids(page)) == 16
    assert set(list_offered(page)) == {"lamp", "odd", "vase"}
    assert page.count("unlike all labeled") >= 16


def test_a_column_that_is_new_has_no_labels_and_a_file_is_no_column(client: httpx.Client, own_collection: Path):
    label(own_collection)
    assert len(list_ids(read_page(client, "mood"))) == 16
    assert len(list_ids(read_page(client, "/etc/passwd"))) == 16
    assert client.get("/label", params={"column": " "}).status_code == 422


def test_when_every_image_has_a_label_it_says_so(client: httpx.Client, own_collection: Path):
    with Collection.open(own_collection) as collection:
        collection.set_values({(image.image_id, "label"): "x" for image in collection})
    page = read_page(client)
    assert "Every image has a label" in page
    assert list_ids(page) == []


def test_only_visitors_who_may_write_get_the_labels(own_collection: Path):
    settings = ServerSettings(collection=str(own_collection), port=0, token=TOKEN, write_token=WRITE_TOKEN)
    with serving(settings) as address:
        for token, may_write in ((TOKEN, False), (WRITE_TOKEN, True)):
            with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {token}"}, timeout=60) as visitor:
                page = read_page(visitor)
            assert len(list_ids(page)) == 16
            assert bool(list_offered(page)) is may_write
            assert ("needs the token for writing" in page) is not may_write
