"""Damage inside an index file is noticed when the file is first opened, and by verify."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from simsearch import Collection
from simsearch.index.cache import IndexCache
from simsearch.index.files import is_intact
from simsearch.index.integrity import check_file
from simsearch.index.kinds import IndexKindChoice
from simsearch.store.catalog import Catalog
from tests.support.command_line import run
from tests.support.synthetic import clustered, fill

VECTORS = clustered(1200, seed=3)


@pytest.fixture(params=["flat", "flat-sq8", "ivf", "hnsw"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return fill(tmp_path / "ix", VECTORS, IndexKindChoice(request.param)).folder


def damage(folder: Path) -> Path:
    """Zero a third of the content of the index file, and leave its end, the footer, as it is."""
    (file,) = folder.glob("*.faiss")
    content = bytearray(file.read_bytes())
    third = len(content) // 3
    content[third : 2 * third] = bytes(third)
    file.write_bytes(content)
    return file


def test_a_query_does_not_use_an_index_file_with_damaged_content(folder: Path):
    file = damage(folder)
    with Collection.open(folder) as opened:
        for image_id in range(1, 1201, 100):
            assert opened.search(image_id, k=1).hits[0].image_id == image_id
        assert not any("damage" in note for note in opened.search(1).notes)
    assert is_intact(file)


def test_verify_reports_damaged_content_and_exits_with_1(tmp_path: Path):
    file = damage(fill(tmp_path / "ix", VECTORS, IndexKindChoice()).folder)
    done = run("verify", "--in", "ix", cwd=tmp_path)
    assert done.returncode == 1
    assert f"the content of {file.name} is damaged; run `simsearch rebuild`" in done.stdout.replace("\n", " ")
    assert run("rebuild", "--in", "ix", cwd=tmp_path).returncode == 0
    assert run("verify", "--in", "ix", cwd=tmp_path).returncode == 0
    assert is_intact(file)


def test_a_damaged_delta_file_is_not_used(tmp_path: Path):
    from simsearch.store.writer import CatalogWriter
    from tests.support.synthetic import record

    folder = fill(tmp_path / "ix", VECTORS[:1000], IndexKindChoice()).folder
    with CatalogWriter.open(folder) as writer:
        record(writer, VECTORS[1000:], 1000)
        fingerprint = writer.list_models()[0].fingerprint
        IndexCache(writer, rewrite_limit_bytes=0).refresh(fingerprint)
    (delta,) = folder.glob("*.recent")
    content = bytearray(delta.read_bytes())
    content[200:2000] = bytes(1800)
    delta.write_bytes(content)
    with Catalog.open(folder) as catalog:
        index = IndexCache(catalog, rewrite_limit_bytes=0).open_index(fingerprint)
        assert np.array_equal(index.search(VECTORS, 1)[1].ravel(), np.arange(1, 1201))
    assert is_intact(delta)


def test_a_large_file_is_checked_meanwhile_and_dropped_when_it_is_damaged(tmp_path: Path):
    folder = fill(tmp_path / "ix", VECTORS, IndexKindChoice()).folder
    file = damage(folder)
    with Catalog.open(folder) as catalog:
        cache, fingerprint = IndexCache(catalog, background_limit_bytes=0), catalog.list_models()[0].fingerprint
        cache.open_index(fingerprint)
        assert check_file(file, 0).wait(60)
        index = cache.open_index(fingerprint)
        assert np.array_equal(index.search(VECTORS, 1)[1].ravel(), np.arange(1, 1201))
    assert is_intact(file)


def test_answers_from_a_file_that_is_being_checked_say_so(tmp_path: Path):
    folder = fill(tmp_path / "ix", VECTORS, IndexKindChoice()).folder
    (file,) = folder.glob("*.faiss")
    check = check_file(file, 0)
    assert check.wait(60)
    assert check.notes == ()
    check = type(check)(file)
    assert "is still being checked for damage" in check.notes[0]
    damage(folder)
    check.run()
    assert check.is_damaged
    assert "results may be wrong" in check.notes[0]


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
def test_a_damaged_header_is_no_crash_before_the_file_is_compared_with_its_digest(tmp_path: Path, kind: str):
    folder = fill(tmp_path / "ix", VECTORS[:600], IndexKindChoice(kind)).folder
    (file,) = folder.glob("*.faiss")
    content = file.read_bytes()
    for position in range(0, 60, 4):
        harmed = bytearray(content)
        harmed[position : position + 2] = b"\x7f\xff"
        file.unlink()
        file.write_bytes(harmed)
        with Catalog.open(folder) as catalog:
            index = IndexCache(catalog, background_limit_bytes=0).open_index(catalog.list_models()[0].fingerprint)
            assert index.search(VECTORS[:1], 1)[1].shape == (1, 1)
