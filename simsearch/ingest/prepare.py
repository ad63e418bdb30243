"""A file read and decoded: from where it was found to the pixels of those of its views that are to be embedded."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from simsearch.errors import ImageError
from simsearch.images.decode import Pixels, RawFile, decode_square, read_raw_file
from simsearch.images.views import Augmentation
from simsearch.models.model import Model
from simsearch.sources.scan import FoundFile
from simsearch.store.catalog import ImageProperties

NO_PIXELS: Pixels = np.empty((0, 0, 0, 3), np.uint8)


class StageClock:
    """Busy seconds of each stage, summed over its threads, and seconds that one stage waited for another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.seconds = dict.fromkeys(
            ("read", "decode", "augment", "embed", "write", "index", "wait_decode", "wait_embed", "wait_write"), 0.0
        )

    @contextlib.contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Count the time inside to a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - started
            with self._lock:
                self.seconds[stage] += elapsed


@dataclass(frozen=True, slots=True)
class PreparationContext:
    """What files are prepared for. `missing_views` gives the numbers of the views that a content has no vector of."""

    model: Model
    augmentation: Augmentation
    find_missing_views: Callable[[str], Sequence[int]]
    max_pixels: int


@dataclass(frozen=True, slots=True)
class ReadResult:
    """A file with its content, or with why that could not be read."""

    file: FoundFile
    raw: RawFile | ImageError


@dataclass(frozen=True, slots=True)
class PreparedFile:
    """A file, read. Without pixels it needs no embedding; with a failure it cannot have any.

    `pixels` (n, side, side, 3) are the views of `numbers` (n), those that have no vector yet.
    """

    file: FoundFile
    digest: str = ""
    facts: ImageProperties | None = None
    numbers: Sequence[int] = ()
    pixels: Pixels = field(default_factory=lambda: NO_PIXELS)
    failure: ImageError | None = None


def prepare_file(file: FoundFile, preparation: PreparationContext, clock: StageClock) -> PreparedFile:
    """Read a file, and decode it where a view of it has no vector. What cannot be read is a failure in its place."""
    return decode_views(read_file(file, preparation, clock), preparation, clock)


def read_file(file: FoundFile, preparation: PreparationContext, clock: StageClock) -> ReadResult:
    """The first half of `prepare`, which waits for a disk or a network."""
    try:
        with clock.measure("read"):
            raw = read_raw_file(
                file.path, has_picture_extension=file.has_picture_extension, max_pixels=preparation.max_pixels
            )
    except ImageError as failure:
        return ReadResult(file, failure)
    return ReadResult(file, raw)


def decode_views(done: ReadResult, preparation: PreparationContext, clock: StageClock) -> PreparedFile:
    """The second half of `prepare`, which keeps a processor busy."""
    file, raw = done.file, done.raw
    if isinstance(raw, ImageError):
        return PreparedFile(file, failure=raw)
    as_read = FoundFile(file.path, raw.size_bytes, raw.mtime_ns, raw.etag)
    missing = preparation.find_missing_views(raw.digest)
    if not missing:
        return PreparedFile(as_read, raw.digest)
    try:
        with clock.measure("decode"):
            model = preparation.model
            picture, square = decode_square(raw, model.side_px, model.resize, max_pixels=preparation.max_pixels)
    except ImageError as failure:
        return PreparedFile(as_read, failure=failure)
    with clock.measure("augment"):
        pixels = preparation.augmentation.render_views(square, raw.digest, missing)
    facts = ImageProperties(picture.width, picture.height, picture.format, picture.metadata)
    return PreparedFile(as_read, raw.digest, facts, missing, pixels)
