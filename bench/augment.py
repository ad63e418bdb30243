"""Rendering augmented views: speed, difference from the views of Keras, and gain of a second thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from keras.src.legacy.preprocessing.image import ImageDataGenerator
from numpy.typing import NDArray
from PIL import Image

from bench.setup import format_table, list_photographs, measure_seconds
from simsearch.images.augmentation import (
    AugmentationRanges,
    Transformation,
    apply_transformation,
    sample_transformation,
)

Pixels = NDArray[np.uint8]
View = Callable[[Pixels, Transformation], NDArray[Any]]
_SIDES_PX = (144, 224, 299)
_N_VIEWS = 100
_N_ROUNDS = 12  # the best round counts: other processes can only make a round slower

_GENERATOR = ImageDataGenerator(fill_mode="nearest", interpolation_order=1)


def _transform_with_keras(pixels: NDArray[Any], made: Transformation) -> NDArray[Any]:
    """Transform with `ImageDataGenerator`, which counts shifts in pixels and with the opposite sign."""
    parameters = {
        "theta": made.rotation_deg,
        "tx": -made.shift_x * pixels.shape[1],
        "ty": -made.shift_y * pixels.shape[0],
        "shear": made.shear_deg,
        "zx": made.zoom_x,
        "zy": made.zoom_y,
        "channel_shift_intensity": made.channel_shift,
        "flip_horizontal": made.is_flipped,
    }
    view: NDArray[Any] = _GENERATOR.apply_transform(pixels.astype(np.float32), parameters)
    return view


def _transform_with_opencv(pixels: Pixels, made: Transformation) -> Pixels:
    """Transform with OpenCV, which is not a dependency of the package; its pixel centers are at whole numbers."""
    side = pixels.shape[0]
    turn, lean, middle = np.deg2rad(made.rotation_deg), np.deg2rad(made.shear_deg), (side - 1) / 2
    flip = -1 if made.is_flipped else 1
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    linear = rotation @ [[1, -np.sin(lean)], [0, np.cos(lean)]] @ np.diag([made.zoom_x * flip, made.zoom_y])
    offset = middle - linear @ [middle, middle] - rotation @ [made.shift_x * side, made.shift_y * side]
    warp = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(
        pixels, np.column_stack([linear, offset]), (side, side), flags=warp, borderMode=cv2.BORDER_REPLICATE
    )
    levels = np.arange(256) + made.channel_shift
    return np.asarray(cv2.LUT(warped, np.clip(levels, warped.min(), warped.max()).round().astype(np.uint8)), np.uint8)


WAYS: dict[str, View] = {
    "Keras's `apply_transform` (what the others are compared with)": _transform_with_keras,
    "ours: Pillow's `transform`": apply_transformation,
    "OpenCV's `warpAffine`": _transform_with_opencv,
}


def measure() -> str:
    """Measure and format the section of the report: views of photographs at the input sizes of networks."""
    cv2.setNumThreads(1)
    files = list_photographs()[:: max(1, len(list_photographs()) // _N_VIEWS)][:_N_VIEWS]
    drawn = [
        sample_transformation(AugmentationRanges(), 0, str(file.name), number) for number, file in enumerate(files)
    ]
    rows = []
    for side_px in _SIDES_PX:
        squares = [np.asarray(Image.open(file).convert("RGB").resize((side_px, side_px))) for file in files]
        rows += _measure_side(side_px, squares, drawn)
    headings = ["side", "views", "one thread: views/s", "two threads: views/s", "mean difference in grey levels"]
    return (
        "## Augmented views\n\nFrom decoded squares, with the default ranges. The difference is to the views of Keras, "
        "which are not rounded.\n\n" + format_table(headings, rows)
    )


def _measure_side(side_px: int, squares: list[Pixels], drawn: list[Transformation]) -> list[list[str]]:
    rates: dict[str, list[float]] = {name: [0.0, 0.0] for name in WAYS}
    for _ in range(_N_ROUNDS):
        for name, view in WAYS.items():
            found = [_measure_rate(view, squares, drawn, n_threads) for n_threads in (1, 2)]
            rates[name] = [max(pair) for pair in zip(rates[name], found, strict=True)]
    slowest = next(iter(rates.values()))
    rows = []
    for name, view in WAYS.items():
        cells = [f"{rate:.0f} ({rate / base:.1f} x)" for rate, base in zip(rates[name], slowest, strict=True)]
        pairs = zip(squares, drawn, strict=True)
        difference = np.mean(
            [np.abs(view(square, made) - _transform_with_keras(square, made)).mean() for square, made in pairs]
        )
        rows.append([f"{side_px} px", name, *cells, f"{difference:.2f}"])
    return rows


def _measure_rate(view: View, squares: list[Pixels], drawn: list[Transformation], n_threads: int) -> float:
    """Measure views/s, the work divided among the threads."""

    def share(first: int) -> None:
        for square, made in zip(squares[first::n_threads], drawn[first::n_threads], strict=True):
            view(square, made)

    def all_threads() -> None:
        threads = [threading.Thread(target=share, args=(number,)) for number in range(n_threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return len(squares) / measure_seconds(all_threads)
