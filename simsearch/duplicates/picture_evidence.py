"""What the pixels of a picture tell about which of several copies is the original: colors and sharpness."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from simsearch.duplicates.disjoint_sets import DisjointSets
from simsearch.duplicates.pictures import read_image
from simsearch.store.snapshot import StoredImage

_COLOR_SIDE_PX = 64
_MIN_CHROMA = 12
"""The least difference between the channels of a color, of 255; chroma of a gray JPEG stays below 4."""
_COLORED_SHARE = 0.01
_SHARPNESS_SIDE_PX = 1024


class PictureEvidence:
    """Colors and sharpness of images, read from their files on demand and kept by image id.

    `framed` are the ids of images that show another image of their group with a border or another picture around it.
    `compared` are the ids of verified copies, and `uncovered` unites those that show the same without anything over it.
    """

    def __init__(self, max_pixels: int) -> None:
        self.framed: set[int] = set()
        self.compared: set[int] = set()
        self.uncovered = DisjointSets()
        self._max_pixels = max_pixels
        self._has_color: dict[int, bool] = {}
        self._sharpness: dict[int, float] = {}

    def may_be_covered(self, a: int, b: int) -> bool:
        """Whether something may cover a part of one of two copies, by their ids."""
        return self.compared >= {a, b} and self.uncovered.find(a) != self.uncovered.find(b)

    def has_color(self, image: StoredImage) -> bool:
        """Whether at least 1 % of a picture is in color. A picture that cannot be read has none."""
        if image.image_id not in self._has_color:
            picture = read_image(image, _COLOR_SIDE_PX, self._max_pixels)
            self._has_color[image.image_id] = picture is not None and is_colored(picture.image)
        return self._has_color[image.image_id]

    def measure_sharpness(self, image: StoredImage) -> float:
        """Measure the sharpness, to compare pictures of the same size in px; 0 for one that cannot be read."""
        if image.image_id not in self._sharpness:
            picture = read_image(image, None, self._max_pixels)
            self._sharpness[image.image_id] = 0.0 if picture is None else measure_sharpness(picture.image)
        return self._sharpness[image.image_id]


def is_colored(image: Image.Image) -> bool:
    """Whether at least 1 % of the pixels differ between their channels by more than compression explains."""
    image.thumbnail((_COLOR_SIDE_PX, _COLOR_SIDE_PX), Image.Resampling.BOX)
    pixels = np.asarray(image.convert("RGB"), np.int16)
    chroma = pixels.max(2) - pixels.min(2)
    return bool(np.mean(chroma >= _MIN_CHROMA) >= _COLORED_SHARE)


def measure_sharpness(image: Image.Image) -> float:
    """Measure the mean absolute Laplacian of the brightness in the middle of a picture, at its full resolution.

    It is divided by the standard deviation of the brightness, so that more contrast is not more sharpness.
    """
    left, top = (max(0, (length - _SHARPNESS_SIDE_PX) // 2) for length in image.size)
    right, bottom = min(image.width, left + _SHARPNESS_SIDE_PX), min(image.height, top + _SHARPNESS_SIDE_PX)
    gray: NDArray[np.float32] = np.asarray(image.crop((left, top, right, bottom)).convert("L"), np.float32)
    if min(gray.shape) < 3:
        return 0.0
    middle = gray[1:-1, 1:-1]
    around = gray[:-2, 1:-1] + gray[2:, 1:-1] + gray[1:-1, :-2] + gray[1:-1, 2:]
    return float(np.abs(4 * middle - around).mean() / max(float(gray.std()), 1.0))
