"""Ingest with a Ray cluster: blocks of files go to workers, shards come back and are merged in the order of the scan.

scan ─▶ changed files ─▶ blocks ─▶ workers: read, hash, decode, embed ─▶ shards (Parquet) ─▶ record, block by block

The catalog is the same as after a run on this machine. A shard is written to disk before it is merged and deleted
afterwards: a run that was killed continues with the shards on disk.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import xxhash

from simsearch.ingest.pipeline import CatalogLookup, IngestJob, ProgressCounter, select_changed
from simsearch.ingest.ray_cluster.blocks import FileBlock, choose_block_size, split_into_blocks
from simsearch.ingest.ray_cluster.cluster import WorkerPool, connect, plan_workers
from simsearch.ingest.ray_cluster.known_contents import MAX_KNOWN_CONTENTS, KnownContents
from simsearch.ingest.ray_cluster.merge import ShardMerger, UnmergedShards
from simsearch.ingest.ray_cluster.shards import ShardFolder
from simsearch.ingest.record import IngestStats, Recorder
from simsearch.models.portable import pack_model
from simsearch.sources.scan import Scan
from simsearch.store.catalog import Catalog
from simsearch.store.sqlite_errors import make_disk_full_error, make_not_writable_error
from simsearch.store.writer import CatalogWriter

if TYPE_CHECKING:
    from simsearch.ingest.ray_cluster.rounds import BlockResult
    from simsearch.ingest.ray_cluster.worker import WorkerConfig


def ingest_on_cluster(address: str, scan: Scan, reader: Catalog, writer: CatalogWriter, job: IngestJob) -> IngestStats:
    """Bring the catalog up to date as `run_pipeline` does, with the workers of the cluster at `address`.

    Where nothing is to be embedded Ray is not loaded. Raises `ClusterError`, or what the local run raises.
    """
    stats = IngestStats(skips=list(scan.skips))
    count = ProgressCounter(job, stats, n_files=len(scan.files))
    recorder = Recorder(writer, job.model_id, job.augmentation, stats)
    folder = ShardFolder(writer.folder, _make_run_key(job))
    with contextlib.ExitStack() as connection:
        lookup = CatalogLookup(reader, job)
        files = list(select_changed(scan.files, lookup, count))
        leftovers = UnmergedShards(folder, files, lookup)
        pool = WorkerPool(1, 1, 1)
        if len(leftovers):
            stats.notes.append(f"{len(leftovers):,} files were embedded by an earlier run that was stopped")
        if leftovers.select_unembedded(files):
            connection.enter_context(connect(address))
            pool = plan_workers()
            stats.notes.append(f"embedded by {pool} of a Ray cluster")
        size = choose_block_size(len(files), len(job.augmentation.numbers), pool.n_workers)
        blocks = list(split_into_blocks(files, size))
        merger = ShardMerger(blocks, leftovers, recorder, lookup, on_merged=count.advance)
        for result in _collect_results(merger.select_pending_blocks(), job, reader, pool, stats):
            merger.add_shard(result.number, _keep_shard(folder, result, writer.folder))
    folder.clear()
    recorder.finish(scan)
    count.finish()
    return stats


def _make_run_key(job: IngestJob) -> str:
    """Name the settings that define the shards of a run: equal keys and equal files give equal shards."""
    version = importlib.metadata.version("simsearch")
    parts = (job.model.fingerprint, job.augmentation.to_json(), str(job.max_pixels), version)
    return f"{job.model.backbone}-{xxhash.xxh3_64_hexdigest(chr(0).join(parts).encode())}"


def _collect_results(
    blocks: Sequence[FileBlock], job: IngestJob, reader: Catalog, pool: WorkerPool, stats: IngestStats
) -> Iterator[BlockResult]:
    """Yield the results of the blocks in any order, and add their times to the statistics."""
    if not blocks:
        return
    from simsearch.ingest.ray_cluster.rounds import embed_blocks

    with contextlib.closing(embed_blocks(blocks, _make_worker_config(job, reader, pool, stats), pool)) as results:
        while True:
            with stats.clock.measure("wait_embed"):
                result = next(results, None)
            if result is None:
                return
            for stage, seconds in result.seconds.items():
                stats.clock.add(stage, seconds)
            yield result


def _make_worker_config(job: IngestJob, reader: Catalog, pool: WorkerPool, stats: IngestStats) -> WorkerConfig:
    """Make the configuration of the workers."""
    from simsearch.ingest.ray_cluster.worker import WorkerConfig

    known = KnownContents()
    if reader.count_vectors(job.model_id) <= MAX_KNOWN_CONTENTS:
        known = KnownContents.from_views(reader.iterate_embedded_contents(job.model_id))
    else:
        stats.notes.append("the collection is large: workers embed moved and copied files again (results are the same)")
    return WorkerConfig(
        model=job.model, augmentation=job.augmentation, max_pixels=job.max_pixels, n_cpus=pool.n_cpus,
        portable_model=pack_model(job.open_embedder()), known=known,
    )  # fmt: skip


def _keep_shard(folder: ShardFolder, result: BlockResult, collection: Path) -> Path:
    try:
        return folder.write_shard(result.number, result.shard)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise make_disk_full_error(collection) from error
        raise make_not_writable_error(collection, error.strerror or str(error)) from error
