"""The canvas of all drawings: text, frames, colors, saving."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from simsearch.errors import SimsearchError, UsageError
from simsearch.report.drawing.canvas import (
    EMPTY,
    Canvas,
    check_extension,
    frame_picture,
    map_to_colors,
    shorten_to_width,
)
from simsearch.report.drawing.fonts import measure_text

LONG = "a very long name of a picture that nobody reads to its end, number 0001.jpg"


@pytest.mark.parametrize("width_px", [60, 150, 301])
@pytest.mark.parametrize("name", [LONG, "очень длинное имя картины, которое никто не дочитает 0001.jpg", "花" * 90])
def test_a_long_name_keeps_its_beginning_and_its_end_within_the_width(name: str, width_px: int):
    kept = shorten_to_width(name, 14, width_px)
    assert measure_text(kept, 14) <= width_px
    beginning, end = kept.split("…")
    assert name.startswith(beginning)
    assert name.endswith(end)
    assert beginning


def test_a_short_name_stays_whole():
    assert shorten_to_width("vase.jpg", 14, 200) == "vase.jpg"


def test_a_picture_is_framed_whole_in_the_middle(tmp_path):
    Image.new("RGB", (40, 20), "#ff0000").save(tmp_path / "red.png")
    square = np.asarray(frame_picture(str(tmp_path / "red.png"), 80))
    is_red = (square == (255, 0, 0)).all(axis=2)
    assert square.shape == (80, 80, 3)
    assert np.flatnonzero(is_red.any(axis=1)).tolist() == list(range(20, 60))
    assert is_red[20:60].all()


def test_a_picture_that_is_gone_is_a_grey_square(tmp_path):
    assert frame_picture(str(tmp_path / "gone.png"), 40).getpixel((3, 3)) == tuple(bytes.fromhex(EMPTY[1:]))


def test_colours_grow_lighter_with_the_value():
    lightness = map_to_colors(np.linspace(0, 1, 50)) @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(lightness) > 0).all()


@pytest.mark.parametrize(("share", "filled"), [(0.5, 50), (1.0, 100), (0.0, 0), (-0.3, 0), (0.004, 0)])
def test_a_bar_is_as_long_as_its_share(share: float, filled: int):
    canvas = Canvas(120, 10)
    canvas.draw_bar((10, 2), share, 100, "#ff0000")
    row = np.asarray(canvas.image)[3]
    assert (row == (255, 0, 0)).all(axis=1).sum() == filled


def test_a_drawing_is_saved_into_folders_that_it_makes(tmp_path):
    Canvas(10, 10).save(tmp_path / "a" / "b" / "c.png")
    with Image.open(tmp_path / "a" / "b" / "c.png") as saved:
        assert saved.size == (10, 10)


def test_a_drawing_that_cannot_be_saved_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SimsearchError, match="cannot be written"):
        Canvas(10, 10).save(tmp_path / "file" / "c.png")
    with pytest.raises(UsageError, match="has no extension of a picture"):
        Canvas(10, 10).save(tmp_path / "c.docx")


@pytest.mark.parametrize("name", ["x.docx", "x", "png", "x.tiff"])
def test_a_name_that_means_no_picture_is_told_before_any_work(name: str):
    with pytest.raises(UsageError, match=r"use \.png, \.jpg or \.webp"):
        check_extension(name)


@pytest.mark.parametrize("name", ["x.png", "X.JPG", "a/b.jpeg", "c.webp"])
def test_names_of_pictures_pass(name: str):
    check_extension(name)
