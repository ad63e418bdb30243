"""A sheet of predictions: each image with the likeliest classes of every network beside it."""

from __future__ import annotations

import os
from collections.abc import Sequence

from simsearch.report.drawing.canvas import ACCENT, FAINT, INK, RULE, Canvas, frame_picture
from simsearch.study.predict import ClassPrediction, PredictionResult
from simsearch.text import shorten_path

MAX_IMAGES = 50
MAX_CLASSES = 20

_PICTURE_PX = 210
_COLUMN_PX = 310
_GAP_PX = 34
_MARGIN_PX = 28
_HEAD_PX = 68
_CLASS_PX = 42
_CAPTION_PX = 30
_PALE = "#a9c4d1"


def draw_predictions(predictions: PredictionResult, file: str | os.PathLike[str]) -> None:
    """Draw the first `MAX_IMAGES` images, a column for each network, and save in the format of the extension.

    Raises `UsageError` when the extension is not that of a picture format, `SimsearchError` when the file cannot be
    written.
    """
    shown = predictions.images[:MAX_IMAGES]
    n_classes = max(len(classes[:MAX_CLASSES]) for classes in shown[0].top_classes.values())
    row_px = max(_PICTURE_PX + _CAPTION_PX, n_classes * _CLASS_PX) + _GAP_PX
    width = 2 * _MARGIN_PX + _PICTURE_PX + len(predictions.models) * (_GAP_PX + _COLUMN_PX)
    canvas = Canvas(width, 2 * _MARGIN_PX + _HEAD_PX + len(shown) * row_px - _GAP_PX)
    lefts = [_MARGIN_PX + _PICTURE_PX + _GAP_PX + n * (_COLUMN_PX + _GAP_PX) for n in range(len(predictions.models))]
    for left, (name, model) in zip(lefts, predictions.models.items(), strict=True):
        canvas.draw_name((left, _MARGIN_PX), name, 20, _COLUMN_PX, INK)
        canvas.draw_text(
            (left, _MARGIN_PX + 27), f"input: {model.side_px} x {model.side_px} px ({model.resize})", 13, FAINT
        )
    for number, image in enumerate(shown):
        top = _MARGIN_PX + _HEAD_PX + number * row_px
        canvas.draw.line([(_MARGIN_PX, top - 14), (width - _MARGIN_PX, top - 14)], RULE, 1)
        canvas.paste(frame_picture(image.path, _PICTURE_PX), (_MARGIN_PX, top))
        canvas.draw_name((_MARGIN_PX, top + _PICTURE_PX + 8), shorten_path(image.path), 13, _PICTURE_PX)
        for left, classes in zip(lefts, image.top_classes.values(), strict=True):
            _draw_bars(canvas, classes[:MAX_CLASSES], (left, top))
    canvas.save(file)


def _draw_bars(canvas: Canvas, classes: Sequence[ClassPrediction], position: tuple[int, int]) -> None:
    left, top = position
    for number, each in enumerate(classes):
        line = top + number * _CLASS_PX
        is_first = number == 0
        canvas.draw_name((left, line), each.cls.label, 15, _COLUMN_PX - 62, INK if is_first else FAINT)
        probability = f"{each.probability:.4f}"
        canvas.draw_text((left + _COLUMN_PX, line), probability, 15, INK if is_first else FAINT, anchor="ra")
        canvas.draw_bar((left, line + 23), each.probability, _COLUMN_PX, ACCENT if is_first else _PALE, height_px=8)
