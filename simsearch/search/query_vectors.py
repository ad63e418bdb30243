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
from simsearch.images.decode import Picture, Pixels, RawFile, decode, decode_square, digest_of, fit, read
from simsearch.models.embedder import check_embeds
from simsearch.models.model import Model
from simsearch.search.examples import Example
from simsearch.sources.addresses import is_remote, is_url
from simsearch.sources.web import fetch
from simsearch.store.catalog import Catalog, LiveView, StoredModel

_NAME_LENGTH = 80


@dataclass(frozen=True, slots=True)
class Reach:
    """How far looking may go: pictures of so many pixels, and whether the network may be asked."""

    max_pixels: int
    offline: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """An example's content: its stored vector (d,) and the id of that view, or its pixels (side, side, 3)."""

    digest: str
    view_id: int | None = None
    vector: NDArray[np.float32] | None = None
    pixels: Pixels | None = None


def look(example: Example, catalog: Catalog, stored: StoredModel, reach: Reach) -> Seen:
    """What the model is to see, or has seen, of an example. A part of a picture is looked at anew.

    Raises `ImageError`, `ImageNotFound`, `ModelNotIndexed`, `UsageError`; `ModelError` where an imported model would
    have to look at it.
    """
    if isinstance(example.picture, int) and example.crop is None:
        return _stored(example.picture, catalog, stored)
    raw = _raw(example, catalog, reach)
    if example.crop is not None:
        check_embeds(stored.model)
        return Seen(raw.digest, pixels=_part(raw, example, stored.model, reach.max_pixels))
    view_id = catalog.view_of_content(raw.digest, stored)
    vector = None if view_id is None else catalog.vector(stored, view_id)
    if vector is not None:
        return Seen(raw.digest, view_id, vector)
    check_embeds(stored.model)
    model = stored.model
    _, pixels = decode_square(raw, model.side_px, model.resize, max_pixels=reach.max_pixels)
    return Seen(raw.digest, pixels=pixels)


def stored_image(image_id: int, catalog: Catalog) -> LiveView:
    """The original view of an image. Raises `ImageNotFound` when there is no image of that id with a file."""
    views = catalog.live_views([catalog.original_view(image_id) or 0])
    if not views:
        raise ImageNotFound(str(catalog.folder), f"{catalog.folder} has no image {image_id}", "answers show the ids")
    return next(iter(views.values()))


def shown_file(example: Example, catalog: Catalog, reach: Reach, folder: Path) -> str:
    """A file of an example to be looked at: its own, or one made in `folder` of a crop, of bytes, or from an address.

    Raises `ImageError`, `ImageNotFound`, `UsageError`.
    """
    picture = example.picture
    if isinstance(picture, int):
        picture = stored_image(picture, catalog).paths[0]
    if example.crop is None and not isinstance(picture, bytes) and not is_remote(os.fspath(picture)):
        return os.fspath(picture)
    raw = _raw(example, catalog, reach)
    image = _cut_out(decode(raw.data, raw.path, max_pixels=reach.max_pixels), example).image
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


def _stored(image_id: int, catalog: Catalog, stored: StoredModel) -> Seen:
    live = stored_image(image_id, catalog)
    vector = catalog.vector(stored, live.view_id)
    if vector is None:
        raise ModelNotIndexed(
            str(catalog.folder),
            f"image {image_id} has no vector of {stored.model.backbone}",
            f"run `simsearch index` with --backbone {stored.model.backbone} again",
        )
    return Seen(live.digest, live.view_id, vector)


def _raw(example: Example, catalog: Catalog, reach: Reach) -> RawFile:
    picture = example.picture
    if isinstance(picture, int):
        picture = stored_image(picture, catalog).paths[0]
    if not isinstance(picture, bytes):
        path = os.fspath(picture)
        if reach.offline:
            refuse_network([path])
        if not is_url(path):
            return read(path, claims_picture=True, max_pixels=reach.max_pixels)
        picture = fetch(path)
    return RawFile(str(example), picture, digest_of(picture), len(picture), 0)


def _part(raw: RawFile, example: Example, model: Model, max_pixels: int) -> Pixels:
    """The square of a part of a picture, which is decoded at its full size for it."""
    picture = decode(raw.data, raw.path, max_pixels=max_pixels)
    return fit(_cut_out(picture, example), model.side_px, model.resize)


def _cut_out(picture: Picture, example: Example) -> Picture:
    if example.crop is None:
        return picture
    box = example.crop.box(picture.width, picture.height)
    if box is None:
        size = f"{picture.width} x {picture.height} px"
        raise ImageError(str(example), f"nothing of it is in the crop {example.crop}", f"the picture has {size}")
    return replace(picture, image=picture.image.crop(box))
