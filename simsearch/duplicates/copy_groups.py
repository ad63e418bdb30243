"""Groups of copies from verified pairs, so that no chain of parts brings unrelated pictures together.

1. Images that show the same picture as a whole (`is_whole_copy`) form a core: its connected components.
2. A larger picture joins its largest part, and those parts whose boxes overlap that part's box by a fifth of the
   smaller box. Other parts do not join: a collage of two pictures joins one of them, and two crops of opposite sides
   of a panorama are not one group. Nor do parts that lie outside of what most pictures of a core show: where a
   collage is in the core of its larger picture, the smaller one stays out.
3. An image that overlaps with another one, where neither contains the other, joins the group of that one only if it has
   no group of its own, and nothing joins through it.

No two images of a group are a rejected pair, and a weak link (see `weak_links`) connects no images.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from simsearch.duplicates.comparison import MIN_WHOLE_OVERLAP, MIN_WHOLE_SHARE, is_whole_copy
from simsearch.duplicates.disjoint_sets import DisjointSets
from simsearch.duplicates.pairs import CopyPair
from simsearch.duplicates.weak_links import find_weak_links
from simsearch.matching.evidence import Box

_MIN_BOX_OVERLAP = 0.2
_MIN_INSIDE = 0.5


@dataclass(frozen=True, slots=True)
class _Part:
    """A core that is a part of a larger picture, where it lies there."""

    core: int
    box: Box
    share: float


def build_copy_groups(pairs: Sequence[CopyPair], rejected: Collection[tuple[int, int]]) -> list[list[int]]:
    """Build the groups, of at least two image ids each, ascending, from pairs of copies."""
    pairs = [pair for pair in pairs if pair.key not in rejected]
    weak = {link.pair.key for link in find_weak_links(pairs)}
    pairs = [pair for pair in pairs if pair.key not in weak]
    cores = DisjointSets()
    for pair in pairs:
        if is_whole_copy(pair.evidence):
            cores.unite(*pair.key)
    groups = _join_parts(pairs, cores)
    _join_overlapping(pairs, groups)
    members: dict[int, list[int]] = {}
    for image_id in sorted({image_id for pair in pairs for image_id in pair.key}):
        members.setdefault(groups.find(image_id), []).append(image_id)
    separated = [part for group in members.values() for part in _separate(group, pairs, rejected)]
    return sorted(group for group in separated if len(group) > 1)


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where a picture lies in the coordinates of the first picture of its core: x = left + width * share of its side.

    A mirrored picture has a negative width.
    """

    left: float
    top: float
    width: float
    height: float

    def map_box(self, box: Box) -> Box:
        """Map a box of the picture."""
        x = sorted((self.left + self.width * box[0], self.left + self.width * box[2]))
        return x[0], self.top + self.height * box[1], x[1], self.top + self.height * box[3]

    def place_part(self, box: Box, *, is_mirrored: bool) -> _Frame:
        """The frame of a picture that is the part `box` of this one."""
        start, end = (box[2], box[0]) if is_mirrored else (box[0], box[2])
        return _Frame(
            self.left + self.width * start,
            self.top + self.height * box[1],
            self.width * (end - start),
            self.height * (box[3] - box[1]),
        )

    def place_whole(self, box: Box, *, is_mirrored: bool) -> _Frame:
        """The frame of a picture of which this one is the part `box`."""
        start, end = (box[2], box[0]) if is_mirrored else (box[0], box[2])
        width, height = self.width / (end - start), self.height / (box[3] - box[1])
        return _Frame(self.left - width * start, self.top - height * box[1], width, height)


_FIRST = _Frame(0.0, 0.0, 1.0, 1.0)
_WHOLE_BOX: Box = (0.0, 0.0, 1.0, 1.0)


def _join_parts(pairs: Sequence[CopyPair], cores: DisjointSets) -> DisjointSets:
    parts: dict[int, list[_Part]] = {}
    frames = _place_in_cores(pairs)
    regions = _find_core_regions(frames, cores)
    for pair in pairs:
        evidence, whole = pair.evidence, pair.whole_id
        if evidence.overlap >= MIN_WHOLE_OVERLAP and not is_whole_copy(evidence):
            box = frames.get(whole, _FIRST).map_box(evidence.box)
            part = _Part(cores.find(pair.find_other(whole)), box, _measure_area(box))
            region = regions.get(cores.find(whole), _WHOLE_BOX)
            if _overlap(part, _Part(cores.find(whole), region, _measure_area(region))) >= _MIN_INSIDE:
                parts.setdefault(cores.find(whole), []).append(part)
    groups = DisjointSets()
    for pair in pairs:
        if is_whole_copy(pair.evidence):
            groups.unite(*pair.key)
    for core, its_parts in sorted(parts.items()):
        largest = max(its_parts, key=lambda part: (part.share, -part.core))
        for part in its_parts:
            if part.core == largest.core or _overlap(part, largest) >= _MIN_BOX_OVERLAP:
                groups.unite(core, part.core)
    return groups


def _place_in_cores(pairs: Sequence[CopyPair]) -> dict[int, _Frame]:
    """Find the frames of the images that are whole copies of others."""
    neighbors: dict[int, list[CopyPair]] = {}
    for pair in pairs:
        if is_whole_copy(pair.evidence):
            for image_id in pair.key:
                neighbors.setdefault(image_id, []).append(pair)
    frames: dict[int, _Frame] = {}
    for first in sorted(neighbors):
        waiting = [] if first in frames else [first]
        frames.setdefault(first, _FIRST)
        while waiting:
            image_id = waiting.pop()
            for pair in neighbors[image_id]:
                other = pair.find_other(image_id)
                if other not in frames:
                    is_mirrored = "mirrored" in pair.evidence.kinds
                    place = frames[image_id].place_part if pair.whole_id == image_id else frames[image_id].place_whole
                    frames[other] = place(pair.evidence.box, is_mirrored=is_mirrored)
                    waiting.append(other)
    return frames


def _find_core_regions(frames: Mapping[int, _Frame], cores: DisjointSets) -> dict[int, Box]:
    """Find what most pictures of each core show: the medians of their edges, of two values the inner one."""
    boxes: dict[int, list[Box]] = {}
    for image_id, frame in frames.items():
        boxes.setdefault(cores.find(image_id), []).append(frame.map_box(_WHOLE_BOX))
    return {core: _find_median_box(of_core) for core, of_core in boxes.items()}


def _find_median_box(boxes: Sequence[Box]) -> Box:
    inner, outer = len(boxes) // 2, (len(boxes) - 1) // 2
    left, top, right, bottom = (sorted(edges) for edges in zip(*boxes, strict=True))
    return left[inner], top[inner], right[outer], bottom[outer]


def _measure_area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def _overlap(a: _Part, b: _Part) -> float:
    """The area that two boxes share, as a share of the smaller box."""
    width = min(a.box[2], b.box[2]) - max(a.box[0], b.box[0])
    height = min(a.box[3], b.box[3]) - max(a.box[1], b.box[1])
    return max(0.0, width) * max(0.0, height) / max(min(a.share, b.share), 1e-9)


def _join_overlapping(pairs: Sequence[CopyPair], groups: DisjointSets) -> None:
    in_group = {image_id for pair in pairs for image_id in pair.key if _has_group(pair, groups)}
    joined: set[int] = set()
    for pair in sorted(pairs, key=lambda pair: -pair.evidence.agreement):
        if _has_group(pair, groups) or pair.evidence.overlap < MIN_WHOLE_SHARE:
            continue
        free = [image_id for image_id in pair.key if image_id not in in_group]
        if free and pair.evidence.overlap < MIN_WHOLE_OVERLAP and not joined & set(pair.key):
            groups.unite(*pair.key)
            joined.add(free[-1])
            in_group.update(pair.key)


def _has_group(pair: CopyPair, groups: DisjointSets) -> bool:
    return groups.find(pair.image_a) == groups.find(pair.image_b)


def _separate(group: list[int], pairs: Sequence[CopyPair], rejected: Collection[tuple[int, int]]) -> list[list[int]]:
    """Split a group with rejected pairs: an image that is rejected with an earlier one of its group leaves it."""
    if not rejected:
        return [group]
    kept: list[int] = []
    left: list[int] = []
    for image_id in group:
        is_rejected = any((min(image_id, other), max(image_id, other)) in rejected for other in kept)
        (left if is_rejected else kept).append(image_id)
    if not left:
        return [kept]
    own = set(left)
    among = [pair for pair in pairs if own.issuperset(pair.key)]
    return [_keep_connected(kept, pairs), *(build_copy_groups(among, rejected) if among else [])]


def _keep_connected(group: list[int], pairs: Sequence[CopyPair]) -> list[int]:
    """The images of a group that are still connected by pairs with the first image that has one."""
    own = set(group)
    sets = DisjointSets()
    for pair in pairs:
        if own.issuperset(pair.key):
            sets.unite(*pair.key)
    roots = [sets.find(image_id) for image_id in group]
    largest = max(roots, key=lambda root: (roots.count(root), -root))
    return [image_id for image_id, root in zip(group, roots, strict=True) if root == largest]
