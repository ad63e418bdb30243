"""Ranking against brute force in NumPy, and the rules of an answer."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simsearch import Collection, ModelChoice
from simsearch.errors import CollectionNotFound, ImageError, ImageNotFound, ModelNotIndexed, UsageError, WeightsMismatch
from tests.conftest import HISTOGRAM, draw_picture
from tests.support import oneshot


@pytest.fixture
def indexed(photos: Path, collection: Path) -> Path:
    oneshot.ingest(collection, [str(photos)], HISTOGRAM)
    return collection


def stored_vectors(collection: Path) -> dict[str, np.ndarray]:
    """Vectors by path, read with nothing but sqlite3 and NumPy, as the documentation of the tables says."""
    query = """SELECT files.path, vector FROM vectors JOIN views ON views.id = view_id
               JOIN files USING (image_id) ORDER BY files.id"""
    with sqlite3.connect(collection / "catalog.db") as connection:
        rows = connection.execute(query).fetchall()
    connection.close()
    return {path: np.frombuffer(blob, "<f4") for path, blob in rows}


def test_answers_equal_brute_force(indexed: Path):
    vectors = stored_vectors(indexed)
    matrix = np.stack(list(vectors.values()))
    with Collection.open(indexed) as opened:
        for path, vector in vectors.items():
            hits = opened.search(path, k=5).hits
            products = matrix @ vector
            order = np.argsort(-products, kind="stable")[:5]
            assert [hit.path for hit in hits] == [list(vectors)[row] for row in order]
            np.testing.assert_allclose([hit.similarity for hit in hits], products[order], atol=1e-5)


def test_a_picture_that_is_not_in_the_collection_is_embedded(indexed: Path, photos: Path, tmp_path: Path):
    Image.open(photos / "a" / "picture_03.png").save(tmp_path / "again.bmp")
    with Collection.open(indexed) as opened:
        (hit,) = opened.search(str(tmp_path / "again.bmp"), k=1).hits
    assert (Path(hit.path).name, hit.rank, hit.image_id) == ("picture_03.png", 1, 4)
    assert hit.similarity >= 0.9999


def test_a_stored_image_is_asked_by_its_id(indexed: Path):
    with Collection.open(indexed) as opened:
        by_id, by_path = opened.search(5, k=3), opened.search(opened.search(5, k=1).hits[0].path, k=3)
    assert by_id.hits == by_path.hits


def test_several_queries_are_averaged(indexed: Path):
    vectors = list(stored_vectors(indexed).items())
    (first, a), (second, b) = vectors[0], vectors[7]
    mean = (a + b) / np.linalg.norm(a + b)
    with Collection.open(indexed) as opened:
        hits = opened.search([first, second], k=12).hits
    similarities = {path: float(vector @ mean) for path, vector in vectors}
    assert {hit.path: pytest.approx(hit.similarity, abs=1e-5) for hit in hits} == similarities


def test_exclude_self_leaves_out_the_content_of_the_query_under_any_name(indexed: Path, photos: Path, tmp_path: Path):
    copy = shutil.copy(photos / "a" / "picture_00.png", tmp_path / "holiday.png")
    with Collection.open(indexed) as opened:
        hits = opened.search(copy, k=12, exclude_self=True).hits
        assert len(hits) == 11
        assert "picture_00.png" not in {Path(hit.path).name for hit in hits}
        assert len(opened.search([1, 2], k=12, exclude_self=True).hits) == 10


def test_min_similarity_leaves_out_the_rest(indexed: Path, photos: Path):
    with Collection.open(indexed) as opened:
        everything = opened.search(1, k=12).hits
        threshold = everything[4].similarity
        assert opened.search(1, k=12, min_similarity=threshold).hits == everything[:5]


def test_equal_similarities_come_in_the_order_of_ids_even_at_the_cut(tmp_path: Path, collection: Path):
    """The same pixels in forty files of different bytes: forty images at one similarity."""
    picture = Image.open(draw_picture(tmp_path / "source.png", 3))
    (tmp_path / "photos").mkdir()
    for number in range(40):
        picture.save(tmp_path / "photos" / f"{number:02}.png", compress_level=number % 10, dpi=(number + 1, 72))
    oneshot.ingest(collection, [str(tmp_path / "photos")], HISTOGRAM)
    with Collection.open(collection) as opened:
        hits = opened.search(40, k=7).hits
    assert [hit.image_id for hit in hits] == [1, 2, 3, 4, 5, 6, 7]
    assert {hit.similarity for hit in hits} == {1.0}


def test_k_answers_come_back_although_the_nearest_files_are_gone(tmp_path: Path, collection: Path):
    for seed in range(60):
        draw_picture(tmp_path / "photos" / f"{seed:02}.png", seed)
    oneshot.ingest(collection, [str(tmp_path / "photos")], HISTOGRAM)
    with Collection.open(collection) as opened:
        order = [hit.path for hit in opened.search(1, k=60).hits]
    for path in order[1:50]:
        Path(path).unlink()
    oneshot.ingest(collection, [str(tmp_path / "photos")], HISTOGRAM)
    with Collection.open(collection) as opened:
        assert [hit.path for hit in opened.search(1, k=5).hits] == [order[0], *order[50:54]]


def test_a_long_lived_reader_sees_what_a_later_run_added(indexed: Path, photos: Path):
    with Collection.open(indexed) as opened:
        assert len(opened.search(1, k=100).hits) == 12
        new = draw_picture(photos / "new.png", 77)
        oneshot.ingest(indexed, [str(photos)], HISTOGRAM)
        assert opened.search(str(new), k=1).hits[0].path == str(new)


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({"k": 0}, "k is 0"),
        ({"k": -3}, "k is -3"),
        ({"min_similarity": 1.5}, "from -1 to 1"),
        ({"queries": []}, "no example"),
    ],
)
def test_a_wrong_question_is_a_usage_error(indexed: Path, question: dict, message: str):
    with Collection.open(indexed) as opened, pytest.raises(UsageError, match=message):
        opened.search(**{"queries": 1} | question)


def test_an_unreadable_query_says_why(indexed: Path, tmp_path: Path):
    (tmp_path / "x.jpg").write_text("<html>")
    with Collection.open(indexed) as opened:
        with pytest.raises(ImageError, match=r"x\.jpg: .*web page"):
            opened.search(str(tmp_path / "x.jpg"))
        with pytest.raises(ImageError, match="No such file"):
            opened.search(str(tmp_path / "missing.jpg"))


def test_an_unknown_id_is_told(indexed: Path):
    with Collection.open(indexed) as opened, pytest.raises(ImageNotFound, match="no image 99"):
        opened.search(99)


def test_a_backbone_that_is_not_indexed_is_an_error_with_the_indexed_ones(indexed: Path):
    with (
        Collection.open(indexed) as opened,
        pytest.raises(ModelNotIndexed, match=r"it has histogram; .*`Collection\.ingest"),
    ):
        opened.search(1, backbone="resnet50")


def test_a_missing_collection_says_how_to_make_one(tmp_path: Path):
    with pytest.raises(CollectionNotFound, match=r"`Collection\.ingest"):
        Collection.open(tmp_path / "nothing")


def test_a_collection_of_another_builtin_is_not_asked_with_this_one(photos: Path, collection: Path):
    """An upgrade may bring other weights: mixing their vectors would answer nonsense."""
    oneshot.ingest(collection, [photos], ModelChoice(backbone="builtin"))
    new = draw_picture(photos.parent / "new.png", 50)
    with Collection.open(collection) as opened:
        assert len(opened.search(new).hits) == 10
        digest = opened.info().to_dict()["models"][0]["weights"]
    with contextlib.closing(sqlite3.connect(collection / "catalog.db")) as connection, connection:
        connection.execute("UPDATE models SET details = replace(details, ?, 'other')", (digest,))
    with Collection.open(collection) as opened:
        assert len(opened.search(photos / "a" / "picture_00.png").hits) == 10
        with pytest.raises(WeightsMismatch, match=r"another version of the backbone builtin.*`Collection\.ingest"):
            opened.search(new)
