"""Groups of copies from verified pairs, so that no chain of parts brings unrelated pictures together.

1. Images that show the same picture as a whole (`is_whole_copy`) form a core: its connected components.
2. A larger picture joins its largest part, and those parts whose boxes overlap that part's box by a fifth of the
   smaller box. Other parts do not join: a collage of two pictures joins one of them, and two crops of opposite sides
   of a panorama are not one group.
3. An image that overlaps with another one, where neither contains the other, joins the group of that one only if it has
   no group of its own, and nothing joins through it.

No two images of a group are a rejected pair.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from simsearch.duplicates.comparison import MIN_WHOLE_OVERLAP, MIN_WHOLE_SHARE, is_whole_copy
from simsearch.duplicates.disjoint_sets import DisjointSets
from simsearch.duplicates.pairs import CopyPair
from simsearch.matching.evidence import Box

_MIN_BOX_OVERLAP = 0.2


@dataclass(frozen=True, slots=True)
class _Part:
    """A core that is a part of a larger picture, where it lies there."""

    core: int
    box: Box
    share: float


def build_copy_groups(pairs: Sequence[CopyPair], rejected: Collection[tuple[int, int]]) -> list[list[int]]:
    """Build the groups, of at least two image ids each, ascending, from pairs of copies."""
    pairs = [pair for pair in pairs if pair.key not in rejected]
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


def _join_parts(pairs: Sequence[CopyPair], cores: DisjointSets) -> DisjointSets:
    parts: dict[int, list[_Part]] = {}
    mirrored = _find_mirrored(pairs)
    for pair in pairs:
        evidence, whole = pair.evidence, pair.whole_id
        if evidence.overlap >= MIN_WHOLE_OVERLAP and not is_whole_copy(evidence):
            box = _mirror_box(evidence.box) if whole in mirrored else evidence.box
            part = _Part(cores.find(pair.find_other(whole)), box, evidence.box_share)
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


def _find_mirrored(pairs: Sequence[CopyPair]) -> set[int]:
    """The images that are mirrored against the first image of their core."""
    neighbors: dict[int, list[tuple[int, bool]]] = {}
    for pair in pairs:
        if is_whole_copy(pair.evidence):
            for image_id in pair.key:
                is_mirrored = "mirrored" in pair.evidence.kinds
                neighbors.setdefault(image_id, []).append((pair.find_other(image_id), is_mirrored))
    states: dict[int, bool] = {}
    for first in sorted(neighbors):
        waiting = [] if first in states else [first]
        states.setdefault(first, False)
        while waiting:
            image_id = waiting.pop()
            for other, is_mirrored in neighbors[image_id]:
                if other not in states:
                    states[other] = states[image_id] != is_mirrored
                    waiting.append(other)
    return {image_id for image_id, is_mirrored in states.items() if is_mirrored}


def _mirror_box(box: Box) -> Box:
    return 1 - box[2], box[1], 1 - box[0], box[3]


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
