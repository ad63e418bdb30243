"""Reading the pictures of images whose files may have changed since they were indexed."""

from __future__ import annotations

from simsearch.errors import ImageError
from simsearch.images.decode import DecodedImage, decode_image
from simsearch.store.originals import read_original
from simsearch.store.snapshot import StoredImage


def read_image(image: StoredImage, target_px: int | None, max_pixels: int) -> DecodedImage | None:
    """Read an image from the first of its files that is readable, possibly at a reduced scale (at least `target_px`).

    Returns None if there is no such file: files may be missing, or have other content than when they were indexed.
    """
    try:
        raw = read_original(image, max_pixels)
        return decode_image(raw.data, raw.path, max_pixels=max_pixels, target_px=target_px)
    except ImageError:
        return None
