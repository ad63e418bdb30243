"""Thumbnails of images for pixel alignment, read from the image files on demand and cached."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray
from PIL import Image

from simsearch.duplicates.alignment import SIDE_PX, measure_likeness
from simsearch.errors import ImageError
from simsearch.images.decode import DecodedImage, Pixels, decode_image
from simsearch.machine import count_cores
from simsearch.sources.reader import choose_n_threads
from simsearch.store.originals import read_original
from simsearch.store.snapshot import Snapshot, StoredImage

_MAX_CACHED = 40_000  # of 3 kB each
_N_PAIRS_LOADED, _N_PAIRS_COMPARED = 8192, 128


def make_alignment_thumbnail(picture: DecodedImage) -> Pixels:
    """Resize a picture to (32, 32, 3) regardless of its proportions, by averaging all of its pixels."""
    return np.asarray(picture.image.resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX))


class AlignmentThumbnails:
    """The thumbnails of images by id, with a bounded cache of the most recently used.

    `unread` maps the ids of images to their first file where no file could be read or all have other content now.
    """

    def __init__(self, snapshot: Snapshot, max_pixels: int) -> None:
        self.max_pixels = max_pixels
        self.unread: dict[int, str] = {}
        self._snapshot = snapshot
        self._cache: LRUCache[int, Pixels] = LRUCache(_MAX_CACHED)

    def load(self, image_ids: Sequence[int]) -> dict[int, Pixels]:
        """Load the thumbnails of images by id, without those that cannot be read."""
        wanted = list(dict.fromkeys(image_ids))
        loaded = {image_id: self._cache[image_id] for image_id in wanted if image_id in self._cache}
        missing = [image_id for image_id in wanted if image_id not in loaded and image_id not in self.unread]
        images = self._snapshot.read_images(missing)
        with ThreadPoolExecutor(choose_n_threads(image.files[0].path for image in images.values())) as pool:
            for image, thumbnail in zip(images.values(), pool.map(self._read, images.values()), strict=True):
                if thumbnail is None:
                    self.unread[image.image_id] = image.files[0].path
                else:
                    loaded[image.image_id] = self._cache[image.image_id] = thumbnail
        return loaded

    def measure_likenesses(self, pairs: Sequence[tuple[int, int]]) -> NDArray[np.float32]:
        """Measure how well the images of each pair of ids (p,) align: likenesses (p,), NaN if one is unreadable."""
        likenesses = np.full(len(pairs), np.nan, np.float32)
        with ThreadPoolExecutor(max_workers=count_cores()) as pool:
            for start in range(0, len(pairs), _N_PAIRS_LOADED):
                some = pairs[start : start + _N_PAIRS_LOADED]
                loaded = self.load([image_id for pair in some for image_id in pair])
                rows = [row for row, (a, b) in enumerate(some) if a in loaded and b in loaded]
                batches = [rows[first : first + _N_PAIRS_COMPARED] for first in range(0, len(rows), _N_PAIRS_COMPARED)]
                a, b = ([np.stack([loaded[some[row][side]] for row in batch]) for batch in batches] for side in (0, 1))
                for batch, found in zip(batches, pool.map(measure_likeness, a, b), strict=True):
                    likenesses[start + np.array(batch)] = found
        return likenesses

    def _read(self, image: StoredImage) -> Pixels | None:
        picture = read_image(image, 2 * SIDE_PX, self.max_pixels)
        return None if picture is None else make_alignment_thumbnail(picture)


def read_image(image: StoredImage, target_px: int | None, max_pixels: int) -> DecodedImage | None:
    """Read an image from the first of its files that is readable, possibly at a reduced scale (at least `target_px`).

    Returns None if there is no such file: files may be missing, or have other content than when they were indexed.
    """
    try:
        raw = read_original(image, max_pixels)
        return decode_image(raw.data, raw.path, max_pixels=max_pixels, target_px=target_px)
    except ImageError:
        return None
