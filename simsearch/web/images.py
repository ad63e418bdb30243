"""Stored images for the web server: their catalog entries."""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from simsearch.errors import SimsearchError, UnreadableFile
from simsearch.images.decode import RawFile, compute_default_max_pixels
from simsearch.store.originals import read_original
from simsearch.store.snapshot import StoredImage, open_snapshot

THUMBNAIL_SIDES = (160, 320, 640, 1600)
"""The sizes of thumbnails, in px: a few, so that they can be cached."""


class OriginalGone(SimsearchError):
    """The file of a stored image cannot be read any more, or has another content. `label` is shown in its place."""

    def __init__(self, problem: str, advice: str, label: str = "file is gone") -> None:
        super().__init__(problem, advice)
        self.label = label


def read_stored_original(image: StoredImage) -> RawFile:
    """Read the file of a stored image. Raises `OriginalGone`, or another `ImageError` if it exceeds a limit."""
    try:
        return read_original(image, compute_default_max_pixels())
    except UnreadableFile as error:
        if image.is_unread:
            problem = f"image {image.image_id}: its vector was imported without its picture"
            raise OriginalGone(problem, "index its file to see it", "no picture") from error
        problem = error.problem if "changed" in error.problem else "its file is gone or cannot be read"
        raise OriginalGone(f"image {image.image_id}: {problem}", "index its folder again") from error


def read_stored_images(folder: Path, image_ids: Sequence[int]) -> dict[int, StoredImage]:
    """Read those of the images that have a file from the catalog, by id."""
    with open_snapshot(folder) as snapshot:
        return snapshot.read_images(image_ids)


def read_stored_image(folder: Path, image_id: int) -> StoredImage:
    """Read an image from the catalog. Raises `ImageNotFound` if no image with a file has this id."""
    with open_snapshot(folder) as snapshot:
        return snapshot.read_image(image_id)


def find_image_ids(folder: Path, digests: Sequence[str]) -> dict[str, int]:
    """Find the images with these contents that have a file, by digest."""
    with open_snapshot(folder) as snapshot:
        return snapshot.find_image_ids(digests)


@functools.cache
def draw_gone_tile(label: str) -> bytes:
    """Draw a gray picture as WebP that says why an image is not shown."""
    tile = Image.new("RGB", (320, 240), "#d8dadd")
    draw = ImageDraw.Draw(tile)
    draw.text((160, 120), label, "#4d5359", ImageFont.load_default(28), anchor="mm")
    data = io.BytesIO()
    tile.save(data, "WEBP", quality=85)
    return data.getvalue()
