"""Connecting to a Ray cluster, or starting one here; quietly, and never waiting for long."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from simsearch.errors import ClusterError, MissingExtra
from simsearch.machine import silence_stderr

LOCAL, AUTO = "local", "auto"

_CONNECT_TIMEOUT_S = 5.0
"""A cluster that is there answers in milliseconds; Ray itself would ask for 80 seconds, and then end the process."""

_QUIET_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_DATA_LOG_LEVEL": "CRITICAL",
    "RAY_TQDM": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",  # what happens to the cluster, which Ray prints on the stdout of the driver
}
"""Set before Ray is imported, where the user has not: stdout and stderr are ours."""

_MAX_CPUS_PER_WORKER = 4
"""Of one worker. More workers of few processors decode faster than few of many: Python shares one lock in each."""

# How HTTP/2 begins, RFC 9113, section 3.4: every gRPC server answers it with a frame of type 4.
_HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
_FRAME_HEADER_BYTES, _SETTINGS_FRAME = 9, 4


@dataclass(frozen=True, slots=True)
class WorkerPool:
    """How many workers there can be, with so many processors each, on so many machines."""

    n_workers: int
    n_cpus: int
    n_nodes: int

    def __str__(self) -> str:
        machines = f" on {self.n_nodes} machines" if self.n_nodes > 1 else ""
        return f"{self.n_workers} worker{'s' if self.n_workers > 1 else ''}{machines}"


def check_address(address: str) -> None:
    """What can be said of an address before anything is written, without loading Ray.

    Raises `MissingExtra` when Ray is not installed, `ClusterError` when nothing answers at the address.
    """
    if any(importlib.util.find_spec(name) is None for name in ("ray", "pyarrow")):
        raise MissingExtra("distributed ingest", "ray")
    if address in (LOCAL, AUTO):
        return
    if address.startswith("ray://"):  # Ray Data needs a driver that is part of the cluster
        problem = f"{address} is an address for Ray's client, which cannot index"
        raise ClusterError(problem, "run this on a machine of the cluster, with --ray auto or host:port")
    host, _, port = address.rpartition(":")
    if not (host and port.isdigit() and int(port) < 1 << 16):
        raise ClusterError(f"{address!r} is no address of a Ray cluster", "write host:port, auto or local")
    problem = _probe_server(host.strip("[]"), int(port))
    if problem:
        raise ClusterError(f"no Ray cluster answers at {address} ({problem})", "check the address with `ray status`")


def _probe_server(host: str, port: int) -> str:
    """Why there is no gRPC server; nothing where there is one."""
    try:
        with socket.create_connection((host, port), timeout=_CONNECT_TIMEOUT_S) as connection:
            connection.sendall(_HTTP2_PREFACE)
            head = connection.recv(_FRAME_HEADER_BYTES)
    except OSError as error:
        return error.strerror or str(error)
    return "" if len(head) > 3 and head[3] == _SETTINGS_FRAME else "what listens there is something else"


@contextlib.contextmanager
def connect(address: str) -> Iterator[None]:
    """A connection to the cluster at `address`; one that the process has already is taken, and left.

    `local` starts a cluster with all processors of this machine and ends it; `auto` finds the one that runs here.

    Raises `ClusterError`.
    """
    check_address(address)
    ray = _import_ray()
    if ray.is_initialized():
        yield
        return
    try:
        _init_ray(ray, address)
        yield
    finally:
        ray.shutdown()


def _import_ray() -> Any:
    for name, value in _QUIET_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
    except ImportError as error:  # Ray is here without what its extra [data] brings
        raise MissingExtra("distributed ingest", "ray") from error

    return ray


def _init_ray(ray: Any, address: str) -> None:
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if address == LOCAL:
        settings["include_dashboard"] = False
    try:
        with silence_stderr():  # Ray's core writes its log settings there
            ray.init(address=address, **settings)
    except SystemExit as error:  # how Ray ends a process that waited too long for its cluster
        raise _make_unreachable_error(address, "it does not answer") from error
    except Exception as error:  # ConnectionError, RuntimeError, ValueError, whatever its layers raise
        raise _make_unreachable_error(address, (str(error).strip() or repr(error)).splitlines()[0]) from error


def _make_unreachable_error(address: str, detail: str) -> ClusterError:
    if address == LOCAL:
        return ClusterError(f"Ray cannot start here ({detail})", "run without --ray, or name a cluster")
    if address == AUTO:
        return ClusterError("this machine is in no Ray cluster that answers", "start one: ray start --head")
    return ClusterError(
        f"the Ray cluster at {address} cannot be joined ({detail})",
        "check it with `ray status`; where it wants a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN",
    )


def plan_workers() -> WorkerPool:
    """As many workers as the machines that are there now have room for; one at least, which a cluster may grow for."""
    import ray

    cpus = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    cpus = [n for n in cpus if n > 0]
    if not cpus:
        return WorkerPool(1, 1, 1)
    n_cpus = max(1, min(_MAX_CPUS_PER_WORKER, min(cpus) // 2))
    return WorkerPool(sum(n // n_cpus for n in cpus), n_cpus, len(cpus))
