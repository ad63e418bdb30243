"""Calls of OpenCV. The only module that imports it: arrays in, arrays out."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from simsearch.matching.nearest_bits import find_nearest_bits

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]

N_FEATURES = 700
"""The most local features of a picture, at scales from 1 to 4.

A crop to a quarter of the area shows the fine features of the whole picture at twice the size.
"""

_N_LEVELS, _SCALE_FACTOR, _EDGE_PX, _PATCH_PX = 5, 1.41, 15, 31
_CORNER_THRESHOLD, _WEAK_CORNER_THRESHOLD = 20, 8
_ENOUGH_FEATURES = 0.43

_RANSAC_PX = 3.0
_RANSAC_CONFIDENCE, _RANSAC_ROUNDS = 0.999, 300
_ECC_ROUNDS, _ECC_EPSILON, _ECC_FILTER_PX = 30, 1e-3, 3

cv2.setNumThreads(1)  # pictures and pairs are spread over threads; more within each would only compete
_local = threading.local()


def detect_features(gray: Pixels) -> tuple[Floats, Pixels]:
    """Detect oriented FAST corners in a gray picture and describe them: keypoints (n, 4) and descriptors (n, 32).

    A keypoint is x and y in px, angle in degrees, and log2 of its scale. The strongest of each scale come first, in
    turn, so that the first keypoints are a good sample of all. Weak corners are searched for only where there are not
    enough strong ones. ORB: E. Rublee et al., ORB: an efficient alternative to SIFT or SURF, ICCV 2011.
    """
    corners, found = _detect_enough(gray)
    if found is None:
        return np.empty((0, 4), np.float32), np.empty((0, 32), np.uint8)
    levels = np.array([corner.octave for corner in corners], np.float32)
    keypoints = np.empty((len(corners), 4), np.float32)
    keypoints[:, :2] = cv2.KeyPoint.convert(corners)
    keypoints[:, 2] = [corner.angle for corner in corners]
    keypoints[:, 3] = levels * np.log2(_SCALE_FACTOR)
    ranks = _rank_within(levels, np.array([corner.response for corner in corners], np.float32))
    order = np.argsort(ranks, kind="stable")
    return keypoints[order], np.asarray(found, np.uint8)[order]


def _detect_enough(gray: Pixels) -> tuple[Sequence[cv2.KeyPoint], NDArray[np.uint8] | None]:
    """Detect strong corners; weak ones, too, where these are not enough."""
    strong, weak = _get_detectors()
    corners, found = strong.detectAndCompute(gray, None)
    if len(corners) < _ENOUGH_FEATURES * N_FEATURES:
        corners, found = weak.detectAndCompute(gray, None)
    return corners, found


def describe_mirrored(gray: Pixels, keypoints: Floats) -> tuple[Floats, Pixels]:
    """Describe the features of a gray picture as its mirror image shows them, without a search for corners.

    `keypoints` (n, 4) are those of the picture itself; the result is as in `detect_features`, in the same order.
    """
    levels = np.rint(keypoints[:, 3] / np.log2(_SCALE_FACTOR)).astype(int)
    angles = (180 - keypoints[:, 2]) % 360
    sizes = _PATCH_PX * _SCALE_FACTOR**levels
    places = np.stack([gray.shape[1] - 1 - keypoints[:, 0], keypoints[:, 1]], 1)
    values = (values.tolist() for values in (places[:, 0], places[:, 1], sizes, angles, levels))
    corners = [
        cv2.KeyPoint(x, y, size, angle, 0, level, row)
        for row, (x, y, size, angle, level) in enumerate(zip(*values, strict=True))
    ]
    corners, found = _get_detectors()[0].compute(np.ascontiguousarray(gray[:, ::-1]), corners)
    if found is None:
        return np.empty((0, 4), np.float32), np.empty((0, 32), np.uint8)
    kept = np.array([corner.class_id for corner in corners])
    order = np.argsort(kept)
    kept = kept[order]
    return np.column_stack([places[kept], angles[kept], keypoints[kept, 3]]), np.asarray(found, np.uint8)[order]


def _rank_within(levels: Floats, responses: Floats) -> NDArray[np.float64]:
    """Rank the responses within each level: the share of the level's keypoints that are stronger."""
    ranks = np.empty(len(levels))
    for level in np.unique(levels):
        rows = np.flatnonzero(levels == level)
        ranks[rows[np.argsort(-responses[rows], kind="stable")]] = np.arange(len(rows)) / len(rows)
    return ranks


def match_descriptors(a: Pixels, b: Pixels) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """Match each descriptor of `a` (n, 32) to its nearest in `b`: rows in a, rows in b, ratio to the second nearest."""
    if len(a) < 2 or len(b) < 2:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
    distances, rows = find_nearest_bits(a, b, 2)
    ratios = distances[:, 0] / np.maximum(distances[:, 1], 1)
    return np.arange(len(a)), rows[:, 0], ratios.astype(np.float32)


def fit_affine(a: Floats, b: Floats) -> tuple[NDArray[np.float64] | None, int]:
    """Fit an affine map, as (3, 3), from points `a` (n, 2) to `b`, with the number of its inliers; None without a map.

    MAGSAC++ (D. Barath et al., CVPR 2020), as in `fit_homography`.
    """
    model, mask = cv2.estimateAffine2D(
        a, b, method=cv2.USAC_MAGSAC, ransacReprojThreshold=_RANSAC_PX, maxIters=_RANSAC_ROUNDS,
        confidence=_RANSAC_CONFIDENCE,
    )  # fmt: skip
    return (None, 0) if model is None else (np.vstack([model, [0.0, 0.0, 1.0]]), int(mask.sum()))


def fit_homography(a: Floats, b: Floats) -> tuple[NDArray[np.float64] | None, int]:
    """Fit a homography (3, 3) from points `a` (n, 2) to `b`, with the number of its inliers; None without one."""
    model, mask = cv2.findHomography(
        a, b, cv2.USAC_MAGSAC, _RANSAC_PX, maxIters=_RANSAC_ROUNDS, confidence=_RANSAC_CONFIDENCE
    )
    return (None, 0) if model is None else (np.asarray(model, np.float64), int(mask.sum()))


def warp(gray: Floats, to_source: NDArray[np.float64], side_px: int) -> tuple[Floats, NDArray[np.bool_]]:
    """Sample a square (side, side) from a picture, and where it lies inside. `to_source` (3, 3) maps to the picture."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (side_px, side_px)
    sampled = cv2.warpPerspective(gray, to_source, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.warpPerspective(np.ones_like(gray), to_source, size, flags=flags)
    return np.asarray(sampled, np.float32), np.asarray(inside) > 0.99


def blur(picture: Floats, sigma_px: float) -> Floats:
    """Blur with a Gaussian; edge pixels are repeated outwards."""
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma_px, borderType=cv2.BORDER_REPLICATE), np.float32)


def average_windows(picture: Floats, side_px: int) -> Floats:
    """The mean of the square around each pixel; edge pixels are repeated outwards."""
    averages = cv2.boxFilter(picture, -1, (side_px, side_px), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(averages, np.float32)


def shrink(picture: Floats, height: int, width: int) -> Floats:
    """Resize to a smaller picture by averaging."""
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.float32)


def refine_map(target: Floats, source: Floats, to_source: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Refine a homography (3, 3) from `target` to `source` by the correlation of the pixels; None where it fails.

    G. Evangelidis and E. Psarakis, Parametric image alignment using enhanced correlation coefficient maximization,
    PAMI 2008.
    """
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, _ECC_ROUNDS, _ECC_EPSILON)
    first = (to_source / to_source[2, 2]).astype(np.float32)
    try:
        _, found = cv2.findTransformECC(target, source, first, cv2.MOTION_HOMOGRAPHY, criteria, None, _ECC_FILTER_PX)
    except cv2.error:  # no convergence
        return None
    return np.asarray(found, np.float64)


def _get_detectors() -> tuple[cv2.ORB, cv2.ORB]:
    """The detectors of this thread: of strong, and of weak corners, too."""
    if not hasattr(_local, "detectors"):
        _local.detectors = tuple(
            cv2.ORB_create(
                N_FEATURES, scaleFactor=_SCALE_FACTOR, nlevels=_N_LEVELS, edgeThreshold=_EDGE_PX, patchSize=_PATCH_PX,
                fastThreshold=threshold,
            )
            for threshold in (_CORNER_THRESHOLD, _WEAK_CORNER_THRESHOLD)
        )  # fmt: skip
    detectors: tuple[cv2.ORB, cv2.ORB] = _local.detectors
    return detectors
