"""Neighbour lists against brute force, in a database as it is and in one with rows changed."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from simsearch.index.exact import ExactIndex
from simsearch.rerank.neighbors import NeighborDatabase, NeighborLists, find_nearest_others
from simsearch.rerank.patched_database import PatchedDatabase
from tests.rerank.conftest import clustered, products


def _check(found: NeighborLists, vectors: np.ndarray, depth: int, rows: np.ndarray | None = None) -> None:
    rows = np.arange(len(vectors)) if rows is None else rows
    similarities = products(vectors)[rows]
    depth = min(depth, len(vectors) - 1)
    assert found.positions.shape == found.similarities.shape == (len(rows), depth)
    assert all(len(set(row)) == depth for row in found.positions.tolist())
    np.testing.assert_allclose(np.take_along_axis(similarities, found.positions, 1), found.similarities, atol=1e-6)
    np.testing.assert_allclose(found.similarities, -np.sort(-similarities, axis=1)[:, :depth], atol=1e-6)


@pytest.mark.parametrize(("n", "depth"), [(120, 7), (1500, 3), (5, 4), (5, 5), (5, 50), (2, 1), (1, 3)])
def test_lists_are_those_of_brute_force_without_the_row_itself(n: int, depth: int):
    vectors = clustered(n)
    _check(find_nearest_others(vectors, depth), vectors, depth)


def test_no_rows_have_no_lists():
    assert find_nearest_others(np.empty((0, 8), np.float32), 3).positions.shape == (0, 0)


def test_copies_of_a_row_are_its_neighbors_in_the_order_of_their_positions():
    found = find_nearest_others(np.repeat(clustered(2), [4, 1], axis=0), 3)
    assert found.positions[:4].tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]


def test_a_row_is_never_in_its_own_list_however_many_copies_it_has():
    found = find_nearest_others(np.repeat(clustered(1), 50, axis=0), 5)
    assert not (found.positions == np.arange(50)[:, None]).any()


def test_lists_deeper_than_the_kept_ones_are_searched(vectors: np.ndarray):
    database, rows = NeighborDatabase.from_vectors(vectors, 5), np.array([3, 90, 3])
    _check(database.find_neighbors(rows, 4), vectors, 4, rows)
    _check(database.find_neighbors(rows, 30), vectors, 30, rows)


def test_positions_are_those_of_the_rows_whatever_the_ids_of_the_index(vectors: np.ndarray):
    index = ExactIndex.create_empty(vectors.shape[1])
    index.add(np.random.default_rng(1).permutation(1000)[: len(vectors)], vectors)
    _check(NeighborDatabase(index, index.vectors, 9).find_neighbors(np.arange(len(vectors)), 9), vectors, 9)


def test_changing_an_answer_does_not_change_what_is_kept(vectors: np.ndarray):
    database, rows = NeighborDatabase.from_vectors(vectors, 5), np.arange(10)
    database.find_neighbors(rows, 5).positions[:] = -1
    _check(database.find_neighbors(rows, 5), vectors, 5, rows)


@pytest.mark.parametrize("depth", [1, 6, 40, 500])
@pytest.mark.parametrize("kept", [2, 8, 30])
@pytest.mark.parametrize("positions", [[120], [7], [50, 3, 121, 120], list(range(20, 60))])
def test_a_database_with_rows_changed_equals_one_made_anew(
    vectors: np.ndarray, positions: list[int], kept: int, depth: int
):
    rows = clustered(len(positions), seed=1)
    n = max(120, max(positions) + 1)
    anew = np.vstack([vectors, np.empty((n - 120, 32), np.float32)])
    anew[positions] = rows
    amended = PatchedDatabase(NeighborDatabase.from_vectors(vectors, kept), np.array(positions), rows)
    assert len(amended) == n
    np.testing.assert_array_equal(amended.read_vectors(np.arange(n)), anew)
    _check(amended.find_neighbors(np.arange(n), depth), anew, depth)
    asked = np.array([positions[0], 0, 119, positions[-1]])
    _check(amended.find_neighbors(asked, depth), anew, depth, asked)


def test_a_row_can_be_put_behind_a_database_of_one():
    vectors = clustered(2)
    amended = PatchedDatabase(NeighborDatabase.from_vectors(vectors[:1], 20), np.array([1]), vectors[1:])
    _check(amended.find_neighbors(np.arange(2), 20), vectors, 1)


def test_memory_never_holds_all_rows_by_all_rows():
    """20,000 x 20,000 similarities would take 1,600 MB."""
    code = """
import resource
import numpy as np
from simsearch.rerank.neighbors import find_nearest_others
rows = np.random.default_rng(0).standard_normal((20_000, 64), dtype=np.float32)
rows /= np.linalg.norm(rows, axis=1, keepdims=True)
find_nearest_others(rows[:2000], 5)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
find_nearest_others(rows, 20)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 150
