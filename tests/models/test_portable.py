"""Packed models: on another machine they need no files and give the same vectors."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from simsearch.ingest.plan import sample_pixels
from simsearch.models.choice import ModelChoice, resolve_model
from simsearch.models.embedder import Embedder
from simsearch.models.loader import LoadOptions, open_embedder
from simsearch.models.portable import pack_model, unpack_model
from simsearch.models.precision import open_with_precision
from simsearch.sources.scan import scan_sources
from tests.conftest import ROOT
from tests.models.conftest import make_random_pixels
from tests.models.test_openvino_runtime import make_planar

pytestmark = pytest.mark.long
ELSEWHERE = """
import pickle, sys
import numpy as np
from simsearch.models.portable import unpack_model
shipment, pixels = pickle.load(open(sys.argv[1], 'rb'))
embedder = unpack_model(shipment, n_threads=1)
np.save(sys.argv[2], embedder.embed(pixels))
print(embedder.engine)
"""


@pytest.fixture
def keras_file(tmp_path: Path) -> Path:
    """A small user network with its JSON file."""
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 3))
    maps = keras.layers.Conv2D(8, 3, activation="relu")(inputs)
    keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(maps)).save(tmp_path / "net.keras")
    (tmp_path / "net.json").write_text('{"side": 16, "scaling": "unit"}')
    return tmp_path / "net.keras"


def embed_elsewhere(embedder: Embedder, pixels: np.ndarray, folder: Path) -> tuple[str, np.ndarray]:
    """The engine and the vectors of a process with an empty cache and without weights."""
    (folder / "parcel").write_bytes(pickle.dumps((pack_model(embedder), pixels)))
    if embedder.model.file is not None:
        Path(embedder.model.file).unlink()
    own = {"SIMSEARCH_CACHE": str(folder / "empty"), "SIMSEARCH_WEIGHTS": "", "KERAS_HOME": "/none"}
    words = [sys.executable, "-c", ELSEWHERE, str(folder / "parcel"), str(folder / "vectors.npy")]
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ | own, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), np.load(folder / "vectors.npy")


@pytest.mark.parametrize("backbone", ["histogram", "builtin"])
def test_included_backbones_give_the_same_vectors_elsewhere(backbone: str, tmp_path: Path):
    model = resolve_model(ModelChoice(backbone=backbone))
    here, pixels = open_embedder(model, LoadOptions(for_throughput=True)), make_random_pixels(5, model.side_px)
    engine, vectors = embed_elsewhere(here, pixels, tmp_path)
    assert engine == here.engine
    assert vectors.tobytes() == here.embed(pixels).tobytes()


@pytest.mark.parametrize("engine", ["openvino", "tensorflow"])
def test_a_network_of_the_users_needs_no_file_there(engine: str, keras_file: Path, tmp_path: Path):
    here = open_embedder(
        resolve_model(ModelChoice(backbone=str(keras_file))), LoadOptions(engine=engine, for_throughput=True)
    )
    pixels = make_random_pixels(5, 16)
    assert here.engine == engine
    ran, vectors = embed_elsewhere(here, pixels, tmp_path)
    assert ran == engine
    np.testing.assert_allclose(vectors, here.embed(pixels), atol=0 if engine == "openvino" else 1e-6)


def test_an_onnx_file_travels_as_its_graph(tmp_path: Path):
    model = resolve_model(ModelChoice(backbone=str(make_planar().save(tmp_path / "mine.onnx"))))
    here, pixels = open_embedder(model, LoadOptions(for_throughput=True)), make_random_pixels(5, model.side_px)
    engine, vectors = embed_elsewhere(here, pixels, tmp_path)
    assert engine == "openvino"
    assert vectors.tobytes() == here.embed(pixels).tobytes()


def test_an_int8_graph_travels_as_it_was_calibrated(tmp_path: Path):
    model = resolve_model(ModelChoice(backbone="builtin"))
    pixels = sample_pixels(scan_sources([str(ROOT / "data" / "objects")]), model, 40, 10**8)
    settled = open_with_precision(model, "int8", LoadOptions(for_throughput=True, pixels=pixels))
    assert settled.model.precision == "int8", settled.notes
    engine, vectors = embed_elsewhere(settled.embedder, pixels, tmp_path)
    assert engine == "openvino"
    assert vectors.tobytes() == settled.embedder.embed(pixels).tobytes()


def test_many_threads_or_one_give_the_same_vectors():
    model = resolve_model(ModelChoice(backbone="builtin"))
    shipment, pixels = (
        pack_model(open_embedder(model, LoadOptions(for_throughput=True))),
        make_random_pixels(70, model.side_px),
    )
    one, two = (unpack_model(shipment, n_threads=n).embed(pixels) for n in (1, 2))
    assert one.tobytes() == two.tobytes()
