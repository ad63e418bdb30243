"""The built-in network: the same weights in both runtimes, and a model card that matches the files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
import xxhash
from numpy.typing import NDArray
from PIL import Image

from simsearch.models.builtin import network
from simsearch.models.choice import ModelChoice, resolve_model
from simsearch.models.loader import LoadOptions, open_embedder
from simsearch.models.precision import MIN_COSINE, open_with_precision

pytestmark = pytest.mark.long

FOLDER = network.GRAPH.parent
DATA = Path(__file__).parents[2] / "data"
LARGEST_BYTES = 8_000_000


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


@pytest.mark.parametrize(("precision", "least_cosine"), [("f32", 0.9999), ("bf16", 0.97), ("int8", 0.97)])
@pytest.mark.parametrize("hint", ["LATENCY", "THROUGHPUT"])
def test_keras_and_openvino_give_the_same_vectors(
    hint: str, precision: str, least_cosine: float, pictures: NDArray[np.uint8], by_keras: NDArray[np.float32]
) -> None:
    """For each way to compile: OpenVINO 2026.4 computed int8 kernels wrongly in streams of one thread."""
    model = replace(resolve_model(ModelChoice()), precision=precision)
    by_openvino = open_embedder(model, LoadOptions(for_throughput=hint == "THROUGHPUT")).embed(pictures)
    assert (by_keras * by_openvino).sum(1).min() >= least_cosine


def _list_compiled(cache: Path) -> list[Path]:
    return sorted((cache / "compiled").glob("*"))


@pytest.mark.parametrize("precision", ["f32", "int8"])
def test_a_network_compiled_by_an_earlier_process_gives_the_same_vectors(
    precision: str, pictures: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIMSEARCH_CACHE", str(tmp_path))
    model = replace(resolve_model(ModelChoice()), precision=precision)
    expected = open_embedder(model).embed(pictures)
    (stored,) = _list_compiled(tmp_path)
    written = stored.stat().st_mtime_ns
    np.testing.assert_array_equal(open_embedder(model).embed(pictures), expected)
    assert [file.stat().st_mtime_ns for file in _list_compiled(tmp_path)] == [written]


@pytest.mark.parametrize("harm", [lambda content: content[:-100], lambda content: content[:9999] + bytes(9), bytes])
def test_a_damaged_compiled_network_is_compiled_anew(
    harm: Callable[[bytes], bytes], pictures: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIMSEARCH_CACHE", str(tmp_path))
    expected = open_embedder(resolve_model(ModelChoice())).embed(pictures)
    (stored,) = _list_compiled(tmp_path)
    intact = stored.read_bytes()
    stored.write_bytes(harm(intact))
    np.testing.assert_array_equal(open_embedder(resolve_model(ModelChoice())).embed(pictures), expected)
    assert stored.read_bytes()[:16] == xxhash.xxh3_128_digest(stored.read_bytes()[16:])


def test_where_the_cache_cannot_be_written_the_network_is_compiled_each_time(
    pictures: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "compiled").write_text("a file, where a folder should be")
    monkeypatch.setenv("SIMSEARCH_CACHE", str(tmp_path))
    assert len(open_embedder(resolve_model(ModelChoice())).embed(pictures)) == len(pictures)


def test_the_graph_of_an_imported_network_can_still_be_serialized(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pictures: NDArray[np.uint8]
) -> None:
    """A Ray worker gets the graph, not what was compiled for this processor."""
    monkeypatch.setenv("SIMSEARCH_CACHE", str(tmp_path))
    model = resolve_model(ModelChoice())
    expected = open_embedder(model).embed(pictures)
    graph = open_embedder(model).serialize_graph()
    np.testing.assert_allclose(open_embedder(model, LoadOptions(graph=graph)).embed(pictures), expected, atol=1e-5)


def test_vectors_are_unit_rows_of_384(compiled: Any, pictures: NDArray[np.uint8]) -> None:
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
    assert len(layers) == 50  # 49 convolutions and the projection
    assert set(weights) == {f"{layer}/{part}" for layer in layers for part in ("kernel", "bias")}
    assert all(np.isfinite(values).all() for values in weights.values())


def test_the_head_in_the_space_of_the_embedding_ranks_the_classes_as_the_classifier_does(
    pictures: NDArray[np.uint8],
) -> None:
    """The 384 directions keep what tells classes apart; the probabilities are not the same."""
    graph = ov.Core().read_model(network.GRAPH, network.WEIGHTS)
    nodes = {node.get_friendly_name(): node for node in graph.get_ops()}
    outputs = [nodes[network.POOLED].output(0), nodes[network.PROJECTION].output(0)]
    cut = ov.Core().compile_model(ov.Model(outputs, graph.get_parameters()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    pooled, embedded = (values.reshape(len(pictures), -1) for values in cut(pictures).values())
    logits = [
        rows @ head.weight.T + head.bias
        for rows, head in ((pooled, network.read_classifier()), (embedded, network.read_head()))
    ]
    full, projected = (each - each.mean(1, keepdims=True) for each in logits)
    cosines = (full * projected).sum(1) / np.linalg.norm(full, axis=1) / np.linalg.norm(projected, axis=1)
    assert cosines.mean() >= 0.95


def test_int8_passes_the_gate_on_photographs(shared: Path) -> None:
    """Whether or not NNCF is installed, because the package has the calibrated graph."""
    model = resolve_model(ModelChoice())
    photographs = sorted((shared / "photos" / "imagenet_sample").iterdir())[::20]
    squares = [Image.open(path).convert("RGB").resize((network.SIDE_PX, network.SIDE_PX)) for path in photographs]
    opened = open_with_precision(model, "int8", LoadOptions(pixels=np.stack([np.asarray(each) for each in squares])))
    assert opened.model.precision == "int8"
    assert opened.agreement is not None
    assert opened.agreement.cosine >= MIN_COSINE
    assert opened.graph is None  # a collection need not store it


def test_the_package_data_is_at_most_8_mb() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir() if path.is_file()) <= LARGEST_BYTES


@pytest.mark.parametrize("name", ["builtin.xml", "builtin-int8.xml", "builtin.bin", "head.npz"])
def test_the_card_states_the_digests_of_the_files(name: str) -> None:
    card = (FOLDER / "CARD.md").read_text(encoding="utf-8")
    stated = re.search(rf"`{re.escape(name)}`[^\n]*sha256 `([0-9a-f]{{64}})`", card)
    assert stated is not None
    assert stated[1] == hashlib.sha256((FOLDER / name).read_bytes()).hexdigest()
