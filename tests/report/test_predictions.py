"""The sheet of predictions."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageColor

from simsearch.errors import UsageError
from simsearch.models.choice import resolve_model
from simsearch.models.imagenet import load_classes
from simsearch.report.drawing.canvas import ACCENT
from simsearch.report.drawing.predictions import MAX_IMAGES, draw_predictions
from simsearch.study.predict import ClassPrediction, ImagePrediction, PredictionResult
from tests.conftest import HISTOGRAM, draw_picture


def predictions(paths: list[str], first: list[float], names: tuple[str, ...] = ("one", "other")) -> PredictionResult:
    """Five guesses for each; `first` are the probabilities of the first guess, an image each."""
    images = []
    for path, probability in zip(paths, first, strict=True):
        rest = (1 - probability) / 10
        guesses = tuple(ClassPrediction(n, load_classes()[n], probability if n == 1 else rest) for n in range(1, 6))
        images.append(ImagePrediction(path, dict.fromkeys(names, guesses)))
    return PredictionResult(dict.fromkeys(names, resolve_model(HISTOGRAM)), tuple(images), (), ())


def accented(file) -> np.ndarray:
    """(h, w) whether a pixel has the colour of a first guess."""
    with Image.open(file) as sheet:
        return (np.asarray(sheet.convert("RGB")) == ImageColor.getrgb(ACCENT)).all(axis=2)


def test_each_first_bar_is_as_long_as_its_probability_in_every_column(tmp_path):
    paths = [str(draw_picture(tmp_path / f"{seed}.png", seed)) for seed in range(3)]
    draw_predictions(predictions(paths, [0.9, 0.25, 0.5]), tmp_path / "sheet.png")
    lengths = accented(tmp_path / "sheet.png").sum(axis=1)
    rows = [run[0] for run in np.split(lengths, np.flatnonzero(np.diff(lengths)) + 1) if run[0]]
    assert rows == [2 * 279, 2 * round(0.25 * 310), 2 * 155]


def test_the_picture_itself_is_on_the_sheet(tmp_path):
    Image.new("RGB", (60, 60), "#ff00ff").save(tmp_path / "pink.png")
    draw_predictions(predictions([str(tmp_path / "pink.png")], [0.5]), tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        is_pink = (np.asarray(sheet) == (255, 0, 255)).all(axis=2)
    assert is_pink.sum() == 210 * 210


def test_a_sheet_holds_no_more_images_than_it_says(tmp_path):
    path = str(draw_picture(tmp_path / "0.png", 0))
    heights = []
    for n in (MAX_IMAGES - 1, MAX_IMAGES, MAX_IMAGES + 7):
        draw_predictions(predictions([path] * n, [0.5] * n, ("one",)), tmp_path / "sheet.png")
        with Image.open(tmp_path / "sheet.png") as sheet:
            heights.append(sheet.height)
    assert heights[0] < heights[1] == heights[2]


def test_a_name_without_a_picture_extension_is_told(tmp_path):
    with pytest.raises(UsageError, match="has no extension of a picture"):
        draw_predictions(predictions([str(tmp_path / "gone.png")], [0.5]), tmp_path / "sheet.docx")
