"""Ingest over a Ray cluster: blocks of files out to workers, shards back, merged here in the order of the scan.

scan ─▶ what changed ─▶ blocks ─▶ workers: read, digest, decode, embed ─▶ shards (Parquet) ─▶ record, one block at once

The catalog becomes what a run on this machine makes of the same files. A shard is kept before it is merged and deleted
after: a run that was killed goes on with those that are there.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import xxhash

from simsearch import __version__
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
from simsearch.store.connection import make_disk_full_error, make_not_writable_error
from simsearch.store.writer import CatalogWriter

if TYPE_CHECKING:
    from simsearch.ingest.ray_cluster.rounds import BlockResult
    from simsearch.ingest.ray_cluster.worker import WorkerConfig


def ingest_on_cluster(address: str, scan: Scan, reader: Catalog, writer: CatalogWriter, job: IngestJob) -> IngestStats:
    """Bring the catalog up to date as `ingest.pipeline.ingest` does, with the workers of the cluster at `address`.

    Where nothing is to be embedded Ray is not even loaded. Raises `ClusterError`, or what the local run raises.
    """
    tally = IngestStats(skips=list(scan.skips))
    count = ProgressCounter(job, tally, n_files=len(scan.files))
    recorder = Recorder(writer, job.model_id, job.augmentation, tally)
    folder = ShardFolder(writer.folder, _make_run_key(job))
    with contextlib.ExitStack() as connection:
        lookup = CatalogLookup(reader, job)
        files = list(select_changed(scan.files, lookup, count))
        leftovers = UnmergedShards(folder, files, lookup)
        team = WorkerPool(1, 1, 1)
        if len(leftovers):
            tally.notes.append(f"{len(leftovers):,} files had been embedded by a run that was stopped")
        if leftovers.select_unembedded(files):
            connection.enter_context(connect(address))
            team = plan_workers()
            tally.notes.append(f"embedded by {team} of a Ray cluster")
        blocks = list(
            split_into_blocks(files, choose_block_size(len(files), len(job.augmentation.numbers), team.n_workers))
        )
        merger = ShardMerger(blocks, leftovers, recorder, lookup, on_merged=count.advance)
        for answer in _collect_results(merger.select_pending_blocks(), job, reader, team, tally):
            merger.add_shard(answer.number, _keep_shard(folder, answer, writer.folder))
    folder.clear()
    recorder.finish(scan)
    count.finish()
    return tally


def _make_run_key(job: IngestJob) -> str:
    """What files decide with about a shard: equal keys and equal files, equal shards."""
    parts = (job.model.fingerprint, job.augmentation.to_json(), str(job.max_pixels), __version__)
    return f"{job.model.backbone}-{xxhash.xxh3_64_hexdigest(chr(0).join(parts).encode())}"


def _collect_results(
    blocks: Sequence[FileBlock], job: IngestJob, reader: Catalog, team: WorkerPool, tally: IngestStats
) -> Iterator[BlockResult]:
    """What the workers make of the blocks, in no order."""
    if not blocks:
        return
    from simsearch.ingest.ray_cluster.rounds import embed_blocks

    with contextlib.closing(embed_blocks(blocks, _make_worker_config(job, reader, team, tally), team)) as coming:
        while True:
            with tally.clock.measure("wait_embed"):
                answer = next(coming, None)
            if answer is None:
                return
            for stage, seconds in answer.seconds.items():
                tally.clock.seconds[stage] = tally.clock.seconds.get(stage, 0.0) + seconds
            yield answer


def _make_worker_config(job: IngestJob, reader: Catalog, team: WorkerPool, tally: IngestStats) -> WorkerConfig:
    """What the workers are told."""
    from simsearch.ingest.ray_cluster.worker import WorkerConfig

    known = KnownContents()
    if reader.count_vectors(job.model_id) <= MAX_KNOWN_CONTENTS:
        known = KnownContents.from_views(reader.iterate_embedded_contents(job.model_id))
    else:
        tally.notes.append("the collection is large: workers embed moved and copied files again (it changes no answer)")
    return WorkerConfig(
        model=job.model, augmentation=job.augmentation, max_pixels=job.max_pixels, n_cpus=team.n_cpus,
        shipment=pack_model(job.open_embedder()), known=known,
    )  # fmt: skip


def _keep_shard(folder: ShardFolder, answer: BlockResult, collection: Path) -> Path:
    try:
        return folder.write_shard(answer.number, answer.shard)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise make_disk_full_error(collection) from error
        raise make_not_writable_error(collection, error.strerror or str(error)) from error
