"""Pairs that alone hold two groups of copies together, although something covers a part of one picture.

Two pictures of alike things in the same frame, such as two screenshots, can pass the comparison of pixels once. Where
they are of one picture, other pictures of the two groups are copies of each other, too. A pair with the kind `overlay`
that is the only link between two groups of three or more images is therefore not believed alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from simsearch.duplicates.comparison import MIN_WHOLE_OVERLAP, ImagePair
from simsearch.duplicates.pairs import CopyPair

_MIN_GROUP = 3
_MAX_NEIGHBORS = 3


@dataclass(frozen=True, slots=True)
class WeakLink:
    """A pair that alone connects two groups, and other pairs of images of both groups, smaller ids first."""

    pair: CopyPair
    others: tuple[ImagePair, ...]


def find_weak_links(pairs: Sequence[CopyPair]) -> list[WeakLink]:
    """Find the weak links among all pairs of copies; to confirm one, another pair of its groups must be copies."""
    neighbors: dict[int, list[int]] = {}
    containing = {pair.key: pair for pair in pairs if pair.evidence.overlap >= MIN_WHOLE_OVERLAP}
    for a, b in sorted(containing):
        neighbors.setdefault(a, []).append(b)
        neighbors.setdefault(b, []).append(a)
    bridges = ((containing[key], size) for key, size in _find_bridges(neighbors))
    return [
        WeakLink(pair, _list_other_pairs(pair, neighbors))
        for pair, size in bridges
        if size >= _MIN_GROUP and "overlay" in pair.evidence.kinds
    ]


def _list_other_pairs(pair: CopyPair, neighbors: Mapping[int, Sequence[int]]) -> tuple[ImagePair, ...]:
    a, b = pair.key
    near_a = [image_id for image_id in neighbors[a] if image_id != b][:_MAX_NEIGHBORS]
    near_b = [image_id for image_id in neighbors[b] if image_id != a][:_MAX_NEIGHBORS]
    crossing = [
        *((a, other) for other in near_b),
        *((other, b) for other in near_a),
        *zip(near_a, near_b, strict=False),
    ]
    return tuple((min(one, other), max(one, other)) for one, other in crossing)


def _find_bridges(neighbors: Mapping[int, Sequence[int]]) -> Iterator[tuple[ImagePair, int]]:
    """Find the links without which a component falls apart, with the size of the smaller part.

    Depth-first search of each component (Tarjan, "A note on finding the bridges of a graph", 1974).
    """
    order: dict[int, int] = {}
    for root in neighbors:
        if root in order:
            continue
        order[root] = len(order)
        lowest, sizes = {root: order[root]}, {root: 1}
        path = [(root, root, iter(neighbors[root]))]
        found: list[tuple[int, int]] = []
        while path:
            image_id, parent, waiting = path[-1]
            other = next(waiting, None)
            if other is None:
                path.pop()
                if path:
                    lowest[parent] = min(lowest[parent], lowest[image_id])
                    sizes[parent] += sizes[image_id]
                    if lowest[image_id] == order[image_id]:
                        found.append((parent, image_id))
            elif other not in order:
                order[other] = lowest[other] = len(order)
                sizes[other] = 1
                path.append((other, image_id, iter(neighbors[other])))
            elif other != parent:
                lowest[image_id] = min(lowest[image_id], order[other])
        for parent, child in found:
            yield (min(parent, child), max(parent, child)), min(sizes[child], sizes[root] - sizes[child])
