"""Augmented views of pictures as files, to be looked at or used elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from simsearch.errors import SimsearchError, UsageError
from simsearch.images.augment import Transformation, apply, draw
from simsearch.images.decode import decode, default_max_pixels, read
from simsearch.images.views import NO_AUGMENTATION, Augmentation, ViewChoice, parse_ranges

_KEPT_FORMATS = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp"}
"""Views are saved as their picture is, where that is one of these; else as PNG."""


@dataclass(frozen=True, slots=True)
class WrittenView:
    """A view in a file of its own."""

    source: str
    number: int
    file: str
    transformation: Transformation


def augmentation(n_views: int, seed: int | None, ranges: str | None) -> Augmentation:
    """From what a user typed; `ranges` as `parse_ranges` reads them.

    Raises `UsageError`.
    """
    choice = ViewChoice(n_views, seed, None if ranges is None else parse_ranges(ranges))
    return choice.over(NO_AUGMENTATION)


def write_views(
    images: Sequence[str], folder: str, augmentation: Augmentation, max_pixels: int | None = None
) -> list[WrittenView]:
    """Write every augmented view of each picture into `folder`, at the picture's own size.

    They are named after the picture and the number; pictures of one name in different folders are told apart by the
    beginning of their content's digest. A view has the parameters that it would have in a collection.

    Raises `ImageError`, `UsageError` when there is nothing to write, `SimsearchError` when it cannot be written.
    """
    if not images:
        raise UsageError("there is no picture to augment", "name one or more")
    if not augmentation.n_views:
        raise UsageError("0 views of every picture are none", "ask for one or more with -n")
    stems = [Path(image).stem for image in images]
    limit = max_pixels or default_max_pixels()
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        return [
            view
            for image, stem in zip(images, stems, strict=True)
            for view in _write(image, Path(folder) / stem, augmentation, limit, is_shared=stems.count(stem) > 1)
        ]
    except OSError as error:
        raise SimsearchError(f"{folder} cannot be written to ({error.strerror})", "choose another --out") from error


def _write(
    image: str, place: Path, augmentation: Augmentation, max_pixels: int, *, is_shared: bool
) -> Iterator[WrittenView]:
    raw = read(image, claims_picture=True, max_pixels=max_pixels)
    picture = decode(raw.data, image, max_pixels=max_pixels)
    pixels = np.asarray(picture.image)
    stem = f"{place.name}_{raw.digest[:6]}" if is_shared else place.name
    for number in augmentation.numbers[1:]:
        transformation = draw(augmentation.ranges, augmentation.seed, raw.digest, number)
        file = place.with_name(f"{stem}_view{number:02}{_KEPT_FORMATS.get(picture.format, '.png')}")
        Image.fromarray(apply(pixels, transformation)).save(file, quality=95)
        yield WrittenView(image, number, str(file), transformation)
