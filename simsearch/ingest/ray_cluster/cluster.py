"""Connecting to a Ray cluster, or starting one on this machine, without Ray's own output and with short timeouts."""

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
"""A running cluster answers in milliseconds; Ray itself would try for 80 seconds and then end the process."""

_QUIET_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_DATA_LOG_LEVEL": "CRITICAL",
    "RAY_TQDM": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",  # cluster events, which Ray prints on the stdout of the driver
}
"""Set before Ray is imported, unless the user has set them, as simsearch owns stdout and stderr."""

_MAX_CPUS_PER_WORKER = 4
"""CPUs of one worker. Many workers with few CPUs decode faster than few with many, as each has one Python lock."""

# The HTTP/2 connection preface, RFC 9113, section 3.4: every gRPC server answers with a SETTINGS frame (type 4).
_HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
_FRAME_HEADER_BYTES, _SETTINGS_FRAME = 9, 4


@dataclass(frozen=True, slots=True)
class WorkerPool:
    """The number of workers, the CPUs of each worker, and the number of machines."""

    n_workers: int
    n_cpus: int
    n_nodes: int

    def __str__(self) -> str:
        machines = f" on {self.n_nodes} machines" if self.n_nodes > 1 else ""
        return f"{self.n_workers} worker{'s' if self.n_workers > 1 else ''}{machines}"


def check_address(address: str) -> None:
    """Check the address of a cluster before anything is written, without loading Ray.

    Raises `MissingExtra` when Ray is not installed, `ClusterError` when no server answers at the address.
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
        raise ClusterError(f"invalid address of a Ray cluster {address!r}", "write host:port, auto or local")
    problem = _probe_server(host.strip("[]"), int(port))
    if problem:
        raise ClusterError(f"no Ray cluster answers at {address} ({problem})", "check the address with `ray status`")


def _probe_server(host: str, port: int) -> str:
    """Describe why no gRPC server answers; an empty text where one does."""
    try:
        with socket.create_connection((host, port), timeout=_CONNECT_TIMEOUT_S) as connection:
            connection.sendall(_HTTP2_PREFACE)
            head = connection.recv(_FRAME_HEADER_BYTES)
    except OSError as error:
        return error.strerror or str(error)
    return "" if len(head) > 3 and head[3] == _SETTINGS_FRAME else "the server there is not a Ray cluster"


@contextlib.contextmanager
def connect(address: str) -> Iterator[None]:
    """Connect to the cluster at `address` for the duration of the context.

    `local` starts a cluster with all CPUs of this machine and stops it afterwards; `auto` finds the cluster that runs
    on this machine. An existing connection of this process is used, and left open.

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
    except ImportError as error:  # Ray is installed without its extra [data]
        raise MissingExtra("distributed ingest", "ray") from error

    return ray


def _init_ray(ray: Any, address: str) -> None:
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if address == LOCAL:
        settings["include_dashboard"] = False
    try:
        with silence_stderr():  # Ray's core writes its log settings there
            ray.init(address=address, **settings)
    except SystemExit as error:  # Ray exits when its cluster does not answer in time
        raise _make_unreachable_error(address, "no answer") from error
    except Exception as error:  # ConnectionError, RuntimeError, ValueError and others
        raise _make_unreachable_error(address, (str(error).strip() or repr(error)).splitlines()[0]) from error


def _make_unreachable_error(address: str, detail: str) -> ClusterError:
    if address == LOCAL:
        return ClusterError(f"Ray cannot start on this machine ({detail})", "run without --ray, or give an address")
    if address == AUTO:
        return ClusterError("no Ray cluster answers on this machine", "start one: ray start --head")
    return ClusterError(
        f"the Ray cluster at {address} cannot be joined ({detail})",
        "check it with `ray status`; if it requires a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN",
    )


def plan_workers() -> WorkerPool:
    """Plan as many workers as the running machines have room for, and at least one, for which a cluster may grow."""
    import ray

    cpus = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    cpus = [n for n in cpus if n > 0]
    if not cpus:
        return WorkerPool(1, 1, 1)
    n_cpus = max(1, min(_MAX_CPUS_PER_WORKER, min(cpus) // 2))
    return WorkerPool(sum(n // n_cpus for n in cpus), n_cpus, len(cpus))
