"""Pairs of pictures: which are copies, how they differ, and where one lies in the other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from simsearch.images.decode import DecodedImage
from simsearch.matching.evidence import PairEvidence
from simsearch.matching.features import PictureRendition, render_for_matching
from simsearch.matching.verification import verify_pair
from tests.support.scenes import cover, draw_scene, recompress, rotate_and_crop

SEEDS = (1, 2, 3)


def render(image: Image.Image) -> PictureRendition:
    return render_for_matching(DecodedImage(image.convert("RGB"), image.width, image.height, "PNG"))


def verify(a: Image.Image, b: Image.Image) -> PairEvidence | None:
    return verify_pair(render(a), render(b))


def crop(image: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    width, height = image.size
    return image.crop((round(left * width), round(top * height), round(right * width), round(bottom * height)))


EDITS: dict[str, tuple[Callable[[Image.Image], Image.Image], str]] = {
    "JPEG quality 10": (lambda image: recompress(image, 10), "re-encoded"),
    "quarter size": (lambda image: image.resize((120, 90), Image.Resampling.LANCZOS), "resized"),
    "other proportions": (lambda image: image.resize((600, 300)), "resized"),
    "darker": (lambda image: ImageEnhance.Brightness(image).enhance(0.6), "tone"),
    "blurred and gray": (lambda image: ImageOps.grayscale(image.filter(ImageFilter.GaussianBlur(2))), "tone"),
    "mirrored": (ImageOps.mirror, "mirrored"),
    "rotated by 12 degrees": (lambda image: rotate_and_crop(image, 12), "rotated"),
    "rotated by 90 degrees": (lambda image: image.transpose(Image.Transpose.ROTATE_90), "rotated"),
    "crop to half the area": (lambda image: crop(image, 0.2, 0.1, 0.9, 0.8), "crop of"),
    "crop to a quarter, mirrored": (lambda image: ImageOps.mirror(crop(image, 0.4, 0.3, 0.9, 0.8)), "crop of"),
    "with a border": (lambda image: ImageOps.expand(image, 90, "white"), "crop of"),
    "covered to 35 %": (lambda image: cover(image, 0.35), "overlay"),
}


@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize("seed", SEEDS)
def test_an_edit_is_recognized_whichever_picture_comes_first(name: str, seed: int):
    edit, kind = EDITS[name]
    original = draw_scene(seed)
    for a, b in ((original, edit(original)), (edit(original), original)):
        evidence = verify(a, b)
        assert evidence is not None
        assert kind in evidence.kinds


@pytest.mark.parametrize("seed", SEEDS)
def test_the_box_is_where_the_crop_lies_in_the_larger_picture(seed: int):
    original = draw_scene(seed)
    evidence = verify(crop(original, 0.3, 0.2, 0.9, 0.7), original)
    assert evidence is not None
    assert (evidence.kind, evidence.whole) == ("crop of", "b")
    assert evidence.box == pytest.approx((0.3, 0.2, 0.9, 0.7), abs=0.02)
    turned = verify(original, crop(original, 0.3, 0.2, 0.9, 0.7))
    assert turned is not None
    assert (turned.whole, turned.box) == ("a", pytest.approx((0.3, 0.2, 0.9, 0.7), abs=0.02))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_picture_with_a_border_or_another_one_beside_it_is_told_from_one_that_was_cropped(seed: int):
    original = draw_scene(seed)
    collage = Image.new("RGB", (2 * original.width, original.height))
    collage.paste(original, (0, 0))
    collage.paste(draw_scene(seed + 50), (original.width, 0))
    for framed in (collage, ImageOps.expand(original, 60, "white"), ImageOps.expand(original, 60, "black")):
        evidence = verify(original, framed)
        assert evidence is not None
        assert (evidence.whole, evidence.is_framed) == ("b", True)
    for part in (crop(original, 0.2, 0.1, 0.9, 0.8), crop(original, 0, 0, 0.7, 1)):
        evidence = verify(part, original)
        assert evidence is not None
        assert not evidence.is_framed


def test_the_rotation_is_measured():
    original = draw_scene(4)
    evidence = verify(original, rotate_and_crop(original, 10))
    assert evidence is not None
    assert abs(evidence.rotation_deg) == pytest.approx(10, abs=1)


def test_different_pictures_are_no_copies():
    scenes = [render(draw_scene(seed)) for seed in range(12)]
    found = [(i, j) for i in range(12) for j in range(i) if verify_pair(scenes[i], scenes[j]) is not None]
    assert found == []


def test_different_pictures_with_the_same_frame_or_watermark_are_no_copies():
    def frame(inner: Image.Image) -> Image.Image:
        whole = draw_scene(100)
        whole.paste(inner.resize((360, 270)), (60, 45))
        return whole

    assert verify(frame(draw_scene(1)), frame(draw_scene(2))) is None
    mark = np.asarray(draw_scene(101), np.float32)
    marked = [Image.fromarray((0.8 * np.asarray(draw_scene(seed)) + 0.2 * mark).astype(np.uint8)) for seed in (1, 2)]
    assert verify(*marked) is None


def draw_in_colors(seed: int, red: float, blue: float) -> Image.Image:
    """A scene whose dark parts are of one color and whose light ones are of another: its brightness is the same."""
    gray = np.asarray(draw_scene(seed).convert("L"), np.float32)
    is_light = (np.asarray(draw_scene(seed).convert("L").filter(ImageFilter.GaussianBlur(8))) > 127).astype(np.float32)
    change = np.stack([red * is_light, -0.2 * (red * is_light + blue * (1 - is_light)), blue * (1 - is_light)], axis=-1)
    return Image.fromarray(np.clip(gray[..., None] * 0.7 + 40 + change, 0, 255).astype(np.uint8))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_drawing_in_other_colors_is_no_copy_and_one_with_other_saturation_is(seed: int):
    drawing = draw_in_colors(seed, 60, 0)
    assert verify(drawing, draw_in_colors(seed, 0, 60)) is None
    for saturation in (0.0, 0.3, 1.8):
        evidence = verify(drawing, ImageEnhance.Color(drawing).enhance(saturation))
        assert evidence is not None


def test_a_crop_is_no_copy_of_another_part_of_the_picture():
    original = draw_scene(5)
    assert verify(crop(original, 0, 0, 0.45, 1), crop(original, 0.55, 0, 1, 1)) is None


def gradient(first: int, last: int) -> Image.Image:
    values = np.linspace(first, last, 200, dtype=np.float32)[:, None].repeat(300, 1)
    return Image.fromarray(values.astype(np.uint8))


def test_pictures_without_detail_are_copies_only_if_light_and_colour_are_the_same():
    sunset = gradient(40, 220)
    evidence = verify(sunset, recompress(sunset.convert("RGB"), 50))
    assert evidence is not None
    assert evidence.n_inliers == 0
    assert verify(sunset, gradient(60, 235)) is None
    assert verify(sunset, ImageEnhance.Brightness(sunset).enhance(0.8)) is None


def test_uniform_pictures_are_never_copies():
    assert verify(Image.new("RGB", (300, 200), "white"), Image.new("RGB", (320, 200), "white")) is None


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (3000, 3)])
def test_pictures_of_one_pixel_and_lines_are_compared_without_an_error(size: tuple[int, int]):
    assert verify(Image.new("RGB", size, "red"), draw_scene(1)) is None


def test_a_panorama_is_found_in_its_crop():
    panorama = draw_scene(6, 2400, 240)
    evidence = verify(panorama.crop((600, 0, 1800, 240)), panorama)
    assert evidence is not None
    assert evidence.kind == "crop of"
    assert evidence.box == pytest.approx((0.25, 0, 0.75, 1), abs=0.02)


def test_evidence_as_json():
    evidence = PairEvidence(("crop of", "tone"), 31, 0.98765, "b", (0.1, 0.2, 0.5, 0.6), 1.234)
    assert evidence.to_dict() == {
        "kind": "crop of", "kinds": ["crop of", "tone"], "inliers": 31, "agreement": 0.9877, "whole": "b",
        "box": [0.1, 0.2, 0.5, 0.6], "rotation_deg": 1.2, "overlap": 1.0, "framed": False,
    }  # fmt: skip
    assert evidence.box_share == pytest.approx(0.16)


def show_on_screen(picture: Image.Image) -> Image.Image:
    """A picture of 300 x 200 between the bars and the lines of text of a screen."""
    screen = Image.new("RGB", (336, 300), "white")
    draw = ImageDraw.Draw(screen)
    draw.rectangle((0, 0, 336, 25), fill=(30, 30, 34))
    draw.rectangle((0, 267, 336, 300), fill=(240, 240, 242))
    for row in range(4):
        draw.line((10, 270 + 7 * row, 300 - 20 * row, 270 + 7 * row), fill="black")
    screen.paste(picture, (18, 50))
    return screen


def draw_few_shapes(seed: int, n: int) -> Image.Image:
    random = np.random.default_rng(seed)
    picture = Image.new("RGB", (300, 200), tuple(random.integers(120, 200, 3).tolist()))
    draw = ImageDraw.Draw(picture)
    for _ in range(n):
        left, top, width, height = random.integers((20, 10, 20, 20), (220, 130, 70, 60)).tolist()
        draw.ellipse((left, top, left + width, top + height), fill=tuple(random.integers(0, 256, 3).tolist()))
    return picture


@pytest.mark.parametrize("n_shapes", [4, 8])
@pytest.mark.parametrize("seed", SEEDS)
def test_two_pictures_with_little_detail_on_screens_of_one_kind_are_no_copies(seed: int, n_shapes: int):
    one, other = (draw_few_shapes(some, n_shapes) for some in (seed, seed + 10))
    assert verify(show_on_screen(one), show_on_screen(other)) is None
    assert verify(show_on_screen(one), show_on_screen(recompress(one, 40))) is not None
