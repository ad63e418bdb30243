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
from simsearch.ingest.pipeline import Count, Job, Lookup, changed
from simsearch.ingest.ray_cluster.blocks import Block, block_size, cut
from simsearch.ingest.ray_cluster.cluster import Crew, connected, crew
from simsearch.ingest.ray_cluster.known_contents import MOST_KNOWN, KnownContents
from simsearch.ingest.ray_cluster.merge import Leftovers, Merger
from simsearch.ingest.ray_cluster.shards import ShardFolder
from simsearch.ingest.record import Recorder, Tally
from simsearch.models.portable import pack
from simsearch.sources.scan import Scan
from simsearch.store.catalog import Catalog
from simsearch.store.connection import disk_full, not_writable
from simsearch.store.writer import CatalogWriter

if TYPE_CHECKING:
    from simsearch.ingest.ray_cluster.rounds import Answer
    from simsearch.ingest.ray_cluster.worker import Order


def ingest_on(address: str, scan: Scan, writer: CatalogWriter, job: Job) -> Tally:
    """Bring the catalog up to date as `ingest.pipeline.ingest` does, with the workers of the cluster at `address`.

    Where nothing is to be embedded Ray is not even loaded. Raises `ClusterError`, or what the local run raises.
    """
    tally = Tally(skips=list(scan.skips))
    count = Count(job, tally, n_files=len(scan.files))
    recorder = Recorder(writer, job.model_id, job.augmentation, tally)
    folder = ShardFolder(writer.folder, _run_key(job))
    with Catalog.open(writer.folder) as reader, contextlib.ExitStack() as connection:
        lookup = Lookup(reader, job)
        files = list(changed(scan.files, lookup, count))
        leftovers = Leftovers(folder, files, lookup)
        team = Crew(1, 1, 1)
        if len(leftovers):
            tally.notes.append(f"{len(leftovers):,} files had been embedded by a run that was stopped")
        if leftovers.lacking(files):
            connection.enter_context(connected(address))
            team = crew()
            tally.notes.append(f"embedded by {team} of a Ray cluster")
        blocks = list(cut(files, block_size(len(files), len(job.augmentation.numbers), team.n_workers)))
        merger = Merger(blocks, leftovers, recorder, lookup, on_merged=count.advance)
        for answer in _answers(merger.to_send(), job, reader, team, tally):
            merger.add(answer.number, _kept(folder, answer, writer.folder))
    folder.clear()
    recorder.finish(scan)
    count.finish()
    return tally


def _run_key(job: Job) -> str:
    """What files decide with about a shard: equal keys and equal files, equal shards."""
    parts = (job.model.fingerprint, job.augmentation.to_json(), str(job.max_pixels), __version__)
    return f"{job.model.backbone}-{xxhash.xxh3_64_hexdigest(chr(0).join(parts).encode())}"


def _answers(blocks: Sequence[Block], job: Job, reader: Catalog, team: Crew, tally: Tally) -> Iterator[Answer]:
    """What the workers make of the blocks, in no order."""
    if not blocks:
        return
    from simsearch.ingest.ray_cluster.rounds import answers

    with contextlib.closing(answers(blocks, _order(job, reader, team, tally), team)) as coming:
        while True:
            with tally.clock.on("wait_embed"):
                answer = next(coming, None)
            if answer is None:
                return
            for stage, seconds in answer.seconds.items():
                tally.clock.seconds[stage] = tally.clock.seconds.get(stage, 0.0) + seconds
            yield answer


def _order(job: Job, reader: Catalog, team: Crew, tally: Tally) -> Order:
    """What the workers are told."""
    from simsearch.ingest.ray_cluster.worker import Order

    known = KnownContents()
    if reader.n_vectors(job.model_id) <= MOST_KNOWN:
        known = KnownContents.of(reader.embedded_contents(job.model_id))
    else:
        tally.notes.append("the collection is large: workers embed moved and copied files again (it changes no answer)")
    return Order(
        model=job.model, augmentation=job.augmentation, max_pixels=job.max_pixels, n_cpus=team.n_cpus,
        shipment=pack(job.open_embedder()), known=known,
    )  # fmt: skip


def _kept(folder: ShardFolder, answer: Answer, collection: Path) -> Path:
    try:
        return folder.keep(answer.number, answer.shard)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise disk_full(collection) from error
        raise not_writable(collection, error.strerror or str(error)) from error
