"""Milvus servers on this machine for tests: a real one in its own process, and one that refuses every client."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
from pymilvus.grpc_gen import milvus_pb2_grpc

_PATIENCE_S = 60


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


@contextlib.contextmanager
def serving(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run Milvus Lite as a network server on a port."""
    command = [sys.executable, "-m", "milvus_lite", "server", "--data-dir", str(folder), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            _wait_for(port, server)
            yield server
        finally:
            server.kill()


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise AssertionError(f"no Milvus on port {port}")


class _Refusing(milvus_pb2_grpc.MilvusServiceServicer):
    def Connect(self, request: object, context: grpc.ServicerContext) -> None:  # noqa: N802 - gRPC's name
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "auth check failure, please check api key is correct")


@contextlib.contextmanager
def refusing() -> Iterator[str]:
    """The URL of a server that responds as Milvus does to a wrong token."""
    server = grpc.server(futures.ThreadPoolExecutor(2))
    milvus_pb2_grpc.add_MilvusServiceServicer_to_server(_Refusing(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop(0).wait()
