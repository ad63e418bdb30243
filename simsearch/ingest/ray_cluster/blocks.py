"""How the work is cut: consecutive files, so that what comes back can be written in the order of the scan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from simsearch.sources.scan import FoundFile

_MAX_VIEWS = 256
_MIN_VIEWS = 32
_BLOCKS_PER_WORKER = 4
"""Each worker is to get so many blocks at least, where there are enough files: the slowest then keeps few waiting."""


@dataclass(frozen=True, slots=True)
class FileBlock:
    """Consecutive files of a scan; blocks are numbered in its order, from 0."""

    number: int
    files: tuple[FoundFile, ...]


def choose_block_size(n_files: int, n_views: int, n_workers: int) -> int:
    """How many files with so many views each make a block. It changes how long a run takes, and nothing else."""
    wanted = n_files * n_views // (_BLOCKS_PER_WORKER * n_workers)
    return max(1, min(max(wanted, _MIN_VIEWS), _MAX_VIEWS) // n_views)


def split_into_blocks(files: Sequence[FoundFile], size: int) -> Iterator[FileBlock]:
    """The files in blocks of that size."""
    for number, start in enumerate(range(0, len(files), size)):
        yield FileBlock(number, tuple(files[start : start + size]))
