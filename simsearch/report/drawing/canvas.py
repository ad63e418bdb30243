"""What drawings share: colours, letters for any script that a font is found for, pictures in frames, saving."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw, ImageOps

from simsearch.errors import ImageError, SimsearchError, UsageError
from simsearch.images.decode import compute_default_max_pixels, decode_image, read_raw_file
from simsearch.report.drawing.fonts import draw_line, measure_text

PAPER, INK, FAINT, ACCENT = "#ffffff", "#1d1f23", "#7b818a", "#2f6f8f"
EMPTY, FRAME, RULE = "#eceef0", "#f6f7f8", "#d8dbdf"

Position = tuple[int, int]


class Canvas:
    """A picture to draw on. Places are (left, top) in px."""

    def __init__(self, width: int, height: int) -> None:
        self.image = Image.new("RGB", (width, height), PAPER)
        self.draw = ImageDraw.Draw(self.image)

    def draw_text(self, place: Position, text: str, size: int, color: str = INK, *, anchor: str = "la") -> None:
        """One line; `anchor` as in Pillow."""
        draw_line(self.draw, place, make_printable(text), size, color, anchor=anchor)

    def draw_name(
        self, place: Position, text: str, size: int, width_px: int, color: str = FAINT, *, anchor: str = "la"
    ) -> None:
        """One line, cut in its middle to the width there is: its beginning and its end tell files apart."""
        self.draw_text(place, shorten_to_width(text, size, width_px), size, color, anchor=anchor)

    def paste(self, image: Image.Image, place: Position) -> None:
        """Another picture into this one."""
        self.image.paste(image, place)

    def draw_bar(
        self, place: Position, share: float, length_px: int, color: str = ACCENT, *, height_px: int = 4
    ) -> None:
        """A bar that is filled to a share; what is below 0 is empty."""
        left, top = place
        self.draw.rectangle((left, top, left + length_px - 1, top + height_px - 1), EMPTY)
        if (filled := round(max(0.0, min(1.0, share)) * length_px)) > 0:
            self.draw.rectangle((left, top, left + filled - 1, top + height_px - 1), color)

    def save(self, file: str | os.PathLike[str]) -> None:
        """Save by the name's extension; folders that are missing are made.

        Raises `UsageError` when the extension means no picture format, `SimsearchError` when it cannot be written.
        """
        try:
            Path(file).parent.mkdir(parents=True, exist_ok=True)
            self.image.save(file, quality=92)
        except ValueError as error:
            raise make_extension_error(file) from error
        except OSError as error:
            cause = error.strerror or error
            raise SimsearchError(f"{os.fspath(file)} cannot be written ({cause})", "choose another place") from error


def check_extension(file: str | os.PathLike[str]) -> None:
    """Before work is done for it: whether a drawing can be saved under that name.

    Raises `UsageError`.
    """
    if Path(file).suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise make_extension_error(file)


def make_extension_error(file: str | os.PathLike[str]) -> UsageError:
    """The error of a drawing's name."""
    return UsageError(f"{os.fspath(file)} has no extension of a picture", "name it .png, .jpg or .webp")


def frame_picture(path: str, side_px: int) -> Image.Image:
    """The whole picture in the middle of a square; a grey square where it cannot be read any more."""
    limit = compute_default_max_pixels()
    try:
        raw = read_raw_file(path, has_picture_extension=True, max_pixels=limit)
        whole = decode_image(raw.data, path, max_pixels=limit, target_px=side_px).image
    except ImageError:
        lost = Image.new("RGB", (side_px, side_px), EMPTY)
        if side_px >= 120:
            middle = (side_px // 2, side_px // 2)
            draw_line(ImageDraw.Draw(lost), middle, "not there any more", 13, FAINT, anchor="mm")
        return lost
    shown = ImageOps.contain(whole, (side_px, side_px), Image.Resampling.LANCZOS)
    square = Image.new("RGB", (side_px, side_px), FRAME)
    square.paste(shown, ((side_px - shown.width) // 2, (side_px - shown.height) // 2))
    return square


def map_to_colors(shares: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Values in [0, 1] of any shape to RGB, dark to bright, in one more dimension."""
    stops = np.linspace(0, 1, len(_COLOR_STOPS))
    channels = [np.interp(shares, stops, [stop[channel] for stop in _COLOR_STOPS]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


_COLOR_STOPS = tuple(
    ImageColor.getrgb(colour)[:3] for colour in ("#0d1526", "#1d3f63", "#2f7f8f", "#7cc08d", "#f6eaa2")
)
"""Lightness rises evenly from stop to stop, so that the order of values survives print and colour-blindness."""


def shorten_to_width(text: str, size: int, width_px: int) -> str:
    """A line that is not wider than this: where it is, its middle gives way to an ellipsis."""
    line = make_printable(text)
    kept, n = line, len(line)
    while n > 2 and measure_text(kept, size) > width_px:
        n -= 1
        kept = f"{line[: n - n // 2]}…{line[len(line) - n // 2 :]}"
    return kept


def format_file_name(path: str) -> str:
    """The file's name with its folder's, which is often its class."""
    return make_printable(os.path.join(*Path(path).parts[-2:]))


def make_printable(text: str) -> str:
    """On one line, with a replacement character for whatever has no shape."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
