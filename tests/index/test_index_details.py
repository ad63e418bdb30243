"""The stored details of an index: what is not valid is refused, and `info` goes on without it."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from simsearch import Collection
from simsearch.index.info import IndexDetails
from tests.conftest import HISTOGRAM


@pytest.mark.parametrize(
    "text", ["{}", "[]", "7", "null", "x", '{"kind": 1, "n_vectors": 2}', '{"kind": "flat", "n_vectors": "2"}']
)
def test_text_that_describes_no_index_is_refused(text: str):
    with pytest.raises(ValueError, match="does not describe an index"):
        IndexDetails.from_json(text)


def test_a_collection_with_damaged_details_is_described(photos: Path, collection: Path):
    with Collection.open(collection, create=True) as opened:
        opened.ingest([photos], HISTOGRAM)
    with contextlib.closing(sqlite3.connect(collection / "catalog.db")) as connection, connection:
        connection.execute("INSERT OR REPLACE INTO indexes SELECT id, '', 'flat', '{}' FROM models")
    with Collection.open(collection) as opened:
        assert opened.info().models[0].index.to_dict()["kind"] == "flat"
