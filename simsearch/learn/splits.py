"""Splits for cross-validation: by images and by classes, with near copies of a picture always on the same side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from simsearch.learn.moments import Classes, Vectors

Task = Literal["known", "new"]
"""`known`: new images of classes that were learned. `new`: images of classes that were not learned."""

COPY_SIMILARITY = 0.97
"""Images at least this similar count as copies of one picture. Too many copies make an estimate careful, not wrong."""

_BLOCK_ROWS = 1024

Positions = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Split:
    """Positions of the images to learn from, and of those to measure with. No copy lies on both sides."""

    learned: Positions
    measured: Positions


def group_copies(vectors: Vectors) -> Positions:
    """Number the groups of near copies (n,): connected components of the pairs above `COPY_SIMILARITY`."""
    parents = np.arange(len(vectors))

    def find_root(at: int) -> int:
        while parents[at] != at:
            parents[at] = parents[parents[at]]
            at = int(parents[at])
        return at

    for start in range(0, len(vectors), _BLOCK_ROWS):
        similarities = vectors[start : start + _BLOCK_ROWS] @ vectors[start:].T
        for row, column in np.argwhere(similarities >= COPY_SIMILARITY):
            a, b = find_root(start + int(row)), find_root(start + int(column))
            parents[max(a, b)] = min(a, b)
    return np.array([find_root(at) for at in range(len(vectors))], np.int64)


def split_images(classes: Classes, copies: Positions, rng: np.random.Generator) -> Iterator[Split]:
    """Split each class into halves, and yield both ways: learn from one half, measure with the other."""
    order = rng.permutation(len(classes))
    sides = np.zeros(len(classes), np.int64)
    side_of_group: dict[int, int] = {}
    n_on_side: dict[tuple[int, int], int] = {}
    for at in order.tolist():
        label, group = int(classes[at]), int(copies[at])
        sizes = [n_on_side.get((label, side), 0) for side in (0, 1)]
        side = side_of_group.setdefault(group, int(rng.integers(2)) if sizes[0] == sizes[1] else int(np.argmin(sizes)))
        sides[at] = side
        n_on_side[label, side] = n_on_side.get((label, side), 0) + 1
    yield from _yield_both(sides, copies)


def split_classes(classes: Classes, copies: Positions, rng: np.random.Generator) -> Iterator[Split]:
    """Split the classes into halves, and yield both ways."""
    names = rng.permutation(np.unique(classes))
    sides = np.isin(classes, names[: len(names) // 2]).astype(np.int64)
    yield from _yield_both(sides, copies)


SPLITTERS: dict[Task, Callable[[Classes, Positions, np.random.Generator], Iterator[Split]]] = {
    "known": split_images,
    "new": split_classes,
}


def _yield_both(sides: Positions, copies: Positions) -> Iterator[Split]:
    for side in (0, 1):
        measured = np.flatnonzero(sides == side)
        is_leak = np.isin(copies, copies[measured])
        yield Split(np.flatnonzero((sides != side) & ~is_leak), measured)
