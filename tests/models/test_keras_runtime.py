"""Keras graphs: zoo backbones, and the user's `.keras` files and SavedModel folders."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys

import h5py
import keras
import numpy as np
import pytest

from simsearch.errors import ModelError, UnknownLayer, WeightsMismatch
from simsearch.images.decode import decode_image, resize_to_square
from simsearch.images.resize import ResizeRule
from simsearch.models.choice import ModelChoice, resolve_model
from simsearch.models.keras_runtime import KerasEmbedder
from simsearch.models.model import SCALINGS
from tests.conftest import SHARED
from tests.models.conftest import apply_scaling, make_random_pixels, normalize_rows, pool_maps

pytestmark = pytest.mark.long

SIDE_PX = 16


def open_keras_embedder(backbone, **choice):
    return KerasEmbedder(resolve_model(ModelChoice(backbone=str(backbone), **choice)))


def write_settings(path, **settings):
    """Write the JSON file of a model."""
    path.with_suffix(".json").write_text(json.dumps({"side": SIDE_PX, "scaling": "tf"} | settings))
    return path


def save(network, path, **settings):
    """Save a network as a `.keras` file, or as a SavedModel where the name has no extension."""
    if path.suffix:
        network.save(path)
    else:
        network.export(path, verbose=False)
    return write_settings(path, **settings)


@pytest.fixture(scope="module")
def network():
    """A small network of two convolutions and a head, with fixed weights."""
    layers = keras.layers
    pixels = keras.Input((SIDE_PX, SIDE_PX, 3))
    maps = layers.Conv2D(6, 3, activation="relu", name="first", kernel_initializer=draw_kernels(1))(pixels)
    maps = layers.Conv2D(5, 3, strides=2, name="second", kernel_initializer=draw_kernels(2))(maps)
    flat = layers.Flatten(name="flat")(maps)
    return keras.Model(pixels, layers.Dense(4, name="head", kernel_initializer=draw_kernels(3))(flat))


def draw_kernels(seed):
    return keras.initializers.RandomNormal(stddev=0.5, seed=seed)


def compute_layer_output(network, layer, pixels, scaling="tf"):
    """Compute the output of a layer without simsearch."""
    part = keras.Model(network.input, network.get_layer(layer).output)
    return np.asarray(part(apply_scaling(pixels, SCALINGS[scaling]).astype(np.float32)))


# What a vector is ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["avg", "max", "gem"])
@pytest.mark.parametrize("layer", ["first", "second"])
def test_map_is_pooled_by_each_rule(network, layer, pooling, tmp_path):
    pixels = make_random_pixels(3, SIDE_PX)
    vectors = open_keras_embedder(save(network, tmp_path / "mine.keras"), layer=layer, pooling=pooling).embed(pixels)
    expected = normalize_rows(pool_maps(compute_layer_output(network, layer, pixels), pooling))
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_a_layer_without_positions_is_taken_as_it_is(network, tmp_path):
    pixels = make_random_pixels(3, SIDE_PX)
    vectors = open_keras_embedder(save(network, tmp_path / "mine.keras"), layer="flat", pooling="max").embed(pixels)
    np.testing.assert_allclose(vectors, normalize_rows(compute_layer_output(network, "flat", pixels)), atol=1e-5)


def test_tokens_are_pooled_like_positions(tmp_path):
    pixels, picture = make_random_pixels(2, SIDE_PX), keras.Input((SIDE_PX, SIDE_PX, 3))
    tokens = keras.Model(picture, keras.layers.Reshape((64, 12))(picture))
    rows = (pixels / 255).reshape(2, 64, 12)
    for pooling, expected in (("max", rows.max(axis=1)), ("cls", rows[:, 0])):
        path = save(tokens, tmp_path / "mine.keras", scaling="unit", pooling=pooling)
        np.testing.assert_allclose(open_keras_embedder(path).embed(pixels), normalize_rows(expected), atol=1e-5)


def test_a_map_has_no_class_token(network, tmp_path):
    with pytest.raises(ModelError, match="layer first of mine has no class token; choose --pooling avg, max or gem"):
        open_keras_embedder(save(network, tmp_path / "mine.keras"), layer="first", pooling="cls")


@pytest.mark.parametrize("scaling", SCALINGS)
def test_pixels_are_scaled_by_the_model_settings(network, scaling, tmp_path):
    pixels = make_random_pixels(2, SIDE_PX)
    vectors = open_keras_embedder(save(network, tmp_path / "mine.keras", scaling=scaling), layer="first").embed(pixels)
    expected = normalize_rows(pool_maps(compute_layer_output(network, "first", pixels, scaling), "avg"))
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_a_picture_without_direction_stays_zero(tmp_path):
    picture = keras.Input((SIDE_PX, SIDE_PX, 3))
    path = save(keras.Model(picture, keras.layers.ReLU()(picture)), tmp_path / "mine.keras", scaling="none")
    vectors = open_keras_embedder(path).embed(np.zeros((2, SIDE_PX, SIDE_PX, 3), dtype=np.uint8))
    np.testing.assert_array_equal(vectors, np.zeros((2, 3)))


# Rows of the zoo -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mobilenet():
    return open_keras_embedder("mobilenet", weights="random")


def test_rows_are_unit_float32_of_the_stated_width(mobilenet):
    vectors = mobilenet.embed(make_random_pixels(3, 224))
    assert (vectors.shape, vectors.dtype, mobilenet.width) == ((3, 1024), np.float32, 1024)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_picture_has_the_same_vector_alone_and_among_others(mobilenet):
    pixels = make_random_pixels(5, 224)
    alone = np.concatenate([mobilenet.embed(pixels[i : i + 1]) for i in range(5)])
    assert np.sum(alone * mobilenet.embed(pixels), axis=1).min() >= 0.99999


def test_random_weights_are_the_same_in_every_build(mobilenet):
    pixels = make_random_pixels(2, 224)
    keras.utils.set_random_seed(99)
    np.testing.assert_array_equal(
        open_keras_embedder("mobilenet", weights="random").embed(pixels), mobilenet.embed(pixels)
    )


@pytest.mark.thorough  # TensorFlow in another process takes ten seconds; two builds in one are compared above
def test_random_weights_are_the_same_in_every_process(mobilenet, tmp_path):
    pixels = make_random_pixels(2, 224)
    np.save(tmp_path / "pixels.npy", pixels)
    code = (
        "import sys, numpy as np\n"
        "from simsearch.models.keras_runtime import KerasEmbedder\n"
        "from simsearch.models.choice import ModelChoice, resolve_model\n"
        "embedder = KerasEmbedder(resolve_model(ModelChoice(backbone='mobilenet', weights='random')))\n"
        "np.save(sys.argv[2], embedder.embed(np.load(sys.argv[1])))\n"
    )
    arguments = [str(tmp_path / "pixels.npy"), str(tmp_path / "vectors.npy")]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True)
    np.testing.assert_array_equal(np.load(tmp_path / "vectors.npy"), mobilenet.embed(pixels))


@pytest.mark.parametrize(
    ("layer", "width"),
    [("conv_pw_3_relu", 128), pytest.param("global_average_pooling2d", 1024, marks=pytest.mark.thorough)],
)
def test_any_layer_of_a_network_can_be_selected(layer, width):
    middle = open_keras_embedder("mobilenet", weights="random", layer=layer)
    vectors = middle.embed(make_random_pixels(1, 224))
    assert (vectors.shape, middle.width) == ((1, width), width)
    np.testing.assert_allclose(np.linalg.norm(vectors), 1, atol=1e-5)


@pytest.mark.thorough  # 138 million random weights; the layers of smaller networks are selected above
def test_fc2_of_vgg16_has_4096_numbers():
    vectors = open_keras_embedder("vgg16", weights="random", layer="fc2").embed(make_random_pixels(1, 224))
    assert vectors.shape == (1, 4096)
    np.testing.assert_allclose(np.linalg.norm(vectors), 1, atol=1e-5)


def test_an_unknown_layer_offers_near_names():
    with pytest.raises(UnknownLayer, match="mobilenet has no layer 'conv_pw_1_rel'; nearest names: ") as caught:
        open_keras_embedder("mobilenet", weights="random", layer="conv_pw_1_rel")
    assert "conv_pw_1_relu" in caught.value.nearest


# Weights files -------------------------------------------------------------------------------------------------------


def compute_mean_vectors(network, pixels):
    """Compute the unit vectors of a network with `tf` scaling, with Keras and NumPy alone."""
    return normalize_rows(pool_maps(np.asarray(network(pixels.astype(np.float32) / 127.5 - 1, training=False)), "avg"))


@pytest.fixture(scope="module")
def real():
    """MobileNetV2 with its real weights and default options."""
    if not SHARED.is_dir():
        pytest.skip("../shared, with real photographs and weights, is not on this machine")
    return open_keras_embedder("mobilenet_v2", weights=str(SHARED / "weights/mobilenet_v2.weights.h5"))


def test_real_weights_with_head_serve_for_features_and_for_predictions(shared, real):
    weights, pixels = str(shared / "weights/mobilenet_v2.weights.h5"), make_random_pixels(2, 224)
    keras.backend.clear_session()
    full = keras.applications.MobileNetV2(weights=None)
    full.load_weights(weights)
    both = keras.Model(full.input, [full.get_layer("out_relu").output, full.output])
    maps, probabilities = both(pixels.astype(np.float32) / 127.5 - 1, training=False)
    features, classes = normalize_rows(pool_maps(np.asarray(maps), "avg")), normalize_rows(np.asarray(probabilities))
    np.testing.assert_allclose(real.embed(pixels), features, atol=2e-5)
    vectors = open_keras_embedder("mobilenet_v2", weights=weights, layer="predictions").embed(pixels)
    np.testing.assert_allclose(vectors, classes, atol=2e-5)


@pytest.mark.thorough  # weights without head of MobileNet are loaded below in both formats
def test_real_weights_without_head_serve_for_features(shared):
    weights, pixels = str(shared / "weights/mobilenet_notop.weights.h5"), make_random_pixels(2, 224)
    keras.backend.clear_session()
    bare = keras.applications.MobileNet(weights=None, include_top=False, input_shape=(224, 224, 3))
    bare.load_weights(weights)
    vectors = open_keras_embedder("mobilenet", weights=weights).embed(pixels)
    np.testing.assert_allclose(vectors, compute_mean_vectors(bare, pixels), atol=2e-5)


def test_predictions_need_weights_with_head(shared, recwarn):
    weights = str(shared / "weights/mobilenet_notop.weights.h5")
    with pytest.raises(WeightsMismatch, match=r"mobilenet_notop.*do not fit mobilenet.*mobilenet_1_0_224_tf\.h5$"):
        open_keras_embedder("mobilenet", weights=weights, layer="predictions")
    assert len(recwarn) == 0


def test_weights_of_another_network_do_not_fit(shared, recwarn):
    weights = str(shared / "weights/mobilenet_v2.weights.h5")
    with pytest.raises(WeightsMismatch, match=r"mobilenet_v2.*do not fit mobilenet, layer "):
        open_keras_embedder("mobilenet", weights=weights)
    assert len(recwarn) == 0


@pytest.mark.parametrize(
    "name", ["mine.weights.h5", *(pytest.param(name, marks=pytest.mark.thorough) for name in ("mine.h5", "mine.txt"))]
)
def test_a_file_that_holds_no_weights_does_not_fit(name, tmp_path):
    (tmp_path / name).write_text("no weights")
    with pytest.raises(WeightsMismatch, match=f"{name} do not fit mobilenet.*; give the Keras weights"):
        open_keras_embedder("mobilenet", weights=str(tmp_path / name))


@pytest.fixture(scope="module")
def bare():
    """MobileNet without head with random weights, and its vectors of one picture."""
    keras.backend.clear_session()
    network = keras.applications.MobileNet(weights=None, include_top=False, input_shape=(224, 224, 3))
    randomize(network)
    return network, compute_mean_vectors(network, make_random_pixels(1, 224))


@pytest.mark.parametrize("name", ["mine.weights.h5", "mobilenet_1_0_224_tf_no_top.h5"])
def test_weights_without_head_load_under_any_name_and_in_both_formats(bare, name, tmp_path):
    network, expected = bare
    if name.endswith(".weights.h5"):
        network.save_weights(tmp_path / name)
    else:
        save_as_published(network, tmp_path / name)
    vectors = open_keras_embedder("mobilenet", weights=str(tmp_path / name)).embed(make_random_pixels(1, 224))
    np.testing.assert_allclose(vectors, expected, atol=2e-5)


def randomize(network):
    """Set kernels that keep the scale of activations from layer to layer, unlike Keras's initial ones."""
    random = np.random.default_rng(1)
    for variable in network.weights:
        if len(variable.shape) == 4:
            height, width, n_channels, n_outputs = variable.shape
            n_seen = height * width * (n_channels if n_outputs > 1 else 1)  # a depthwise kernel sees one channel
            variable.assign(random.normal(0.3, 1, variable.shape) / np.sqrt(n_seen))


def save_as_published(network, path):
    """Save weights in the HDF5 layout of Keras 2, as the ImageNet weights are published."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in network.layers]
        file.attrs["keras_version"] = b"2.2.4"
        file.attrs["backend"] = b"tensorflow"
        for layer in network.layers:
            names = [f"{layer.name}/{variable.name}:0".encode() for variable in layer.weights]
            group = file.create_group(layer.name)
            group.attrs["weight_names"] = names
            for name, variable in zip(names, layer.weights, strict=True):
                group[name.decode()] = np.asarray(variable)


def test_the_seed_pictures_are_as_similar_as_measured(shared, real):
    names = ["vase.jpg", "vase2.jpg", "flowerpot.JPG"]
    files = [shared / "seed" / name for name in names]
    pictures = [decode_image(file.read_bytes(), file.name, max_pixels=10**8) for file in files]
    vectors = real.embed(np.stack([resize_to_square(picture, ResizeRule(224, "squash")) for picture in pictures]))
    assert vectors[0] @ vectors[1] == pytest.approx(0.761, abs=0.02)
    assert vectors[0] @ vectors[2] == pytest.approx(0.408, abs=0.02)


# The user's own models -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mine.keras", "mine"])
def test_a_saved_network_gives_the_vectors_of_the_network(network, name, tmp_path):
    pixels = make_random_pixels(3, SIDE_PX)
    loaded = open_keras_embedder(save(network, tmp_path / name))
    np.testing.assert_allclose(
        loaded.embed(pixels), normalize_rows(compute_layer_output(network, "head", pixels)), atol=1e-5
    )
    assert loaded.width == 4


def test_saved_model_is_pooled_by_the_given_rule(network, tmp_path):
    pixels = make_random_pixels(3, SIDE_PX)
    maps = keras.Model(network.input, network.get_layer("second").output)
    vectors = open_keras_embedder(save(maps, tmp_path / "mine", pooling="gem", scaling="caffe")).embed(pixels)
    expected = normalize_rows(pool_maps(compute_layer_output(network, "second", pixels, "caffe"), "gem"))
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_a_saved_model_has_no_layers_to_name(network, tmp_path):
    with pytest.raises(UnknownLayer, match="leave --layer out"):
        open_keras_embedder(save(network, tmp_path / "mine"), layer="second")


@pytest.mark.parametrize("name", ["mine.keras", "mine"])
def test_a_network_that_takes_another_side_is_named(network, name, tmp_path):
    with pytest.raises(ModelError, match=r"mine does not accept a 20 x 20 x 3 input .*; correct the side"):
        open_keras_embedder(save(network, tmp_path / name, side=20))


@pytest.mark.parametrize("name", ["mine.keras", "mine"])
@pytest.mark.parametrize(("n_inputs", "n_outputs"), [(2, 1), (1, 2)])
def test_a_network_with_several_ends_is_refused(name, n_inputs, n_outputs, tmp_path):
    inputs = [keras.Input((SIDE_PX, SIDE_PX, 3)) for _ in range(n_inputs)]
    total = keras.layers.Add()(inputs) if n_inputs > 1 else inputs[0]
    several = keras.Model(inputs, [keras.layers.ReLU()(total) for _ in range(n_outputs)])
    with pytest.raises(ModelError, match=f"mine has {n_inputs} inputs and {n_outputs} outputs"):
        open_keras_embedder(save(several, tmp_path / name))


@pytest.mark.parametrize("name", ["mine.keras", "mine"])
def test_an_output_that_cannot_be_pooled_is_named(name, tmp_path):
    picture = keras.Input((SIDE_PX, SIDE_PX, 3))
    cube = keras.Model(picture, keras.layers.Reshape((2, 8, 16, 3))(picture))
    with pytest.raises(ModelError, match="the output of mine is not a vector or a map"):
        open_keras_embedder(save(cube, tmp_path / name))


def test_a_network_of_grey_pictures_is_refused(tmp_path):
    grey = keras.Input((SIDE_PX, SIDE_PX, 1))
    path = save(keras.Model(grey, keras.layers.Conv2D(2, 3)(grey)), tmp_path / "mine.keras")
    with pytest.raises(
        ModelError, match=r"mine does not accept a 16 x 16 x 3 input \(its input has the shape \(None, 16, 16, 1\)\)"
    ):
        open_keras_embedder(path)


def test_a_network_that_was_never_built_is_refused(tmp_path):
    network = keras.Sequential([keras.layers.Conv2D(2, 3)])
    with pytest.warns(UserWarning, match="has not yet been built"):
        network.save(tmp_path / "mine.keras")
    with pytest.raises(ModelError, match="has no defined input; give the network an Input"):
        open_keras_embedder(write_settings(tmp_path / "mine.keras"))


def test_a_broken_keras_file_is_named(tmp_path):
    (tmp_path / "mine.keras").write_text("no network")
    with pytest.raises(ModelError, match=r"mine\.keras cannot be loaded .*; save it again with Keras 3"):
        open_keras_embedder(write_settings(tmp_path / "mine.keras"))


def test_a_truncated_keras_file_is_named(network, tmp_path):
    path = save(network, tmp_path / "mine.keras")
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(ModelError, match=r"mine\.keras cannot be loaded"):
        open_keras_embedder(path)


def test_a_broken_saved_model_is_named(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "saved_model.pb").write_text("no graph")
    with pytest.raises(ModelError, match=r"mine cannot be loaded .*; save it with one input and the signature"):
        open_keras_embedder(write_settings(tmp_path / "mine"))


def test_a_keras_file_that_vanished_since_it_was_resolved_is_named(network, tmp_path):
    path = save(network, tmp_path / "mine.keras")
    model = resolve_model(ModelChoice(backbone=str(path)))
    shutil.move(path, tmp_path / "away.keras")
    with pytest.raises(ModelError, match=r"mine\.keras cannot be loaded"):
        KerasEmbedder(model)
    moved = dataclasses.replace(model, file=str(tmp_path / "away.keras"))
    assert KerasEmbedder(moved).width == 4
