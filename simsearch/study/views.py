"""Writing augmented views of images to files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from simsearch.errors import SimsearchError, UsageError
from simsearch.images.augmentation import Transformation, apply_transformation, sample_transformation
from simsearch.images.decode import compute_default_max_pixels, decode_image, read_raw_file
from simsearch.images.views import NO_AUGMENTATION, Augmentation, ViewChoice, parse_ranges

_KEPT_FORMATS = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp"}
"""The formats in which views of an image of the same format are saved; all others are saved as PNG."""

_MAX_STEM_BYTES = 100
"""Two stems and an extension fit into the 255 bytes that file systems allow."""


@dataclass(frozen=True, slots=True)
class WrittenView:
    """An augmented view of the image `source`, written to `file`."""

    source: str
    number: int
    file: str
    transformation: Transformation

    def to_dict(self) -> dict[str, Any]:
        """The view in the JSON of `simsearch augment --json`."""
        return {"image": self.source, "number": self.number, "path": self.file, **asdict(self.transformation)}


def parse_augmentation(n_views: int, seed: int | None, ranges: str | None) -> Augmentation:
    """Parse an augmentation from options of the command line; `ranges` as in `parse_ranges`.

    Raises `UsageError`.
    """
    choice = ViewChoice(n_views, seed, None if ranges is None else parse_ranges(ranges))
    return choice.apply_to(NO_AUGMENTATION)


def shorten_stem(path: str) -> str:
    """Shorten the stem of a file name so that other file names can begin with it."""
    return os.fsencode(Path(path).stem)[:_MAX_STEM_BYTES].decode("utf-8", "ignore")


def write_views(
    images: Sequence[str],
    folder: str,
    augmentation: Augmentation,
    max_pixels: int | None = None,
    *,
    longest_px: int | None = None,
) -> list[WrittenView]:
    """Write every augmented view of each image into `folder`, in the image's size or at most `longest_px` long.

    File names are the name of the image and the number of the view; images with the same name in different folders get
    the beginning of their content digest in addition. A view has the same parameters as in a collection.

    Raises `ImageError`, `UsageError` when there is nothing to write, `SimsearchError` when a file cannot be written.
    """
    if not images:
        raise UsageError("no image to augment", "name one or more")
    if not augmentation.n_views:
        raise UsageError("the number of views is 0", "give 1 or more with -n")
    stems = [shorten_stem(image) for image in images]
    limit = max_pixels or compute_default_max_pixels()
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        return [
            view
            for image, stem in zip(images, stems, strict=True)
            for view in _write_image_views(
                _SourceImage(image, limit, longest_px),
                Path(folder) / stem,
                augmentation,
                is_shared=stems.count(stem) > 1,
            )
        ]
    except OSError as error:
        raise SimsearchError(f"{folder} cannot be written to ({error.strerror})", "choose another --out") from error


@dataclass(frozen=True, slots=True)
class _SourceImage:
    path: str
    max_pixels: int
    longest_px: int | None


def _write_image_views(
    original: _SourceImage, place: Path, augmentation: Augmentation, *, is_shared: bool
) -> Iterator[WrittenView]:
    raw = read_raw_file(original.path, has_picture_extension=True, max_pixels=original.max_pixels)
    picture = decode_image(raw.data, original.path, max_pixels=original.max_pixels, target_px=original.longest_px)
    if original.longest_px is not None:
        picture.image.thumbnail((original.longest_px, original.longest_px), Image.Resampling.LANCZOS)
    pixels = np.asarray(picture.image)
    stem = f"{place.name}_{raw.digest[:6]}" if is_shared else place.name
    for number in augmentation.numbers[1:]:
        transformation = sample_transformation(augmentation.ranges, augmentation.seed, raw.digest, number)
        file = place.with_name(f"{stem}_view{number:02}{_KEPT_FORMATS.get(picture.format, '.png')}")
        Image.fromarray(apply_transformation(pixels, transformation)).save(file, quality=95)
        yield WrittenView(original.path, number, str(file), transformation)
