"""Addresses: recognition, canonical spelling, names, joining, common folders."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simsearch.sources.addresses import (
    ObjectAddress,
    canonicalize_address,
    extract_path,
    find_common_folder,
    is_below,
    is_remote,
    join_address,
)
from simsearch.sources.scan import FoundFile, derive_source_name

ODD_KEYS = [
    "a b.jpg", "100%.jpg", "a%20b.jpg", "a+b.jpg", "a#b.jpg", "a?b=c.jpg", "ä/寿司.jpg", "a//b.jpg", "/a.jpg",
    "a&b.jpg", "a'\"b.jpg", "a\\b.jpg", "a:b@c.jpg", "new\nline.jpg", "🏺.jpg", "e\u0301.jpg",
]  # fmt: skip


def test_stores_and_the_web_are_elsewhere_and_nothing_else_is():
    there = ["s3://b/k", "S3://b", "s3a://b", "gs://b/k", "gcs://b", "az://b/k", "abfs://b", "http://h/a", "HTTPS://h"]
    assert all(map(is_remote, there))
    here = ["a.jpg", "/a/s3.jpg", "s3:/b", "ftp://h/a", "file:///a", "memory://b/k", "-", "", "://b", "C:\\a.jpg"]
    assert not any(map(is_remote, here))


@pytest.mark.parametrize(
    ("written", "known_as"),
    [
        ("S3://bucket/Key.JPG", "s3://bucket/Key.JPG"),
        ("s3a://bucket/k", "s3://bucket/k"),
        ("gcs://bucket/k", "gs://bucket/k"),
        ("abfs://box/k", "az://box/k"),
        ("s3://bucket/", "s3://bucket"),
        ("s3://bucket/a/", "s3://bucket/a/"),
        ("HTTP://Host.Example/A b.jpg#top", "http://host.example/A%20b.jpg"),
        ("http://h/a%20b.jpg?x=1", "http://h/a%20b.jpg?x=1"),
        ("https://h", "https://h/"),
    ],
)
def test_an_address_has_one_spelling(written: str, known_as: str):
    assert canonicalize_address(written) == known_as
    assert canonicalize_address(known_as) == known_as


@pytest.mark.parametrize("key", ODD_KEYS)
def test_a_key_stays_as_it_is(key: str):
    address = ObjectAddress("s3", "bucket", key).address
    assert canonicalize_address(address) == address
    assert ObjectAddress.parse(address) == ObjectAddress("s3", "bucket", key)
    assert FoundFile(address, 1, 1).has_picture_extension


@given(st.text(min_size=1))
def test_any_key_survives_being_an_address(key: str):
    assert ObjectAddress.parse(canonicalize_address(ObjectAddress("s3", "bucket", key).address)).key == key


def test_folder_contains_addresses_that_start_with_its_name_and_a_slash():
    assert is_below("s3://b/pre/x.jpg", "s3://b/pre")
    assert is_below("s3://b/pre/x.jpg", "s3://b/pre/")
    assert is_below("s3://b/x.jpg", "s3://b")
    assert not is_below("s3://b/prefix2/x.jpg", "s3://b/pre")
    assert not is_below("s3://bucket2/x.jpg", "s3://bucket")


@pytest.mark.parametrize(
    ("base", "line", "place"),
    [
        ("http://h/lists/all.txt", "a b.jpg", "http://h/lists/a%20b.jpg"),
        ("http://h/lists/all.txt", "../a.jpg", "http://h/a.jpg"),
        ("http://h/lists/all.txt", "/a.jpg", "http://h/a.jpg"),
        ("http://h/lists/all.txt", "s3://b/k", "s3://b/k"),
        ("http://h/lists/all.txt", "https://other/a.jpg", "https://other/a.jpg"),
        ("s3://b/lists/all.txt", "a b#c.jpg", "s3://b/lists/a b#c.jpg"),
        ("s3://b/lists/all.txt", "/a.jpg", "s3://b/a.jpg"),
        ("s3://b/all.txt", "sub/a.jpg", "s3://b/sub/a.jpg"),
        ("s3://b/all.txt", "file:///etc/passwd", "file:///etc/passwd"),
    ],
)
def test_lines_of_a_list_are_relative_to_the_list_file(base: str, line: str, place: str):
    assert join_address(base, line) == place


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("s3://bucket/photos/cats/", "cats"),
        ("s3://bucket/photos/v1.2", "v1.2"),
        ("s3://bucket/photos/cats.jpg", "cats"),
        ("s3://bucket", "bucket"),
        ("s3://bucket/", "bucket"),
        ("s3://bucket/..", "bucket"),
        ("s3://bucket/../../etc/", "etc"),
        ("s3://bucket/a:b*c", "a_b_c"),
        ("http://host:80/lists/cats.txt?version=2", "cats"),
        ("http://host/my%20cats.txt", "my cats"),
        ("http://host:8080", "host_8080"),
        ("s3://", "images"),
    ],
)
def test_a_collection_is_called_after_the_last_part_of_its_source(source: str, name: str):
    assert derive_source_name(source) == name


def test_the_query_of_a_url_is_no_part_of_its_name():
    assert extract_path("http://h/a%20b.JPG?size=3.txt#top") == "/a b.JPG"
    assert FoundFile("http://h/a.jpg?size=3", 0, 0).has_picture_extension
    assert not FoundFile("http://h/a?name=b.jpg", 0, 0).has_picture_extension
    assert extract_path("http://[half/a.jpg") == "http://[half/a.jpg"


def test_the_folder_that_all_lie_in():
    assert find_common_folder(["s3://b/x/1.jpg", "s3://b/x/y/2.jpg"]) == "s3://b/x/"
    assert find_common_folder(["s3://b/cats/1.jpg", "s3://b/cars/2.jpg"]) == "s3://b/"
    assert find_common_folder(["s3://b/x/1.jpg"]) == "s3://b/x/"
    assert find_common_folder(["s3://b/1.jpg", os.path.abspath("1.jpg")]) == ""
    assert find_common_folder(["/photos/a/1.jpg", "/photos/b/2.jpg"]) == "/photos"
    assert find_common_folder([]) == ""
