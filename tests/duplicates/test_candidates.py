"""Candidate pairs: neighbors and close hashes, compared with brute force."""

from __future__ import annotations

import numpy as np
import pytest

from simsearch.duplicates import candidates
from simsearch.duplicates.candidates import Candidates, HashSearch, measure_hash_distances


def make_hashes(n: int, seed: int = 0) -> np.ndarray:
    """Random hashes (n, 2); the second half differs from the first in 0 to 3 bits, some of them mirrored."""
    random = np.random.default_rng(seed)
    hashes = random.integers(0, 2**64, (n, 2), dtype=np.uint64)
    for row in range(n // 2):
        bits = random.choice(64, int(random.integers(4)), replace=False)
        changed = np.bitwise_xor.reduce(np.uint64(1) << bits.astype(np.uint64), initial=np.uint64(0))
        source = hashes[row, ::-1] if row % 3 == 0 else hashes[row]
        hashes[n // 2 + row] = source ^ changed
    return hashes


def find(search: HashSearch, rows: np.ndarray) -> set[tuple[int, int]]:
    pairs = {(int(min(a, b)), int(max(a, b))) for first, second, _ in search.find_pairs(rows)
             for a, b in zip(first, second, strict=True)}  # fmt: skip
    assert all(a != b for a, b in pairs)
    return pairs


def test_close_hashes_are_those_of_brute_force():
    hashes = make_hashes(400)
    expected = {
        (a, b) for a in range(400) for b in range(a + 1, 400)
        if min(int(hashes[a, side] ^ hashes[b, 0]).bit_count() for side in (0, 1)) <= candidates.MAX_HASH_DISTANCE
        or int(hashes[b, 1] ^ hashes[a, 0]).bit_count() <= candidates.MAX_HASH_DISTANCE
    }  # fmt: skip
    assert find(HashSearch(hashes), np.arange(400)) == expected
    assert len(expected) >= 200


def test_in_a_large_collection_hashes_with_up_to_three_different_bits_are_found_through_their_quarters():
    hashes = make_hashes(candidates._MAX_EXHAUSTIVE + 2_000)
    half = len(hashes) // 2
    rows = np.arange(300)
    found = find(HashSearch(hashes), rows)
    assert {(int(row), int(half + row)) for row in rows} <= found


@pytest.mark.parametrize("n", [500, candidates._MAX_EXHAUSTIVE + 500])
def test_equal_hashes_of_uniform_pictures_do_not_make_all_pairs(n: int):
    hashes = make_hashes(n)
    hashes[:400] = 7
    found = find(HashSearch(hashes), np.arange(400))
    assert len([pair for pair in found if pair[1] < 400]) <= 400 * candidates.N_NEIGHBORS


def test_a_pair_that_is_found_twice_occurs_once_with_its_best_rank():
    first, second, ranks = np.array([3, 1, 5, 5]), np.array([1, 3, 5, 2]), np.array([4, 2, 0, 9])
    collected = Candidates.collect(first, second, ranks)
    assert list(zip(collected.first, collected.second, collected.ranks, strict=True)) == [(1, 3, 2), (2, 5, 9)]


def test_hash_distances_are_the_smaller_of_upright_and_mirrored():
    hashes = np.array([[0b0, 0b1111], [0b1110, 0b1]], np.uint64)
    assert measure_hash_distances(hashes, np.array([0]), np.array([1])).tolist() == [1]
