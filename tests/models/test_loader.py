"""Choice of the engine: conversion, its check, the graph cache, and the fallback to TensorFlow with a note."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from simsearch.errors import MissingExtra, ModelError
from simsearch.models import graph_cache
from simsearch.models.choice import ModelChoice, resolve_model
from simsearch.models.loader import MIN_AGREEMENT, LoadOptions, compute_mean_cosine, open_embedder
from simsearch.models.model import Model
from simsearch.models.precision import open_with_precision
from tests.conftest import SHARED

pytestmark = pytest.mark.long


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SIMSEARCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small user model with its JSON file."""
    import keras

    keras.utils.set_random_seed(0)
    inputs = keras.Input((32, 32, 3))
    maps = keras.layers.Conv2D(24, 5, strides=2, activation="relu")(inputs)
    maps = keras.layers.Conv2D(32, 3, strides=2, activation="relu")(maps)
    file = tmp_path_factory.mktemp("network") / "small.keras"
    keras.Model(inputs, maps).save(file)
    file.with_suffix(".json").write_text('{"side": 32, "scaling": "tf"}')
    return file


@pytest.fixture(scope="module")
def warm_cache(network: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the converted graph of the network."""
    folder = tmp_path_factory.mktemp("warm") / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIMSEARCH_CACHE", str(folder))
        assert open_embedder(resolve_model(ModelChoice(backbone=str(network)))).engine == "openvino"
    return folder


@pytest.fixture
def cold_model(network: Path) -> Model:
    """The network, not converted yet."""
    return resolve_model(ModelChoice(backbone=str(network)))


@pytest.fixture
def model(cold_model: Model, warm_cache: Path, cache: Path) -> Model:
    """The network, with its converted graph in the cache of the test."""
    shutil.copytree(warm_cache, cache, dirs_exist_ok=True)
    return cold_model


@pytest.fixture
def pixels() -> np.ndarray:
    """Pictures with structure: blobs instead of noise."""
    random = np.random.default_rng(1)
    coarse = random.integers(0, 256, (320, 4, 4, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


def test_a_converted_graph_gives_keras_s_vectors_and_batch_one_gives_those_of_batch_n(
    cold_model: Model, pixels: np.ndarray
):
    converted = open_embedder(cold_model, LoadOptions(pixels=pixels))
    reference = open_embedder(cold_model, LoadOptions(engine="tensorflow"))
    assert (converted.engine, reference.engine, converted.notes) == ("openvino", "tensorflow", ())
    rows = converted.embed(pixels)
    assert np.sum(rows * reference.embed(pixels), axis=1).min() >= MIN_AGREEMENT
    single = np.concatenate([converted.embed(picture[None]) for picture in pixels[:9]])
    np.testing.assert_allclose(single, rows[:9], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)


_CONVERT_AND_QUANTIZE = """
import contextlib, sys
import numpy as np
from simsearch.models import openvino_runtime as runtime
from openvino import Model, opset13 as ops
with contextlib.suppress(Exception):  # imports the converter, and refuses what is no function
    runtime.convert(object())
pixels = ops.parameter([1, 8, 8, 3], np.float32)
graph = Model([ops.matmul(pixels, ops.constant(np.ones((3, 4), np.float32)), False, False)], [pixels])
runtime.quantize(graph, np.zeros((2, 8, 8, 3), np.float32))
print(sorted({"openvino.tools.ovc", "nncf", "openvino_telemetry"} & set(sys.modules)))
"""


def test_nothing_is_reported_to_anybody():
    """OpenVINO and NNCF report each use where they can import the package for it, which OpenVINO installs."""
    assert importlib.metadata.version("openvino_telemetry")
    done = subprocess.run([sys.executable, "-c", _CONVERT_AND_QUANTIZE], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['nncf', 'openvino.tools.ovc']"


def test_answers_of_one_batch_survive_the_next(model: Model, pixels: np.ndarray):
    embedder = open_embedder(model)
    first = embedder.embed(pixels[:4])
    kept = first.copy()
    embedder.embed(pixels[4:8])
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("for_many", [False, True])
def test_several_threads_may_embed_at_once(model: Model, pixels: np.ndarray, for_many: bool):
    from concurrent.futures import ThreadPoolExecutor

    embedder = open_embedder(model, LoadOptions(for_throughput=for_many))
    expected = embedder.embed(pixels)
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(lambda start: embedder.embed(pixels[start : start + 16]), range(0, 320, 16)))
    np.testing.assert_allclose(np.concatenate(rows), expected, atol=1e-5)


def test_the_second_opening_needs_neither_tensorflow_nor_the_weights(model: Model, pixels: np.ndarray, tmp_path: Path):
    expected = open_embedder(model).embed(pixels[:3])
    code = (
        "import sys, numpy as np\n"
        "from simsearch.models.model import Model\n"
        "from simsearch.models.loader import LoadOptions, open_embedder\n"
        "def locate(model): raise SystemExit('the weights were asked for')\n"
        "model = Model.from_json(sys.argv[1])\n"
        "rows = open_embedder(model, LoadOptions(locate=locate)).embed(np.load(sys.argv[2]))\n"
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules\n"
        "np.save(sys.argv[3], rows)\n"
    )
    np.save(tmp_path / "pixels.npy", pixels[:3])
    paths = [str(tmp_path / "pixels.npy"), str(tmp_path / "rows.npy")]
    subprocess.run([sys.executable, "-c", code, model.to_json(), *paths], check=True, env=os.environ)
    np.testing.assert_array_equal(np.load(tmp_path / "rows.npy"), expected)


def test_damaged_graph_in_the_cache_is_converted_again_with_one_note(model: Model, pixels: np.ndarray, cache: Path):
    expected = open_embedder(model).embed(pixels[:3])
    (weights,) = cache.rglob("graph.bin")
    weights.write_bytes(weights.read_bytes()[:-100])
    mended = open_embedder(model)
    assert "damaged" in mended.notes[0]
    np.testing.assert_array_equal(mended.embed(pixels[:3]), expected)
    assert open_embedder(model).notes == ()


def test_cache_that_cannot_be_written_is_noted_and_not_fatal(
    model: Model, pixels: np.ndarray, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    cache.parent.joinpath("file").write_text("in the way")
    monkeypatch.setenv("SIMSEARCH_CACHE", str(cache.parent / "file"))
    embedder = open_embedder(model)
    assert "cannot be written" in embedder.notes[0]
    assert embedder.embed(pixels[:3]).shape == (3, 32)


def test_a_layer_that_openvino_does_not_know_is_served_by_tensorflow(tmp_path: Path):
    """OpenVINO has no Bessel functions."""
    import tensorflow as tf

    class Bessel(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3], tf.float32)])
        def __call__(self, pictures):
            return {"features": tf.math.special.bessel_j0(pictures)}

    network = Bessel()
    tf.saved_model.save(network, str(tmp_path / "bessel"), signatures=network.__call__)
    (tmp_path / "bessel.json").write_text('{"side": 8, "scaling": "unit"}')
    model = resolve_model(ModelChoice(backbone=str(tmp_path / "bessel")))
    embedder = open_embedder(model)
    assert embedder.engine == "tensorflow"
    assert "OpenVINO cannot convert bessel" in embedder.notes[0]
    rows = embedder.embed(np.full((2, 8, 8, 3), 100, np.uint8))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    with pytest.raises(ModelError, match="remove --engine"):
        open_embedder(model, LoadOptions(engine="openvino"))


def test_without_openvino_tensorflow_is_used_with_a_note(model: Model, tmp_path: Path):
    """The child process finds a package `openvino` that fails to import."""
    (tmp_path / "openvino.py").write_text("raise ImportError('no OpenVINO for this platform')")
    code = (
        "import sys, numpy as np\n"
        "from simsearch.models.model import Model\n"
        "from simsearch.models.loader import open_embedder\n"
        "embedder = open_embedder(Model.from_json(sys.argv[1]))\n"
        "print(embedder.engine, embedder.embed(np.zeros((1, 32, 32, 3), np.uint8)).shape, embedder.notes)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", code, model.to_json()]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("tensorflow (1, 32)")
    assert "no OpenVINO for this platform" in done.stdout


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_a_lower_precision_is_taken_when_it_agrees(model: Model, pixels: np.ndarray, precision: str):
    settled = open_with_precision(model, precision, LoadOptions(pixels=pixels))
    assert settled.model.precision == precision
    assert settled.model.fingerprint != model.fingerprint
    assert settled.agreement.cosine >= 0.99
    assert 0.5 <= settled.agreement.top_10 <= 1
    exact = open_embedder(model).embed(pixels[:50])
    assert compute_mean_cosine(settled.embedder.embed(pixels[:50]), exact) >= 0.99


def test_int8_is_kept_as_bytes_that_give_the_same_vectors(model: Model, pixels: np.ndarray):
    settled = open_with_precision(model, "int8", LoadOptions(pixels=pixels))
    again = open_embedder(settled.model, LoadOptions(graph=settled.graph))
    np.testing.assert_array_equal(again.embed(pixels[:5]), settled.embedder.embed(pixels[:5]))
    assert settled.model.calibration
    other = open_with_precision(model, "int8", LoadOptions(pixels=pixels[:310]))
    assert other.model.fingerprint != settled.model.fingerprint


def test_precision_that_disagrees_is_rejected_with_a_note(tmp_path: Path):
    """Differences of nearly equal numbers exceed the eight bits of bf16."""
    import keras

    inputs = keras.Input((8, 8, 3))
    keras.Model(inputs, keras.layers.Conv2D(16, 3, use_bias=True, name="far")(inputs + 4096.0)).save(
        tmp_path / "n.keras"
    )
    network = keras.models.load_model(tmp_path / "n.keras", compile=False)
    kernel = np.random.default_rng(0).standard_normal((3, 3, 3, 16)).astype(np.float32)
    kernel -= kernel.mean(axis=(0, 1, 2), keepdims=True)
    network.get_layer("far").set_weights([kernel, np.zeros(16, np.float32)])
    network.save(tmp_path / "n.keras")
    (tmp_path / "n.json").write_text('{"side": 8, "scaling": "unit"}')
    model = resolve_model(ModelChoice(backbone=str(tmp_path / "n.keras")))
    pictures = np.random.default_rng(2).integers(0, 256, (64, 8, 8, 3), dtype=np.uint8)
    settled = open_with_precision(model, "bf16", LoadOptions(pixels=pictures))
    if settled.agreement is not None and settled.agreement.cosine > 0.9999:
        pytest.skip("this processor does not calculate in bf16: OpenVINO ran f32")
    assert settled.model.precision == "f32"
    assert "bf16 changes the vectors" in settled.notes[-1]


def test_auto_does_not_calibrate_on_few_pictures(model: Model, pixels: np.ndarray):
    assert open_with_precision(model, "auto", LoadOptions(pixels=pixels[:20])).model.precision in ("bf16", "f32")
    told = open_with_precision(model, "int8", LoadOptions(pixels=pixels[:20]))
    assert any("300 or more are better" in note for note in told.notes)


def test_tensorflow_refuses_onnx_and_int8(model: Model):
    for odd in (replace(model, runtime="onnx"), replace(model, precision="int8")):
        with pytest.raises(ModelError, match="TensorFlow cannot"):
            open_embedder(odd, LoadOptions(engine="tensorflow"))


def test_int8_without_its_extra_names_the_extra(model: Model, pixels: np.ndarray, tmp_path: Path):
    """In the child process NNCF cannot be imported."""
    code = (
        "import sys, numpy as np\n"
        "sys.modules['nncf'] = None\n"  # Python's marker for a package that cannot be imported
        "from simsearch.models.model import Model\n"
        "from simsearch.models.loader import LoadOptions\n"
        "from simsearch.models.precision import open_with_precision\n"
        "pixels = np.zeros((4, 32, 32, 3), np.uint8)\n"
        "try:\n    open_with_precision(Model.from_json(sys.argv[1]), 'int8', LoadOptions(pixels=pixels))\n"
        "except Exception as error:\n    print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, model.to_json()], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(MissingExtra.__name__)
    assert "pip install 'nncf>=3.0'" in done.stdout


def test_mobilenet_v2_agrees_with_keras_on_photographs(shared: Path):
    from simsearch.images.decode import decode_square, read_raw_file
    from simsearch.images.resize import ResizeRule

    weights = SHARED / "weights" / "mobilenet_v2.weights.h5"
    model = resolve_model(ModelChoice(backbone="mobilenet_v2", weights=str(weights)))
    files = sorted((SHARED / "photos" / "imagenet_sample").iterdir())[::50]
    raws = [read_raw_file(str(file), has_picture_extension=True, max_pixels=10**8) for file in files]
    pixels = np.stack([decode_square(raw, ResizeRule(224, "squash"), max_pixels=10**8)[1] for raw in raws])
    converted, reference = open_embedder(model), open_embedder(model, LoadOptions(engine="tensorflow"))
    assert np.sum(converted.embed(pixels) * reference.embed(pixels), axis=1).min() >= MIN_AGREEMENT
    assert graph_cache.find(f"{model.fingerprint}-openvino-{_read_openvino_version()}") is not None


def _read_openvino_version() -> str:
    from simsearch.models.openvino_runtime import VERSION

    return VERSION
