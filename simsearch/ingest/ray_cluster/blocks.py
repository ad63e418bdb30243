"""How the work is cut: consecutive files, so that what comes back can be written in the order of the scan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from simsearch.sources.scan import FoundFile

_MOST_VIEWS = 256
_FEWEST_VIEWS = 32
_ROUNDS = 4
"""Each worker is to get so many blocks at least, where there are enough files: the slowest then keeps few waiting."""


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive files of a scan; blocks are numbered in its order, from 0."""

    number: int
    files: tuple[FoundFile, ...]


def block_size(n_files: int, n_views: int, n_workers: int) -> int:
    """How many files with so many views each make a block. It changes how long a run takes, and nothing else."""
    wanted = n_files * n_views // (_ROUNDS * n_workers)
    return max(1, min(max(wanted, _FEWEST_VIEWS), _MOST_VIEWS) // n_views)


def cut(files: Sequence[FoundFile], size: int) -> Iterator[Block]:
    """The files in blocks of that size."""
    for number, start in enumerate(range(0, len(files), size)):
        yield Block(number, tuple(files[start : start + size]))
