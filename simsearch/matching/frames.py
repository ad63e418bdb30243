"""Whether a picture lies in another one as in a frame: with a border, a screen or another picture around it.

A crop and a picture with a border look the same to geometry: one lies in a part of the other. But where a picture goes
on beyond the part, nothing is seen at the edges of the part; a frame has straight steps along them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simsearch.images.decode import Pixels
from simsearch.matching.evidence import Box

_MIN_MARGIN = 0.02
_SEARCH_PX, _STEP_PX = 5, 2
_MIN_STEP, _MIN_RATIO, _USUAL_QUANTILE = 8.0, 2.5, 0.9
_MIN_SIDE_PX = 16
_MAX_FLAT = 4.0


def is_framed(gray: Pixels, box: Box) -> bool:
    """Whether all edges of the box, in shares of the sides, that lie inside a picture (h, w) are edges of a frame.

    Along such an edge most pixels differ from those beyond it, by more than neighboring columns or rows of the part
    usually do; or there is nothing beyond it but one shade.
    """
    height, width = gray.shape
    left, right = round(box[0] * width), round(box[2] * width)
    top, bottom = round(box[1] * height), round(box[3] * height)
    if right - left < _MIN_SIDE_PX or bottom - top < _MIN_SIDE_PX:
        return False
    picture = gray.astype(np.float32)
    across = picture[top:bottom]
    down = picture[:, left:right].T
    edges = [(across, left, left, right), (across, right, left, right), (down, top, top, bottom),
             (down, bottom, top, bottom)]  # fmt: skip
    inner = [edge for edge in edges if _MIN_MARGIN <= edge[1] / edge[0].shape[1] <= 1 - _MIN_MARGIN]
    return bool(inner) and all(_is_frame_edge(*edge) for edge in inner)


def _is_frame_edge(lines: NDArray[np.float32], place: int, start: int, end: int) -> bool:
    """Whether the column `place` of lines (n, m), of which the part is start to end, is an edge of a frame."""
    beyond = lines[:, : max(1, place - _SEARCH_PX)] if place == start else lines[:, place + _SEARCH_PX :]
    if beyond.size and float(beyond.std()) < _MAX_FLAT:
        return True
    steps = np.median(np.abs(lines[:, _STEP_PX:] - lines[:, :-_STEP_PX]), axis=0)
    near = steps[max(0, place - _SEARCH_PX - _STEP_PX) : place + _SEARCH_PX]
    usual = np.quantile(steps[start + _SEARCH_PX : end - _SEARCH_PX - _STEP_PX], _USUAL_QUANTILE)
    return bool(near.max() >= max(_MIN_STEP, _MIN_RATIO * usual))
