"""Fonts for text in any script: DejaVu Sans first, then whatever installed font has the character."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import groupby

from PIL import ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_MATPLOTLIB_FONT = "mpl-data/fonts/ttf/DejaVuSans.ttf"
"""Latin, Greek, Cyrillic, Hebrew and Arabic. It is installed with matplotlib, which simsearch requires."""

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
"""Fonts for other scripts; Pillow finds them by name in the font folders of Linux, macOS and Windows."""

_FONTCONFIG_FORMAT = "%{file}\t%{index}\t%{weight}\t%{slant}\t%{scalable}\t%{color}\t%{charset}\n"
_FONTCONFIG_REGULAR, _FONTCONFIG_UPRIGHT = "80", "0"
_FONTCONFIG_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class FontFile:
    """A font by its file or name; `index` counts the fonts of a collection (.ttc). An empty `file` is Pillow's own."""

    file: str
    index: int = 0


@dataclass(frozen=True, slots=True)
class TextRun:
    """A part of a line that one font draws."""

    text: str
    font: Font


def split_runs(line: str, size: int) -> list[TextRun]:
    """Split a line into runs of one font each, of `size` px.

    A character that no font has is drawn by the first font, as its box for a missing glyph.
    """
    fonts: list[FontFile] = []
    for character in line:
        is_joined = character.isspace() or unicodedata.category(character) in ("Mn", "Mc", "Me", "Cf")
        # A font can only place a combining mark on a letter of its own.
        fonts.append(fonts[-1] if is_joined and fonts else _find_font(character))
    groups = groupby(zip(line, fonts, strict=True), key=lambda pair: pair[1])
    return [TextRun("".join(character for character, _ in pairs), _load_font(font, size)) for font, pairs in groups]


def measure_text(line: str, size: int) -> float:
    """Compute the width of a line in px."""
    return sum(run.font.getlength(run.text) for run in split_runs(line, size))


def draw_line(
    draw: ImageDraw.ImageDraw, position: tuple[int, int], line: str, size: int, color: str, *, anchor: str = "la"
) -> None:
    """Draw one line of text; `anchor` is Pillow's: `l`, `m` or `r`, then `a` (top) or `m` (middle).

    Lines in different scripts share one baseline: that of the first font.
    """
    runs = split_runs(line, size)
    widths = [run.font.getlength(run.text) for run in runs]
    left = position[0] - sum(widths) * {"l": 0.0, "m": 0.5, "r": 1.0}[anchor[0]]
    ascent, descent = _measure_height(_load_font(_list_fonts()[0], size))
    baseline = position[1] + (ascent if anchor[1] == "a" else (ascent - descent) / 2)
    for run, width in zip(runs, widths, strict=True):
        draw.text((left, baseline), run.text, color, run.font, anchor="ls")
        left += width


def _measure_height(font: Font) -> tuple[float, float]:
    """Measure the height above and below the baseline in px."""
    return font.getmetrics() if isinstance(font, ImageFont.FreeTypeFont) else (font.getbbox("A")[3], 0.0)


@cache
def _find_font(character: str) -> FontFile:
    """Find the first font that has the character, else the first font."""
    listed = (font for font in _list_fonts() if _has_glyph(font, character))
    return next(listed, None) or next(_find_with_fontconfig(character), _list_fonts()[0])


@cache
def _list_fonts() -> tuple[FontFile, ...]:
    """List the fonts that can be opened, DejaVu Sans first, Pillow's own (ASCII only) last."""
    package = importlib.util.find_spec("matplotlib")  # found, not imported
    folders = package.submodule_search_locations if package else None
    files = [os.path.join(folder, _MATPLOTLIB_FONT) for folder in folders or ()]
    found = (FontFile(file) for file in (*files, *_SYSTEM_FONTS))
    return (*(font for font in found if _can_open(font)), FontFile(""))


def _find_with_fontconfig(character: str) -> Iterator[FontFile]:
    for font, ranges in _list_fontconfig_fonts():
        if any(first <= ord(character) <= last for first, last in ranges) and _can_open(font):
            yield font


@cache
def _list_fontconfig_fonts() -> tuple[tuple[FontFile, tuple[tuple[int, int], ...]], ...]:
    """List the upright regular fonts of fontconfig, sans-serif ones first, with the code points of each.

    Empty where fontconfig is not installed (macOS, Windows).
    """
    command = shutil.which("fc-list")
    if command is None:
        return ()
    try:
        done = subprocess.run(
            [command, "--format", _FONTCONFIG_FORMAT],
            capture_output=True, text=True, errors="replace", timeout=_FONTCONFIG_TIMEOUT_S, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ()
    found = []
    for line in done.stdout.splitlines():
        fields = line.split("\t")
        if fields[2:6] == [_FONTCONFIG_REGULAR, _FONTCONFIG_UPRIGHT, "True", "False"] and fields[1].isdecimal():
            found.append((FontFile(fields[0], int(fields[1])), _parse_charset(fields[6])))
    return tuple(sorted(found, key=lambda each: _rank_file(each[0])))


def _parse_charset(charset: str) -> tuple[tuple[int, int], ...]:
    """`20-7e a0` to pairs of the first and the last code point."""
    ends = (piece.partition("-") for piece in charset.split())
    return tuple((int(first, 16), int(last or first, 16)) for first, _, last in ends)


def _rank_file(font: FontFile) -> tuple[bool, bool, str, int]:
    name = os.path.basename(font.file)
    return "Sans" not in name, "Mono" in name, name, font.index


@cache
def _can_open(font: FontFile) -> bool:
    try:
        ImageFont.truetype(font.file, 12, font.index)
    except OSError:
        return False
    return True


@cache
def _load_font(font: FontFile, size: int) -> Font:
    return ImageFont.truetype(font.file, size, font.index) if font.file else ImageFont.load_default(size)


@cache
def _has_glyph(font: FontFile, character: str) -> bool:
    """Whether the glyph differs from the one for U+FFFF, which is no character: the box for a missing glyph."""
    opened = _load_font(font, 24)
    return character.isspace() or bytes(opened.getmask(character)) != bytes(opened.getmask("\uffff"))
