"""Compare candidate pairs: which are copies. Pairs that cannot tell anything new are left out.

Candidates are compared in the order of their ranks: the nearest neighbors first. Images that are known to be copies,
directly or through others, are not compared again. Mirrored parts are searched for among the two nearest only. Farther
neighbors are compared only for images that already have a copy, because in a collection without copies every image has
15 neighbors that are none.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from simsearch.duplicates.candidates import Candidates
from simsearch.duplicates.disjoint_sets import DisjointSets
from simsearch.duplicates.pairs import CopyPair
from simsearch.duplicates.renditions import RenditionCache
from simsearch.machine import count_cores
from simsearch.matching.evidence import PairEvidence
from simsearch.matching.verification import verify_pair
from simsearch.store.snapshot import Snapshot, StoredImage

MIN_WHOLE_SHARE, MIN_WHOLE_OVERLAP = 0.6, 0.9
"""Copies that show the same picture as a whole: the least share of the box, and of the part that lies in it."""

_N_ALWAYS_COMPARED, _N_MIRRORED = 4, 2
_BLOCK_PAIRS = 512
_MAX_FAILURES = 8

ImagePair = tuple[int, int]


def is_whole_copy(evidence: PairEvidence) -> bool:
    """Whether two copies show about the same part of the picture."""
    return evidence.overlap >= MIN_WHOLE_OVERLAP and evidence.box_share >= MIN_WHOLE_SHARE


class PairComparer:
    """Compares pairs of images of a snapshot in threads, and remembers which are copies of which."""

    def __init__(self, snapshot: Snapshot, renditions: RenditionCache, known: Sequence[CopyPair]) -> None:
        self.n_compared = 0
        self._snapshot, self._renditions = snapshot, renditions
        self._linked = DisjointSets()
        self._attempted = {pair.key for pair in known}
        self._with_copies: set[int] = set()
        self._failures: dict[ImagePair, int] = {}
        for pair in known:
            self._note(pair)

    def compare(
        self,
        candidates: Candidates,
        image_ids: NDArray[np.int64],
        describe: Callable[[int, int, PairEvidence], CopyPair],
        progress: Callable[[float], None] = lambda _: None,
    ) -> list[CopyPair]:
        """Compare candidates, positions in `image_ids` (n,), by their ranks; returns those that are copies.

        `describe` makes the result of two image ids, the smaller first, and their evidence.
        """
        first, second = image_ids[candidates.first], image_ids[candidates.second]
        order = np.lexsort((np.random.default_rng(0).random(len(candidates)), candidates.ranks))
        found: list[CopyPair] = []
        with ThreadPoolExecutor(max_workers=count_cores()) as pool:
            for start, end in _split_by_rank(candidates.ranks[order]):
                block = order[start:end]  # in random order: pairs of one picture are in many blocks
                ranks = candidates.ranks[block].tolist()
                pairs = self._select(first[block].tolist(), second[block].tolist(), ranks)
                found += self._compare_pairs(pool, pairs, describe, try_mirrored=ranks[0] < _N_MIRRORED)
                progress(end / len(order))
        return found

    def compare_further(
        self, pairs: Sequence[ImagePair], describe: Callable[[int, int, PairEvidence], CopyPair]
    ) -> list[CopyPair]:
        """Compare pairs of images, the smaller id first, although they may be known to be linked; as `compare`."""
        new = [pair for pair in dict.fromkeys(pairs) if pair not in self._attempted]
        self._attempted.update(new)
        with ThreadPoolExecutor(max_workers=count_cores()) as pool:
            return self._compare_pairs(pool, new, describe, try_mirrored=True)

    def _compare_pairs(
        self, pool: ThreadPoolExecutor, pairs: Sequence[ImagePair],
        describe: Callable[[int, int, PairEvidence], CopyPair], *, try_mirrored: bool,
    ) -> list[CopyPair]:  # fmt: skip
        found: list[CopyPair] = []
        results = pool.map(self._verify, *self._read(pairs), itertools.repeat(try_mirrored))
        for (a, b), evidence in zip(pairs, results, strict=True):
            self._count(a, b, evidence)
            if evidence is not None:
                found.append(describe(a, b, evidence))
                self._note(found[-1])
        return found

    def _select(self, first: list[int], second: list[int], ranks: list[int]) -> list[ImagePair]:
        """Select the pairs to compare, the smaller id first."""
        selected: list[ImagePair] = []
        for one, other, rank in zip(first, second, ranks, strict=True):
            a, b = min(one, other), max(one, other)
            if (a, b) in self._attempted or self._linked.find(a) == self._linked.find(b):
                continue
            if rank >= _N_ALWAYS_COMPARED and self._with_copies.isdisjoint((a, b)):
                continue
            if self._failures.get(self._find_sets(a, b), 0) >= _MAX_FAILURES:
                continue
            self._attempted.add((a, b))
            selected.append((a, b))
        return selected

    def _read(self, pairs: Sequence[ImagePair]) -> tuple[list[StoredImage | None], list[StoredImage | None]]:
        images = self._snapshot.read_images(sorted({image_id for pair in pairs for image_id in pair}))
        return [images.get(a) for a, _ in pairs], [images.get(b) for _, b in pairs]

    def _verify(self, a: StoredImage | None, b: StoredImage | None, try_mirrored: bool) -> PairEvidence | None:
        if a is None or b is None:
            return None
        one, other = self._renditions.load(a), self._renditions.load(b)
        return None if one is None or other is None else verify_pair(one, other, try_mirrored=try_mirrored)

    def _count(self, a: int, b: int, evidence: PairEvidence | None) -> None:
        self.n_compared += 1
        if evidence is None:
            sets = self._find_sets(a, b)
            self._failures[sets] = self._failures.get(sets, 0) + 1

    def _find_sets(self, a: int, b: int) -> ImagePair:
        one, other = self._linked.find(a), self._linked.find(b)
        return min(one, other), max(one, other)

    def _note(self, pair: CopyPair) -> None:
        self._with_copies.update(pair.key)
        if pair.evidence.overlap >= MIN_WHOLE_OVERLAP:  # one contains the other
            self._linked.unite(*pair.key)


def _split_by_rank(ranks: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Split ascending ranks (p,) into blocks. What a rank decides is the same for all pairs of a block.

    So farther neighbors are selected when the copies among nearer ones are known, in small collections too.
    """
    borders = np.searchsorted(ranks, (0, _N_MIRRORED, _N_ALWAYS_COMPARED, np.iinfo(np.int64).max)).tolist()
    for low, high in itertools.pairwise(borders):
        for start in range(low, high, _BLOCK_PAIRS):
            yield start, min(start + _BLOCK_PAIRS, high)
