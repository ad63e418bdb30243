"""What the improvements bring on real photographs with a real network: the numbers that the project promises."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from simsearch.models.projection import Projection
from simsearch.rerank.database_augmentation import LeaveOneOut, blend
from simsearch.rerank.k_reciprocal import KReciprocalReranker
from simsearch.rerank.neighbors import NeighborDatabase, find_nearest_others
from simsearch.rerank.patched_database import PatchedDatabase
from simsearch.rerank.query_expansion import expand
from tests.conftest import SHARED

pytestmark = [
    pytest.mark.skipif(not SHARED.is_dir(), reason="../shared, with real photographs, is not on this machine"),
    pytest.mark.long,
]


@pytest.fixture(scope="module")
def features(
    tmp_path_factory: pytest.TempPathFactory, copy_photographs: Callable[[str, Path], Path]
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of 1,200 photographs in full precision, (1200, 1280), and their classes (1200,), twelve each."""
    folder = copy_photographs("mobilenet_v2", tmp_path_factory.mktemp("indexes") / "caltech")
    query = "SELECT files.path, vector FROM vectors JOIN views ON views.id = view_id JOIN files USING (image_id)"
    connection = sqlite3.connect(folder / "catalog.db")
    rows = connection.execute(query + " ORDER BY files.id").fetchall()
    connection.close()
    labels = np.array([Path(path).parent.name for path, _ in rows])
    return np.array([np.frombuffer(blob, "<f4") for _, blob in rows]), labels


@pytest.fixture(scope="module")
def projected(features: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return Projection.fit(features[0], 256).apply(features[0])


def _ranking(database: np.ndarray, vector: np.ndarray, query: int) -> np.ndarray:
    order = np.argsort(-(database @ vector), kind="stable")
    return order[order != query]


def _scores(rankings: Iterator[np.ndarray], labels: np.ndarray) -> list[float]:
    """P@1, P@10 and mAP, leave-one-out."""
    hits = np.array([labels[ranking] == labels[query] for query, ranking in enumerate(rankings)])
    precisions = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    average = (precisions * hits).sum(axis=1) / hits.sum(axis=1)
    return [hits[:, 0].mean(), hits[:, :10].mean(), average.mean()]


def _blended_without(vectors: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Each query, and the database blended with five neighbors as if the query had never been in it."""
    neighbors = find_nearest_others(vectors, 6)
    blended, without = blend(vectors, neighbors, 5), LeaveOneOut(vectors, neighbors, 5)
    for query in range(len(vectors)):
        corrected, honest = without.correct_rows(query), blended.copy()
        honest[corrected.positions] = corrected.vectors
        yield query, honest


def test_plain_and_projected_features_retrieve_as_measured(features: tuple[np.ndarray, np.ndarray], projected):
    for vectors, measured in [(features[0], [0.841, 0.646, 0.665]), (projected, [0.851, 0.680, 0.701])]:
        rankings = (_ranking(vectors, vectors[query], query) for query in range(1200))
        np.testing.assert_allclose(_scores(rankings, features[1]), measured, atol=0.005)


def test_full_whitening_hurts_as_measured(features: tuple[np.ndarray, np.ndarray]):
    vectors = Projection.fit(features[0], 256, whitening=1.0).apply(features[0])
    rankings = (_ranking(vectors, vectors[query], query) for query in range(1200))
    np.testing.assert_allclose(_scores(rankings, features[1]), [0.833, 0.538, 0.523], atol=0.005)


def test_database_augmentation_gains_as_measured(features: tuple[np.ndarray, np.ndarray], projected: np.ndarray):
    rankings = (_ranking(database, projected[query], query) for query, database in _blended_without(projected))
    np.testing.assert_allclose(_scores(rankings, features[1]), [0.853, 0.727, 0.746], atol=0.005)


def test_query_expansion_on_top_gains_as_measured(features: tuple[np.ndarray, np.ndarray], projected: np.ndarray):
    def rankings() -> Iterator[np.ndarray]:
        for query, database in _blended_without(projected):
            first = _ranking(database, projected[query], query)[:5]
            expanded = expand(projected[query], database[first], database[first] @ projected[query])
            yield _ranking(database, expanded, query)

    np.testing.assert_allclose(_scores(rankings(), features[1]), [0.860, 0.755, 0.776], atol=0.005)


def _re_ranked(reciprocal: KReciprocalReranker, query: int, database: np.ndarray, vector: np.ndarray) -> np.ndarray:
    ranking = _ranking(database, vector, query)
    first = ranking[:100]
    return np.concatenate([first[reciprocal.reorder(query, first, database[first] @ vector).order], ranking[100:]])


def test_re_ranking_gains_as_measured(features: tuple[np.ndarray, np.ndarray], projected: np.ndarray):
    reciprocal = KReciprocalReranker(NeighborDatabase.from_vectors(projected, 20))
    rankings = (_re_ranked(reciprocal, query, projected, projected[query]) for query in range(1200))
    np.testing.assert_allclose(_scores(rankings, features[1]), [0.848, 0.763, 0.776], atol=0.005)


@pytest.mark.thorough
def test_re_ranking_a_blended_database_gains_as_measured(
    features: tuple[np.ndarray, np.ndarray], projected: np.ndarray
):
    neighbors = find_nearest_others(projected, 6)
    blended, without = blend(projected, neighbors, 5), LeaveOneOut(projected, neighbors, 5)
    kept = NeighborDatabase.from_vectors(blended, 40)

    def rankings() -> Iterator[np.ndarray]:
        for query, honest in _blended_without(projected):
            positions = np.append(without.correct_rows(query).positions, query)
            honest[query] = projected[query]
            amended = PatchedDatabase(kept, positions, honest[positions])
            yield _re_ranked(KReciprocalReranker(amended), query, honest, projected[query])

    np.testing.assert_allclose(_scores(rankings(), features[1]), [0.854, 0.782, 0.797], atol=0.005)
