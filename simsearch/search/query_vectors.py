"""Examples looked at: each becomes a vector that the catalog has, or the pixels that a vector is to be made of."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import ImageError, ImageNotFound, ModelNotIndexed, UsageError
from simsearch.images.decode import (
    DecodedImage,
    Pixels,
    RawFile,
    compute_digest,
    decode_image,
    decode_square,
    read_raw_file,
    resize_to_square,
)
from simsearch.models.embedder import check_can_embed
from simsearch.models.model import Model
from simsearch.search.examples import Example
from simsearch.sources.addresses import is_remote, is_url
from simsearch.sources.web import fetch
from simsearch.store.catalog import Catalog, LiveView, StoredModel

_NAME_LENGTH = 80


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """How far looking may go: pictures of so many pixels, and whether the network may be asked."""

    max_pixels: int
    offline: bool = False


@dataclass(frozen=True, slots=True)
class ExampleContent:
    """An example's content: its stored vector (d,) and the id of that view, or its pixels (side, side, 3)."""

    digest: str
    view_id: int | None = None
    vector: NDArray[np.float32] | None = None
    pixels: Pixels | None = None


def resolve_example(example: Example, catalog: Catalog, stored: StoredModel, limits: ReadLimits) -> ExampleContent:
    """What the model is to see, or has seen, of an example. A part of a picture is looked at anew.

    Raises `ImageError`, `ImageNotFound`, `ModelNotIndexed`, `UsageError`; `ModelError` where an imported model would
    have to look at it.
    """
    if isinstance(example.picture, int) and example.crop is None:
        return _read_stored_vector(example.picture, catalog, stored)
    raw = _read_example(example, catalog, limits)
    if example.crop is not None:
        check_can_embed(stored.model)
        return ExampleContent(raw.digest, pixels=_crop_square(raw, example, stored.model, limits.max_pixels))
    view_id = catalog.find_view_by_digest(raw.digest, stored)
    vector = None if view_id is None else catalog.find_vector(stored, view_id)
    if vector is not None:
        return ExampleContent(raw.digest, view_id, vector)
    check_can_embed(stored.model)
    model = stored.model
    _, pixels = decode_square(raw, model.side_px, model.resize, max_pixels=limits.max_pixels)
    return ExampleContent(raw.digest, pixels=pixels)


def find_stored_view(image_id: int, catalog: Catalog) -> LiveView:
    """The original view of an image. Raises `ImageNotFound` when there is no image of that id with a file."""
    views = catalog.find_live_views([catalog.find_original_view(image_id) or 0])
    if not views:
        raise ImageNotFound(str(catalog.folder), f"{catalog.folder} has no image {image_id}", "answers show the ids")
    return next(iter(views.values()))


def materialize_example(example: Example, catalog: Catalog, limits: ReadLimits, folder: Path) -> str:
    """A file of an example to be looked at: its own, or one made in `folder` of a crop, of bytes, or from an address.

    Raises `ImageError`, `ImageNotFound`, `UsageError`.
    """
    picture = example.picture
    if isinstance(picture, int):
        picture = find_stored_view(picture, catalog).paths[0]
    if example.crop is None and not isinstance(picture, bytes) and not is_remote(os.fspath(picture)):
        return os.fspath(picture)
    raw = _read_example(example, catalog, limits)
    image = _crop_picture(decode_image(raw.data, raw.path, max_pixels=limits.max_pixels), example).image
    name = re.sub(r"[^\w.,() -]", "_", os.path.basename(example.label))[-_NAME_LENGTH:]
    place = Path(tempfile.mkdtemp(dir=folder)) / "query"
    place.mkdir()
    image.save(place / name, "PNG")
    return str(place / name)


def refuse_network(paths: Iterable[str]) -> None:
    """Raises `UsageError` when one of them is an address in a store or on the web."""
    for path in paths:
        if is_remote(path):
            raise UsageError(f"{path} is on the network", "ask with a file, or without --offline")


def _read_stored_vector(image_id: int, catalog: Catalog, stored: StoredModel) -> ExampleContent:
    live = find_stored_view(image_id, catalog)
    vector = catalog.find_vector(stored, live.view_id)
    if vector is None:
        raise ModelNotIndexed(
            str(catalog.folder),
            f"image {image_id} has no vector of {stored.model.backbone}",
            f"run `simsearch index` with --backbone {stored.model.backbone} again",
        )
    return ExampleContent(live.digest, live.view_id, vector)


def _read_example(example: Example, catalog: Catalog, limits: ReadLimits) -> RawFile:
    picture = example.picture
    if isinstance(picture, int):
        picture = find_stored_view(picture, catalog).paths[0]
    if not isinstance(picture, bytes):
        path = os.fspath(picture)
        if limits.offline:
            refuse_network([path])
        if not is_url(path):
            return read_raw_file(path, has_picture_extension=True, max_pixels=limits.max_pixels)
        picture = fetch(path)
    return RawFile(str(example), picture, compute_digest(picture), len(picture), 0)


def _crop_square(raw: RawFile, example: Example, model: Model, max_pixels: int) -> Pixels:
    """The square of a part of a picture, which is decoded at its full size for it."""
    picture = decode_image(raw.data, raw.path, max_pixels=max_pixels)
    return resize_to_square(_crop_picture(picture, example), model.side_px, model.resize)


def _crop_picture(picture: DecodedImage, example: Example) -> DecodedImage:
    if example.crop is None:
        return picture
    box = example.crop.to_box(picture.width, picture.height)
    if box is None:
        size = f"{picture.width} x {picture.height} px"
        raise ImageError(str(example), f"nothing of it is in the crop {example.crop}", f"the picture has {size}")
    return replace(picture, image=picture.image.crop(box))
