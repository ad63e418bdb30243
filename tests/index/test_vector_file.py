"""The vector file beside an index: what it holds, and that no torn, foreign or outdated one is used."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from simsearch import Collection
from simsearch.index.cache import IndexCache
from simsearch.index.files import IndexStamp, is_intact, read_footer
from simsearch.index.kinds import IndexKindChoice
from simsearch.index.vector_file import CandidateReader, VectorFile, VectorFileWriter
from simsearch.store.catalog import Catalog
from simsearch.store.writer import CatalogWriter
from tests.support.synthetic import clustered, fill, record

STAMP = IndexStamp("collection", "model", 7, 4)
VECTORS = clustered(2_000, seed=1)
QUERIES = clustered(20, seed=2)


def write(file: Path, ids: np.ndarray, rows: np.ndarray) -> VectorFile:
    writer = VectorFileWriter(file, rows.shape[1])
    for start in range(0, len(ids), 100):
        writer.add(ids[start : start + 100], rows[start : start + 100])
    writer.finish(STAMP)
    writer.publish()
    return VectorFile.open(file)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fill(tmp_path / "ix", VECTORS, IndexKindChoice("ivf-sq8", 0.97)).folder


def vector_file(folder: Path) -> Path:
    (file,) = folder.glob("*.vectors")
    return file


def search(folder: Path) -> np.ndarray:
    """The similarities (q, 10) that a query in a new process finds."""
    with Catalog.open(folder) as catalog:
        index = IndexCache(catalog).open_index(catalog.list_models()[0].fingerprint)
        return index.search(QUERIES, 10)[0]


def are_equal(found: np.ndarray, expected: np.ndarray) -> bool:
    """Whether similarities are equal, be they from the vector file or from the catalog."""
    return bool(np.abs(found - expected).max() < 2e-5)


@pytest.mark.parametrize("step", [1, 3])
def test_rows_are_read_by_id_with_six_digits(tmp_path: Path, step: int):
    ids = 5 + step * np.arange(len(VECTORS))
    vectors = write(tmp_path / "x.vectors", ids, VECTORS)
    assert (vectors.ids == ids).all()
    for some in (np.array([1_999, 0, 7]), np.arange(700), np.arange(0, 2_000, 11)):
        rows, is_valid = vectors.read(ids[some])
        assert is_valid.all()
        assert np.abs(QUERIES @ rows.T - QUERIES @ VECTORS[some].T).max() < 2e-5
    assert np.concatenate([some for some, _ in vectors.iterate_blocks()]).tolist() == ids.tolist()
    assert (tmp_path / "x.vectors").stat().st_size < 2_000 * (2 * 32 + 8) + 1_000


def test_ids_that_are_not_in_the_file_are_read_from_the_catalog(tmp_path: Path):
    asked: list[int] = []

    def read_from_catalog(ids: np.ndarray) -> np.ndarray:
        asked.extend(ids.tolist())
        return VECTORS[ids]

    reader = CandidateReader(write(tmp_path / "x.vectors", np.arange(10, 500), VECTORS[10:500]), read_from_catalog)
    rows = reader(np.array([499, 9, 500, 10]))
    assert asked == [9, 500]
    assert np.abs(rows - VECTORS[[499, 9, 500, 10]]).max() < 2e-5


def test_a_vector_that_is_no_unit_vector_is_read_from_the_catalog(tmp_path: Path):
    rows = VECTORS[:5].copy()
    rows[2] = 0
    rows[3] *= 2
    vectors = write(tmp_path / "x.vectors", np.arange(5), rows)
    assert vectors.read(np.arange(5))[1].tolist() == [True, True, False, False, True]
    assert not vectors.is_damaged


def test_without_publish_nothing_is_left(tmp_path: Path):
    writer = VectorFileWriter(tmp_path / "x.vectors", 32)
    writer.add(np.arange(10), VECTORS[:10])
    writer.finish(STAMP)
    del writer
    assert list(tmp_path.iterdir()) == []


def test_ids_that_do_not_ascend_are_refused(tmp_path: Path):
    writer = VectorFileWriter(tmp_path / "x.vectors", 32)
    writer.add(np.arange(10), VECTORS[:10])
    with pytest.raises(ValueError, match="ascend"):
        writer.add(np.array([9]), VECTORS[:1])


@pytest.mark.parametrize("harm", ["torn", "empty", "gone", "foreign", "outdated", "a folder", "foreign footer"])
def test_a_file_that_does_not_fit_is_replaced(folder: Path, harm: str, tmp_path: Path):
    file, expected = vector_file(folder), search(folder)
    content = file.read_bytes()
    file.unlink()
    if harm in ("torn", "empty", "foreign"):
        file.write_bytes({"torn": content[:-9], "empty": b"", "foreign": b"SQLite format 3" * 100}[harm])
    elif harm == "outdated":
        older = fill(tmp_path / "older", clustered(2_000, seed=9), IndexKindChoice("ivf-sq8", 0.97)).folder
        shutil.copy(vector_file(older), file)
    elif harm == "a folder":
        file.mkdir()
    elif harm == "foreign footer":
        shutil.copy(next(folder.glob("*.faiss")), file)
    assert are_equal(search(folder), expected)
    if harm != "a folder":  # which is not deleted: the catalog is read instead
        footer, stamp = read_footer(file), read_footer(next(folder.glob("*.faiss")))
        assert footer is not None
        assert stamp is not None
        assert footer.stamp.has_same_state(stamp.stamp)
        assert is_intact(file)


def test_a_file_truncated_under_a_running_reader_ends_no_process(folder: Path):
    file, expected = vector_file(folder), search(folder)
    size = file.stat().st_size
    with Catalog.open(folder) as catalog:
        index = IndexCache(catalog).open_index(catalog.list_models()[0].fingerprint)
        has_started, truncated = threading.Event(), threading.Event()

        def truncate() -> None:
            has_started.wait()
            for share in (0.7, 0.3, 0.0):
                os.truncate(file, int(share * size))
            truncated.set()

        thread = threading.Thread(target=truncate)
        thread.start()
        n_after = 0
        while n_after < 3:
            n_after += truncated.is_set()
            assert are_equal(index.search(QUERIES, 10)[0], expected)
            has_started.set()
        thread.join()
    assert are_equal(search(folder), expected)
    assert file.stat().st_size == size
    assert is_intact(file)


def test_a_row_that_is_cut_off_is_not_valid(folder: Path):
    file = vector_file(folder)
    vectors = VectorFile.open(file)
    for n_bytes in (2, vectors.width, 2 * vectors.width):  # a row less two bytes may keep its largest number
        os.truncate(file, len(vectors) * 2 * vectors.width - n_bytes)
        _, is_valid = vectors.read(vectors.ids[-2:])
        assert is_valid.tolist() == [True, False]
    assert vectors.is_damaged


def test_damaged_rows_are_noticed_and_the_file_is_replaced(folder: Path):
    file, expected = vector_file(folder), search(folder)
    with file.open("r+b") as stream:
        stream.write(bytes(file.stat().st_size // 2))
    with Collection.open(folder) as opened:
        assert any(f"the content of {file.name} is damaged" in problem for problem in opened.verify().problems)
        for image_id in range(1, 2_001, 100):
            assert opened.search(image_id, k=1).hits[0].image_id == image_id
        assert opened.search(1, k=1).hits[0].similarity == pytest.approx(1, abs=2e-6)
        assert opened.verify().problems == ()
    assert are_equal(search(folder), expected)
    assert is_intact(file)


def test_another_kind_keeps_the_file_and_an_exact_index_has_none(folder: Path):
    with Collection.open(folder) as opened:
        opened.rebuild(IndexKindChoice("hnsw-sq8", 0.9))
        assert len(VectorFile.open(vector_file(folder))) == len(VECTORS)
        opened.rebuild(IndexKindChoice("flat"))
    assert not list(folder.glob("*.vectors"))


def test_a_base_written_again_gets_a_file_of_its_state(folder: Path):
    added = clustered(500, seed=5)
    with CatalogWriter.open(folder) as writer:
        record(writer, added, len(VECTORS))
        with writer.transaction():
            writer.forget_files([f"/pictures/{number:06}.png" for number in range(300)])
            writer.forget_orphans()
        IndexCache(writer).refresh(writer.list_models()[0].fingerprint)
    vectors = VectorFile.open(vector_file(folder))
    assert vectors.ids.tolist() == list(range(301, 2_501))
    assert not list(folder.glob("*.recent"))
    assert not list(folder.glob(".ann-*"))
