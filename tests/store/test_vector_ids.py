"""The ids of the vectors of a model, which are read range by range."""

from __future__ import annotations

import contextlib
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from simsearch.index.kinds import IndexKindChoice
from simsearch.store.catalog import Catalog
from simsearch.store.sqlite_errors import CATALOG_NAME
from tests.support.synthetic import clustered, fill

N = 3_000
GAPS = {
    "none": [],
    "the first and the last": [1, N],
    "a few": [2, 511, 512, 513, 1_600],
    "two whole ranges": [*range(500, 1_700)],
    "every second": [*range(2, N + 1, 2)],
    "all but one": [*range(1, 2_000), *range(2_001, N + 1)],
    "all": [*range(1, N + 1)],
}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("ids") / "collection", clustered(N, seed=1), IndexKindChoice()).folder


@pytest.mark.parametrize("name", GAPS)
def test_all_ids_are_listed_in_ascending_order_whatever_is_missing(name: str, filled: Path, tmp_path: Path):
    content = (filled / CATALOG_NAME).read_bytes()
    (tmp_path / CATALOG_NAME).write_bytes(content)
    with closing(sqlite3.connect(tmp_path / CATALOG_NAME)) as connection, connection:
        connection.executemany("DELETE FROM vectors WHERE view_id = ?", [(id_,) for id_ in GAPS[name]])
    with Catalog.open(tmp_path) as catalog:
        ids = catalog.list_vector_ids(catalog.list_models()[0].id)
    assert ids.dtype == np.int64
    assert ids.tolist() == sorted(set(range(1, N + 1)) - set(GAPS[name]))


def test_an_id_that_is_far_from_all_others_is_listed(filled: Path, tmp_path: Path):
    largest = 2**63 - 1
    (tmp_path / CATALOG_NAME).write_bytes((filled / CATALOG_NAME).read_bytes())
    with closing(sqlite3.connect(tmp_path / CATALOG_NAME)) as connection, connection:
        connection.execute("UPDATE vectors SET view_id = ? WHERE view_id = ?", (largest, N))
    with Catalog.open(tmp_path) as catalog:
        ids = catalog.list_vector_ids(catalog.list_models()[0].id)
    assert ids.tolist() == [*range(1, N), largest]


@pytest.mark.parametrize("is_in_transaction", [False, True])
def test_an_id_that_another_process_adds_meanwhile_stands_for_no_other(
    is_in_transaction: bool, filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / CATALOG_NAME).write_bytes((filled / CATALOG_NAME).read_bytes())
    other = sqlite3.connect(tmp_path / CATALOG_NAME)
    with closing(other):
        with other:
            other.execute("DELETE FROM vectors WHERE view_id IN (5, ?)", (N,))
        find_last_view_id = Catalog.find_last_view_id

        def add_after(catalog: Catalog, model_id: int) -> int:
            last = find_last_view_id(catalog, model_id)
            with other:
                query = (
                    "INSERT INTO vectors (model_id, view_id, vector) SELECT model_id, ?, vector FROM vectors LIMIT 1"
                )
                other.execute(query, (N,))
                other.execute("UPDATE models SET generation = generation + 1")
            return last

        monkeypatch.setattr(Catalog, "find_last_view_id", add_after)
        with Catalog.open(tmp_path) as catalog:
            model_id = catalog.list_models()[0].id
            with catalog.read_transaction() if is_in_transaction else contextlib.nullcontext():
                assert 5 not in catalog.list_vector_ids(model_id)


def test_a_model_without_vectors_has_no_ids(filled: Path):
    with Catalog.open(filled) as catalog:
        assert catalog.list_vector_ids(99).tolist() == []
