"""Files to pixels: read, decode, and render the views that are to be embedded."""

from __future__ import annotations

import collections
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import ImageError, NotAPicture
from simsearch.files import is_own_picture
from simsearch.images.decode import Box, Pixels, RawFile, decode_square, read_raw_file
from simsearch.images.perceptual_hash import hash_squeezed, squeeze_to_hashed
from simsearch.images.statistics import compute_statistics
from simsearch.images.views import NO_AUGMENTATION, Augmentation
from simsearch.ingest.timing import StageClock
from simsearch.models.model import Model
from simsearch.sources.reader import ConcurrentReader
from simsearch.sources.scan import FoundFile
from simsearch.store.catalog import ImageProperties

MAX_FILES_AHEAD = 96
"""The most files that are read and decoded ahead of the embedder."""

_OWN_ADVICE = "it is a contact sheet or part of a report; save it with an image editor to index it"

NO_PIXELS: Pixels = np.empty((0, 0, 0, 3), np.uint8)


@dataclass(frozen=True, slots=True)
class PreparationContext:
    """What files are prepared for: the model, its views and the limit on the number of pixels.

    `find_missing_views(digest)` returns the numbers of the views that have no vector yet.
    """

    model: Model
    augmentation: Augmentation
    find_missing_views: Callable[[str], Sequence[int]]
    max_pixels: int


@dataclass(frozen=True, slots=True)
class ReadResult:
    """A file with its bytes, or with the error that reading it raised."""

    file: FoundFile
    raw: RawFile | ImageError


@dataclass(frozen=True, slots=True)
class PreparedFile:
    """A file that was read. Without pixels there is nothing to embed; `failure` is why it could not be read or decoded.

    `pixels` (n, side, side, 3) uint8 are the views with the numbers `numbers` (n), those that have no vector yet.
    `properties` are None where nothing was decoded. They get the hashes of `squeezed`, a gray square (32, 32), by
    `add_hashes`.
    """

    file: FoundFile
    digest: str = ""
    properties: ImageProperties | None = None
    squeezed: NDArray[np.uint8] | None = None
    numbers: Sequence[int] = ()
    pixels: Pixels = field(default_factory=lambda: NO_PIXELS)
    failure: ImageError | None = None


def decode_input(path: str, model: Model, *, max_pixels: int, box: Box | None = None) -> Pixels:
    """Read a picture and decode it to the input of a model: (side, side, 3) uint8, of the part in `box` if given.

    Raises `ImageError`.
    """
    raw = read_raw_file(path, has_picture_extension=True, max_pixels=max_pixels)
    return decode_square(raw, model.resize_rule, max_pixels=max_pixels, box=box)[1]


def decode_files(
    files: Iterable[FoundFile], model: Model, augmentation: Augmentation = NO_AUGMENTATION, *, max_pixels: int
) -> Iterator[PreparedFile]:
    """Read and decode files in threads, and yield them in the order given with the pixels of all their views.

    A file that cannot be read or decoded has its error in `failure`.
    """
    context = PreparationContext(model, augmentation, lambda _: augmentation.numbers, max_pixels)
    return prepare_files(files, context, StageClock())


def prepare_files(
    files: Iterable[FoundFile], context: PreparationContext, clock: StageClock, n_threads: int | None = None
) -> Generator[PreparedFile, None, None]:
    """Read and decode files in threads, at most `MAX_FILES_AHEAD` ahead, and yield them in the order given.

    `n_threads` threads decode; None uses one for each processor.
    """
    waiting: collections.deque[Future[PreparedFile]] = collections.deque()
    decode = partial(decode_views, context=context, clock=clock)
    with ConcurrentReader(n_threads) as reader:
        for file in files:
            waiting.append(reader.submit(file, partial(read_file, file, context, clock), decode))
            if len(waiting) >= MAX_FILES_AHEAD:
                yield clock.wait_for(waiting.popleft(), "wait_decode")
        while waiting:
            yield clock.wait_for(waiting.popleft(), "wait_decode")


def add_hashes(files: Sequence[PreparedFile]) -> list[PreparedFile]:
    """Hash the squeezed squares of files, all at once, which takes less time, and put the hashes in their place."""
    hashes = iter(hash_squeezed([file.squeezed for file in files if file.squeezed is not None]))
    hashed: list[PreparedFile] = []
    for file in files:
        if file.squeezed is None:
            hashed.append(file)
            continue
        assert file.properties is not None  # they were found together
        hashed.append(replace(file, properties=replace(file.properties, hashes=next(hashes)), squeezed=None))
    return hashed


def read_file(file: FoundFile, context: PreparationContext, clock: StageClock) -> ReadResult:
    """Read a file: the half of the preparation that waits for a disk or a network."""
    try:
        with clock.measure("read"):
            raw = read_raw_file(
                file.path, has_picture_extension=file.has_picture_extension, max_pixels=context.max_pixels
            )
    except ImageError as failure:
        return ReadResult(file, failure)
    return ReadResult(file, raw)


def decode_views(result: ReadResult, context: PreparationContext, clock: StageClock) -> PreparedFile:
    """Decode a file and render its missing views: the half of the preparation that keeps a processor busy."""
    file, raw = result.file, result.raw
    if isinstance(raw, ImageError):
        return PreparedFile(file, failure=raw)
    if is_own_picture(raw.data):
        return PreparedFile(file, failure=NotAPicture(file.path, "simsearch made this picture", _OWN_ADVICE))
    as_read = FoundFile(file.path, raw.size_bytes, raw.mtime_ns, raw.etag)
    missing = context.find_missing_views(raw.digest)
    if not missing:
        return PreparedFile(as_read, raw.digest)
    try:
        with clock.measure("decode"):
            model = context.model
            image, square = decode_square(raw, model.resize_rule, max_pixels=context.max_pixels)
    except ImageError as failure:
        return PreparedFile(as_read, failure=failure)
    with clock.measure("augment"):
        pixels = context.augmentation.render_views(square, raw.digest, missing, model.resize_rule)
    with clock.measure("hash"):
        gray = image.image.convert("L")
        squeezed, statistics = squeeze_to_hashed(gray), compute_statistics(gray)
    properties = ImageProperties(image.width, image.height, image.format, image.metadata, statistics=statistics)
    return PreparedFile(as_read, raw.digest, properties, squeezed, missing, pixels)
