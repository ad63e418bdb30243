"""Splitting a scan into blocks of consecutive files, so that results can be written in the order of the scan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from simsearch.sources.scan import FoundFile

_MAX_VIEWS = 256
_MIN_VIEWS = 32
_BLOCKS_PER_WORKER = 4
"""Blocks that each worker gets at least, where there are enough files, so that a slow worker delays little."""


@dataclass(frozen=True, slots=True)
class FileBlock:
    """Consecutive files of a scan; blocks are numbered from 0 in the order of the scan."""

    number: int
    files: tuple[FoundFile, ...]


def choose_block_size(n_files: int, n_views: int, n_workers: int) -> int:
    """Choose how many files, with `n_views` views each, make a block. The size affects only the speed of a run."""
    wanted = n_files * n_views // (_BLOCKS_PER_WORKER * n_workers)
    return max(1, min(max(wanted, _MIN_VIEWS), _MAX_VIEWS) // n_views)


def split_into_blocks(files: Sequence[FoundFile], size: int) -> Iterator[FileBlock]:
    """Split files into blocks of `size` files."""
    for number, start in enumerate(range(0, len(files), size)):
        yield FileBlock(number, tuple(files[start : start + size]))
