"""Split components of the similarity graph into groups around one center, so that chains cannot drift away.

In a component, a may be similar to b and b to c although a and c are different pictures. Of 18,000 photographs from
many sources the built-in network put 1,094 into one component, while only about 30 of them are duplicates. So a group
is a star: a center, which is the image with most links, and the images that match it directly. The rest of the
component forms further groups in the same way; single images are in no group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from simsearch.duplicates.similarity_graph import OriginalVectors, Positions, RejectedPairs, SimilarityGraph

_FIRST_BATCH_SIZE = 8
_MAX_BATCH_SIZE = 512
_MAX_FAILURES_IN_A_ROW = 16

PairCheck = Callable[[list[tuple[int, int]]], Sequence[bool]]
"""A function that says for each pair of positions (center, other) whether the images belong together."""


@dataclass(slots=True)
class _PendingComponent:
    """The images of a component that are not grouped yet, and the current group.

    `queue` are the images to check against the center, most similar first. `deferred` are checked only if the group has
    another member by then. `n_failed` is the number of checks that failed in a row.
    """

    positions: list[int]
    center: int = -1
    queue: list[int] = field(default_factory=list)
    deferred: list[int] = field(default_factory=list)
    group: list[int] = field(default_factory=list)
    batch_size: int = _FIRST_BATCH_SIZE
    n_failed: int = 0


def build_stars(
    originals: OriginalVectors, graph: SimilarityGraph, rejections: RejectedPairs, check: PairCheck
) -> list[list[int]]:
    """Split components into groups of positions, the center first; all others pass `check` with the center.

    Images are checked that are at least as similar to the center as the threshold t of the graph. If any passes, those
    from t^2 on are checked too: two independent edits that each changed a picture by t are that far apart. No two
    images of a group are a rejected pair. The most similar images are checked first, and after 16 failures in a row the
    rest is skipped: otherwise a burst of similar photos would need n x n checks.
    """
    groups: list[list[int]] = []
    active = [_PendingComponent(_sort_by_centrality(graph, positions)) for positions in graph.iterate_components()]
    while active := [part for part in active if _choose_center(part, originals, graph.min_similarity, rejections)]:
        batches = [(part, part.queue[: part.batch_size]) for part in active]
        results = iter(check([(part.center, other) for part, others in batches for other in others]))
        for part, others in batches:
            for other in others:
                _record_check(part, other, next(results), rejections)
            part.queue = part.queue[len(others) :] if part.n_failed < _MAX_FAILURES_IN_A_ROW else []
            part.batch_size = min(2 * part.batch_size, _MAX_BATCH_SIZE)
            if not part.queue and len(part.group) > 1:
                part.queue, part.deferred, part.n_failed = part.deferred, [], 0
            if not part.queue:
                groups += [part.group] if len(part.group) > 1 else []
                part.positions = [position for position in part.positions if position not in set(part.group)]
    return groups


def _sort_by_centrality(graph: SimilarityGraph, positions: Positions) -> list[int]:
    """Sort positions by rising number of links, because the last is popped first. Ties: the lower position last."""
    order = np.lexsort((positions, -graph.degrees[positions]))
    return [int(position) for position in positions[order[::-1]]]


def _choose_center(
    part: _PendingComponent, originals: OriginalVectors, min_similarity: float, rejections: RejectedPairs
) -> bool:
    """Choose the next center if the queue is empty; whether there is a center with images left to check."""
    while not part.queue:
        if len(part.positions) < 2:
            return False
        part.center = part.positions.pop()
        part.group, part.batch_size, part.n_failed = [part.center], _FIRST_BATCH_SIZE, 0
        others = np.array(part.positions)
        similarities = originals.compute_similarities(part.center, others)
        is_allowed = ~np.isin(others, list(rejections.list_partners(part.center)))
        order = np.lexsort((others, -similarities))
        is_near = (similarities >= min_similarity)[order]
        is_farther = ~is_near & (similarities >= min_similarity * abs(min_similarity))[order]
        part.queue = others[order[is_near & is_allowed[order]]].tolist()
        part.deferred = others[order[is_farther & is_allowed[order]]].tolist()
    return True


def _record_check(part: _PendingComponent, other: int, has_passed: bool, rejections: RejectedPairs) -> None:
    part.n_failed = 0 if has_passed else part.n_failed + 1
    if has_passed and rejections.list_partners(other).isdisjoint(part.group):
        part.group.append(other)
