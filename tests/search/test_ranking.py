"""The order of hits of a real index over vectors made for the purpose."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from simsearch.index.cache import IndexCache
from simsearch.index.kinds import IndexKindChoice
from simsearch.search import RankingLimits, rank_hits
from simsearch.store.catalog import Catalog
from tests.support.synthetic import WIDTH, fill


def test_similarities_that_are_equal_in_six_decimals_come_by_id_however_the_index_sorts_them(tmp_path: Path):
    """Forty similarities from 0.1 to 0.1 + 4e-7, rising with the id, so that the index returns the last ids first."""
    similarities = (0.1 + 1e-8 * np.arange(40)).astype(np.float32)
    assert (np.diff(similarities) > 0).sum() > 30
    vectors = np.zeros((40, WIDTH), np.float32)
    vectors[:, 0], vectors[:, 1] = similarities, np.sqrt(1 - similarities.astype(np.float64) ** 2)
    query = np.eye(1, WIDTH, dtype=np.float32)[0]
    folder = fill(tmp_path / "collection", vectors, IndexKindChoice()).folder
    with Catalog.open(folder) as catalog:
        index = IndexCache(catalog).open_index(catalog.list_models()[0].fingerprint)
        hits = rank_hits(query, index, catalog, RankingLimits(k=3))
        later = rank_hits(query, index, catalog, RankingLimits(k=2, offset=3))
    assert [(hit.rank, hit.image_id, hit.similarity) for hit in hits] == [(1, 1, 0.1), (2, 2, 0.1), (3, 3, 0.1)]
    assert [(hit.rank, hit.image_id) for hit in later] == [(4, 4), (5, 5)]
