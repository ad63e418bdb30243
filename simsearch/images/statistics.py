"""Statistics of a picture that tell blurred, dark, bright and uniform pictures from others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

SIDE_PX = 160
_NOISE = 4.0  # gray levels: below this, differences between pixels are noise of the compression


@dataclass(frozen=True, slots=True)
class PictureStatistics:
    """Mean and standard deviation of the gray levels (0 to 255), and the sharpness.

    The sharpness is the root mean square of the Laplacian, divided by the standard deviation: about 0.5 and more for
    usual pictures. It is that of the picture at 160 px, so that only blur that is seen at this size counts.
    """

    brightness: float
    contrast: float
    sharpness: float


def compute_statistics(image: Image.Image) -> PictureStatistics:
    """Compute the statistics of a picture whose longer side is 160 px or more; smaller ones are not enlarged."""
    scale = min(1.0, SIDE_PX / max(image.size))
    size = (max(3, round(image.width * scale)), max(3, round(image.height * scale)))
    small = image.resize(size, Image.Resampling.BOX, reducing_gap=2.0).convert("L")
    gray = np.asarray(small, np.float32)
    middle = gray[1:-1, 1:-1]
    laplacian = gray[:-2, 1:-1] + gray[2:, 1:-1] + gray[1:-1, :-2] + gray[1:-1, 2:] - 4 * middle
    contrast = float(gray.std())
    sharpness = float(np.sqrt(np.mean(laplacian**2))) / max(contrast, _NOISE)
    return PictureStatistics(float(gray.mean()), contrast, sharpness)
