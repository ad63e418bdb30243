"""Stored images for the web server: their catalog entries and original files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from simsearch.errors import UnreadableFile
from simsearch.images.decode import RawFile, read_raw_file
from simsearch.store.snapshot import StoredImage, open_snapshot

THUMBNAIL_SIDES = (160, 320, 640, 1600)
"""The sizes of thumbnails, in px: a few, so that they can be cached."""


def read_stored_images(folder: Path, image_ids: Sequence[int]) -> dict[int, StoredImage]:
    """Read those of the images that have a file from the catalog, by id."""
    with open_snapshot(folder) as snapshot:
        return snapshot.read_images(image_ids)


def read_stored_image(folder: Path, image_id: int) -> StoredImage:
    """Read an image from the catalog. Raises `ImageNotFound` if no image with a file has this id."""
    with open_snapshot(folder) as snapshot:
        return snapshot.read_image(image_id)


def read_original(image: StoredImage, max_pixels: int) -> RawFile:
    """Read the bytes of an image from the first of its files whose content is unchanged.

    Raises `ImageError` if no file can be read or all have another content now.
    """
    failure = None
    for file in image.files:
        try:
            raw = read_raw_file(file.path, has_picture_extension=True, max_pixels=max_pixels)
        except UnreadableFile as error:
            failure = error
            continue
        if raw.digest == image.digest:
            return raw
        failure = UnreadableFile(file.path, "the file has changed since it was indexed", "run `simsearch index` again")
    assert failure is not None  # a stored image has a file
    raise failure
