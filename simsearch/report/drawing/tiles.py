"""Small square pictures of many image files, for maps and sprites."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

from PIL import Image, ImageDraw, ImageOps

from simsearch.errors import ImageError
from simsearch.images.decode import RawFile, compute_default_max_pixels, decode_image, read_raw_file
from simsearch.sources.reader import ConcurrentReader
from simsearch.sources.remote import N_READERS
from simsearch.sources.retry import keep_patience
from simsearch.sources.scan import FoundFile

MAX_WAIT_S = 5.0
"""How long a drawing of pictures waits for a server that does not answer."""

_N_THREADS = 4
_AHEAD = N_READERS + 4 * _N_THREADS


@dataclass(frozen=True, slots=True)
class TileSheet:
    """Tiles of one size in rows, the first one at the upper left."""

    side_px: int
    columns: int
    rows: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in px."""
        return self.columns * self.side_px, self.rows * self.side_px

    def locate_tile(self, number: int) -> tuple[int, int]:
        """The upper left corner of a tile, by its number, in px."""
        return number % self.columns * self.side_px, number // self.columns * self.side_px


def load_tiles(
    paths: Iterable[str], side_px: int, on_failure: Callable[[ImageError], None] = lambda _: None
) -> Iterator[Image.Image]:
    """Crop each image to its central square, as RGB, in the order of `paths`; an unreadable one is a crossed square.

    `on_failure` is called with the error of each unreadable one, from several threads. Threads decode a limited number
    of images ahead, so that memory does not grow with the number of paths.
    """
    limit_px = compute_default_max_pixels()
    read = keep_patience(partial(_read_file, limit_px=limit_px, on_failure=on_failure))
    work = partial(_make_tile, side_px=side_px, limit_px=limit_px, on_failure=on_failure)
    with ConcurrentReader(_N_THREADS) as reading:
        waiting: deque[Future[Image.Image]] = deque()
        for path in paths:
            waiting.append(reading.submit(FoundFile(path, 0, 0), partial(read, path), work))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _read_file(path: str, limit_px: int, on_failure: Callable[[ImageError], None]) -> RawFile | None:
    try:
        return read_raw_file(path, has_picture_extension=True, max_pixels=limit_px)
    except ImageError as error:
        on_failure(error)
        return None


def _make_tile(
    raw: RawFile | None, side_px: int, limit_px: int, on_failure: Callable[[ImageError], None]
) -> Image.Image:
    if raw is None:
        return _draw_missing_tile(side_px)
    try:
        picture = decode_image(raw.data, raw.path, max_pixels=limit_px, target_px=side_px).image
    except ImageError as error:
        on_failure(error)
        return _draw_missing_tile(side_px)
    return ImageOps.fit(picture, (side_px, side_px), Image.Resampling.LANCZOS)


def _draw_missing_tile(side_px: int) -> Image.Image:
    tile = Image.new("RGB", (side_px, side_px), "#d9dce0")
    draw, last = ImageDraw.Draw(tile), side_px - 1
    draw.line([(0, 0), (last, last)], "#aab0b7")
    draw.line([(0, last), (last, 0)], "#aab0b7")
    return tile
