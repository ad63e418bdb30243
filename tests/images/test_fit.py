"""Resizing pictures of any shape to a square, and the reduced decoding that suffices for it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from simsearch.images.decode import DecodedImage, resize_to_square
from simsearch.images.resize import ResizeRule
from tests.support.pictures import (
    encode,
    mean_difference,
    photo,
    picture_of,
)

# Reduced decoding


@pytest.mark.parametrize("size", [(800, 600), (641, 479), (1023, 64), (65, 900), (300, 300)])
@pytest.mark.parametrize("target_px", [1, 8, 37, 64, 128, 256])
def test_a_reduced_jpeg_keeps_both_sides_at_least_as_long_as_requested(size: tuple[int, int], target_px: int):
    picture = picture_of(encode(photo(*size), "JPEG"), target_px=target_px)
    assert (picture.width, picture.height) == size
    scale = next((scale for scale in (8, 4, 2) if min(size) // target_px >= scale), 1)
    assert picture.image.size == tuple(-(-side // scale) for side in size)
    assert min(picture.image.size) >= min(target_px, *size)


def test_a_reduced_jpeg_shows_the_same_picture():
    data = encode(photo(800, 600), "JPEG", quality=95)
    whole, reduced = (
        resize_to_square(picture_of(data), ResizeRule(64, "squash")),
        resize_to_square(picture_of(data, target_px=64), ResizeRule(64, "squash")),
    )
    assert mean_difference(whole, reduced) < 1.5


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
def test_what_is_cut_from_a_reduced_picture_is_never_stretched(resize: str):
    for side_px in (32, 64, 96, 128, 224, 299, 331, 600):
        seen = ResizeRule(side_px, resize).target_px * (7 / 8 if resize == "crop" else 1)
        assert side_px <= seen < side_px * 8 / 7 + 1


# Squares


def resample(pixels: np.ndarray, axis: int, start: float, end: float, n: int) -> np.ndarray:
    """`n` samples of [start, end) along an axis: a triangle as wide as a sample's distance, and at least a pixel."""
    length, step = pixels.shape[axis], (end - start) / n
    centres = start + (np.arange(n) + 0.5) * step
    distance = np.abs(np.arange(length)[None, :] + 0.5 - centres[:, None]) / max(step, 1)
    weights = np.clip(1 - distance, 0, None)
    weights /= weights.sum(axis=1, keepdims=True)
    return np.moveaxis(np.tensordot(weights, pixels.astype(float), axes=(1, axis)), 0, axis)


def square_of(pixels: np.ndarray, box: tuple[float, float, float, float], side_px: int) -> np.ndarray:
    left, top, right, bottom = box
    return resample(resample(pixels, 1, left, right, side_px), 0, top, bottom, side_px)


SIZES = [(101, 100), (320, 200), (90, 333), (40, 40), (20, 31), (7, 5)]


def whole(pixels: np.ndarray) -> DecodedImage:
    return DecodedImage(Image.fromarray(pixels), pixels.shape[1], pixels.shape[0], "PNG")


@pytest.mark.parametrize("size", SIZES)
def test_squash_scales_both_sides(size: tuple[int, int]):
    pixels = photo(*size)
    square = resize_to_square(whole(pixels), ResizeRule(64, "squash"))
    assert (square.shape, square.dtype) == ((64, 64, 3), np.uint8)
    assert np.abs(square - square_of(pixels, (0, 0, *size), 64)).max() <= 1.1


@pytest.mark.parametrize("size", SIZES)
def test_crop_takes_the_middle_seven_eighths_of_the_shorter_side_from_a_whole_pixel_on(size: tuple[int, int]):
    pixels = photo(*size)
    visible = min(size) * 7 / 8
    left, top = (math.floor((side - visible) / 2) for side in size)
    box = (left, top, left + visible, top + visible)
    square = resize_to_square(whole(pixels), ResizeRule(64, "crop"))
    assert (square.shape, square.dtype) == ((64, 64, 3), np.uint8)
    assert np.abs(square - square_of(pixels, box, 64)).max() <= 1.1


def test_crop_leaves_the_pixels_alone_where_nothing_must_be_scaled():
    """A picture of 256 px for a network of 224 px: half a pixel off would blur all of it."""
    pixels = photo(256, 341)
    assert (resize_to_square(whole(pixels), ResizeRule(224, "crop")) == pixels[58:282, 16:240]).all()


@pytest.mark.parametrize("size", SIZES)
def test_pad_scales_the_longer_side_and_centres_on_white(size: tuple[int, int]):
    pixels = photo(*size) // 2  # so that nothing of it is white
    width, height = (round(side * 64 / max(size)) for side in size)
    left, top = round((64 - width) / 2), round((64 - height) / 2)
    expected = np.full((64, 64, 3), 255.0)
    inner = resample(resample(pixels, 1, 0, size[0], width), 0, 0, size[1], height)
    expected[top : top + height, left : left + width] = inner
    square = resize_to_square(whole(pixels), ResizeRule(64, "pad"))
    assert (square.shape, square.dtype) == ((64, 64, 3), np.uint8)
    assert np.abs(square - expected).max() <= 1.1


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
@pytest.mark.parametrize("size", [(1, 1000), (1000, 1), (1, 1)])
def test_the_thinnest_picture_keeps_a_line(size: tuple[int, int], resize: str):
    square = resize_to_square(whole(np.zeros((size[1], size[0], 3), dtype=np.uint8)), ResizeRule(64, resize))
    assert square.shape == (64, 64, 3)
    assert (square == 0).any()
