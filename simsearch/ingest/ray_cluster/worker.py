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
from simsearch.ingest.embed import Embedding, embed_all
from simsearch.ingest.pipeline import prepare_all
from simsearch.ingest.prepare import Preparation, Prepared, StageClock
from simsearch.ingest.ray_cluster.known_contents import KnownContents
from simsearch.ingest.ray_cluster.shards import ShardContent, encode
from simsearch.ingest.record import NewViews
from simsearch.models.model import Model
from simsearch.models.portable import Shipment, unpack
from simsearch.sources.scan import FoundFile

TRIES = 3
"""A block that was begun so often and never came to its end is not begun again."""

ANSWER = pa.schema(
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
class Order:
    """What every worker is told. A worker finds `shipment` and `known` in Ray's object store, by their references."""

    model: Model
    augmentation: Augmentation
    max_pixels: int
    n_cpus: int
    shipment: Any
    known: Any
    ledger: Any = None
    version: str = __version__


class Ledger:
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

    def __init__(self, order: Order) -> None:
        self._order = order
        self._failure: SimsearchError | None = None
        context = ray.get_runtime_context()
        arrived = order.ledger.arrive.remote(context.get_actor_id(), context.get_node_id(), context.current_actor)
        ray.get(arrived)
        try:
            self._check_version()
            shipment: Shipment = ray.get(order.shipment)
            self._embedder = unpack(shipment, order.n_cpus)
        except SimsearchError as error:
            self._failure = error
            return
        self._known: KnownContents = ray.get(order.known)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """The answers to blocks, a row each."""
        numbers = batch["number"].to_pylist()
        answers = [self._answer(*block) for block in zip(numbers, batch["files"].to_pylist(), strict=True)]
        return pa.Table.from_pylist(answers, ANSWER)

    def _answer(self, number: int, files: bytes) -> dict[str, Any]:
        try:
            if self._failure is not None:
                raise self._failure
            if ray.get(self._order.ledger.begin.remote(number)) > TRIES:
                raise ClusterError(f"its worker died {TRIES} times over it", "")
            clock = StageClock()
            shard = encode(self._embedded(pickle.loads(files), clock))
            return {"number": number, "shard": shard, "seconds": json.dumps(clock.seconds)}
        except SimsearchError as error:
            return {"number": number, "problem": error.problem, "advice": error.advice}
        except Exception as error:  # what it is must reach the person who waits; Ray would say it in fifty lines
            return {"number": number, "problem": f"a worker failed ({error!r})", "advice": ""}

    def _embedded(self, files: tuple[FoundFile, ...], clock: StageClock) -> ShardContent:
        order = self._order
        preparation = Preparation(order.model, order.augmentation, self._missing_views, order.max_pixels)
        embedding = Embedding(lambda: self._embedder, lambda _: False, clock)
        done: list[Prepared] = []
        new: dict[str, NewViews] = {}
        with (
            contextlib.closing(prepare_all(files, preparation, clock, order.n_cpus)) as prepared,
            contextlib.closing(embed_all(prepared, embedding)) as batches,
        ):
            for batch in batches:
                done += batch.files
                new |= batch.new
        return ShardContent(done, new)

    def _missing_views(self, digest: str) -> list[int]:
        return self._known.missing(digest, self._order.augmentation.numbers)

    def _check_version(self) -> None:
        if self._order.version != __version__:
            problem = f"a machine of the cluster has simsearch {__version__}, this one has {self._order.version}"
            raise ClusterError(problem, "install the same version on every machine")
