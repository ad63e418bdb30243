"""Disjoint sets of image ids (union-find)."""

from __future__ import annotations


class DisjointSets:
    """Sets that can be united. The root of a set is its smallest id; an id that was not united is alone in its set."""

    def __init__(self) -> None:
        self._parents: dict[int, int] = {}

    def find(self, image_id: int) -> int:
        """Find the root of the set of an id, and shorten the path to it."""
        root = image_id
        while (above := self._parents.get(root, root)) != root:
            root = above
        while (above := self._parents.get(image_id, image_id)) != root:
            self._parents[image_id] = root
            image_id = above
        return root

    def unite(self, a: int, b: int) -> None:
        """Unite the sets of two ids."""
        root_a, root_b = self.find(a), self.find(b)
        low, high = min(root_a, root_b), max(root_a, root_b)
        self._parents[low] = self._parents[high] = low
