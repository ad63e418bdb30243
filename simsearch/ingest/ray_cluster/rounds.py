"""Blocks through Ray Data: out to a pool of workers, and their answers back, in whatever order they come.

A worker that dies is started again by Ray, and its block with it. A worker whose machine is gone cannot always be: the
processors that it needs may be gone with it. Such a worker is given up, Ray Data goes on without its blocks, and those
are sent again in another round.
"""

from __future__ import annotations

import contextlib
import copy
import json
import pickle
import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray
import ray.data
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from simsearch.errors import ClusterError, SimsearchError
from simsearch.ingest.ray_cluster.blocks import FileBlock
from simsearch.ingest.ray_cluster.cluster import WorkerPool, plan_workers
from simsearch.ingest.ray_cluster.worker import Worker, WorkerConfig, WorkerRegistry

_BLOCKS_IN_ROUND = 2048
"""What one round sends out: the lists of files lie in Ray's object store, some 40 kB a block."""

_MAX_FRUITLESS_ROUNDS = 3
_CHECK_INTERVAL_S = 1.0
_RESTART_TIMEOUT_S = 10.0
"""So long may a worker whose machine is gone take to start on another one."""


@dataclass(frozen=True, slots=True)
class BlockResult:
    """The shard of a block, as the bytes of its file, and the busy seconds of each stage."""

    number: int
    shard: bytes
    seconds: Mapping[str, float]


def embed_blocks(
    blocks: Sequence[FileBlock], order: WorkerConfig, team: WorkerPool
) -> Generator[BlockResult, None, None]:
    """The answer to every block, each once, in no order.

    Raises `ClusterError` when a block kills its worker again and again, or no worker can start, or they are all lost,
    and any `SimsearchError` that a worker meets.
    """
    ledger = _start_registry()
    order = replace(order, shipment=ray.put(order.shipment), known=ray.put(order.known), ledger=ledger)
    left = {block.number: block for block in blocks}
    n_fruitless = 0
    while left:
        n_before = len(left)
        some = list(left.values())[:_BLOCKS_IN_ROUND]
        with _translate_errors(), _watch_workers(ledger):
            for row in _run_round(some, order, team):
                block = left.pop(row["number"], None)
                if block is not None:  # else Ray gives an answer twice
                    yield _parse_result(row, block)
        n_fruitless = n_fruitless + 1 if len(left) == n_before else 0
        if n_fruitless == _MAX_FRUITLESS_ROUNDS:
            raise ClusterError("the workers of the Ray cluster are lost again and again", "see `ray status`")
        if left:
            team = plan_workers()


def _parse_result(row: Mapping[str, Any], block: FileBlock) -> BlockResult:
    if row["problem"] is None:
        return BlockResult(row["number"], row["shard"], json.loads(row["seconds"]))
    n, first = len(block.files), block.files[0].path
    where = f"{n:,} files, of which {first} is the first" if n > 1 else first
    raise ClusterError(
        f"{row['problem']}: {where}" if not row["advice"] else row["problem"],
        row["advice"] or "what was merged is safe; index without --ray to find out which file it is",
    )


def _run_round(blocks: Sequence[FileBlock], order: WorkerConfig, team: WorkerPool) -> Iterator[dict[str, Any]]:
    """The rows that workers answer with. Blocks of workers that were given up are missing."""
    items = [{"number": block.number, "files": pickle.dumps(block.files)} for block in blocks]
    context = copy.deepcopy(ray.data.DataContext.get_current())
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = -1
    with ray.data.DataContext.current(context):
        dataset = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            Worker,
            fn_constructor_args=[order],
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=min(team.n_workers, len(blocks)), max_tasks_in_flight_per_actor=2),
            num_cpus=team.n_cpus,  # restarts and retries without end are Ray Data's own choice: the ledger ends them
        )
        for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
            yield from table.to_pylist()


def _start_registry() -> Any:
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(WorkerRegistry).options(num_cpus=0, scheduling_strategy=here).remote()


@contextlib.contextmanager
def _watch_workers(ledger: Any) -> Iterator[None]:
    """Give up workers whose machine is gone, as long as the round lasts; but never the last one."""
    over = threading.Event()
    thread = threading.Thread(target=_kill_lost_workers, args=(ledger, over), name="watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=_RESTART_TIMEOUT_S)
        ray.get(ledger.dismiss.remote())


def _kill_lost_workers(ledger: Any, over: threading.Event) -> None:
    lost_since: dict[tuple[str, str], float] = {}
    while not over.wait(_CHECK_INTERVAL_S):
        with contextlib.suppress(ray.exceptions.RayError):  # the next look may tell more
            _check_workers(ledger, lost_since)


def _check_workers(ledger: Any, lost_since: dict[tuple[str, str], float]) -> None:
    alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
    workers = ray.get(ledger.workers.remote())
    if not any(node in alive for _, node, _ in workers):
        return
    for worker, node, handle in workers:
        if node not in alive:
            since = lost_since.setdefault((worker, node), time.monotonic())
            if time.monotonic() - since > _RESTART_TIMEOUT_S:
                ray.kill(handle)


@contextlib.contextmanager
def _translate_errors() -> Iterator[None]:
    """Ray's errors, which are of many kinds, as ours."""
    try:
        yield
    except SimsearchError:
        raise
    except Exception as error:
        raise _translate_error(str(error)) from error


def _translate_error(text: str) -> ClusterError:
    if "No module named 'simsearch" in text:
        from simsearch import __version__

        return ClusterError(
            "a machine of the cluster has no simsearch, or an older one", f"pip install simsearch=={__version__} there"
        )
    lines = [line for line in text.strip().splitlines() if line.strip()]
    detail = lines[-1].strip() if lines else "for no reason that it tells"
    return ClusterError(f"the Ray cluster failed ({detail})", "see `ray status`; the same command goes on")
