"""Rules on the size of a picture and on its statistics. The limits are fixed; docs/check.md tells their choice."""

from __future__ import annotations

from collections.abc import Iterator

from simsearch.images.statistics import PictureStatistics
from simsearch.quality.results import QualityFinding
from simsearch.store.snapshot import StoredImage

MIN_SHARPNESS = 0.25
MIN_BRIGHTNESS, MAX_BRIGHTNESS = 30.0, 235.0
MIN_CONTRAST = 8.0
MIN_SIDE_PX = 100
MAX_ASPECT = 3.0


def judge_size(image: StoredImage) -> Iterator[QualityFinding]:
    """Judge the size of a picture: tiny, odd-shaped."""
    shorter, longer = sorted((image.width, image.height))
    path = image.files[0].path
    size = f"{image.width} x {image.height} px"
    if shorter < MIN_SIDE_PX:
        yield QualityFinding("tiny", image.image_id, path, shorter, size)
    if longer > MAX_ASPECT * shorter:
        yield QualityFinding("odd-shaped", image.image_id, path, longer / max(1, shorter), size)


def judge_statistics(image: StoredImage, statistics: PictureStatistics) -> Iterator[QualityFinding]:
    """Judge the statistics of a picture: blurred, dark, bright, uniform."""
    image_id, path = image.image_id, image.files[0].path
    brightness, contrast, sharpness = statistics.brightness, statistics.contrast, statistics.sharpness
    if brightness < MIN_BRIGHTNESS:
        yield QualityFinding("dark", image_id, path, brightness, f"mean gray level {brightness:.0f} of 255")
    if brightness > MAX_BRIGHTNESS:
        yield QualityFinding("bright", image_id, path, brightness, f"mean gray level {brightness:.0f} of 255")
    if contrast < MIN_CONTRAST:
        yield QualityFinding("uniform", image_id, path, contrast, f"gray levels differ by {contrast:.1f} of 255")
    elif sharpness < MIN_SHARPNESS:
        yield QualityFinding("blurred", image_id, path, sharpness, f"sharpness {sharpness:.2f}")
