"""What runs on the cluster: workers, which hold the loaded model, and the ledger of what they have begun."""

from __future__ import annotations

import collections
import contextlib
import json
import pickle
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray

from simsearch import __version__
from simsearch.errors import ClusterError, SimsearchError
from simsearch.images.views import Augmentation
from simsearch.ingest.embed import EmbeddingContext, NewViews, embed_batches
from simsearch.ingest.prepare import PreparationContext, PreparedFile, prepare_files
from simsearch.ingest.ray_cluster.known_contents import KnownContents
from simsearch.ingest.ray_cluster.shards import ShardContent, encode_shard
from simsearch.ingest.timing import StageClock
from simsearch.models.model import Model
from simsearch.models.portable import PortableModel, unpack_model
from simsearch.sources.scan import FoundFile

MAX_ATTEMPTS = 3
"""A block that was begun so often and never came to its end is not begun again."""

RESULT_SCHEMA = pa.schema(
    [
        ("number", pa.int64()),
        ("shard", pa.large_binary()),
        ("seconds", pa.string()),  # a JSON object: busy seconds by stage
        ("problem", pa.string()),
        ("advice", pa.string()),
    ]
)
"""What a worker answers to a block: its shard, or why there is none."""


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """What every worker is told. A worker finds `shipment` and `known` in Ray's object store, by their references."""

    model: Model
    augmentation: Augmentation
    max_pixels: int
    n_cpus: int
    shipment: Any
    known: Any
    ledger: Any = None
    version: str = __version__


class WorkerRegistry:
    """Where workers write what they begin, on the driver's machine: it outlives every worker."""

    def __init__(self) -> None:
        self._begun: collections.Counter[int] = collections.Counter()
        self._workers: dict[str, tuple[str, Any]] = {}

    def arrive(self, worker: str, node: str, handle: Any) -> None:
        """A worker has started, or started again, on a machine."""
        self._workers[worker] = (node, handle)

    def begin(self, number: int) -> int:
        """A block is begun; how often it was by now."""
        self._begun[number] += 1
        return self._begun[number]

    def workers(self) -> list[tuple[str, str, Any]]:
        """Every worker with the machine on which it last started, and its handle."""
        return [(worker, node, handle) for worker, (node, handle) in self._workers.items()]

    def dismiss(self) -> None:
        """Forget the workers: as long as somebody holds its handle an actor lives."""
        self._workers.clear()


class Worker:
    """Makes shards of blocks: reads, decodes, embeds. What goes wrong is an answer too, never an exception."""

    def __init__(self, config: WorkerConfig) -> None:
        self._config = config
        self._failure: SimsearchError | None = None
        context = ray.get_runtime_context()
        arrived = config.ledger.arrive.remote(context.get_actor_id(), context.get_node_id(), context.current_actor)
        ray.get(arrived)
        try:
            self._check_version()
            shipment: PortableModel = ray.get(config.shipment)
            self._embedder = unpack_model(shipment, config.n_cpus)
        except SimsearchError as error:
            self._failure = error
            return
        self._known: KnownContents = ray.get(config.known)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """The answers to blocks, a row each."""
        numbers = batch["number"].to_pylist()
        answers = [self._embed_block(*block) for block in zip(numbers, batch["files"].to_pylist(), strict=True)]
        return pa.Table.from_pylist(answers, RESULT_SCHEMA)

    def _embed_block(self, number: int, files: bytes) -> dict[str, Any]:
        try:
            if self._failure is not None:
                raise self._failure
            if ray.get(self._config.ledger.begin.remote(number)) > MAX_ATTEMPTS:
                raise ClusterError(f"its worker died {MAX_ATTEMPTS} times over it", "")
            clock = StageClock()
            shard = encode_shard(self._embed_files(pickle.loads(files), clock))
            return {"number": number, "shard": shard, "seconds": json.dumps(clock.seconds)}
        except SimsearchError as error:
            return {"number": number, "problem": error.problem, "advice": error.advice}
        except Exception as error:  # what it is must reach the person who waits; Ray would say it in fifty lines
            return {"number": number, "problem": f"a worker failed ({error!r})", "advice": ""}

    def _embed_files(self, files: tuple[FoundFile, ...], clock: StageClock) -> ShardContent:
        order = self._config
        preparation = PreparationContext(order.model, order.augmentation, self._find_missing_views, order.max_pixels)
        embedding = EmbeddingContext(lambda: self._embedder, lambda _: False, clock)
        done: list[PreparedFile] = []
        new: dict[str, NewViews] = {}
        with (
            contextlib.closing(prepare_files(files, preparation, clock, order.n_cpus)) as prepared,
            contextlib.closing(embed_batches(prepared, embedding)) as batches,
        ):
            for batch in batches:
                done += batch.files
                new |= batch.new_views
        return ShardContent(done, new)

    def _find_missing_views(self, digest: str) -> list[int]:
        return self._known.find_missing(digest, self._config.augmentation.numbers)

    def _check_version(self) -> None:
        if self._config.version != __version__:
            problem = f"a machine of the cluster has simsearch {__version__}, this one has {self._config.version}"
            raise ClusterError(problem, "install the same version on every machine")
