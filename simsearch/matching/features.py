"""What a comparison needs of a picture: a small gray rendition, its local features, and its mean colors."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from simsearch.images.decode import DecodedImage, Pixels
from simsearch.images.perceptual_hash import HASHED_SIDE_PX, PictureHashes, hash_squeezed
from simsearch.matching.opencv import blur, describe_mirrored, detect_features, shrink
from simsearch.matching.region_hashes import RegionHashes, compute_region_hashes
from simsearch.matching.sharpness import measure_sharpness

RENDITION_PIXELS = 64_000
"""The number of pixels of a rendition, about 290 x 220. Small pictures are enlarged, at most twice."""

DECODE_PX = 256
"""The length that both sides must keep where a picture is decoded at a reduced scale for a rendition."""

SIDE_PX = 96
"""The side of the square in which whole pictures are compared."""

N_FIRST, N_SAMPLED = 50, 100
"""The numbers of features that are tried first, and then, to see whether two pictures have anything in common."""

_THUMBNAIL_PX, _THUMBNAIL_SIGMA_PX = 24, 4.0
_MAX_ENLARGEMENT = 2.0
_MIN_SIDE_PX, _MAX_SIDE_PX = 16, 1024
_COLOR_SIDE_PX, _COLORS_PER_MEAN = 24, 3
_BRIGHTNESS = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True, slots=True)
class LocalFeatures:
    """Local features of a rendition: keypoints (n, 4) and binary descriptors (n, 32), as `detect_features` says."""

    keypoints: NDArray[np.float32]
    descriptors: Pixels


@dataclass(frozen=True)
class PictureRendition:
    """A small rendition of a picture, about 150 kB with its features.

    `width` and `height` are the full size of the picture in px, `gray` (h, w) is the rendition with about
    `RENDITION_PIXELS` pixels, `colors` (24, 24, 3) are mean colors. Everything else is computed when it is first used.
    """

    width: int
    height: int
    gray: Pixels
    colors: Pixels

    @functools.cached_property
    def mean_colors(self) -> NDArray[np.float32]:
        """The mean colors (8, 8, 3) of larger parts."""
        side, n = _COLOR_SIDE_PX // _COLORS_PER_MEAN, _COLORS_PER_MEAN
        means: NDArray[np.float32] = self.colors.astype(np.float32).reshape(side, n, side, n, 3).mean((1, 3))
        return means

    @functools.cached_property
    def chroma(self) -> NDArray[np.float32]:
        """The differences of blue and red from the brightness, (2, 24, 24): 0 where there is no color."""
        colors = self.colors.astype(np.float32)
        brightness = colors @ _BRIGHTNESS
        return np.stack([colors[..., 2] - brightness, colors[..., 0] - brightness])

    @functools.cached_property
    def features(self) -> LocalFeatures:
        """The local features."""
        return LocalFeatures(*detect_features(self.gray))

    @functools.cached_property
    def mirrored_features(self) -> LocalFeatures:
        """The local features of the mirrored rendition, at their positions in it."""
        return LocalFeatures(*describe_mirrored(self.gray, self.features.keypoints))

    @functools.cached_property
    def first_mirrored(self) -> LocalFeatures:
        """The first `N_FIRST` of the mirrored features."""
        return LocalFeatures(*describe_mirrored(self.gray, self.features.keypoints[:N_FIRST]))

    @functools.cached_property
    def mirrored_sample(self) -> LocalFeatures:
        """The first `N_SAMPLED` of the mirrored features."""
        return LocalFeatures(*describe_mirrored(self.gray, self.features.keypoints[:N_SAMPLED]))

    @functools.cached_property
    def square(self) -> NDArray[np.float32]:
        """The rendition squeezed to a square of `SIDE_PX`."""
        return shrink(self.gray.astype(np.float32), SIDE_PX, SIDE_PX)

    @functools.cached_property
    def thumbnail(self) -> NDArray[np.float32]:
        """The coarse detail of the square, (24, 24), without gradual light: of length 1, or 0 without detail."""
        small = shrink(self.square, _THUMBNAIL_PX, _THUMBNAIL_PX)
        detail = small - blur(small, _THUMBNAIL_SIGMA_PX)
        length = float(np.linalg.norm(detail))
        return detail / length if length > 0 else detail

    @property
    def region_hashes(self) -> RegionHashes:
        """The hashes of the regions of the square, as `compute_region_hashes` says."""
        return self._regions[0]

    @property
    def has_detail(self) -> bool:
        """Whether any region of the square has detail."""
        return self._regions[1]

    @functools.cached_property
    def _regions(self) -> tuple[RegionHashes, bool]:
        return compute_region_hashes(self.square)

    @functools.cached_property
    def hashes(self) -> PictureHashes:
        """The perceptual hashes, which differ by few bits from those of the full picture."""
        return hash_squeezed([shrink(self.square, HASHED_SIDE_PX, HASHED_SIDE_PX)])[0]

    @functools.cached_property
    def sharpness(self) -> float:
        """The sharpness of the square, as `measure_sharpness` says."""
        return measure_sharpness(self.square)


def render_for_matching(picture: DecodedImage) -> PictureRendition:
    """Make the rendition of a picture that was decoded with both sides at least `DECODE_PX`, or at full size."""
    image = picture.image
    factor = min(_MAX_ENLARGEMENT, math.sqrt(RENDITION_PIXELS / (image.width * image.height)))
    factor = min(factor, _MAX_SIDE_PX / max(image.size))
    size = (max(_MIN_SIDE_PX, round(image.width * factor)), max(_MIN_SIDE_PX, round(image.height * factor)))
    gray = image.convert("L").resize(size, Image.Resampling.BILINEAR)
    colors = image.resize((_COLOR_SIDE_PX, _COLOR_SIDE_PX), Image.Resampling.BOX)
    return PictureRendition(picture.width, picture.height, np.asarray(gray), np.asarray(colors))
