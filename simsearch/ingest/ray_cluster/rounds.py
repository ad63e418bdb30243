"""Sending blocks to a pool of workers with Ray Data, and receiving their results in any order.

Ray restarts a worker that dies, and its block with it. A worker whose machine is gone cannot always be restarted: the
CPUs that it needs may be gone as well. Such a worker is killed, Ray Data continues without its blocks, and these blocks
are sent again in another round.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.metadata
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
"""Blocks of one round; their lists of files are held in Ray's object store, about 40 kB a block."""

_MAX_FRUITLESS_ROUNDS = 3
_CHECK_INTERVAL_S = 1.0
_RESTART_TIMEOUT_S = 10.0
"""The time that a worker whose machine is gone may take to restart on another machine."""


@dataclass(frozen=True, slots=True)
class BlockResult:
    """The shard of a block as bytes of a Parquet file, and the busy seconds of each stage."""

    number: int
    shard: bytes
    seconds: Mapping[str, float]


def embed_blocks(
    blocks: Sequence[FileBlock], config: WorkerConfig, pool: WorkerPool
) -> Generator[BlockResult, None, None]:
    """Embed blocks on the cluster, and yield the result of each block once, in any order.

    Raises `ClusterError` when a block repeatedly kills its worker, when no worker can start, or when all are lost, and
    any `SimsearchError` that a worker raises.
    """
    registry = _start_registry()
    config = replace(
        config, portable_model=ray.put(config.portable_model), known=ray.put(config.known), registry=registry
    )
    left = {block.number: block for block in blocks}
    n_fruitless = 0
    while left:
        n_before = len(left)
        some = list(left.values())[:_BLOCKS_IN_ROUND]
        with _translate_errors(), _watch_workers(registry):
            for row in _run_round(some, config, pool):
                block = left.pop(row["number"], None)
                if block is not None:  # otherwise Ray delivered a result twice
                    yield _parse_result(row, block)
        n_fruitless = n_fruitless + 1 if len(left) == n_before else 0
        if n_fruitless == _MAX_FRUITLESS_ROUNDS:
            raise ClusterError("the Ray cluster repeatedly loses its workers", "see `ray status`")
        if left:
            pool = plan_workers()


def _parse_result(row: Mapping[str, Any], block: FileBlock) -> BlockResult:
    if row["problem"] is None:
        return BlockResult(row["number"], row["shard"], json.loads(row["seconds"]))
    n, first = len(block.files), block.files[0].path
    where = f"{n:,} files, starting with {first}" if n > 1 else first
    raise ClusterError(
        f"{row['problem']}: {where}" if not row["advice"] else row["problem"],
        row["advice"] or "results merged before are safe; index without --ray to find the file",
    )


def _run_round(blocks: Sequence[FileBlock], config: WorkerConfig, pool: WorkerPool) -> Iterator[dict[str, Any]]:
    """Yield the result rows of one round. Blocks of workers that were killed are missing."""
    items = [{"number": block.number, "files": pickle.dumps(block.files)} for block in blocks]
    context = copy.deepcopy(ray.data.DataContext.get_current())
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = -1
    with ray.data.DataContext.current(context):
        dataset = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            Worker,
            fn_constructor_args=[config],
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=min(pool.n_workers, len(blocks)), max_tasks_in_flight_per_actor=2),
            num_cpus=pool.n_cpus,  # Ray Data restarts and retries without limit: the registry ends it
        )
        for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
            yield from table.to_pylist()


def _start_registry() -> Any:
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(WorkerRegistry).options(num_cpus=0, scheduling_strategy=here).remote()


@contextlib.contextmanager
def _watch_workers(registry: Any) -> Iterator[None]:
    """Kill workers whose machine is gone while the round lasts, but never the last one."""
    stop = threading.Event()
    thread = threading.Thread(target=_kill_lost_workers, args=(registry, stop), name="watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=_RESTART_TIMEOUT_S)
        ray.get(registry.forget_workers.remote())


def _kill_lost_workers(registry: Any, stop: threading.Event) -> None:
    lost_since: dict[tuple[str, str], float] = {}
    while not stop.wait(_CHECK_INTERVAL_S):
        with contextlib.suppress(ray.exceptions.RayError):  # the next check may succeed
            _check_workers(registry, lost_since)


def _check_workers(registry: Any, lost_since: dict[tuple[str, str], float]) -> None:
    alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
    workers = ray.get(registry.list_workers.remote())
    if not any(node in alive for _, node, _ in workers):
        return
    for worker, node, handle in workers:
        if node not in alive:
            since = lost_since.setdefault((worker, node), time.monotonic())
            if time.monotonic() - since > _RESTART_TIMEOUT_S:
                ray.kill(handle)


@contextlib.contextmanager
def _translate_errors() -> Iterator[None]:
    """Raise Ray's errors, which have many classes, as `ClusterError`."""
    try:
        yield
    except SimsearchError:
        raise
    except Exception as error:
        raise _translate_error(str(error)) from error


def _translate_error(text: str) -> ClusterError:
    if "No module named 'simsearch" in text:
        return ClusterError(
            "simsearch is missing or older on a machine of the cluster",
            f"install it there: pip install simsearch=={importlib.metadata.version('simsearch')}",
        )
    lines = [line for line in text.strip().splitlines() if line.strip()]
    detail = lines[-1].strip() if lines else "no reason given"
    return ClusterError(
        f"the Ray cluster failed ({detail})", "see `ray status`, then run the same command again: it continues"
    )
