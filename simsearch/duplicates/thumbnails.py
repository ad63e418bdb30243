"""Small renditions of images for laying them over each other, read from their files when they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray
from PIL import Image

from simsearch.duplicates.alignment import SIDE_PX, measure_likeness
from simsearch.duplicates.holdings import ImageSnapshot, SnapshotImage
from simsearch.errors import ImageError
from simsearch.images.decode import DecodedImage, Pixels, decode_image, read_raw_file
from simsearch.machine import count_cores
from simsearch.sources.reader import choose_n_threads

_MAX_KEPT = 40_000  # of 3 kB each
_N_PAIRS_LOADED, _N_PAIRS_COMPARED = 8192, 128


def make_alignment_thumbnail(picture: DecodedImage) -> Pixels:
    """The picture squashed to (32, 32, 3), every pixel of it counted once."""
    return np.asarray(picture.image.resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX))


class AlignmentThumbnails:
    """The thumbnails of images by id. Those used last are kept, so memory has a bound.

    `unread` are files of images none of whose files could be read, or whose content is another by now.
    """

    def __init__(self, holdings: ImageSnapshot, max_pixels: int) -> None:
        self.max_pixels = max_pixels
        self.unread: dict[int, str] = {}
        self._holdings = holdings
        self._kept: LRUCache[int, Pixels] = LRUCache(_MAX_KEPT)

    def load(self, image_ids: Sequence[int]) -> dict[int, Pixels]:
        """The thumbnails of those images; what cannot be read is absent."""
        wanted = list(dict.fromkeys(image_ids))
        loaded = {image_id: self._kept[image_id] for image_id in wanted if image_id in self._kept}
        missing = [image_id for image_id in wanted if image_id not in loaded and image_id not in self.unread]
        images = self._holdings.read_images(missing)
        with ThreadPoolExecutor(choose_n_threads(image.files[0].path for image in images.values())) as pool:
            for image, found in zip(images.values(), pool.map(self._read, images.values()), strict=True):
                if found is None:
                    self.unread[image.image_id] = image.files[0].path
                else:
                    loaded[image.image_id] = self._kept[image.image_id] = found
        return loaded

    def measure_likenesses(self, pairs: Sequence[tuple[int, int]]) -> NDArray[np.float32]:
        """How well the images of each pair of ids (p,) can be laid over each other: (p,), NaN for what is unread."""
        found = np.full(len(pairs), np.nan, np.float32)
        with ThreadPoolExecutor(max_workers=count_cores()) as pool:
            for start in range(0, len(pairs), _N_PAIRS_LOADED):
                some = pairs[start : start + _N_PAIRS_LOADED]
                loaded = self.load([image_id for pair in some for image_id in pair])
                rows = [row for row, (a, b) in enumerate(some) if a in loaded and b in loaded]
                batches = [rows[first : first + _N_PAIRS_COMPARED] for first in range(0, len(rows), _N_PAIRS_COMPARED)]
                a, b = ([np.stack([loaded[some[row][side]] for row in batch]) for batch in batches] for side in (0, 1))
                for batch, likenesses in zip(batches, pool.map(measure_likeness, a, b), strict=True):
                    found[start + np.array(batch)] = likenesses
        return found

    def _read(self, image: SnapshotImage) -> Pixels | None:
        picture = read_image(image, 2 * SIDE_PX, self.max_pixels)
        return None if picture is None else make_alignment_thumbnail(picture)


def read_image(image: SnapshotImage, target_px: int, max_pixels: int) -> DecodedImage | None:
    """The image from the first of its files that can be read, perhaps at a reduced scale.

    None where there is none: a file may be gone, or hold another picture than when it was indexed.
    """
    for file in image.files:
        try:
            raw = read_raw_file(file.path, has_picture_extension=True, max_pixels=max_pixels)
            if raw.digest == image.digest:
                return decode_image(raw.data, file.path, max_pixels=max_pixels, target_px=target_px)
        except ImageError:
            continue
    return None
