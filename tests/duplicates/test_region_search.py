"""Candidates by equal regions: pictures that are partly covered, among many others."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from simsearch.duplicates.region_search import RegionSearch
from simsearch.images.decode import DecodedImage
from simsearch.matching.features import render_for_matching
from simsearch.matching.region_hashes import MIN_EQUAL_REGIONS, N_REGIONS, compute_region_hashes, count_equal_regions
from tests.support.scenes import cover, draw_scene, recompress


def hash_regions(image: Image.Image) -> np.ndarray:
    picture = DecodedImage(image.convert("RGB"), image.width, image.height, "PNG")
    return compute_region_hashes(render_for_matching(picture).square)[0]


def find_by_brute_force(hashes: np.ndarray, n: int) -> list[list[int]]:
    """The n images with most equal regions for each image, at least `MIN_EQUAL_REGIONS`; ties: the first."""
    equal = ((hashes[:, None] == hashes[None]) & (hashes[:, None] > 0)).sum(2)
    np.fill_diagonal(equal, 0)
    orders = np.argsort(-equal, axis=1, kind="stable")
    return [
        [other for other in order[:n] if equal[row, other] >= MIN_EQUAL_REGIONS] for row, order in enumerate(orders)
    ]


def test_pairs_are_those_of_the_whole_matrix_however_the_images_are_added():
    random = np.random.default_rng(3)
    hashes = random.integers(0, 40, (300, N_REGIONS)).astype(np.uint32)  # about two equal regions a pair
    expected = find_by_brute_force(hashes, 5)
    assert any(expected)
    search = RegionSearch(len(hashes))
    for start, end in ((0, 7), (7, 107), (107, 120), (120, 300)):
        search.add(np.arange(start, end), hashes[start:end])
    a, b, ranks = search.find_pairs(np.arange(300), hashes, 5)
    found = [b[a == row][np.argsort(ranks[a == row])].tolist() for row in range(300)]
    assert found == expected


def test_regions_without_detail_are_equal_to_none():
    plain = hash_regions(Image.new("RGB", (300, 200), "gray"))
    assert not plain.any()
    assert count_equal_regions(plain, plain) == 0


def test_a_straight_edge_is_equal_to_none_because_many_pictures_have_one():
    edge = np.zeros((200, 300), np.uint8)
    for rows, columns in ((slice(100, None), slice(None)), (slice(None), slice(150, None))):
        half = edge.copy()
        half[rows, columns] = 200
        assert not hash_regions(Image.fromarray(half)).any()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_covered_picture_has_equal_regions_and_another_picture_has_not(seed: int):
    scene = draw_scene(seed)
    covered = recompress(cover(scene, 0.35), 60)
    assert count_equal_regions(hash_regions(scene), hash_regions(covered)) >= 10
    assert count_equal_regions(hash_regions(scene), hash_regions(draw_scene(seed + 20))) < MIN_EQUAL_REGIONS
