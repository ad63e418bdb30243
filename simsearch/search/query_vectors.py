"""Resolve examples: to the stored vector of an image, or to the pixels that must be embedded."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterable
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
from simsearch.search.examples import Crop, Example, QueryVector
from simsearch.sources.addresses import canonicalize_path, is_remote, is_url
from simsearch.sources.web import fetch
from simsearch.store.catalog import Catalog, LiveView, StoredModel

_NAME_LENGTH = 80


def decode_example_square(raw: RawFile, crop: Crop | None, model: Model, max_pixels: int) -> Pixels:
    """Decode a picture, or a crop of it, to the square (side, side, 3) of a model. Raises `ImageError`."""
    if crop is None:
        return decode_square(raw, model.resize_rule, max_pixels=max_pixels)[1]
    picture = decode_image(raw.data, raw.path, max_pixels=max_pixels)
    return resize_to_square(_crop_picture(picture, crop, raw.path), model.resize_rule)


ExampleDecoder = Callable[[RawFile, Crop | None, Model, int], Pixels]
"""A function such as `decode_example_square`."""


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """Limits for reading examples: the most pixels of a picture, whether network access is forbidden, and the decoder.

    `decode` may run `decode_example_square` elsewhere, such as in a process of its own.
    """

    max_pixels: int
    offline: bool = False
    decode: ExampleDecoder = decode_example_square


@dataclass(frozen=True, slots=True)
class ExampleContent:
    """The content of an example: its stored vector (d,) and the id of that view, or its pixels (side, side, 3)."""

    digest: str
    view_id: int | None = None
    vector: NDArray[np.float32] | None = None
    pixels: Pixels | None = None


def resolve_example(example: Example, catalog: Catalog, stored: StoredModel, limits: ReadLimits) -> ExampleContent:
    """Find the stored vector of an example, or decode the example. A cropped example is always decoded.

    Raises `ImageError`, `ImageNotFound`, `ModelNotIndexed`, `UsageError`; `ModelError` if the example must be embedded
    but the model was imported.
    """
    if isinstance(example.picture, QueryVector):
        return ExampleContent("", vector=_check_width(example.picture, stored))
    if isinstance(example.picture, int) and example.crop is None:
        return _read_stored_vector(example.picture, catalog, stored)
    if example.crop is None and (unread := _find_unread_view(example, catalog, stored)) is not None:
        return ExampleContent(unread.digest, unread.view_id, catalog.find_vector(stored, unread.view_id))
    raw = _read_example(example, catalog, limits)
    if example.crop is None:
        view_id = catalog.find_view_by_digest(raw.digest, stored)
        vector = None if view_id is None else catalog.find_vector(stored, view_id)
        if vector is not None:
            return ExampleContent(raw.digest, view_id, vector)
    check_can_embed(stored.model)
    return ExampleContent(raw.digest, pixels=limits.decode(raw, example.crop, stored.model, limits.max_pixels))


def fetch_example(example: Example, limits: ReadLimits) -> Example:
    """Replace the web address of an example by its bytes, to use them twice. Raises `ImageError`, `UsageError`."""
    if isinstance(example.picture, str) and is_url(example.picture):
        return replace(example, picture=_read_remote(example.picture, limits), name=str(example))
    return example


def decode_example(example: Example, catalog: Catalog, limits: ReadLimits) -> DecodedImage:
    """Decode the picture of an example at full size, or its crop.

    Raises `ImageError`, `ImageNotFound`, `UsageError`.
    """
    raw = _read_example(example, catalog, limits)
    return _crop_picture(decode_image(raw.data, raw.path, max_pixels=limits.max_pixels), example.crop, raw.path)


def find_stored_view(image_id: int, catalog: Catalog) -> LiveView:
    """Find the original view of an image. Raises `ImageNotFound` if no image of that id has a file."""
    views = catalog.find_live_views([catalog.find_original_view(image_id) or 0])
    if not views:
        raise ImageNotFound(
            str(catalog.folder), f"{catalog.folder} has no image {image_id}", "the results of a query show the ids"
        )
    return next(iter(views.values()))


def materialize_example(example: Example, catalog: Catalog, limits: ReadLimits, folder: Path) -> str:
    """Find or write a file that shows an example: its own file, or a new one in `folder`.

    A file is written for a crop, for bytes and for an address. For a vector, and for a picture that was imported by its
    vector alone and cannot be read, the name of a file that does not exist is returned. Raises `ImageError`,
    `ImageNotFound`, `UsageError`.
    """
    picture = example.picture
    if isinstance(picture, QueryVector):
        return str(example)
    if isinstance(picture, int):
        picture = find_stored_view(picture, catalog).paths[0]
    if example.crop is None and isinstance(picture, str | os.PathLike) and not is_remote(os.fspath(picture)):
        return os.fspath(picture)
    try:
        raw = _read_example(example, catalog, limits)
    except ImageError:
        if example.crop is None and isinstance(picture, str) and catalog.has_path(picture):
            return picture
        raise
    image = decode_image(raw.data, raw.path, max_pixels=limits.max_pixels)
    if example.crop is not None:
        image = _crop_picture(image, example.crop, str(example))
    name = re.sub(r"[^\w.,() -]", "_", os.path.basename(example.label))[-_NAME_LENGTH:]
    query_folder = Path(tempfile.mkdtemp(dir=folder)) / "query"
    query_folder.mkdir()
    image.image.save(query_folder / name, "PNG")
    return str(query_folder / name)


def refuse_network(paths: Iterable[str]) -> None:
    """Refuse object storage and web addresses among the paths. Raises `UsageError`."""
    for path in paths:
        if is_remote(path):
            raise UsageError(f"{path} is on the network", "use a local file, or omit --offline")


def _find_unread_view(example: Example, catalog: Catalog, stored: StoredModel) -> LiveView | None:
    """The view that a path or another key stands for, where its vector was imported without its picture."""
    if not isinstance(example.picture, str | os.PathLike):
        return None
    key = os.fspath(example.picture)
    views = (catalog.find_unread_view(name, stored) for name in dict.fromkeys((key, canonicalize_path(key))))
    return next((view for view in views if view is not None), None)


def _check_width(vector: QueryVector, stored: StoredModel) -> NDArray[np.float32]:
    if len(vector.row) != stored.width:
        problem = f"the vector has {len(vector.row)} numbers, and those of {stored.model.backbone} have {stored.width}"
        raise UsageError(problem, "give a vector of the same model, or name its model with --backbone")
    return vector.row


def _read_stored_vector(image_id: int, catalog: Catalog, stored: StoredModel) -> ExampleContent:
    found = catalog.find_stored_example(image_id, stored)
    if found is None:
        find_stored_view(image_id, catalog)  # raises the error
    assert found is not None  # an image with a file has an original view
    view_id, digest, vector = found
    if vector is None:
        raise ModelNotIndexed(
            str(catalog.folder),
            f"image {image_id} has no vector of {stored.model.backbone}",
            f"run `simsearch index` again with --backbone {stored.model.backbone}",
        )
    return ExampleContent(digest, view_id, vector)


def _read_example(example: Example, catalog: Catalog, limits: ReadLimits) -> RawFile:
    picture = example.picture
    if isinstance(picture, int):
        picture = find_stored_view(picture, catalog).paths[0]
    if isinstance(picture, QueryVector):
        problem = "a vector has no pixels"
        raise UsageError(problem, "search without a crop, without --verify and without the step geometric")
    if not isinstance(picture, bytes):
        path = os.fspath(picture)
        if limits.offline:
            refuse_network([path])
        if not is_url(path):
            return read_raw_file(path, has_picture_extension=True, max_pixels=limits.max_pixels)
        picture = _read_remote(path, limits)
    return RawFile(str(example), picture, compute_digest(picture), len(picture), 0)


def _read_remote(address: str, limits: ReadLimits) -> bytes:
    if limits.offline:
        refuse_network([address])
    return fetch(address)


def _crop_picture(picture: DecodedImage, crop: Crop | None, name: str) -> DecodedImage:
    if crop is None:
        return picture
    box = crop.to_box(picture.width, picture.height)
    if box is None:
        size = f"{picture.width} x {picture.height} px"
        raise ImageError(name, f"the crop {crop} is outside the picture", f"its size is {size}")
    return picture.with_image(picture.image.crop(box))
