"""A sheet of predictions: each picture with the bars of every network beside it."""

from __future__ import annotations

import os
from collections.abc import Sequence

from simsearch.report.drawing.canvas import ACCENT, FAINT, INK, RULE, Canvas, format_file_name, frame_picture
from simsearch.study.predict import ClassPrediction, PredictionResult

MAX_IMAGES = 50
MAX_GUESSES = 20

_PICTURE_PX = 210
_COLUMN_PX = 310
_GAP_PX = 34
_MARGIN_PX = 28
_HEAD_PX = 68
_GUESS_PX = 42
_CAPTION_PX = 30
_PALE = "#a9c4d1"


def draw_predictions(predictions: PredictionResult, file: str | os.PathLike[str]) -> None:
    """Draw the first `MOST_IMAGES` images, a column for each network, and save the picture by its extension.

    Raises `UsageError` when the extension means no picture format, `SimsearchError` when it cannot be saved.
    """
    shown = predictions.images[:MAX_IMAGES]
    n_guesses = max(len(guesses[:MAX_GUESSES]) for guesses in shown[0].top_classes.values())
    row_px = max(_PICTURE_PX + _CAPTION_PX, n_guesses * _GUESS_PX) + _GAP_PX
    width = 2 * _MARGIN_PX + _PICTURE_PX + len(predictions.models) * (_GAP_PX + _COLUMN_PX)
    canvas = Canvas(width, 2 * _MARGIN_PX + _HEAD_PX + len(shown) * row_px - _GAP_PX)
    lefts = [_MARGIN_PX + _PICTURE_PX + _GAP_PX + n * (_COLUMN_PX + _GAP_PX) for n in range(len(predictions.models))]
    for left, (name, model) in zip(lefts, predictions.models.items(), strict=True):
        canvas.draw_name((left, _MARGIN_PX), name, 20, _COLUMN_PX, INK)
        canvas.draw_text(
            (left, _MARGIN_PX + 27), f"sees {model.side_px} x {model.side_px} px ({model.resize})", 13, FAINT
        )
    for number, image in enumerate(shown):
        top = _MARGIN_PX + _HEAD_PX + number * row_px
        canvas.draw.line([(_MARGIN_PX, top - 14), (width - _MARGIN_PX, top - 14)], RULE, 1)
        canvas.paste(frame_picture(image.path, _PICTURE_PX), (_MARGIN_PX, top))
        canvas.draw_name((_MARGIN_PX, top + _PICTURE_PX + 8), format_file_name(image.path), 13, _PICTURE_PX)
        for left, guesses in zip(lefts, image.top_classes.values(), strict=True):
            _draw_bars(canvas, guesses[:MAX_GUESSES], (left, top))
    canvas.save(file)


def _draw_bars(canvas: Canvas, guesses: Sequence[ClassPrediction], place: tuple[int, int]) -> None:
    left, top = place
    for number, guess in enumerate(guesses):
        line = top + number * _GUESS_PX
        is_first = number == 0
        canvas.draw_name((left, line), guess.cls.label, 15, _COLUMN_PX - 62, INK if is_first else FAINT)
        probability = f"{guess.probability:.4f}"
        canvas.draw_text((left + _COLUMN_PX, line), probability, 15, INK if is_first else FAINT, anchor="ra")
        canvas.draw_bar((left, line + 23), guess.probability, _COLUMN_PX, ACCENT if is_first else _PALE, height_px=8)
