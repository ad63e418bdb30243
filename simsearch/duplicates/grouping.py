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

from simsearch.duplicates.similarity_graph import Links, Originals, Places, Rejections

_FIRST_ASKED = 8
_MOST_ASKED = 512
_PATIENCE = 16

Check = Callable[[list[tuple[int, int]]], Sequence[bool]]
"""Whether the images of each pair (centre, other) belong together, by place. Asked for many pairs at once."""


@dataclass(slots=True)
class _Rest:
    """What is not yet grouped of a component, and the group that is being made.

    `queue` are the others to be checked against the centre, most similar first, and `further` those that are only
    asked about when the centre has found somebody; `n_failed` is how many in a row did not hold.
    """

    places: list[int]
    centre: int = -1
    queue: list[int] = field(default_factory=list)
    further: list[int] = field(default_factory=list)
    group: list[int] = field(default_factory=list)
    n_asked: int = _FIRST_ASKED
    n_failed: int = 0


def stars(originals: Originals, links: Links, rejections: Rejections, check: Check) -> list[list[int]]:
    """Groups of places, each with its centre first; every other is of its component and holds `check` against it.

    Asked about are those at least as similar to the centre as was linked, t; where there are any, those from t^2 on
    too: two edits that each changed a picture by t, in directions of their own, are so far from each other.
    No two images of a group are a rejected pair. The most similar are checked first, and after 16 in a row that did
    not hold the others of that centre are not asked about: a burst of look-alikes would cost n x n checks.
    """
    groups: list[list[int]] = []
    active = [_Rest(_by_centrality(links, places)) for places in links.components()]
    while active := [rest for rest in active if _has_centre(rest, originals, links.least, rejections)]:
        asked = [(rest, rest.queue[: rest.n_asked]) for rest in active]
        answers = iter(check([(rest.centre, other) for rest, others in asked for other in others]))
        for rest, others in asked:
            for other in others:
                _take(rest, other, next(answers), rejections)
            rest.queue = rest.queue[len(others) :] if rest.n_failed < _PATIENCE else []
            rest.n_asked = min(2 * rest.n_asked, _MOST_ASKED)
            if not rest.queue and len(rest.group) > 1:
                rest.queue, rest.further, rest.n_failed = rest.further, [], 0
            if not rest.queue:
                groups += [rest.group] if len(rest.group) > 1 else []
                rest.places = [place for place in rest.places if place not in set(rest.group)]
    return groups


def _by_centrality(links: Links, places: Places) -> list[int]:
    """The places, those that most others are alike to last: they are popped first. Ties: the lower place first."""
    order = np.lexsort((places, -links.n_alike[places]))
    return [int(place) for place in places[order[::-1]]]


def _has_centre(rest: _Rest, originals: Originals, least: float, rejections: Rejections) -> bool:
    """Take the next centre, where none is at work; whether there is one with others left to check."""
    while not rest.queue:
        if len(rest.places) < 2:
            return False
        rest.centre = rest.places.pop()
        rest.group, rest.n_asked, rest.n_failed = [rest.centre], _FIRST_ASKED, 0
        others = np.array(rest.places)
        similarities = originals.similarities(rest.centre, others)
        is_allowed = ~np.isin(others, list(rejections.of(rest.centre)))
        order = np.lexsort((others, -similarities))
        is_near = (similarities >= least)[order]
        is_further = ~is_near & (similarities >= least * abs(least))[order]
        rest.queue = others[order[is_near & is_allowed[order]]].tolist()
        rest.further = others[order[is_further & is_allowed[order]]].tolist()
    return True


def _take(rest: _Rest, other: int, holds: bool, rejections: Rejections) -> None:
    rest.n_failed = 0 if holds else rest.n_failed + 1
    if holds and rejections.of(other).isdisjoint(rest.group):
        rest.group.append(other)
