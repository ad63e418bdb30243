"""Bulk reads of a catalog at one moment, against what was written to it."""

from __future__ import annotations

import datetime
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from simsearch.errors import CollectionDamaged, ImageNotFound
from simsearch.images.metadata import ExifMetadata
from simsearch.models.choice import resolve_model
from simsearch.sources.scan import FoundFile
from simsearch.store.catalog import EmbeddedView, FileEntry, ImageProperties, StoredModel
from simsearch.store.snapshot import StoredFile, StoredImage, ViewKey, open_model_views, open_snapshot
from simsearch.store.sqlite_errors import CATALOG_NAME
from simsearch.store.writer import CatalogWriter
from tests.conftest import HISTOGRAM

WIDTH = 4
MTIME_NS = 1_700_000_000 * 10**9


def write(folder: Path, files: list[tuple[str, int]], width: int = WIDTH) -> StoredModel:
    """Record files (path, number of the content); the vector of content n is n in every place."""
    model = resolve_model(HISTOGRAM)
    with CatalogWriter.open_or_create(folder) as writer, writer.transaction():
        stored = writer.add_model(model, width, model.fingerprint)
        entries = [
            FileEntry(
                FoundFile(path, 10 * content, MTIME_NS + content),
                f"{content:032x}",
                ImageProperties(content, 2 * content, "PNG", ExifMetadata("2024-05-31T10:30:59", "Canon")),
                [EmbeddedView("original", "{}", np.full(width, content, np.float32))],
            )
            for path, content in files
        ]
        writer.record_files(entries, stored.id)
    return stored


@pytest.fixture
def stored(tmp_path: Path) -> StoredModel:
    """Image 1 with the files a and c, images 2 and 3 with a file each, image 4 whose only file was removed."""
    stored = write(tmp_path, [("/a", 1), ("/b", 2), ("/c", 1), ("/d\udcff", 3), ("/gone", 4)])
    with CatalogWriter.open_or_create(tmp_path) as writer, writer.transaction():
        writer.forget_files(["/gone"])
        writer.annotate([(1, "stars", 5), (1, "album", "sea")])
    return stored


def test_images_are_read_with_their_files_and_columns(tmp_path: Path, stored: StoredModel):
    with open_snapshot(tmp_path) as snapshot:
        images = snapshot.read_images([3, 2, 1, 4, 99])
    assert list(images) == [1, 2, 3]
    files = (StoredFile("/a", 10, MTIME_NS + 1), StoredFile("/c", 10, MTIME_NS + 1))
    assert images[1] == StoredImage(
        1, f"{1:032x}", 1, 2, "PNG", 10, "2024-05-31T10:30:59", "Canon", files, {"album": "sea", "stars": 5}
    )
    assert images[3].files == (StoredFile("/d\udcff", 30, MTIME_NS + 3),)
    assert images[2].columns == {}


def test_orphans_are_read_when_they_are_asked_for(tmp_path: Path, stored: StoredModel):
    with open_snapshot(tmp_path) as snapshot:
        images = snapshot.read_images([4, 2], with_orphans=True)
    assert {image_id: len(image.files) for image_id, image in images.items()} == {2: 1, 4: 0}


def test_an_image_without_a_file_is_not_found(tmp_path: Path, stored: StoredModel):
    with open_snapshot(tmp_path) as snapshot:
        assert snapshot.read_image(2).digest == f"{2:032x}"
        for missing in (4, 99):
            with pytest.raises(ImageNotFound, match=f"no image {missing}"):
                snapshot.read_image(missing)


def test_ids_of_images_and_views(tmp_path: Path, stored: StoredModel):
    with open_snapshot(tmp_path) as snapshot:
        assert snapshot.find_copied_images() == [1]
        assert snapshot.sample_image_ids(10) == [1, 2, 3]
        view_ids, image_ids = snapshot.list_original_ids(stored.id)
        assert (view_ids.tolist(), image_ids.tolist()) == ([1, 2, 3], [1, 2, 3])
        assert snapshot.list_views_of_images(stored.id, [4, 2]) == [
            ViewKey(2, 2, "original"),
            ViewKey(4, 4, "original"),
        ]
        assert [key.view_id for key in snapshot.list_views_in_range(stored.id, 1, 3)] == [2, 3]
        assert snapshot.catalog.count_vectors(stored.id) == 4


def test_nothing_is_read_that_was_written_after_the_snapshot_began(tmp_path: Path, stored: StoredModel):
    with open_snapshot(tmp_path) as snapshot:
        write(tmp_path, [("/e", 5), ("/a", 5)])
        assert snapshot.read_images([1, 5]).keys() == {1}
        assert [file.path for file in snapshot.read_images([1])[1].files] == ["/a", "/c"]
        assert snapshot.select_views(stored).list_view_ids().tolist() == [1, 2, 3]
        assert snapshot.catalog.count_contents()["files"] == 4
    with open_snapshot(tmp_path) as later:
        assert later.select_views(stored).list_view_ids().tolist() == [1, 2, 3, 5]


def test_an_empty_catalog_has_no_images_and_no_views(tmp_path: Path):
    stored = write(tmp_path, [])
    with open_snapshot(tmp_path) as snapshot:
        assert snapshot.sample_image_ids(5) == []
        assert snapshot.read_images([1]) == {}
        assert len(snapshot.list_original_ids(stored.id)[0]) == 0
        assert list(snapshot.select_views(stored).iterate_blocks()) == []


def test_more_ids_than_fit_into_one_statement(tmp_path: Path):
    stored = write(tmp_path, [(f"/{n}", n) for n in range(1, 1_203)])
    with open_snapshot(tmp_path) as snapshot:
        assert len(snapshot.read_images(range(1, 1_203))) == 1_202
        records, vectors = snapshot.select_views(stored).read_records(np.arange(1, 1_203))
        assert len(snapshot.list_views_of_images(stored.id, range(1, 1_203))) == 1_202
    assert [record.path for record in records] == [f"/{n}" for n in range(1, 1_203)]
    np.testing.assert_array_equal(vectors, np.repeat(np.arange(1, 1_203, dtype=np.float32)[:, None], WIDTH, axis=1))


def test_a_vector_of_another_width_is_damage(tmp_path: Path, stored: StoredModel):
    with sqlite3.connect(tmp_path / CATALOG_NAME) as connection:
        connection.execute("UPDATE vectors SET vector = x'00' WHERE view_id = 2")
    connection.close()
    with open_model_views(tmp_path, stored) as views, pytest.raises(CollectionDamaged, match="wrong length"):
        list(views.iterate_blocks())


@pytest.mark.parametrize(("mtime_ns", "text"), [(0, datetime.datetime.fromtimestamp(0).isoformat()), (10**30, "")])
def test_a_modification_time_beyond_the_calendar_is_empty(mtime_ns: int, text: str):
    assert StoredFile("/a", 1, mtime_ns).modified_at == text
