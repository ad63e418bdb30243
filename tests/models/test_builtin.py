"""The built-in network: the same weights in both runtimes, and a model card that matches the files."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from numpy.typing import NDArray
from PIL import Image

from simsearch.models.builtin import network

FOLDER = network.GRAPH.parent
DATA = Path(__file__).parents[2] / "data"
LARGEST_BYTES = 5_000_000


@pytest.fixture(scope="module")
def compiled() -> Any:
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    return ov.Core().compile_model(network.GRAPH, "CPU", settings)


@pytest.fixture(scope="module")
def pictures() -> NDArray[np.uint8]:
    """Stripes, a gradient, noise, flat areas, and pictures from `data/`."""
    side = network.SIDE_PX
    rng = np.random.default_rng(7)
    down, across = np.mgrid[0:side, 0:side]
    stripes = np.stack([(across // 8 % 2) * 255, (down // 16 % 2) * 255, (across + down) % 256], axis=2)
    gradient = np.stack([across * 255 // side, down * 255 // side, 255 - across], axis=2)
    disc = np.where(((across - 70) ** 2 + (down - 60) ** 2 < 900)[..., None], [200, 40, 30], [240, 240, 235])
    noise = rng.integers(0, 256, (side, side, 3))
    found = sorted(path for path in DATA.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg", ".png"})[:6]
    photographs = [np.asarray(Image.open(path).convert("RGB").resize((side, side))) for path in found]
    return np.stack([stripes, gradient, disc, noise, *photographs]).astype(np.uint8)


@pytest.fixture(scope="module")
def by_keras(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(network.build()(pictures))


@pytest.mark.parametrize(("precision", "least_cosine"), [("f32", 0.999), ("bf16", 0.97)])
@pytest.mark.parametrize("hint", ["LATENCY", "THROUGHPUT"])
def test_keras_and_openvino_give_the_same_vectors(
    hint: str, precision: str, least_cosine: float, pictures: NDArray[np.uint8], by_keras: NDArray[np.float32]
) -> None:
    """For each way to compile: OpenVINO 2026.4 computed int8 kernels wrongly in streams of one thread."""
    settings = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": hint}
    by_openvino = ov.Core().compile_model(network.GRAPH, "CPU", settings)(pictures)[0]
    cosines = (by_keras * by_openvino).sum(1) / np.linalg.norm(by_openvino, axis=1)
    assert cosines.min() >= least_cosine


def test_vectors_are_unit_rows_of_256(compiled: Any, pictures: NDArray[np.uint8]) -> None:
    vectors = compiled(pictures)[0]
    assert vectors.shape == (len(pictures), network.WIDTH)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_picture_has_the_same_vector_alone_as_in_a_batch(compiled: Any, pictures: NDArray[np.uint8]) -> None:
    together = compiled(pictures)[0].copy()
    alone = np.concatenate([compiled(picture[None])[0].copy() for picture in pictures])
    np.testing.assert_allclose(alone, together, atol=1e-4)


def test_all_weights_are_read_and_finite() -> None:
    weights = network.read_weights()
    layers = {name.rpartition("/")[0] for name in weights}
    assert len(layers) == 53  # 52 convolutions and the projection
    assert set(weights) == {f"{layer}/{part}" for layer in layers for part in ("kernel", "bias")}
    assert all(np.isfinite(values).all() for values in weights.values())


def test_the_package_data_is_at_most_5_mb() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir() if path.is_file()) <= LARGEST_BYTES


@pytest.mark.parametrize("name", ["builtin.xml", "builtin.bin"])
def test_the_card_states_the_digests_of_the_files(name: str) -> None:
    card = (FOLDER / "CARD.md").read_text(encoding="utf-8")
    stated = re.search(rf"`{re.escape(name)}`[^\n]*sha256 `([0-9a-f]{{64}})`", card)
    assert stated is not None
    assert stated[1] == hashlib.sha256((FOLDER / name).read_bytes()).hexdigest()
