"""Stored images for the web server: their catalog entries."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

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
