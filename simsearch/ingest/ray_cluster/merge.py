"""Shards into the catalog, in the order of the scan. Merging one twice, or half of it, gives the same catalog."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from simsearch.ingest.pipeline import Lookup
from simsearch.ingest.prepare import Prepared
from simsearch.ingest.ray_cluster.blocks import Block
from simsearch.ingest.ray_cluster.shards import ShardContent, ShardFolder, decode
from simsearch.ingest.record import NewViews, Recorder
from simsearch.sources.scan import FoundFile

_SHARDS_OPEN = 4


class Leftovers:
    """What a run that was killed had embedded of some files, and not merged. Failures are tried again."""

    def __init__(self, folder: ShardFolder, files: Iterable[FoundFile], lookup: Lookup) -> None:
        self._decode = functools.lru_cache(_SHARDS_OPEN)(decode)
        self._shards: dict[str, Path] = {}
        wanted = {file.path: file for file in files}
        for shard in folder.shards():
            try:
                content = self._decode(shard)
            except ValueError:  # torn, by a machine that lost its power: its files are embedded again
                continue
            for prepared in content.files:
                file = wanted.get(prepared.file.path)
                if file is not None and _state(file) == _state(prepared.file) and _has_all(content, prepared, lookup):
                    self._shards[file.path] = shard

    def __len__(self) -> int:
        return len(self._shards)

    def lacking(self, files: Iterable[FoundFile]) -> list[FoundFile]:
        """Those of the files that are to be embedded."""
        return [file for file in files if file.path not in self._shards]

    def of(self, files: Iterable[FoundFile]) -> list[ShardContent]:
        """The shards that hold any of the files."""
        shards = dict.fromkeys(self._shards[file.path] for file in files if file.path in self._shards)
        return [self._decode(shard) for shard in shards]


def _state(file: FoundFile) -> tuple[int, int | str]:
    return file.size_bytes, file.mtime_ns if file.etag is None else file.etag


def _has_all(content: ShardContent, prepared: Prepared, lookup: Lookup) -> bool:
    """Whether the catalog has a vector of every view of a file's content once the shard is merged."""
    if prepared.failure is not None:
        return False
    new = content.new.get(prepared.digest)
    return set(lookup.missing_views(prepared.digest)) <= set(new.numbers if new else ())


class Merger:
    """Records blocks when their turn comes; shards of later ones wait on the disk."""

    def __init__(
        self, blocks: Sequence[Block], leftovers: Leftovers, recorder: Recorder, lookup: Lookup,
        on_merged: Callable[[int], None],
    ) -> None:  # fmt: skip
        """`on_merged` is told how many files more are in the catalog."""
        self._blocks, self._leftovers, self._recorder, self._lookup = blocks, leftovers, recorder, lookup
        self._on_merged = on_merged
        self._waiting: dict[int, Path | None] = {}
        self._next = 0

    def to_send(self) -> list[Block]:
        """What workers are to do of the blocks. Those of which nothing is to be done are merged."""
        some = [Block(block.number, tuple(self._leftovers.lacking(block.files))) for block in self._blocks]
        for block in some:
            if not block.files:
                self.add(block.number, None)
        return [block for block in some if block.files]

    def add(self, number: int, shard: Path | None) -> None:
        """The shard of a block is there (None: it needs none); merge all blocks whose turn has come."""
        self._waiting[number] = shard
        while self._next in self._waiting:
            shard = self._waiting.pop(self._next)
            self._merge(self._blocks[self._next], shard)
            if shard is not None:
                shard.unlink(missing_ok=True)
            self._next += 1

    def _merge(self, block: Block, shard: Path | None) -> None:
        contents = self._leftovers.of(block.files) + ([] if shard is None else [decode(shard)])
        prepared = {one.file.path: one for content in contents for one in content.files}
        vectors = {digest: new for content in contents for digest, new in content.new.items()}
        files = [prepared[file.path] for file in block.files]
        self._recorder.record(files, self._missing(files, vectors))
        self._on_merged(len(files))

    def _missing(self, files: Sequence[Prepared], vectors: dict[str, NewViews]) -> dict[str, NewViews]:
        """The vectors that the catalog lacks of the contents of the files."""
        new: dict[str, NewViews] = {}
        for digest in dict.fromkeys(file.digest for file in files if file.failure is None):
            if missing := self._lookup.missing_views(digest):
                held = vectors[digest]
                rows = np.isin(held.numbers, missing)
                new[digest] = NewViews(missing, held.vectors[rows])
        return new
