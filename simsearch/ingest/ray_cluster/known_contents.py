"""The contents that have vectors in a catalog, in a form small enough to send to every worker."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

MAX_KNOWN_CONTENTS = 5_000_000
"""The most contents that are sent to the workers, 20 bytes each. Beyond that, workers embed moved files again."""

_DIGEST = np.dtype("S16")


@dataclass(frozen=True, slots=True)
class KnownContents:
    """The numbers of the views that have a vector, by digest.

    `digests` (n,) are sorted; `set_ids` (n,) index `number_sets`, the few different sets of view numbers.
    """

    digests: NDArray[np.bytes_] = field(default_factory=lambda: np.empty(0, _DIGEST))
    set_ids: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    number_sets: tuple[frozenset[int], ...] = ()

    @classmethod
    def from_views(cls, views: Iterable[tuple[str, int]]) -> KnownContents:
        """Build from pairs of digest and view number; the pairs of one digest follow each other."""
        digests, sets = bytearray(), array("i")
        places: dict[frozenset[int], int] = {}
        for digest, rows in itertools.groupby(views, key=lambda view: view[0]):
            digests += bytes.fromhex(digest)
            numbers = frozenset(number for _, number in rows)
            sets.append(places.setdefault(numbers, len(places)))
        held = np.frombuffer(bytes(digests), _DIGEST)
        order = np.argsort(held)
        return cls(held[order], np.array(sets, np.int32)[order], tuple(places))

    def __len__(self) -> int:
        return len(self.digests)

    def find_missing(self, digest: str, numbers: Sequence[int]) -> list[int]:
        """List the view numbers, of those given, that have no vector."""
        wanted = np.frombuffer(bytes.fromhex(digest), _DIGEST)
        place = int(np.searchsorted(self.digests, wanted)[0])
        if place == len(self.digests) or self.digests[place] != wanted[0]:
            return list(numbers)
        held = self.number_sets[self.set_ids[place]]
        return [number for number in numbers if number not in held]
