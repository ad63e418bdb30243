"""Small square pictures of many files, in order: what maps and sprites are made of."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

from PIL import Image, ImageDraw, ImageOps

from simsearch.errors import ImageError
from simsearch.images.decode import RawFile, decode, default_max_pixels, read
from simsearch.sources.reader import Reading
from simsearch.sources.remote import N_READERS
from simsearch.sources.scan import FoundFile

_N_THREADS = 4
_AHEAD = N_READERS + 4 * _N_THREADS


@dataclass(frozen=True, slots=True)
class Sheet:
    """Tiles of one size in rows, from the upper left."""

    side_px: int
    columns: int
    rows: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in px."""
        return self.columns * self.side_px, self.rows * self.side_px

    def place(self, number: int) -> tuple[int, int]:
        """The upper left corner of a tile in px."""
        return number % self.columns * self.side_px, number // self.columns * self.side_px


def tiles(paths: Iterable[str], side_px: int) -> Iterator[Image.Image]:
    """The middle square of each picture, RGB, in the order of `paths`; a crossed-out one where it cannot be read.

    Decoded in threads, a few ahead, so that memory does not grow with their number.
    """
    limit_px = default_max_pixels()
    work = partial(_tile, side_px=side_px, limit_px=limit_px)
    with Reading(_N_THREADS) as reading:
        waiting: deque[Future[Image.Image]] = deque()
        for path in paths:
            waiting.append(reading.submit(FoundFile(path, 0, 0), partial(_content, path, limit_px), work))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _content(path: str, limit_px: int) -> RawFile | None:
    try:
        return read(path, claims_picture=True, max_pixels=limit_px)
    except ImageError:
        return None


def _tile(raw: RawFile | None, side_px: int, limit_px: int) -> Image.Image:
    if raw is None:
        return _missing(side_px)
    try:
        picture = decode(raw.data, raw.path, max_pixels=limit_px, target_px=side_px).image
    except ImageError:
        return _missing(side_px)
    return ImageOps.fit(picture, (side_px, side_px), Image.Resampling.LANCZOS)


def _missing(side_px: int) -> Image.Image:
    tile = Image.new("RGB", (side_px, side_px), "#d9dce0")
    draw, last = ImageDraw.Draw(tile), side_px - 1
    draw.line([(0, 0), (last, last)], "#aab0b7")
    draw.line([(0, last), (last, 0)], "#aab0b7")
    return tile
