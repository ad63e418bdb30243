"""What drawings share: colours, letters for any script that a font is found for, pictures in frames, saving."""

from __future__ import annotations

import importlib.util
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw, ImageFont, ImageOps

from simsearch.errors import ImageError, SimsearchError, UsageError
from simsearch.images.decode import compute_default_max_pixels, decode_image, read_raw_file

PAPER, INK, FAINT, ACCENT = "#ffffff", "#1d1f23", "#7b818a", "#2f6f8f"
EMPTY, FRAME, RULE = "#eceef0", "#f6f7f8", "#d8dbdf"

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Position = tuple[int, int]

_MATPLOTLIB_FONT = "mpl-data/fonts/ttf/DejaVuSans.ttf"  # Greek, Cyrillic, Hebrew, Arabic; comes with matplotlib
_SYSTEM_FONTS = (
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKsc-Regular.otf",
    "DroidSansFallbackFull.ttf",
    "wqy-microhei.ttc",
    "Arial Unicode.ttf",
    "PingFang.ttc",
    "msyh.ttc",
    "malgun.ttf",
    "NotoSansDevanagari-Regular.ttf",
    "NotoSansThai-Regular.ttf",
)
"""Asked for by name where Pillow looks for the fonts of a system; the rest of the world's letters."""


class Canvas:
    """A picture to draw on. Places are (left, top) in px."""

    def __init__(self, width: int, height: int) -> None:
        self.image = Image.new("RGB", (width, height), PAPER)
        self.draw = ImageDraw.Draw(self.image)

    def draw_text(self, place: Position, text: str, size: int, color: str = INK, *, anchor: str = "la") -> None:
        """One line; `anchor` as in Pillow."""
        line = make_printable(text)
        self.draw.text(place, line, color, choose_font(line, size), anchor=anchor)

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
            ImageDraw.Draw(lost).text(middle, "not there any more", FAINT, choose_font("", 13), anchor="mm")
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
    font, kept, n = choose_font(line + "…", size), line, len(line)
    while n > 2 and font.getlength(kept) > width_px:
        n -= 1
        kept = f"{line[: n - n // 2]}…{line[len(line) - n // 2 :]}"
    return kept


def format_file_name(path: str) -> str:
    """The file's name with its folder's, which is often its class."""
    return make_printable(os.path.join(*Path(path).parts[-2:]))


def make_printable(text: str) -> str:
    """On one line, with a replacement character for whatever has no shape."""
    whole = os.fsencode(text).decode("utf-8", "replace")
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in whole)


def choose_font(text: str, size: int) -> Font:
    """The font that has most letters of the text, among equal ones the first."""
    letters = set(text)
    return _load_font(max(_find_fonts(), key=lambda font: sum(_has_glyph(font, letter) for letter in letters)), size)


@cache
def _find_fonts() -> tuple[str, ...]:
    """Names and paths of the fonts here, the plain one (empty) first."""
    package = importlib.util.find_spec("matplotlib")  # found, not imported
    folders = package.submodule_search_locations if package else None
    files = [os.path.join(folder, _MATPLOTLIB_FONT) for folder in folders or ()]
    return ("", *(file for file in (*files, *_SYSTEM_FONTS) if _can_open(file)))


def _can_open(file: str) -> bool:
    try:
        ImageFont.truetype(file, 12)
    except OSError:
        return False
    return True


@cache
def _load_font(font: str, size: int) -> Font:
    return ImageFont.truetype(font, size) if font else ImageFont.load_default(size)


@cache
def _has_glyph(font: str, letter: str) -> bool:
    """Whether the font's shape for the letter is not the one it has for what is no letter."""
    opened = _load_font(font, 24)
    return letter.isspace() or bytes(opened.getmask(letter)) != bytes(opened.getmask("\uffff"))
