"""The resize rules of published models against code written from the definitions of transformers and torchvision."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simsearch.images.decode import RawFile, compute_digest, decode_square
from simsearch.images.resize import ResizeRule
from simsearch.models.image_processor import DECODE_MARGIN

ROOT = Path(__file__).parents[2]
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
N_PHOTOGRAPHS = 50


def list_photographs():
    """50 photographs, spread over the classes; the drawn pictures of the project where there are none."""
    files = sorted((ROOT / "../shared/photos/caltech101_small").resolve().glob("*/*.jpg"))
    step = max(len(files) // N_PHOTOGRAPHS, 1)
    return files[::step][:N_PHOTOGRAPHS] or sorted((ROOT / "data/objects").glob("*/*"))[::7]


@pytest.fixture(scope="module")
def photographs():
    return [file.read_bytes() for file in list_photographs()]


def compute_reference(data, side_px, shortest_px, interpolation, rounds):
    """Decode at full size, resize the shorter side, and crop the middle.

    transformers: `get_resize_output_image_size` truncates the longer side; `center_crop` halves the margin downwards.
    torchvision: `Resize` truncates as well; `CenterCrop` rounds half to even.
    """
    image = Image.open(io.BytesIO(data)).convert("RGB")
    if shortest_px is None:
        return np.asarray(image.resize((side_px, side_px), FILTERS[interpolation]))
    short, long = sorted(image.size)
    new_long = int(shortest_px * long / short)
    size = (shortest_px, new_long) if image.width <= image.height else (new_long, shortest_px)
    resized = np.asarray(image.resize(size, FILTERS[interpolation]))
    top, left = ((length - side_px) / 2 for length in resized.shape[:2])
    top, left = (round(x) if rounds else math.floor(x) for x in (top, left))
    return resized[top : top + side_px, left : left + side_px]


def compute_square(data, side_px, shortest_px, interpolation, rounds):
    rule = ResizeRule(
        side_px, "squash" if shortest_px is None else "crop", interpolation, shortest_px,
        "round" if rounds else "floor", DECODE_MARGIN,
    )  # fmt: skip
    raw = RawFile("photograph", data, compute_digest(data), len(data), 0)
    return decode_square(raw, rule, max_pixels=10**9)[1]


def measure_difference(data, *rule):
    square, expected = compute_square(data, *rule), compute_reference(data, *rule)
    assert square.shape == expected.shape
    return float(np.abs(square.astype(int) - expected.astype(int)).mean())


@pytest.mark.parametrize(
    ("side_px", "shortest_px", "interpolation", "rounds"),
    [
        (224, 256, "bicubic", False),  # DINOv2
        (224, 224, "bicubic", False),  # CLIP by transformers
        (224, 224, "bicubic", True),  # CLIP by OpenCLIP
        (256, 256, "bilinear", True),  # MobileCLIP
        (224, None, "bilinear", False),  # SigLIP 2, DINOv3
        (48, 48, "bicubic", True),  # JPEG files are decoded at a reduced scale
        (28, 32, "bicubic", False),
        (32, None, "bilinear", False),
    ],
)
def test_squares_agree_with_the_published_definition(photographs, side_px, shortest_px, interpolation, rounds):
    differences = [measure_difference(data, side_px, shortest_px, interpolation, rounds) for data in photographs]
    assert np.mean(differences) <= 1
    if side_px >= 224:  # these photographs are decoded at full size
        assert max(differences) <= 0.5


@pytest.mark.parametrize("size", [(641, 480), (480, 643), (1, 3000), (3000, 1), (225, 224), (50, 50)])
@pytest.mark.parametrize("rounds", [False, True])
def test_odd_sizes_are_rounded_as_published(size, rounds):
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    assert measure_difference(file.getvalue(), 32, 36, "bicubic", rounds) <= 0.1


def test_a_reduced_decoding_keeps_the_sizes_of_the_full_picture():
    """A side of 1,001 px is decoded as 126 px, and would be rounded to another length."""
    waves = np.sin(np.arange(1001 * 777 * 3).reshape(777, 1001, 3) / 3e5) * 120 + 128
    file = io.BytesIO()
    Image.fromarray(waves.astype(np.uint8)).save(file, "JPEG", quality=95)
    assert measure_difference(file.getvalue(), 28, 32, "bicubic", False) <= 1


def test_a_crop_of_a_picture_is_rounded_by_its_own_size(photographs):
    data = photographs[0]
    image = Image.open(io.BytesIO(data)).convert("RGB")
    box = (3, 5, image.width - 20, image.height - 9)
    part = io.BytesIO()
    image.crop(box).save(part, "PNG")
    rule = ResizeRule(28, "crop", "bicubic", 32, "floor", DECODE_MARGIN)
    raw = RawFile("photograph", data, compute_digest(data), len(data), 0)
    square = decode_square(raw, rule, max_pixels=10**9, box=box)[1]
    expected = compute_reference(part.getvalue(), 28, 32, "bicubic", False)
    assert np.abs(square.astype(int) - expected.astype(int)).mean() <= 0.1
