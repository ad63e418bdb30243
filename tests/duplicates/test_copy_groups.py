"""Groups of copies: what belongs together, and what a chain of parts does not bring together."""

from __future__ import annotations

import itertools

from simsearch.duplicates.copy_groups import build_copy_groups
from simsearch.duplicates.pairs import CopyPair
from simsearch.matching.evidence import Box, CopyKind, PairEvidence

WHOLE: Box = (0.0, 0.0, 1.0, 1.0)


def pair(
    a: int, b: int, box: Box = WHOLE, *, kinds: tuple[CopyKind, ...] = ("re-encoded",), overlap: float = 1.0
) -> CopyPair:
    """A pair in which b shows more: a lies in its box."""
    evidence = PairEvidence(kinds, 50, 1.0, "b" if a < b else "a", box, 0.0, overlap)
    return CopyPair(min(a, b), max(a, b), evidence, 0.9, 3)


def test_whole_copies_are_connected_through_others():
    assert build_copy_groups([pair(1, 2), pair(2, 3), pair(5, 9)], ()) == [[1, 2, 3], [5, 9]]


def test_a_crop_is_in_the_group_of_its_picture():
    assert build_copy_groups([pair(1, 2), pair(7, 2, (0.2, 0.2, 0.7, 0.7))], ()) == [[1, 2, 7]]


def test_a_collage_joins_one_of_its_pictures_and_does_not_glue_them():
    left, right = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)
    pairs = [pair(1, 9, left), pair(2, 9, right), pair(1, 3), pair(2, 4)]
    assert build_copy_groups(pairs, ()) == [[1, 3, 9], [2, 4]]


def test_a_collage_that_is_nearly_its_larger_picture_does_not_bring_the_smaller_one():
    larger, smaller = (0.0, 0.0, 0.62, 1.0), (0.64, 0.0, 1.0, 1.0)
    pairs = [pair(1, 9, larger), pair(2, 9, smaller), pair(1, 3), pair(2, 4)]
    assert build_copy_groups(pairs, ()) == [[1, 3, 9], [2, 4]]
    mirrored = [
        pair(1, 9, larger, kinds=("mirrored",)),
        pair(2, 9, smaller),
        pair(5, 3, (0.0, 0.0, 0.5, 0.5)),
        pair(1, 3),
    ]
    assert build_copy_groups(mirrored, ()) == [[1, 3, 5, 9]]


def test_crops_of_opposite_sides_of_a_panorama_are_not_one_group():
    pairs = [pair(1, 9, (0.0, 0.0, 0.3, 1.0)), pair(2, 9, (0.75, 0.0, 1.0, 1.0)), pair(3, 9, (0.1, 0.0, 0.35, 1.0))]
    assert build_copy_groups(pairs, ()) == [[1, 3, 9]]


def test_the_same_place_in_a_mirrored_copy_of_the_larger_picture_is_the_same_place():
    pairs = [
        pair(8, 9, kinds=("mirrored",)),
        pair(1, 8, (0.0, 0.0, 0.4, 0.6)),
        pair(2, 9, (0.6, 0.0, 1.0, 0.6)),
    ]
    assert build_copy_groups(pairs, ()) == [[1, 2, 8, 9]]


def test_a_chain_of_overlapping_parts_ends_after_one_step():
    chain = [pair(number, number + 1, (0.3, 0.0, 1.0, 1.0), overlap=0.7) for number in range(1, 6)]
    assert max(len(group) for group in build_copy_groups(chain, ())) <= 3


def test_a_rejected_pair_is_in_no_group_whoever_stands_between():
    pairs = [pair(1, 2), pair(2, 3), pair(1, 3)]
    for rejected in ((1, 2), (1, 3), (2, 3)):
        for group in build_copy_groups(pairs, {rejected}):
            assert not set(rejected) <= set(group)
    assert build_copy_groups(pairs, {(1, 2), (1, 3), (2, 3)}) == []


def clique(*ids: int) -> list[CopyPair]:
    return [pair(a, b) for a, b in itertools.combinations(ids, 2)]


def test_one_covered_pair_alone_does_not_unite_two_groups():
    groups = [*clique(1, 2, 3), *clique(7, 8, 9)]
    covered = pair(3, 7, kinds=("overlay",))
    assert build_copy_groups([*groups, covered], ()) == [[1, 2, 3], [7, 8, 9]]
    assert build_copy_groups([*groups, covered, pair(2, 9)], ()) == [[1, 2, 3, 7, 8, 9]]
    assert build_copy_groups([*groups, pair(3, 7)], ()) == [[1, 2, 3, 7, 8, 9]]


def test_covered_copies_join_a_group_by_one_pair():
    covered = [pair(3, 7, kinds=("overlay",)), pair(7, 8)]
    assert build_copy_groups([*clique(1, 2, 3), *covered], ()) == [[1, 2, 3, 7, 8]]
