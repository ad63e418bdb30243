"""Merging shards into the catalog in the order of the scan. Merging is idempotent: a shard may be merged again."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from simsearch.ingest.embed import NewViews
from simsearch.ingest.pipeline import CatalogLookup
from simsearch.ingest.prepare import PreparedFile
from simsearch.ingest.ray_cluster.blocks import FileBlock
from simsearch.ingest.ray_cluster.shards import ShardContent, ShardFolder, decode_shard
from simsearch.ingest.record import Recorder
from simsearch.sources.scan import FoundFile

_N_DECODED_SHARDS = 4


class UnmergedShards:
    """The shards of a killed run that were not merged yet. Files that failed are tried again."""

    def __init__(self, folder: ShardFolder, files: Iterable[FoundFile], lookup: CatalogLookup) -> None:
        self._decode = functools.lru_cache(_N_DECODED_SHARDS)(decode_shard)
        self._shards: dict[str, Path] = {}
        wanted = {file.path: file for file in files}
        for shard in folder.list_shards():
            try:
                content = self._decode(shard)
            except ValueError:  # incomplete, after a power failure: its files are embedded again
                continue
            for prepared in content.files:
                file = wanted.get(prepared.file.path)
                if (
                    file is not None
                    and _make_state_key(file) == _make_state_key(prepared.file)
                    and _is_complete(content, prepared, lookup)
                ):
                    self._shards[file.path] = shard

    def __len__(self) -> int:
        return len(self._shards)

    def select_unembedded(self, files: Iterable[FoundFile]) -> list[FoundFile]:
        """List the files that are in no shard, and so must be embedded."""
        return [file for file in files if file.path not in self._shards]

    def load_shards(self, files: Iterable[FoundFile]) -> list[ShardContent]:
        """Load the shards that hold any of the files."""
        shards = dict.fromkeys(self._shards[file.path] for file in files if file.path in self._shards)
        return [self._decode(shard) for shard in shards]


def _make_state_key(file: FoundFile) -> tuple[int, int | str]:
    return file.size_bytes, file.mtime_ns if file.etag is None else file.etag


def _is_complete(content: ShardContent, prepared: PreparedFile, lookup: CatalogLookup) -> bool:
    """Whether every view of a file's content has a vector once the shard is merged."""
    if prepared.failure is not None:
        return False
    new = content.new_views.get(prepared.digest)
    return set(lookup.find_missing_views(prepared.digest)) <= set(new.numbers if new else ())


class ShardMerger:
    """Records blocks in their order; shards of later blocks wait on disk."""

    def __init__(
        self, blocks: Sequence[FileBlock], leftovers: UnmergedShards, recorder: Recorder, lookup: CatalogLookup,
        on_merged: Callable[[int], None],
    ) -> None:  # fmt: skip
        """`on_merged` is called with the number of files that were merged."""
        self._blocks, self._leftovers, self._recorder, self._lookup = blocks, leftovers, recorder, lookup
        self._on_merged = on_merged
        self._waiting: dict[int, Path | None] = {}
        self._next = 0

    def select_pending_blocks(self) -> list[FileBlock]:
        """Merge the blocks that are complete, and return the others with the files that workers must embed."""
        some = [
            FileBlock(block.number, tuple(self._leftovers.select_unembedded(block.files))) for block in self._blocks
        ]
        for block in some:
            if not block.files:
                self.add_shard(block.number, None)
        return [block for block in some if block.files]

    def add_shard(self, number: int, shard: Path | None) -> None:
        """Add the shard of a block (None if it needs none), and merge all blocks up to the first missing one."""
        self._waiting[number] = shard
        while self._next in self._waiting:
            shard = self._waiting.pop(self._next)
            self._merge(self._blocks[self._next], shard)
            if shard is not None:
                shard.unlink(missing_ok=True)
            self._next += 1

    def _merge(self, block: FileBlock, shard: Path | None) -> None:
        contents = self._leftovers.load_shards(block.files) + ([] if shard is None else [decode_shard(shard)])
        prepared = {one.file.path: one for content in contents for one in content.files}
        vectors = {digest: new for content in contents for digest, new in content.new_views.items()}
        files = [prepared[file.path] for file in block.files]
        self._recorder.record(files, self._select_missing_views(files, vectors))
        self._on_merged(len(files))

    def _select_missing_views(self, files: Sequence[PreparedFile], vectors: dict[str, NewViews]) -> dict[str, NewViews]:
        """Select the views that have no vector in the catalog yet, by digest."""
        new: dict[str, NewViews] = {}
        for digest in dict.fromkeys(file.digest for file in files if file.failure is None):
            if missing := self._lookup.find_missing_views(digest):
                held = vectors[digest]
                rows = np.isin(held.numbers, missing)
                new[digest] = NewViews(missing, held.vectors[rows])
        return new
