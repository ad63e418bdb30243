"""Decide whether two pictures are copies of one picture, and say how they differ.

A hypothesis of how the pictures align comes from their local features, or is that the whole pictures show the same. The
pixels decide: the frame of the picture that shows less is compared with the other one block by block. So different
pictures of one object, or with the same logo or frame, are no copies, however many features they share.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from simsearch.images.perceptual_hash import count_different_bits
from simsearch.matching.alignment import MIRRORED, UPRIGHT, Alignment, Matrix, align_by_features
from simsearch.matching.evidence import Box, CopyKind, PairEvidence, Side
from simsearch.matching.features import PictureRendition
from simsearch.matching.frames import is_framed
from simsearch.matching.photometry import (
    CORNERS,
    PixelComparison,
    compare_pixels,
    compare_whole_pictures,
    correlate_colors,
    map_points,
    measure_local_agreement,
)
from simsearch.matching.region_hashes import MIN_EQUAL_REGIONS, count_equal_regions

MIN_AGREEMENT = 0.71
"""The least mean of `agreement` and `close_agreement`, unless something covers a part of one picture."""

MIN_AGREEMENT_OF_FEW = 0.8
"""The same where few local features support the alignment."""

MIN_AGREEMENT_OF_OUTLINES = 0.9
"""The same where less than two thirds of the blocks have detail, as in product shots on white: their outlines agree."""

MIN_CENTRAL_AGREEMENT = 0.3
"""The least agreement in the middle: two different pictures in one frame agree around the middle only. Of 432 copies of
the tuning set that this rule accepts none has less than 0.44."""

MIN_LARGER_SHARE, MIN_SMALLER_SHARE, MIN_COVERAGE = 0.45, 0.2, 0.2
"""Where something covers a part of one picture: the least shares of detail that agrees, and of cells where it does."""

MAX_COVERED_DIFFERENCE = 3.0
"""The same: the largest difference in gray levels; products of one shape on white agree in outlines, not in tones."""

MAX_PLAIN_HASH_DISTANCE = 24
"""The most bits of the hashes, of 64, that differ between pictures that are compared as they are."""

MIN_THUMBNAIL_CORRELATION = 0.5
"""The least correlation of the thumbnails of pictures without equal regions that are compared as they are.

Of different pictures with hashes that are close enough most have less; of 131 copies of the tuning set that are
compared for their hashes alone none has less than 0.74.
"""

MIN_LARGER_THAN_GAP = 0.32
"""The same: by how much the larger share must exceed the gap. Different pictures on one kind of screen agree around a
gap of half the area."""

MIN_CENTRAL_COVERAGE = 0.12
"""The same: the least share of the cells in the middle where something agrees. On one kind of screen two different
pictures agree around the middle only; of 158 covered pictures of the tuning set none has less than 0.25."""

MIN_COLOR_CORRELATION = 0.3
"""The least correlation of the colors where the details agree: products and drawings in other colors are no copies."""

_MIN_COVERED_INLIERS = 60
_MIN_DETAILED = 24
_FEW_INLIERS, _FEW_DETAILED = 40, 100
_SURE_AGREEMENT = 0.95
_WEAK_AGREEMENT = 0.05
_MIN_OVERLAP = 0.4
_MAX_OUTLINE_DIFFERENCE = 10.0
_MAX_PLAIN_DIFFERENCE, _MAX_COLOR_DIFFERENCE, _MIN_CONTRAST = 2.0, 4.0, 4.0
_MIN_ROTATION_DEG = 3.0
_MAX_CROP_SHARE = 0.92
_OVERLAY_AGREEMENT = 0.9
_MAX_GAIN_CHANGE, _MAX_OFFSET, _MAX_CHROMA_CHANGE = 0.15, 8.0, 5.0
_MAX_SIZE_CHANGE = 0.02


def verify_pair(a: PictureRendition, b: PictureRendition, *, try_mirrored: bool = True) -> PairEvidence | None:
    """Compare two pictures: the evidence that they are copies of one picture, or None.

    Without `try_mirrored`, which halves the time, a mirrored part of a picture is not found; a whole mirrored one is.
    """
    best: tuple[Alignment, PixelComparison, Side] | None = None
    for alignment in _propose_alignments(a, b, try_mirrored):
        is_part_a = abs(np.linalg.det(alignment.to_b[:2, :2])) <= 1
        whole: Side = "b" if is_part_a else "a"
        frame, other, from_frame = (a, b, alignment) if is_part_a else (b, a, alignment.invert())
        compared = _compare(frame, other, from_frame)
        is_copy = _is_copy(compared, a, b, alignment) or _is_covered(compared, frame, other, from_frame)
        is_copy = is_copy and correlate_colors(frame, other, compared) >= MIN_COLOR_CORRELATION
        if is_copy and (best is None or _rate(compared) > _rate(best[1])):
            best = (alignment, compared, whole)
        if best is not None and (best[0].n_inliers or _rate(best[1]) >= _SURE_AGREEMENT):
            break
    return None if best is None else _describe(a, b, *best)


def _compare(frame: PictureRendition, other: PictureRendition, alignment: Alignment) -> PixelComparison:
    """Compare the pixels; where features propose how the pictures align, the pixels refine it."""
    if alignment.n_inliers == 0:
        return compare_whole_pictures(frame, other, alignment)
    compared = compare_pixels(frame, other, alignment)
    if _WEAK_AGREEMENT <= compared.agreement < _SURE_AGREEMENT:
        return max(compared, compare_pixels(frame, other, alignment, refine=True), key=_rate)
    return compared


def _propose_alignments(a: PictureRendition, b: PictureRendition, try_mirrored: bool) -> Iterator[Alignment]:
    """Propose the whole pictures as they are, unless they differ too much, then what features support."""
    has_equal_regions = count_equal_regions(a.region_hashes, b.region_hashes) >= MIN_EQUAL_REGIONS
    is_plain = not a.has_detail and not b.has_detail  # the hash of a gradient is noise
    upright, mirrored = (count_different_bits(one, b.hashes.upright) for one in a.hashes)
    is_close, is_close_mirrored = min(upright, mirrored) <= MAX_PLAIN_HASH_DISTANCE, mirrored <= MAX_PLAIN_HASH_DISTANCE
    if has_equal_regions or is_plain or (is_close and _correlate(a, b) >= MIN_THUMBNAIL_CORRELATION):
        yield UPRIGHT
    if is_plain or (is_close_mirrored and _correlate(a, b, mirrored=True) >= MIN_THUMBNAIL_CORRELATION):
        yield MIRRORED
    if a.width * a.height <= b.width * b.height:  # a crop's features are all in the whole, but not the reverse
        yield from align_by_features(a, b, try_mirrored=try_mirrored)
    else:
        yield from (alignment.invert() for alignment in align_by_features(b, a, try_mirrored=try_mirrored))


def _correlate(a: PictureRendition, b: PictureRendition, *, mirrored: bool = False) -> float:
    """The correlation of the thumbnails, the first one mirrored if wanted."""
    thumbnail = a.thumbnail[:, ::-1] if mirrored else a.thumbnail
    return float((thumbnail * b.thumbnail).sum())


def _is_covered(
    compared: PixelComparison, frame: PictureRendition, other: PictureRendition, alignment: Alignment
) -> bool:
    """Whether the pictures agree in the gaps of something that lies over one of them, such as letters or boxes."""
    if compared.overlap < _MIN_OVERLAP or compared.n_detailed < _MIN_DETAILED:
        return False
    if alignment.n_inliers == 0:
        is_aligned = _count_equal_regions(frame, other, alignment) >= MIN_EQUAL_REGIONS
    else:
        is_aligned = alignment.n_inliers >= _MIN_COVERED_INLIERS
    if not is_aligned or compared.agreement < _WEAK_AGREEMENT:
        return False
    local = measure_local_agreement(frame, other, alignment)
    return (
        local.larger >= MIN_LARGER_SHARE
        and local.smaller >= MIN_SMALLER_SHARE
        and local.coverage >= MIN_COVERAGE
        and local.central_coverage >= MIN_CENTRAL_COVERAGE
        and local.larger - local.gap >= MIN_LARGER_THAN_GAP
        and local.difference <= MAX_COVERED_DIFFERENCE
    )


def _count_equal_regions(frame: PictureRendition, other: PictureRendition, alignment: Alignment) -> int:
    """Count the equal regions of two whole pictures; none of a mirrored one, whose regions are not hashed."""
    if alignment.to_b[0, 0] < 0:
        return 0
    return count_equal_regions(frame.region_hashes, other.region_hashes)


def _rate(compared: PixelComparison) -> float:
    return compared.agreement if compared.n_detailed >= _MIN_DETAILED else 0.0


def _is_copy(compared: PixelComparison, a: PictureRendition, b: PictureRendition, alignment: Alignment) -> bool:
    if compared.overlap < _MIN_OVERLAP:
        return False
    if compared.n_detailed >= _MIN_DETAILED:
        if compared.central_agreement < MIN_CENTRAL_AGREEMENT:
            return False
        agreement = (compared.agreement + compared.close_agreement) / 2
        if compared.n_detailed < _FEW_DETAILED:
            return agreement >= MIN_AGREEMENT_OF_OUTLINES and compared.difference <= _MAX_OUTLINE_DIFFERENCE
        if 0 < alignment.n_inliers < _FEW_INLIERS:
            return agreement >= MIN_AGREEMENT_OF_FEW
        return agreement >= MIN_AGREEMENT
    return alignment.n_inliers == 0 and _are_alike_without_detail(compared, a, b, alignment)


def _are_alike_without_detail(
    compared: PixelComparison, a: PictureRendition, b: PictureRendition, alignment: Alignment
) -> bool:
    """Whether two whole pictures without much detail show the same light and colours, without a change of tone."""
    if compared.contrast < _MIN_CONTRAST or (compared.n_detailed and compared.agreement < _SURE_AGREEMENT):
        return False
    colors_a = a.mean_colors[:, ::-1] if alignment.to_b[0, 0] < 0 else a.mean_colors
    differences = np.abs(colors_a - b.mean_colors)
    return bool(
        compared.difference <= _MAX_PLAIN_DIFFERENCE
        and abs(compared.offset) <= _MAX_PLAIN_DIFFERENCE
        and differences.mean() <= _MAX_COLOR_DIFFERENCE
    )


def _describe(
    a: PictureRendition, b: PictureRendition, alignment: Alignment, compared: PixelComparison, whole: Side
) -> PairEvidence:
    part, other = (a, b) if whole == "b" else (b, a)
    box = _bound(map_points(compared.to_other, CORNERS))
    rotation_deg = _measure_rotation(alignment.to_b, a, b)
    evidence = PairEvidence(
        (), alignment.n_inliers, compared.agreement, whole, box, rotation_deg, overlap=compared.overlap
    )
    is_mirrored = bool(np.linalg.det(compared.to_other[:2, :2]) < 0)
    kinds = tuple(_list_kinds(part, other, compared, evidence, is_mirrored=is_mirrored))
    is_in_part = "crop of" in kinds and abs(rotation_deg) < _MIN_ROTATION_DEG
    return replace(
        evidence, kinds=kinds or ("re-encoded",), is_framed=is_in_part and is_framed(other.gray, evidence.box)
    )


def _list_kinds(
    part: PictureRendition, other: PictureRendition, compared: PixelComparison, evidence: PairEvidence, *,
    is_mirrored: bool,
) -> Iterator[CopyKind]:  # fmt: skip
    is_cropped = evidence.box_share < _MAX_CROP_SHARE and abs(evidence.rotation_deg) < 45
    is_rotated = abs(evidence.rotation_deg) >= _MIN_ROTATION_DEG
    if is_cropped and not (is_rotated and compared.overlap > 0.98 and evidence.box_share > 0.7):
        yield "crop of"
    if is_mirrored:
        yield "mirrored"
    if is_rotated:
        yield "rotated"
    if compared.n_detailed >= _MIN_DETAILED and compared.agreement < _OVERLAY_AGREEMENT:
        yield "overlay"
    is_gray = abs(_measure_chroma(part) - _measure_chroma(other)) > _MAX_CHROMA_CHANGE and not is_cropped
    if abs(compared.gain - 1) > _MAX_GAIN_CHANGE or abs(compared.offset) > _MAX_OFFSET or is_gray:
        yield "tone"
    sizes = np.log([part.width / other.width, part.height / other.height])
    if not is_cropped and not is_rotated and np.abs(sizes).max() > _MAX_SIZE_CHANGE:
        yield "resized"


def _measure_chroma(picture: PictureRendition) -> float:
    """The mean range of the three channels: 0 for a gray picture."""
    return float(np.ptp(picture.mean_colors, axis=2).mean())


def _measure_rotation(to_b: Matrix, a: PictureRendition, b: PictureRendition) -> float:
    """The rotation from a to b in degrees, clockwise on screen, as the directions of the mapped sides say."""
    middle, right = map_points(to_b, np.array([[0.25, 0.5], [0.75, 0.5]])) * [b.width, b.height]
    across, down = right - middle
    if np.linalg.det(to_b[:2, :2]) < 0:
        across, down = -across, -down
    return math.degrees(math.atan2(down, across))


def _bound(corners: Matrix) -> Box:
    left, top = np.clip(corners.min(0), 0, 1)
    right, bottom = np.clip(corners.max(0), 0, 1)
    return float(left), float(top), float(right), float(bottom)
