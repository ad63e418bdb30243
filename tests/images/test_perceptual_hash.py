"""Perceptual hashes: what edits leave as it is."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
from scipy.fft import dctn

from simsearch.images.perceptual_hash import compute_hashes, hash_squeezed, squeeze_to_hashed
from tests.support.scenes import draw_scene, recompress


def count_different_bits(a: int, b: int) -> int:
    return ((a ^ b) & (2**64 - 1)).bit_count()


def test_the_hash_is_the_signs_of_the_lowest_frequencies():
    image = draw_scene(1, 320, 320)
    small = np.asarray(image.resize((32, 32), Image.Resampling.BOX).convert("L"), float)
    low = dctn(small)[:8, :8]
    bits = (low > np.median(low)).ravel()
    expected = int("".join("1" if bit else "0" for bit in bits), 2)
    assert count_different_bits(compute_hashes(image).upright, expected) <= 1


@pytest.mark.parametrize("seed", range(5))
def test_edits_change_few_bits_and_other_pictures_many(seed: int):
    image = draw_scene(seed)
    upright = compute_hashes(image).upright
    for edited in (recompress(image, 10), image.resize((120, 90)), ImageEnhance.Brightness(image).enhance(0.7)):
        assert count_different_bits(compute_hashes(edited).upright, upright) <= 8
    assert count_different_bits(compute_hashes(draw_scene(seed + 50)).upright, upright) > 12


@pytest.mark.parametrize("seed", range(5))
def test_the_mirrored_hash_is_the_hash_of_the_mirrored_picture(seed: int):
    image = draw_scene(seed)
    mirrored = compute_hashes(ImageOps.mirror(image))
    assert count_different_bits(compute_hashes(image).mirrored, mirrored.upright) <= 1
    assert count_different_bits(compute_hashes(image).upright, mirrored.mirrored) <= 1


def test_hashes_of_many_pictures_at_once_are_those_of_each():
    pictures = [draw_scene(1), draw_scene(2, 90, 400), Image.new("RGB", (50, 50), "blue")]
    assert hash_squeezed([squeeze_to_hashed(picture) for picture in pictures]) == [*map(compute_hashes, pictures)]
    assert hash_squeezed([]) == []


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (4000, 2)])
def test_any_size_has_a_hash(size: tuple[int, int]):
    hashes = compute_hashes(Image.new("RGB", size, "blue"))
    assert -(2**63) <= hashes.upright < 2**63
