"""Rejected pairs as groups: images that a person marked as no duplicates of each other."""

from __future__ import annotations

from collections.abc import Iterable


def join_pairs(pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Join pairs of image ids that share an image, and list the ids of each group; the newest image first."""
    groups: dict[int, set[int]] = {}
    for a, b in pairs:
        joined = groups.get(a, {a}) | groups.get(b, {b})
        for image_id in joined:
            groups[image_id] = joined
    different = {id(group): group for group in groups.values()}
    return sorted((sorted(group) for group in different.values()), key=lambda group: -group[-1])
