"""Weak links: the covered pairs that alone hold two groups together, against a search by brute force."""

from __future__ import annotations

import numpy as np
import pytest

from simsearch.duplicates.pairs import CopyPair
from simsearch.duplicates.weak_links import find_weak_links
from simsearch.matching.evidence import CopyKind, PairEvidence


def pair(a: int, b: int, kind: CopyKind = "overlay", overlap: float = 1.0) -> CopyPair:
    return CopyPair(a, b, PairEvidence((kind,), 50, 1.0, "b", (0.0, 0.0, 1.0, 1.0), 0.0, overlap), 0.9, 3)


def measure_side(start: int, keys: set[tuple[int, int]]) -> set[int]:
    """The images that are connected with one of them."""
    side = {start}
    while more := {b for a, b in keys if a in side} | {a for a, b in keys if b in side}:
        if more <= side:
            break
        side |= more
    return side


@pytest.mark.parametrize("seed", range(30))
def test_they_are_the_links_without_which_two_parts_of_three_fall_apart(seed: int):
    random = np.random.default_rng(seed)
    ends = np.sort(random.integers(0, 24, (26, 2)), axis=1)
    keys = {(int(a), int(b)) for a, b in ends if a != b}
    expected = set()
    for a, b in keys:
        one, other = (measure_side(end, keys - {(a, b)}) for end in (a, b))
        if one.isdisjoint(other) and min(len(one), len(other)) >= 3:
            expected.add((a, b))
    links = find_weak_links([pair(a, b) for a, b in keys])
    assert {link.pair.key for link in links} == expected
    for link in links:
        one, other = (measure_side(end, keys - {link.pair.key}) for end in link.pair.key)
        assert link.others
        assert all((a in one and b in other) or (a in other and b in one) for a, b in link.others)
        assert link.pair.key not in link.others
        assert all(a < b for a, b in link.others)


def test_only_covered_pictures_that_contain_each_other_are_weak_links():
    groups = [pair(1, 2), pair(2, 3), pair(7, 8), pair(8, 9)]
    assert [link.pair.key for link in find_weak_links([*groups, pair(3, 7)])] == [(3, 7)]
    assert find_weak_links([*groups, pair(3, 7, "crop of")]) == []
    assert find_weak_links([*groups, pair(3, 7, overlap=0.5)]) == []
    assert find_weak_links([]) == []
