"""Augmented views equal those of Keras for the same parameters, and are reproducible."""

from __future__ import annotations

import dataclasses
import json
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simsearch.errors import UsageError
from simsearch.images.augmentation import (
    AugmentationRanges,
    Transformation,
    apply_transformation,
    sample_transformation,
)
from simsearch.images.views import parse_ranges
from tests.support.pictures import FUZZ, mean_difference, photo

DIGEST = "99aa06d3014798d86001c324468d497f"
NOTHING = AugmentationRanges(
    rotation_deg=0, width_shift=0, height_shift=0, shear_deg=0, zoom=0, channel_shift=0, horizontal_flip=False
)
ONE_BY_ONE = {
    "rotated left": Transformation(rotation_deg=25),
    "rotated right": Transformation(rotation_deg=-30),
    "moved right": Transformation(shift_x=0.1),
    "moved left": Transformation(shift_x=-0.073),
    "moved down": Transformation(shift_y=0.1),
    "moved up": Transformation(shift_y=-0.051),
    "sheared as Keras does by default": Transformation(shear_deg=0.15),
    "sheared so that it shows": Transformation(shear_deg=-12),
    "wider": Transformation(zoom_x=0.9),
    "lower": Transformation(zoom_y=1.1),
    "brighter": Transformation(channel_shift=10),
    "darker": Transformation(channel_shift=-7.4),
    "flipped": Transformation(is_flipped=True),
}
SEVERAL = {f"view {number}": sample_transformation(AugmentationRanges(), 3, DIGEST, number) for number in range(6)}
SEVERAL["far"] = Transformation(
    rotation_deg=-140, shift_x=0.5, shift_y=-0.7, shear_deg=40, zoom_x=1.7, zoom_y=0.3, is_flipped=True
)


def noise(width: int, height: int) -> np.ndarray:
    """Neighbours that have nothing in common: an error of a hundredth of a pixel shows."""
    return np.random.default_rng(width * height).integers(0, 256, (height, width, 3), dtype=np.uint8)


# Against Keras


@pytest.fixture(scope="module")
def keras_generator():
    """Keras's own transformation; importing it brings TensorFlow, once for all tests here."""
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    return ImageDataGenerator(fill_mode="nearest", interpolation_order=1)


def keras_view(generator, pixels: np.ndarray, made: Transformation) -> np.ndarray:
    """What Keras makes of a square picture, in float32. It counts shifts in pixels that the view looks further."""
    side = pixels.shape[0]
    assert pixels.shape == (side, side, 3)
    parameters = {
        "theta": made.rotation_deg,
        "tx": -made.shift_x * side,
        "ty": -made.shift_y * side,
        "shear": made.shear_deg,
        "zx": made.zoom_x,
        "zy": made.zoom_y,
        "channel_shift_intensity": made.channel_shift,
        "flip_horizontal": made.is_flipped,
    }
    return generator.apply_transform(pixels.astype(np.float32), parameters)


def assert_near(view: np.ndarray, exact: np.ndarray, made: Transformation) -> None:
    """Nearer than one grey level, which Pillow drops; a shift of levels is rounded on top of that."""
    rounding = abs(made.channel_shift - round(made.channel_shift))
    assert view.dtype == np.uint8
    assert np.abs(view - exact).max() <= 1.02 + rounding  # 0.02: the millionths that parameters are kept to, in noise
    assert mean_difference(view, exact) < 0.6 + rounding


@pytest.mark.long
@pytest.mark.parametrize("side", [224, 75, 8])
@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_each_parameter_does_what_it_does_in_keras(keras_generator, name: str, side: int):
    for pixels in (photo(side, side), noise(side, side)):
        made = ONE_BY_ONE[name]
        exact = keras_view(keras_generator, pixels, made)
        assert_near(apply_transformation(pixels, made), exact, made)
        if name != "sheared as Keras does by default":  # too little to show in a small picture
            assert mean_difference(exact, pixels) > 1.5


@pytest.mark.long
@pytest.mark.parametrize("side", [224, 75, 8])
@pytest.mark.parametrize("name", SEVERAL)
def test_all_parameters_together_do_what_they_do_in_keras(keras_generator, name: str, side: int):
    for pixels in (photo(side, side), noise(side, side)):
        assert_near(
            apply_transformation(pixels, SEVERAL[name]),
            keras_view(keras_generator, pixels, SEVERAL[name]),
            SEVERAL[name],
        )


@pytest.mark.long
@pytest.mark.parametrize("size", [(90, 40), (33, 71)])
@pytest.mark.parametrize("name", [*ONE_BY_ONE, "far"])
def test_a_picture_that_is_no_square_is_the_middle_of_one_whose_edges_are_repeated(
    keras_generator, name: str, size: tuple[int, int]
):
    made = {**ONE_BY_ONE, **SEVERAL}[name]
    pixels, (width, height), side = noise(*size), size, max(size)
    across, along = (side - width) // 2, (side - height) // 2
    square = np.pad(pixels, ((along, along), (across, across), (0, 0)), mode="edge")
    of_square = dataclasses.replace(made, shift_x=made.shift_x * width / side, shift_y=made.shift_y * height / side)
    exact = keras_view(keras_generator, square, of_square)[along : along + height, across : across + width]
    assert_near(apply_transformation(pixels, made), exact, made)


@pytest.mark.long
def test_parameters_are_drawn_from_the_same_ranges_as_in_keras(keras_generator):
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    ranges = AugmentationRanges()
    generator = ImageDataGenerator(
        rotation_range=ranges.rotation_deg,
        width_shift_range=ranges.width_shift,
        height_shift_range=ranges.height_shift,
        shear_range=ranges.shear_deg,
        zoom_range=ranges.zoom,
        channel_shift_range=ranges.channel_shift,
        horizontal_flip=ranges.horizontal_flip,
    )
    theirs = [generator.get_random_transform((100, 100, 3), seed) for seed in range(500)]
    ours = [sample_transformation(ranges, 0, DIGEST, number) for number in range(500)]
    pairs = {
        "theta": ("rotation_deg", 1),
        "tx": ("shift_x", 100),
        "ty": ("shift_y", 100),
        "shear": ("shear_deg", 1),
        "zx": ("zoom_x", 1),
        "zy": ("zoom_y", 1),
        "channel_shift_intensity": ("channel_shift", 1),
        "flip_horizontal": ("is_flipped", 1),
    }
    for key, (field, scale) in pairs.items():
        one = np.sort([float(drawn[key]) for drawn in theirs])
        other = np.sort([float(getattr(drawn, field)) * scale for drawn in ours])
        assert np.abs(one - other).max() < 0.1 * (one[-1] - one[0]) or key == "flip_horizontal"
        assert one.mean() == pytest.approx(other.mean(), abs=0.05 * (one[-1] - one[0]))


# Against the definition, written out


def exact_view(pixels: np.ndarray, made: Transformation) -> np.ndarray:
    """Four neighbours weighed by hand, beyond the edges the nearest pixel; float64, without a shift of levels."""
    height, width = pixels.shape[:2]
    turn, lean = math.radians(made.rotation_deg), math.radians(made.shear_deg)
    rotation = np.array([[math.cos(turn), -math.sin(turn), 0], [math.sin(turn), math.cos(turn), 0], [0, 0, 1]])
    shift = np.array([[1, 0, -made.shift_x * width], [0, 1, -made.shift_y * height], [0, 0, 1]])
    shear = np.array([[1, -math.sin(lean), 0], [0, math.cos(lean), 0], [0, 0, 1]])
    zoom = np.diag([made.zoom_x, made.zoom_y, 1])
    flip = np.diag([-1 if made.is_flipped else 1, 1, 1])
    rows, columns = np.mgrid[:height, :width].astype(float)
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    seen = np.stack([columns - middle_x, rows - middle_y, np.ones_like(rows)])
    x, y, _ = np.tensordot(rotation @ shift @ shear @ zoom @ flip, seen, axes=1)
    x, y = np.clip(x + middle_x, 0, width - 1), np.clip(y + middle_y, 0, height - 1)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    right, below = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    across, along = (x - left)[..., None], (y - top)[..., None]
    upper = pixels[top, left] * (1 - across) + pixels[top, right] * across
    lower = pixels[below, left] * (1 - across) + pixels[below, right] * across
    return upper * (1 - along) + lower * along


def within(widest: float, middle: float = 0) -> st.SearchStrategy[float]:
    return st.floats(middle - widest, middle + widest)


TRANSFORMATIONS = st.builds(
    Transformation,
    rotation_deg=within(180),
    shift_x=within(0.99),
    shift_y=within(0.99),
    shear_deg=within(89),
    zoom_x=within(0.99, 1),
    zoom_y=within(0.99, 1),
    channel_shift=within(255),
    is_flipped=st.booleans(),
)
SIDES = st.integers(1, 12)


@FUZZ
@given(TRANSFORMATIONS, SIDES, SIDES)
def test_any_picture_can_be_transformed_as_far_as_allowed(made: Transformation, width: int, height: int):
    pixels, unshifted = noise(width, height), dataclasses.replace(made, channel_shift=0)
    view = apply_transformation(pixels, unshifted)
    assert np.abs(view - exact_view(pixels, made)).max() <= 1.001
    shifted = np.clip(view + float(round(made.channel_shift)), view.min(), view.max())
    assert np.array_equal(apply_transformation(pixels, made), shifted)


@FUZZ
@given(TRANSFORMATIONS, SIDES, SIDES, st.integers(0, 255))
def test_a_picture_of_one_colour_stays_as_it_is(made: Transformation, width: int, height: int, grey: int):
    pixels = np.full((height, width, 3), grey, dtype=np.uint8)
    assert np.array_equal(apply_transformation(pixels, made), pixels)


@FUZZ
@given(SIDES, SIDES)
def test_ranges_of_nothing_give_the_picture_itself(width: int, height: int):
    pixels, made = noise(width, height), sample_transformation(NOTHING, 0, DIGEST, 1)
    assert made == Transformation()
    assert np.array_equal(apply_transformation(pixels, made), pixels)


@FUZZ
@given(SIDES, SIDES, st.integers(0, 11), st.integers(0, 11))
def test_a_move_by_whole_pixels_repeats_the_edges_and_changes_no_other_pixel(
    width: int, height: int, right: int, down: int
):
    right, down, pixels = right % width, down % height, noise(width, height)
    shift_x, shift_y = min(0.99, right / width), min(0.99, down / height)
    moved = np.pad(pixels, ((down, 0), (right, 0), (0, 0)), mode="edge")[:height, :width]
    view = apply_transformation(pixels, Transformation(shift_x=shift_x, shift_y=shift_y))
    # A third of a picture is no whole number of millionths; what that leaves of a grey level is dropped.
    is_whole = all(round(share, 6) == share for share in (shift_x, shift_y))
    assert np.abs(view - moved.astype(int)).max() <= (0 if is_whole else 1)


def test_flipping_and_half_a_turn_change_no_pixel():
    pixels = noise(7, 4)
    assert np.array_equal(apply_transformation(pixels, Transformation(is_flipped=True)), pixels[:, ::-1])
    assert np.array_equal(apply_transformation(pixels, Transformation(rotation_deg=180)), pixels[::-1, ::-1])


def test_a_quarter_of_a_turn_to_the_left_is_one():
    pixels = noise(9, 9)
    assert np.array_equal(apply_transformation(pixels, Transformation(rotation_deg=90)), np.rot90(pixels))


def test_a_shift_of_levels_stays_between_the_darkest_and_the_brightest_value_there_is():
    pixels = np.array([[[20, 30, 200], [100, 240, 21]]], dtype=np.uint8)
    assert apply_transformation(pixels, Transformation(channel_shift=10)).tolist() == [[[30, 40, 210], [110, 240, 31]]]
    assert apply_transformation(pixels, Transformation(channel_shift=-10)).tolist() == [[[20, 20, 190], [90, 230, 20]]]
    assert apply_transformation(pixels, Transformation(channel_shift=255)).tolist() == [[[240] * 3] * 2]
    assert apply_transformation(pixels, Transformation(channel_shift=-255)).tolist() == [[[20] * 3] * 2]


def test_a_shift_by_less_than_a_pixel_mixes_two():
    pixels = np.array([[[0, 100, 200], [100, 0, 200]]], dtype=np.uint8)
    assert apply_transformation(pixels, Transformation(shift_x=0.125)).tolist() == [[[0, 100, 200], [75, 25, 200]]]


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1), (2, 2)])
def test_the_smallest_pictures_have_views(size: tuple[int, int]):
    pixels = noise(*size)
    views = [
        apply_transformation(pixels, sample_transformation(AugmentationRanges(), 0, DIGEST, number))
        for number in range(20)
    ]
    for view in views:
        assert (view.shape, view.dtype) == (pixels.shape, np.uint8)
        assert view.min() >= pixels.min()
        assert view.max() <= pixels.max()
    assert len({view.tobytes() for view in views}) > 10


def test_the_picture_given_is_not_changed_and_may_lie_anyhow_in_memory():
    pixels = photo(40, 30)
    kept, made = pixels.copy(), sample_transformation(AugmentationRanges(), 0, DIGEST, 1)
    view = apply_transformation(pixels, made)
    assert np.array_equal(pixels, kept)
    assert np.array_equal(apply_transformation(np.asfortranarray(pixels), made), view)
    assert np.array_equal(apply_transformation(np.repeat(pixels, 2, axis=1)[:, ::2], made), view)


# Drawing

GOLDEN = (
    '{"rotation_deg": -20.128019, "shift_x": -0.031707, "shift_y": -0.031845, "shear_deg": 0.011825, '
    '"zoom_x": 0.910553, "zoom_y": 0.92814, "channel_shift": -0.01807, "is_flipped": false}'
)


def test_a_view_is_the_same_on_every_machine_and_in_every_version():
    assert sample_transformation(AugmentationRanges(), 7, DIGEST, 3).to_json() == GOLDEN


def test_views_do_not_depend_on_order_or_thread():
    pixels, ranges = photo(64, 48), AugmentationRanges()

    def view(number: int) -> bytes:
        return apply_transformation(pixels, sample_transformation(ranges, 1, DIGEST, number)).tobytes()

    one_after_the_other = [view(number) for number in range(40)]
    with ThreadPoolExecutor(4) as pool:
        backwards = list(pool.map(view, reversed(range(40))))
    assert backwards[::-1] == one_after_the_other
    assert len(set(one_after_the_other)) == 40


def test_seed_digest_and_number_each_give_another_view():
    other = DIGEST[::-1]
    drawn = {
        sample_transformation(AugmentationRanges(), *key)
        for key in [(0, DIGEST, 1), (1, DIGEST, 1), (-1, DIGEST, 1), (0, other, 1)]
    }
    drawn |= {
        sample_transformation(AugmentationRanges(), *key)
        for key in [(0, DIGEST, 11), (1, DIGEST, 11), (11, DIGEST, 1), (2**70, DIGEST, 1)]
    }
    assert len(drawn) == 8


def test_a_range_changes_its_own_parameter_alone():
    drawn = dataclasses.asdict(sample_transformation(AugmentationRanges(), 0, DIGEST, 5))
    narrow = dataclasses.asdict(sample_transformation(AugmentationRanges(rotation_deg=0, zoom=0.05), 0, DIGEST, 5))
    assert narrow.pop("rotation_deg") == 0
    assert drawn.pop("rotation_deg") != 0
    for field in ("zoom_x", "zoom_y"):
        assert narrow.pop(field) - 1 == pytest.approx((drawn.pop(field) - 1) / 2, abs=1e-6)
    assert narrow == drawn


def test_parameters_are_even_over_their_ranges_and_independent():
    drawn = [
        dataclasses.astuple(sample_transformation(AugmentationRanges(), 0, DIGEST, number)) for number in range(4000)
    ]
    shares = np.array(drawn, dtype=float) - [0, 0, 0, 0, 1, 1, 0, 0.5]
    shares = shares / [30, 0.1, 0.1, 0.15, 0.1, 0.1, 10, 0.5] / 2 + 0.5
    even = np.arange(1, 4001) / 4000
    for column in shares.T[:7]:
        assert np.abs(np.sort(column) - even).max() < 0.03  # Kolmogorov and Smirnov: 0.0257 once in a hundred
    assert shares[:, 7].mean() == pytest.approx(0.5, abs=0.03)
    assert np.abs(np.corrcoef(shares.T) - np.eye(8)).max() < 0.06


@FUZZ
@given(
    st.floats(0, 180), st.floats(0, 0.99), st.floats(0, 0.99), st.floats(0, 89), st.floats(0, 255), st.integers(0, 99)
)
def test_no_parameter_leaves_its_range(turn: float, shift: float, zoom: float, lean: float, level: float, number: int):
    ranges = AugmentationRanges(
        rotation_deg=turn, width_shift=shift, height_shift=0.3, shear_deg=lean, zoom=zoom, channel_shift=level
    )
    made = sample_transformation(ranges, 0, DIGEST, number)
    assert abs(made.rotation_deg) <= ranges.rotation_deg
    assert abs(made.shift_x) <= ranges.width_shift
    assert abs(made.shift_y) <= ranges.height_shift
    assert abs(made.shear_deg) <= ranges.shear_deg
    assert max(abs(made.zoom_x - 1), abs(made.zoom_y - 1)) <= ranges.zoom + 1e-9
    assert abs(made.channel_shift) <= ranges.channel_shift


# Recording


@FUZZ
@given(TRANSFORMATIONS)
def test_a_transformation_survives_its_json(made: Transformation):
    again = Transformation.from_parameters(json.loads(made.to_json()))
    assert again == made
    assert again.to_json() == made.to_json()


def test_the_same_transformation_has_the_same_json():
    assert Transformation(rotation_deg=25).to_json() == Transformation(rotation_deg=25.0000001, shift_x=-0.0).to_json()
    assert AugmentationRanges(rotation_deg=30, zoom=0.1000000001) == AugmentationRanges()


def test_keys_that_belong_to_the_view_are_passed_over():
    made = sample_transformation(AugmentationRanges(), 0, DIGEST, 4)
    assert Transformation.from_parameters({"number": 4, "seed": 0, **dataclasses.asdict(made)}) == made


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"zoom_x": "1.0"}, "invalid transformation: zoom_x is '1.0'"),
        ({"zoom_x": True}, "invalid transformation: zoom_x is True"),
        ({"is_flipped": 1}, "invalid transformation: is_flipped is 1"),
        ({"shift_y": None}, "invalid transformation: shift_y is None"),
        ({"shift_y": 7}, "invalid transformation: shift_y is 7; keep it within 0 +- 0.99"),
        ({"zoom_y": math.nan}, "invalid transformation: zoom_y is nan; keep it within 1 +- 0.99"),
    ],
)
def test_parameters_of_no_transformation_are_refused(change: dict, message: str):
    parameters = {**dataclasses.asdict(Transformation()), **change}
    with pytest.raises(UsageError) as caught:
        Transformation.from_parameters(parameters)
    assert str(caught.value).startswith(message)


def test_a_missing_parameter_is_named():
    with pytest.raises(UsageError, match="invalid transformation: rotation_deg is missing"):
        Transformation.from_parameters({})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rotation_deg": -5}, "invalid rotation range -5; give degrees, from 0 (none) to 180"),
        ({"rotation_deg": 181}, "invalid rotation range 181; give degrees, from 0 (none) to 180"),
        (
            {"width_shift": 1},
            "invalid width shift range 1; give a fraction of the picture's width, from 0 (none) to 0.99",
        ),
        (
            {"height_shift": 20},
            "invalid height shift range 20; give a fraction of the picture's height, from 0 (none) to 0.99",
        ),
        ({"shear_deg": 90}, "invalid shear range 90; give degrees, from 0 (none) to 89"),
        ({"zoom": 1}, "invalid zoom range 1; give a fraction of the picture's sides, from 0 (none) to 0.99"),
        ({"zoom": -0.1}, "invalid zoom range -0.1; give a fraction of the picture's sides, from 0 (none) to 0.99"),
        ({"channel_shift": 256}, "invalid channel shift range 256; give gray levels, from 0 (none) to 255"),
        ({"rotation_deg": math.nan}, "invalid rotation range nan; give degrees, from 0 (none) to 180"),
        ({"channel_shift": math.inf}, "invalid channel shift range inf; give gray levels, from 0 (none) to 255"),
    ],
)
def test_a_range_that_leaves_no_picture_is_refused_in_one_line(change: dict, message: str):
    with pytest.raises(UsageError) as caught:
        AugmentationRanges(**change)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (Transformation(), "unchanged"),
        (Transformation(shear_deg=0.15, channel_shift=-0.4, rotation_deg=0.3), "unchanged"),
        (Transformation(rotation_deg=11.7, is_flipped=True), "rotated 12 deg left, flipped"),
        (Transformation(rotation_deg=-25, shear_deg=-3), "rotated 25 deg right, sheared -3 deg"),
        (Transformation(shift_x=0.05, shift_y=-0.031), "moved 5 % right and 3 % up"),
        (Transformation(shift_y=0.1), "moved 10 % down"),
        (Transformation(shift_x=-0.1, channel_shift=9.6), "moved 10 % left, brighter by 10"),
        (Transformation(zoom_x=0.9, zoom_y=1.1, channel_shift=-3), "scaled to 111 x 91 %, darker by 3"),
    ],
)
def test_a_view_is_described_by_what_shows(made: Transformation, words: str):
    assert made.describe() == words


# Presets


def test_a_preset_comes_first_and_single_ranges_change_it():
    assert parse_ranges("keras") == AugmentationRanges() == parse_ranges("")
    strong = parse_ranges("strong")
    assert (strong.shear_deg, strong.zoom, strong.channel_shift, strong.rotation_deg) == (20, 0.25, 40, 30)
    assert parse_ranges("Strong, rotation=5, flip=no") == replace(strong, rotation_deg=5, horizontal_flip=False)
    with pytest.raises(UsageError, match=r"invalid range 'strong'; .* or first a preset: keras or strong"):
        parse_ranges("rotation=5,strong")


def test_a_strong_view_is_slanted_so_that_it_can_be_seen():
    """The mean slant of a uniform range is half of it: 10 degrees; of the default range it is 0.075 degrees."""
    views = [sample_transformation(parse_ranges("strong"), 0, f"{number:032x}", 1) for number in range(400)]
    plain = [sample_transformation(AugmentationRanges(), 0, f"{number:032x}", 1) for number in range(400)]
    assert np.mean([abs(view.shear_deg) for view in views]) == pytest.approx(10, abs=1)
    assert max(abs(view.shear_deg) for view in plain) <= 0.15
    assert sum("sheared" in view.describe() for view in views) > 350
    assert not any("sheared" in view.describe() for view in plain)
