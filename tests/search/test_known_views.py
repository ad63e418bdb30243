"""Every stored image finds itself, also in an approximate index that misses it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from simsearch import Collection
from simsearch.index.cache import IndexCache
from simsearch.index.kinds import IndexKindChoice
from simsearch.store.catalog import Catalog
from tests.support.synthetic import WIDTH, fill


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection whose index misses some of its vectors: they lie in few, dense clusters with like codes."""
    random = np.random.default_rng(100)
    centres = random.standard_normal((60, WIDTH))
    rows = centres[random.integers(0, 60, 1200)] + 0.01 * random.standard_normal((1200, WIDTH))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return fill(tmp_path_factory.mktemp("dense") / "ix", rows, IndexKindChoice("hnsw-sq8", 0.5)).folder


@pytest.fixture(scope="module")
def missed(folder: Path) -> list[int]:
    """Images that their own vectors do not find."""
    with Catalog.open(folder) as catalog, IndexCache(catalog) as cache:
        stored = catalog.list_models()[0]
        ((ids, rows),) = [
            [np.concatenate(part) for part in zip(*catalog.iterate_vectors(stored, np.arange(1, 1201)), strict=True)]
        ]
        _, found = cache.open_index(stored.fingerprint).search(rows, 18)
    return [int(id_) for id_, near in zip(ids, found, strict=True) if id_ not in near]


@pytest.mark.parametrize("where", [None, "width = 64"])
def test_an_image_finds_itself_although_the_index_misses_it(folder: Path, missed: list[int], where: str | None):
    assert missed
    with Collection.open(folder) as opened:
        for number in missed:
            hits = opened.search(number, k=10, where=where).hits
            assert hits[0].image_id == number
            assert len(hits) == 10
            assert hits[0].similarity == 1


def test_an_image_that_does_not_match_the_filter_does_not_find_itself(folder: Path, missed: list[int]):
    with Collection.open(folder) as opened:
        for number in missed:
            hits = opened.search(number, k=10, where=f"name != '{number - 1:06}.png'").hits
            assert len(hits) == 10
            assert number not in [hit.image_id for hit in hits]


def test_every_example_of_a_query_is_found(folder: Path, missed: list[int]):
    with Collection.open(folder) as opened:
        hits = opened.search([missed[0], missed[0] % 1200 + 1], k=600).hits
        assert missed[0] in [hit.image_id for hit in hits]
