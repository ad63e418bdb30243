"""From components to groups in which every image was compared with one and the same: no chain drifts away.

In a component a may be alike to b and b to c while a and c are different pictures. Of 18,000 photographs from many
places the built-in network put 1,094 into one component, and some 30 of all 18,000 are there twice. So a group is a
star: a centre, the image that most others are alike to, and those that hold against it directly. What is left of a
component forms further groups the same way; who is alone at the end is in none.
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
"""Whether the images of each pair (centre, other) belong together, by place. Asked for many pairs at once."""


@dataclass(slots=True)
class _PendingComponent:
    """What is not yet grouped of a component, and the group that is being made.

    `queue` are the others to be checked against the centre, most similar first, and `further` those that are only
    asked about when the centre has found somebody; `n_failed` is how many in a row did not hold.
    """

    positions: list[int]
    center: int = -1
    queue: list[int] = field(default_factory=list)
    deferred: list[int] = field(default_factory=list)
    group: list[int] = field(default_factory=list)
    batch_size: int = _FIRST_BATCH_SIZE
    n_failed: int = 0


def build_stars(
    originals: OriginalVectors, links: SimilarityGraph, rejections: RejectedPairs, check: PairCheck
) -> list[list[int]]:
    """Groups of places, each with its centre first; every other is of its component and holds `check` against it.

    Asked about are those at least as similar to the centre as was linked, t; where there are any, those from t^2 on
    too: two edits that each changed a picture by t, in directions of their own, are so far from each other.
    No two images of a group are a rejected pair. The most similar are checked first, and after 16 in a row that did
    not hold the others of that centre are not asked about: a burst of look-alikes would cost n x n checks.
    """
    groups: list[list[int]] = []
    active = [_PendingComponent(_sort_by_centrality(links, places)) for places in links.iterate_components()]
    while active := [rest for rest in active if _choose_center(rest, originals, links.min_similarity, rejections)]:
        asked = [(rest, rest.queue[: rest.batch_size]) for rest in active]
        answers = iter(check([(rest.center, other) for rest, others in asked for other in others]))
        for rest, others in asked:
            for other in others:
                _record_check(rest, other, next(answers), rejections)
            rest.queue = rest.queue[len(others) :] if rest.n_failed < _MAX_FAILURES_IN_A_ROW else []
            rest.batch_size = min(2 * rest.batch_size, _MAX_BATCH_SIZE)
            if not rest.queue and len(rest.group) > 1:
                rest.queue, rest.deferred, rest.n_failed = rest.deferred, [], 0
            if not rest.queue:
                groups += [rest.group] if len(rest.group) > 1 else []
                rest.positions = [place for place in rest.positions if place not in set(rest.group)]
    return groups


def _sort_by_centrality(links: SimilarityGraph, places: Positions) -> list[int]:
    """The places, those that most others are alike to last: they are popped first. Ties: the lower place first."""
    order = np.lexsort((places, -links.degrees[places]))
    return [int(place) for place in places[order[::-1]]]


def _choose_center(
    rest: _PendingComponent, originals: OriginalVectors, least: float, rejections: RejectedPairs
) -> bool:
    """Take the next centre, where none is at work; whether there is one with others left to check."""
    while not rest.queue:
        if len(rest.positions) < 2:
            return False
        rest.center = rest.positions.pop()
        rest.group, rest.batch_size, rest.n_failed = [rest.center], _FIRST_BATCH_SIZE, 0
        others = np.array(rest.positions)
        similarities = originals.compute_similarities(rest.center, others)
        is_allowed = ~np.isin(others, list(rejections.list_partners(rest.center)))
        order = np.lexsort((others, -similarities))
        is_near = (similarities >= least)[order]
        is_further = ~is_near & (similarities >= least * abs(least))[order]
        rest.queue = others[order[is_near & is_allowed[order]]].tolist()
        rest.deferred = others[order[is_further & is_allowed[order]]].tolist()
    return True


def _record_check(rest: _PendingComponent, other: int, holds: bool, rejections: RejectedPairs) -> None:
    rest.n_failed = 0 if holds else rest.n_failed + 1
    if holds and rejections.list_partners(other).isdisjoint(rest.group):
        rest.group.append(other)
