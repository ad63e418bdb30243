"""The actors on the cluster: workers, which hold the loaded model, and the registry of workers and block attempts."""

from __future__ import annotations

import collections
import contextlib
import importlib.metadata
import json
import pickle
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import ray

from simsearch.errors import ClusterError, SimsearchError
from simsearch.images.views import Augmentation
from simsearch.ingest.embed import EmbeddingContext, NewViews, embed_batches
from simsearch.ingest.prepare import PreparationContext, PreparedFile, add_hashes, prepare_files
from simsearch.ingest.ray_cluster.known_contents import KnownContents
from simsearch.ingest.ray_cluster.shards import ShardContent, encode_shard
from simsearch.ingest.timing import StageClock
from simsearch.models.model import Model
from simsearch.models.portable import PortableModel, unpack_model
from simsearch.sources.scan import FoundFile

MAX_ATTEMPTS = 3
"""The most attempts for one block."""

RESULT_SCHEMA = pa.schema(
    [
        ("number", pa.int64()),
        ("shard", pa.large_binary()),
        ("seconds", pa.string()),  # a JSON object: busy seconds by stage
        ("problem", pa.string()),
        ("advice", pa.string()),
    ]
)
"""The result row of a block: its shard, or the problem."""


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """The configuration of every worker. `portable_model` and `known` are references into Ray's object store."""

    model: Model
    augmentation: Augmentation
    max_pixels: int
    n_cpus: int
    portable_model: Any
    known: Any
    registry: Any = None
    version: str = field(default_factory=lambda: importlib.metadata.version("simsearch"))


class WorkerRegistry:
    """Counts the attempts of each block and lists the workers; it runs on the driver's machine and outlives workers."""

    def __init__(self) -> None:
        self._attempts: collections.Counter[int] = collections.Counter()
        self._workers: dict[str, tuple[str, Any]] = {}

    def register_worker(self, worker: str, node: str, handle: Any) -> None:
        """Register a worker that has started, or restarted, on a machine."""
        self._workers[worker] = (node, handle)

    def count_attempt(self, number: int) -> int:
        """Count one more attempt of a block, and return the number of attempts."""
        self._attempts[number] += 1
        return self._attempts[number]

    def list_workers(self) -> list[tuple[str, str, Any]]:
        """List each worker with the machine on which it last started, and its handle."""
        return [(worker, node, handle) for worker, (node, handle) in self._workers.items()]

    def forget_workers(self) -> None:
        """Forget the workers, as an actor lives while anybody holds its handle."""
        self._workers.clear()


class Worker:
    """Reads, decodes and embeds blocks into shards. Errors are returned in the result, never raised."""

    def __init__(self, config: WorkerConfig) -> None:
        self._config = config
        self._failure: SimsearchError | None = None
        context = ray.get_runtime_context()
        worker, node = context.get_actor_id(), context.get_node_id()
        ray.get(config.registry.register_worker.remote(worker, node, context.current_actor))
        try:
            self._check_version()
            portable_model: PortableModel = ray.get(config.portable_model)
            self._embedder = unpack_model(portable_model, config.n_cpus)
        except SimsearchError as error:
            self._failure = error
            return
        self._known: KnownContents = ray.get(config.known)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Embed blocks, and return one result row for each."""
        numbers = batch["number"].to_pylist()
        results = [self._embed_block(*block) for block in zip(numbers, batch["files"].to_pylist(), strict=True)]
        return pa.Table.from_pylist(results, RESULT_SCHEMA)

    def _embed_block(self, number: int, files: bytes) -> dict[str, Any]:
        try:
            if self._failure is not None:
                raise self._failure
            if ray.get(self._config.registry.count_attempt.remote(number)) > MAX_ATTEMPTS:
                raise ClusterError(f"the worker died {MAX_ATTEMPTS} times on this block", "")
            clock = StageClock()
            shard = encode_shard(self._embed_files(pickle.loads(files), clock))
            return {"number": number, "shard": shard, "seconds": json.dumps(clock.seconds)}
        except SimsearchError as error:
            return {"number": number, "problem": error.problem, "advice": error.advice}
        except Exception as error:  # report any error in one line; Ray would print fifty
            return {"number": number, "problem": f"a worker failed ({error!r})", "advice": ""}

    def _embed_files(self, files: tuple[FoundFile, ...], clock: StageClock) -> ShardContent:
        order = self._config
        preparation = PreparationContext(order.model, order.augmentation, self._find_missing_views, order.max_pixels)
        embedding = EmbeddingContext(lambda: self._embedder, lambda _: False, clock)
        files_done: list[PreparedFile] = []
        new: dict[str, NewViews] = {}
        with (
            contextlib.closing(prepare_files(files, preparation, clock, order.n_cpus)) as prepared,
            contextlib.closing(embed_batches(prepared, embedding)) as batches,
        ):
            for batch in batches:
                files_done += batch.files
                new |= batch.new_views
        return ShardContent(add_hashes(files_done), new)

    def _find_missing_views(self, digest: str) -> list[int]:
        return self._known.find_missing(digest, self._config.augmentation.numbers)

    def _check_version(self) -> None:
        installed = importlib.metadata.version("simsearch")
        if self._config.version != installed:
            problem = f"a machine of the cluster has simsearch {installed}, this machine has {self._config.version}"
            raise ClusterError(problem, "install the same version on every machine")
