"""Vectors of other tools taken into a collection."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from simsearch import Collection
from simsearch.errors import ModelError, SourceError, UsageError
from simsearch.store.catalog import Catalog
from tests.conftest import HISTOGRAM, draw_picture
from tests.support import oneshot


def unit_rows(n: int, width: int = 8, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((n, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def write_csv(file: Path, paths: list[str], vectors: np.ndarray) -> Path:
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "vector"])
        writer.writerows([path, json.dumps(row.tolist())] for path, row in zip(paths, vectors, strict=True))
    return file


@pytest.fixture
def source(photos: Path) -> tuple[Path, list[str], np.ndarray]:
    """A table of the photos, with paths relative to their folder, and what is in it."""
    paths = [str(path.relative_to(photos)) for path in sorted(photos.rglob("*.png"))]
    vectors = unit_rows(len(paths))
    return write_csv(photos.parent / "clip.csv", paths, vectors), paths, vectors


def test_imported_vectors_rank_as_numpy_does(source, photos: Path, collection: Path):
    file, paths, vectors = source
    done = oneshot.import_embeddings(collection, file, "clip", root=photos)
    assert (done.n_rows, done.n_added, done.n_images, done.width, done.skips) == (12, 12, 12, 8, ())
    with Collection.open(collection) as opened:
        for row in (0, 7):
            hits = opened.search(photos / paths[row], k=None).hits
            order = np.argsort(-(vectors @ vectors[row]), kind="stable")
            assert [hit.path for hit in hits] == [str(photos / paths[other]) for other in order]
            assert [hit.similarity for hit in hits] == pytest.approx((vectors @ vectors[row])[order], abs=2e-6)


def test_they_lie_beside_the_vectors_of_a_backbone_on_the_same_images(source, photos: Path, collection: Path):
    file, paths, _ = source
    oneshot.ingest(collection, [photos], HISTOGRAM)
    done = oneshot.import_embeddings(collection, file, "clip", root=photos)
    with Collection.open(collection) as opened:
        assert opened.info().to_dict()["images"] == 12
        assert opened.model().model.backbone == "histogram"  # the first stays the default
        assert opened.model("histogram").width != done.width
        assert opened.verify().problems == ()
        assert opened.search(photos / paths[3], backbone="clip", k=1).hits[0].path == str(photos / paths[3])


def test_of_rows_of_one_path_the_last_counts(photos: Path, collection: Path):
    path, vectors = str(photos / "a" / "picture_00.png"), unit_rows(3)
    other = str(photos / "a" / "picture_01.png")
    dotted = os.path.join(str(photos), "b", "..", "a", "picture_00.png")
    file = write_csv(photos.parent / "x.csv", [path, other, dotted], vectors)
    done = oneshot.import_embeddings(collection, file, "clip")
    assert (done.n_rows, done.n_repeated, done.n_added) == (3, 1, 2)
    with Catalog.open(collection) as catalog:
        digests = {where: digest for where, _, digest in catalog.iterate_contents()}
        stored = catalog.list_models()[0]
        np.testing.assert_allclose(catalog.find_vector_by_digest(digests[path], stored), vectors[2], atol=1e-6)


def test_copies_share_the_first_vector_and_that_is_told(photos: Path, collection: Path):
    first, copy = photos / "a" / "picture_00.png", photos / "b" / "copy.png"
    shutil.copy(first, copy)
    file = write_csv(photos.parent / "x.csv", [str(first), str(copy)], unit_rows(2))
    done = oneshot.import_embeddings(collection, file, "clip")
    assert (done.n_added, done.n_kept, done.n_images) == (1, 1, 1)
    with Collection.open(collection) as opened:
        assert opened.search(first, k=5).hits[0].paths == (str(first), str(copy))


def test_a_second_import_adds_what_is_missing_and_changes_nothing(source, photos: Path, collection: Path):
    file, paths, vectors = source
    half = write_csv(photos.parent / "half.csv", paths[:5], vectors[:5])
    oneshot.import_embeddings(collection, half, "clip", root=photos)
    done = oneshot.import_embeddings(collection, file, "clip", root=photos)
    assert (done.n_added, done.n_kept, done.n_images) == (7, 0, 12)
    changed = write_csv(photos.parent / "other.csv", paths, unit_rows(12, seed=5))
    done = oneshot.import_embeddings(collection, changed, "clip", root=photos)
    assert (done.n_added, done.n_kept, done.n_images) == (0, 12, 12)


def test_what_cannot_be_read_is_skipped_and_remembered(source, photos: Path, collection: Path):
    file, paths, vectors = source
    (photos / "torn.jpg").write_bytes(b"\xff\xd8\xff")
    bad = ["torn.jpg", "missing.png", "https://example.org/a.jpg"]
    file = write_csv(file, [*paths, *bad], np.concatenate([vectors, unit_rows(3, seed=9)]))
    done = oneshot.import_embeddings(collection, file, "clip", root=photos)
    assert (done.n_added, len(done.skips)) == (12, 3)
    reasons = {os.path.basename(skip.path): skip.reason for skip in done.skips}
    assert "No such file" in reasons["missing.png"]
    assert "web addresses are not read" in reasons["a.jpg"]
    with Collection.open(collection) as opened:
        assert len(opened.info().to_dict()["skipped"]) == 3


def test_a_picture_without_an_imported_vector_cannot_be_a_query(source, photos: Path, collection: Path, tmp_path: Path):
    file, _, _ = source
    oneshot.import_embeddings(collection, file, "clip", root=photos)
    new = draw_picture(tmp_path / "new.png", 99)
    with Collection.open(collection) as opened:
        with pytest.raises(ModelError, match=r"clip has imported vectors only.*an image id"):
            opened.search(new)
        assert opened.duplicates().n_compared > 0  # copies are compared by their pixels, with any backbone


def test_indexing_goes_on_with_a_backbone_that_can_embed(source, photos: Path, collection: Path):
    file, _, _ = source
    oneshot.ingest(collection, [photos], HISTOGRAM)
    oneshot.import_embeddings(collection, file, "clip", root=photos)
    draw_picture(photos / "new.png", 99)
    assert oneshot.ingest(collection, [photos]).backbone == "histogram"


@pytest.mark.parametrize(
    ("name", "message"),
    [("vgg16", "simsearch has a backbone"), ("builtin", "a backbone"), ("a/b", "not a valid"), ("", "not a valid")],
)
def test_a_name_must_be_one_and_free(source, collection: Path, name: str, message: str):
    with pytest.raises(UsageError, match=message):
        oneshot.import_embeddings(collection, source[0], name)
    assert not collection.exists()


def test_one_name_has_one_width(source, photos: Path, collection: Path):
    file, paths, _ = source
    oneshot.import_embeddings(collection, file, "clip", root=photos)
    wide = write_csv(photos.parent / "wide.csv", paths, unit_rows(12, 16))
    with pytest.raises(UsageError, match="vectors of clip of width 8, these have width 16"):
        oneshot.import_embeddings(collection, wide, "clip", root=photos)


def test_nothing_is_left_behind_where_nothing_could_be_taken_in(source, photos: Path, collection: Path):
    file, paths, vectors = source
    with pytest.raises(SourceError, match=r"none of 12 pictures could be read.*`root`"):
        oneshot.import_embeddings(collection, file, "clip", root=photos / "elsewhere")
    assert not collection.exists()
    vectors[11, 3] = np.nan
    with pytest.raises(SourceError, match="row 12: a number is not finite"):
        oneshot.import_embeddings(collection, write_csv(file, paths, vectors), "clip", root=photos)
    assert not collection.exists()
    oneshot.ingest(collection, [photos], HISTOGRAM)
    with pytest.raises(SourceError, match="none of 12"):
        oneshot.import_embeddings(collection, write_csv(file, paths, unit_rows(12)), "clip", root=photos / "x")
    with Collection.open(collection) as opened:
        assert [model["backbone"] for model in opened.info().to_dict()["models"]] == ["histogram"]


@pytest.mark.parametrize("name", ["e.parquet", "e.csv", "e.jsonl", "e"])
def test_what_was_exported_comes_back_and_answers_the_same(photos: Path, collection: Path, name: str):
    oneshot.ingest(collection, [photos], HISTOGRAM)
    place, again = photos.parent / name, photos.parent / "again"
    with Collection.open(collection) as own:
        assert own.export(place).n_rows == 12
        oneshot.import_embeddings(again, place, "brought")
        with Collection.open(again) as brought:
            for path in sorted(photos.rglob("*.png"))[::4]:
                expected, found = (some.search(path, k=None).hits for some in (own, brought))
                assert [hit.path for hit in found] == [hit.path for hit in expected]
                assert [hit.similarity for hit in found] == pytest.approx(
                    [hit.similarity for hit in expected], abs=2e-6
                )


def write_lines(file: Path, *rows: dict[str, object]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


@pytest.mark.parametrize("large", [1e200, 1e308, 3e-4])
def test_numbers_of_any_finite_size_give_unit_vectors(photos: Path, collection: Path, large: float):
    path = str(photos / "a" / "picture_00.png")
    file = write_lines(photos.parent / "x.jsonl", {"path": path, "vector": [large] * 3 + [-large]})
    oneshot.import_embeddings(collection, file, "clip")
    with Catalog.open(collection) as catalog:
        stored = catalog.list_models()[0]
        [(_, digest)] = [(where, digest) for where, _, digest in catalog.iterate_contents()]
        np.testing.assert_allclose(catalog.find_vector_by_digest(digest, stored), [0.5, 0.5, 0.5, -0.5], atol=1e-7)
    with Collection.open(collection) as opened:
        assert opened.verify().problems == ()


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"vector": [[1, 2], [3, 4]]}, "row 2: a vector is not a list of numbers"),
        ({"vector": [[1], [2]]}, "row 2: a vector is not a list of numbers"),
        ({"vector": [1, [2]]}, "row 2: a vector is not a list of numbers"),
        ({"vector": 5}, "row 2: a vector is not a list of numbers"),
        ({"vector": {"a": 1, "b": 2}}, "row 2: a vector is not a list of numbers"),
        ({"vector": []}, "row 2: 0 numbers where 2 are expected"),
        ({"vector": None}, "row 2: 0 numbers where 2 are expected"),
        ({"vector": [10**400, 1]}, "row 2: a number is not finite"),
        ({"path": "\ud800.png"}, "row 2: '\\ud800.png' cannot be the path of a file"),
        ({"path": "a\0b.png"}, "row 2: 'a\\x00b.png' cannot be the path of a file"),
        ({"path_hex": "zz"}, "row 2: path_hex 'zz' is not hexadecimal"),
        ({"path_hex": "f"}, "row 2: path_hex 'f' is not hexadecimal"),
        ({"path_hex": 5}, "row 2: path_hex 5 is not hexadecimal"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_and_nothing_is_written(
    photos: Path, collection: Path, row: dict[str, object], problem: str
):
    good = {"path": str(photos / "a" / "picture_00.png"), "vector": [1, 2]}
    file = write_lines(photos.parent / "x.jsonl", good, good | row)
    with pytest.raises(SourceError) as error:
        oneshot.import_embeddings(collection, file, "clip")
    assert problem in str(error.value)
    assert not collection.exists()


def test_deeply_nested_json_is_an_error_of_the_source(tmp_path: Path, collection: Path):
    (tmp_path / "x.jsonl").write_text("[" * 100_000 + "\n")
    with pytest.raises(SourceError, match="nested too deeply"):
        oneshot.import_embeddings(collection, tmp_path / "x.jsonl", "clip")


@pytest.mark.parametrize("vector", [[[1.0, 2.0], [3.0, 4.0]], "1 2"])
def test_a_parquet_column_that_is_no_list_of_numbers_is_refused(photos: Path, collection: Path, vector: object):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"path": [str(photos / "a" / "picture_00.png")], "vector": [vector]})
    parquet.write_table(table, photos.parent / "x.parquet")
    with pytest.raises(SourceError, match="row 1: a vector is not a list of numbers"):
        oneshot.import_embeddings(collection, photos.parent / "x.parquet", "clip")
    assert not collection.exists()
