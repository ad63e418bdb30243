"""Shared fixtures of the model tests: weights folders, a small weights server, and pixels."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest


@dataclass(frozen=True)
class WeightsFolders:
    """The folders that are searched for weights, in search order; none exists yet."""

    named: Path
    cache: Path
    keras: Path

    def put(self, place: str, name: str, content: bytes = b"weights") -> str:
        """Write a file to `named`, `cache` or `keras` and return its path."""
        folder: Path = getattr(self, place)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        return str(folder / name)


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WeightsFolders:
    """Weights are searched below `tmp_path` only, and downloads reach this machine only."""
    monkeypatch.setenv("SIMSEARCH_WEIGHTS", str(tmp_path / "named"))
    monkeypatch.setenv("SIMSEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("SIMSEARCH_WEIGHTS_URL", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return WeightsFolders(tmp_path / "named", tmp_path / "cache" / "weights", tmp_path / "keras" / "models")


@dataclass
class WeightsMirror:
    """A weights server: `files` by name, and the names that were requested.

    `promised` is the number of bytes by which Content-Length is too large.
    """

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    promised: int = 0

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        name = request.path.lstrip("/")
        self.asked.append(name)
        if name not in self.files:
            request.send_error(404)
            return
        request.send_response(200)
        request.send_header("Content-Length", str(len(self.files[name]) + self.promised))
        request.end_headers()
        request.wfile.write(self.files[name])


@pytest.fixture
def mirror(places: WeightsFolders, monkeypatch: pytest.MonkeyPatch) -> Iterator[WeightsMirror]:
    """A real server on this machine, at `$SIMSEARCH_WEIGHTS_URL`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            served.answer(self)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served = WeightsMirror(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("SIMSEARCH_WEIGHTS_URL", served.url)
        yield served
        server.shutdown()
        thread.join()


def make_random_pixels(n: int, side_px: int, seed: int = 0) -> np.ndarray:
    """Noise, (n, side, side, 3) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (n, side_px, side_px, 3), dtype=np.uint8)


def normalize_rows(rows: np.ndarray) -> np.ndarray:
    """Divide each row by its length."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def apply_scaling(pixels: np.ndarray, scaling) -> np.ndarray:
    """Apply a `Scaling` as documented, in plain NumPy."""
    values = pixels.astype(np.float64)
    if scaling.channels == "bgr":
        values = np.stack([values[..., 2], values[..., 1], values[..., 0]], axis=-1)
    return values * scaling.scale + scaling.offset


def pool_maps(maps: np.ndarray, pooling: str) -> np.ndarray:
    """Pool (n, positions ..., c) to (n, c)."""
    positions = maps.reshape(len(maps), -1, maps.shape[-1]).astype(np.float64)
    if pooling == "max":
        return positions.max(axis=1)
    if pooling == "avg":
        return positions.mean(axis=1)
    return np.cbrt((np.clip(positions, 1e-6, None) ** 3).mean(axis=1))
