"""Search for images of which several regions are equal: candidates that neither a network nor the whole picture's hash
finds, because something covers a part of one picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from simsearch.duplicates.similarity_graph import Positions
from simsearch.matching.region_hashes import MIN_EQUAL_REGIONS

_MANY, _STEP_OF_MANY = 100_000, 3
_MAX_EQUAL, _MAX_EQUAL_OF_MANY = 64, 16

Hashes = NDArray[np.uint32]


class _Segment:
    """The region hashes of some images, sorted for each region."""

    def __init__(self, positions: Positions, hashes: Hashes) -> None:
        self.positions, self.hashes = positions, hashes
        self.orders = np.argsort(hashes, axis=0, kind="stable").astype(np.int32)
        self.sorted = np.take_along_axis(hashes, self.orders, 0)

    def __len__(self) -> int:
        return len(self.positions)

    def find_equal(self, hashes: Hashes, region: int, max_equal: int) -> tuple[Positions, Positions]:
        """Find the rows of `hashes` (m, 81) and the positions of the images whose hash of a region is equal."""
        wanted, present = hashes[:, region], self.sorted[:, region]
        begin = np.searchsorted(present, wanted, "left")
        counts = np.searchsorted(present, wanted, "right") - begin
        counts[(wanted == 0) | (counts > max_equal)] = 0
        starts = np.repeat(np.cumsum(counts) - counts, counts)
        found = self.orders[np.repeat(begin, counts) + np.arange(len(starts)) - starts, region]
        return np.repeat(np.arange(len(hashes)), counts), self.positions[found]


class RegionSearch:
    """Finds images with equal regions among those added so far, of `n_images` in all.

    Segments are merged as they grow, so that n images are sorted about log2(n / block) times. Hashes that more than 64
    images of a segment share are left out: those of frames and logos. Of more than 100,000 images only every third
    region is searched (about 350 bytes an image), and hashes that more than 16 share are left out.
    """

    def __init__(self, n_images: int) -> None:
        are_many = n_images > _MANY
        self._step = _STEP_OF_MANY if are_many else 1
        self._max_equal = _MAX_EQUAL_OF_MANY if are_many else _MAX_EQUAL
        self._segments: list[_Segment] = []

    def add(self, positions: Positions, hashes: Hashes) -> None:
        """Add images by their positions (m,) and region hashes (m, 81)."""
        if not len(positions):
            return
        segments = [_Segment(positions, np.ascontiguousarray(hashes[:, :: self._step]))]
        while self._segments and len(self._segments[-1]) <= 2 * len(segments[0]):
            segments.insert(0, self._segments.pop())
            segments = [_merge(segments)]
        self._segments += segments

    def find_pairs(self, positions: Positions, hashes: Hashes, n: int) -> NDArray[np.int64]:
        """Find the n images with most equal regions for each of the images: positions a and b, and ranks, (3, p)."""
        n_bits = 40
        codes = [np.empty(0, np.int64)]
        hashes = hashes[:, :: self._step]
        for segment in self._segments:
            for region in range(hashes.shape[1]):
                rows, found = segment.find_equal(hashes, region, self._max_equal)
                is_other = found != positions[rows]
                codes.append((rows[is_other] << n_bits) | found[is_other])
        pairs, n_equal = np.unique(np.concatenate(codes), return_counts=True)
        is_enough = n_equal >= MIN_EQUAL_REGIONS
        pairs, n_equal = pairs[is_enough], n_equal[is_enough]
        rows = pairs >> n_bits
        order = np.lexsort((-n_equal, rows))
        rows, pairs = rows[order], pairs[order]
        ranks = np.arange(len(rows)) - np.searchsorted(rows, rows)
        is_kept = ranks < n
        others = pairs[is_kept] & ((1 << n_bits) - 1)
        return np.stack([positions[rows[is_kept]], others, ranks[is_kept]]).astype(np.int64)


def _merge(segments: Sequence[_Segment]) -> _Segment:
    return _Segment(
        np.concatenate([one.positions for one in segments]), np.concatenate([one.hashes for one in segments])
    )
