"""Text in any script: which font draws which characters."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from simsearch.report.drawing.fonts import draw_line, measure_text, split_runs


def ink(line: str, anchor: str = "la", position: tuple[int, int] = (10, 10)) -> tuple[int, int, int, int]:
    """The box (left, top, right, bottom) of what was drawn."""
    image = Image.new("L", (400, 60))
    draw_line(ImageDraw.Draw(image), position, line, 20, "#ffffff", anchor=anchor)
    box = image.getbbox()
    assert box
    return box


@pytest.mark.parametrize("letters", ["café é ß ø", "ваза Привет", "βάζο Ελλάδα", "אגרטל", "قطة"])
def test_dejavu_sans_which_matplotlib_brings_draws_latin_greek_cyrillic_hebrew_and_arabic(letters: str):
    """A font that lacks a letter draws its box for a missing glyph."""
    (run,) = split_runs(letters, 20)
    box = bytes(run.font.getmask("\uffff"))
    assert all(bytes(run.font.getmask(letter)) != box for letter in letters if letter != " ")


def test_a_line_of_one_script_is_one_run():
    assert [run.text for run in split_runs("vases/vase 01.jpg", 14)] == ["vases/vase 01.jpg"]


def test_runs_are_the_whole_line_in_order():
    line = "vase 猫の写真 café 고양이 \U0001f408 x\u0301.png"
    assert "".join(run.text for run in split_runs(line, 14)) == line


def test_a_combining_mark_stays_with_its_letter():
    assert not any(run.text.startswith("\u0301") for run in split_runs("猫\u0301 a\u0301", 14))


def test_a_character_that_no_font_has_is_drawn_as_a_box():
    left, top, right, bottom = ink("\U000ffffe")
    assert right > left
    assert bottom > top


@pytest.mark.parametrize("line", ["vase 猫", "猫 vase", "vase"])
def test_anchors_place_a_line_of_several_fonts_as_one(line: str):
    width = measure_text(line, 20)
    lefts = [ink(line, anchor, (200, 30))[0] for anchor in ("la", "ma", "ra")]
    np.testing.assert_allclose(np.diff(lefts), [-width / 2, -width / 2], atol=1.5)


def test_scripts_share_one_baseline():
    """The letters of a line stand where they would stand alone."""
    assert ink("vase")[1::2] == ink("vase 　")[1::2]
    image, mixed = Image.new("L", (400, 60)), Image.new("L", (400, 60))
    draw_line(ImageDraw.Draw(image), (10, 10), "vase", 20, "#ffffff")
    draw_line(ImageDraw.Draw(mixed), (10, 10), "vase猫", 20, "#ffffff")
    width = int(measure_text("vas", 20))
    area = (0, 0, 10 + width, 60)
    np.testing.assert_array_equal(np.asarray(image.crop(area)), np.asarray(mixed.crop(area)))


def test_an_empty_line_draws_nothing():
    image = Image.new("L", (40, 40))
    draw_line(ImageDraw.Draw(image), (5, 5), "", 20, "#ffffff")
    assert image.getbbox() is None
    assert measure_text("", 20) == 0
