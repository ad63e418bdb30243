"""The table of all images: what is read again after a change."""

from __future__ import annotations

from pathlib import Path

import pytest

from simsearch import Collection
from simsearch.store.image_table import ImageTable
from simsearch.store.snapshot import open_snapshot
from tests.conftest import HISTOGRAM, draw_picture


@pytest.fixture
def collection(tmp_path: Path):
    for seed in range(4):
        draw_picture(tmp_path / "photos" / f"{seed}.png", seed)
    with Collection.open(tmp_path / "c", create=True) as made:
        made.ingest([str(tmp_path / "photos")], HISTOGRAM)
        yield made


def load(collection: Collection, former: ImageTable | None = None) -> ImageTable:
    with open_snapshot(collection.folder) as snapshot:
        return ImageTable.load(snapshot, former)


def list_facets(table: ImageTable) -> dict[str, list]:
    return {facet.name: sorted(facet.count(None), key=str) for facet in table.facets}


def test_after_a_change_of_own_columns_or_rejected_pairs_files_are_not_read_again(collection: Collection):
    table = load(collection)
    changes = (
        lambda: collection.set_values({(1, "mark"): "a", (2, "mark"): "b"}),
        lambda: collection.set_values({(1, "mark"): None, (3, "other"): 2}),
        lambda: collection.reject_duplicates([1, 2]),
        lambda: collection.clear_columns("mark"),
    )
    for change in changes:
        change()
        former, table = table, load(collection, table)
        assert (table.change_token != former.change_token, table.ids is former.ids) == (True, True)
        assert list_facets(table) == list_facets(load(collection))
    assert list_facets(table)["other"] == [(2, 1)]


def test_after_a_change_of_files_all_is_read_again(collection: Collection, tmp_path: Path):
    table = load(collection)
    collection.set_values({(1, "mark"): "a"})
    collection.remove([str(tmp_path / "photos" / "3.png")])
    assert len(load(collection, table)) == 3
    table = load(collection)
    draw_picture(tmp_path / "photos" / "new.png", 9)
    collection.ingest([str(tmp_path / "photos")], HISTOGRAM)
    collection.set_values({(1, "mark"): "b"})
    found = load(collection, table)
    assert len(found) == 5
    assert list_facets(found)["mark"] == [("b", 1)]
