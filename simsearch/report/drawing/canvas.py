"""The canvas of all drawings: colors, text in any script, framed pictures, saving."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageColor, ImageDraw, ImageOps
from PIL.PngImagePlugin import PngInfo

from simsearch.errors import ImageError, UsageError
from simsearch.files import OUTPUT_MARK, replace_output_file
from simsearch.images.thumbnails import read_small_image
from simsearch.matching.evidence import Box
from simsearch.report.drawing.fonts import draw_line, measure_text
from simsearch.text import clean_text

PAPER, INK, FAINT, ACCENT = "#ffffff", "#1d1f23", "#7b818a", "#2f6f8f"
EMPTY, FRAME, RULE = "#eceef0", "#f6f7f8", "#d8dbdf"

Position = tuple[int, int]
"""(left, top) in px."""

_EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp")
_JPEG_QUALITY = 92
_MIN_SIDE_FOR_MESSAGE_PX = 120
_BOX_WIDTH_PX, _BOX, _BOX_EDGE = 3, "#ffd23f", "#20262c"


class Canvas:
    """A picture to draw on. Positions are (left, top) in px."""

    def __init__(self, width: int, height: int) -> None:
        self.image = Image.new("RGB", (width, height), PAPER)
        self.draw = ImageDraw.Draw(self.image)

    def draw_text(self, position: Position, text: str, size: int, color: str = INK, *, anchor: str = "la") -> None:
        """Draw one line of text of `size` px; `anchor` as in Pillow."""
        draw_line(self.draw, position, clean_text(text), size, color, anchor=anchor)

    def draw_name(
        self, position: Position, text: str, size: int, width_px: int, color: str = FAINT, *, anchor: str = "la"
    ) -> None:
        """Draw one line of text, shortened to a width by an ellipsis in its middle."""
        self.draw_text(position, shorten_to_width(text, size, width_px), size, color, anchor=anchor)

    def paste(self, image: Image.Image, position: Position) -> None:
        """Paste another picture."""
        self.image.paste(image, position)

    def draw_bar(
        self, position: Position, share: float, length_px: int, color: str = ACCENT, *, height_px: int = 4
    ) -> None:
        """Draw a bar that is filled to a share in [0, 1]; a share below 0 leaves it empty."""
        left, top = position
        self.draw.rectangle((left, top, left + length_px - 1, top + height_px - 1), EMPTY)
        if (filled := round(max(0.0, min(1.0, share)) * length_px)) > 0:
            self.draw.rectangle((left, top, left + filled - 1, top + height_px - 1), color)

    def save(self, file: str | os.PathLike[str]) -> None:
        """Save in the format of the file's extension; missing folders are created.

        Raises `UsageError` when the extension is not that of a picture format, `SimsearchError` when the file cannot
        be written.
        """
        save_picture(self.image, file)


def save_picture(image: Image.Image, file: str | os.PathLike[str]) -> None:
    """Save a drawing in the format of the file's extension; missing folders are created.

    Raises as `Canvas.save` does.
    """
    if Image.registered_extensions().get(Path(file).suffix.lower()) not in Image.SAVE:
        raise make_extension_error(file)
    with replace_output_file(Path(file)) as temporary:
        image.save(temporary, quality=_JPEG_QUALITY, **build_mark(temporary.suffix))


def build_mark(suffix: str) -> dict[str, Any]:
    """Build the options of `Image.save` that mark a picture as made by simsearch, in the way of its format."""
    software = f"simsearch ({OUTPUT_MARK})"
    if suffix.lower() == ".png":
        information = PngInfo()
        information.add_text("Software", software)
        return {"pnginfo": information}
    exif = Image.Exif()
    exif[ExifTags.Base.Software] = software
    return {"exif": exif}


def check_extension(file: str | os.PathLike[str], advice: str = "") -> None:
    """Check that a drawing can be saved under this name, before any work is done for it. Raises `UsageError`."""
    if Path(file).suffix.lower() not in _EXTENSIONS:
        raise make_extension_error(file, advice)


def make_extension_error(file: str | os.PathLike[str], advice: str = "") -> UsageError:
    """Build the error for a file name without the extension of a picture format."""
    problem = f"{clean_text(os.fspath(file))} has no extension of a picture format"
    return UsageError(problem, advice or "use .png, .jpg or .webp")


def frame_picture(
    path: str, side_px: int, box: Box | None = None, *, on_failure: Callable[[ImageError], None] = lambda _: None
) -> Image.Image:
    """Fit an image file into the middle of a square; a gray square when it cannot be read.

    `box` is a part of the picture to outline, as shares of its size. `on_failure` is called with the cause where the
    picture cannot be read.
    """
    try:
        whole = read_small_image(path, side_px)
    except ImageError as error:
        on_failure(error)
        empty = Image.new("RGB", (side_px, side_px), EMPTY)
        if side_px >= _MIN_SIDE_FOR_MESSAGE_PX:
            draw_line(ImageDraw.Draw(empty), (side_px // 2, side_px // 2), "not readable", 13, FAINT, anchor="mm")
        return empty
    fitted = ImageOps.contain(whole, (side_px, side_px), Image.Resampling.LANCZOS)
    square = Image.new("RGB", (side_px, side_px), FRAME)
    left, top = (side_px - fitted.width) // 2, (side_px - fitted.height) // 2
    square.paste(fitted, (left, top))
    if box is not None:
        across, down = fitted.width - 1, fitted.height - 1
        corners = (left + box[0] * across, top + box[1] * down, left + box[2] * across, top + box[3] * down)
        draw = ImageDraw.Draw(square)
        draw.rectangle(corners, outline=_BOX_EDGE, width=_BOX_WIDTH_PX + 2)
        draw.rectangle(
            [corners[0] + 1, corners[1] + 1, corners[2] - 1, corners[3] - 1], outline=_BOX, width=_BOX_WIDTH_PX
        )
    return square


def map_to_colors(shares: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Map values in [0, 1], of any shape, to RGB from dark to bright, in one more dimension."""
    stops = np.linspace(0, 1, len(_COLOR_STOPS))
    channels = [np.interp(shares, stops, [stop[channel] for stop in _COLOR_STOPS]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


_COLOR_STOPS = tuple(ImageColor.getrgb(color)[:3] for color in ("#0d1526", "#1d3f63", "#2f7f8f", "#7cc08d", "#f6eaa2"))
"""Lightness rises evenly from stop to stop, so that the order of values survives print and color blindness."""


def shorten_to_width(text: str, size: int, width_px: int) -> str:
    """Shorten a line to a width in px; its middle is replaced by an ellipsis, as both ends tell files apart."""
    line = clean_text(text)
    kept, n = line, len(line)
    while n > 2 and measure_text(kept, size) > width_px:
        n -= 1
        kept = f"{line[: n - n // 2]}…{line[len(line) - n // 2 :]}"
    return kept
