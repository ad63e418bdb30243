"""Similarities of pairs: plain arithmetic on small networks, and the figures of the original study."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from simsearch import ModelChoice
from simsearch.errors import ImageError, ModelError, UnknownLayer, UsageError, WeightsMissing
from simsearch.images.augmentation import AugmentationRanges
from simsearch.images.decode import decode_square, read_raw_file
from simsearch.images.resize import ResizeRule
from simsearch.images.views import Augmentation
from simsearch.models import weights
from simsearch.models.weights import WeightsOptions
from simsearch.models.zoo import BACKBONES
from simsearch.study.compare import MAX_COMPARED_IMAGES, ImageComparison, compare
from simsearch.study.study import run_study
from simsearch.study.views import write_views
from tests.conftest import HISTOGRAM, SHARED, draw_picture
from tests.support.networks import SIDE_PX, save, small_network

pytestmark = pytest.mark.long

SEED = SHARED / "seed"
SEED_PICTURES = [SEED / name for name in ("vase.jpg", "vase2.jpg", "flowerpot.JPG")]
AUGMENTED = [SEED / "augmented" / f"vaseAI{number}.jpg" for number in range(10)]
MOBILENET = ModelChoice(
    backbone="mobilenet_v2", weights=str(SHARED / "weights" / "mobilenet_v2.weights.h5"), precision="f32"
)

ORIGINAL = [0.7403, 0.7856, 0.7013, 0.8052, 0.7953, 0.9652, 0.7454, 0.9709, 0.9098, 0.9360]
"""VGG16's fc2, vase to vaseAI0..9, as the original study printed them."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("compare")
    for seed in range(4):
        draw_picture(folder / f"{seed}.png", seed)
    return folder


@pytest.fixture(scope="module")
def pictures(folder) -> list[Path]:
    return sorted(folder.glob("?.png"))


@pytest.fixture(scope="module")
def network() -> keras.Model:
    return small_network()


@pytest.fixture(scope="module")
def mine(folder, network) -> ModelChoice:
    return ModelChoice(backbone=save(network, folder / "mine.keras"), precision="f32", engine="tensorflow")


@pytest.fixture(scope="module")
def other(folder) -> ModelChoice:
    """A network whose layers have other names."""
    layers = [keras.Input((SIDE_PX, SIDE_PX, 3)), keras.layers.Conv2D(4, 3, name="elsewhere")]
    path = save(keras.Sequential(layers), folder / "other.keras")
    return ModelChoice(backbone=path, precision="f32", engine="tensorflow")


def pixels_of(paths: list[Path]) -> np.ndarray:
    raws = [read_raw_file(str(path), has_picture_extension=True, max_pixels=10**8) for path in paths]
    return np.stack([decode_square(raw, ResizeRule(SIDE_PX, "squash"), max_pixels=10**8)[1] for raw in raws])


def cosines(rows: np.ndarray) -> np.ndarray:
    return np.array([[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in rows] for a in rows])


def test_similarities_are_the_cosines_of_what_keras_gives(pictures, network, mine):
    found = compare(pictures, [mine])
    expected = cosines(network(pixels_of(pictures) / np.float32(127.5) - 1).numpy().astype(np.float64))
    np.testing.assert_allclose(found.similarities["mine"], expected, atol=1e-5)
    np.testing.assert_array_equal(np.diag(found.similarities["mine"]), 1)


def embed_files(network: keras.Model, files: list[str]) -> np.ndarray:
    rows = network(np.stack([np.asarray(Image.open(file)) for file in files]) / np.float32(127.5) - 1).numpy()
    return rows.astype(np.float64) / np.linalg.norm(rows, axis=1, keepdims=True)


def test_similarities_are_the_cosines_of_the_views_that_are_written(network, mine, tmp_path):
    """Of pictures as large as the network's square: what is written of them is what the network sees."""
    pictures = [str(draw_picture(tmp_path / f"{seed}.png", seed, SIDE_PX)) for seed in (0, 7, 14)]
    augmentation = Augmentation(40, seed=3, ranges=AugmentationRanges(rotation_deg=15, zoom=0.3))  # more than a batch
    found = run_study(pictures, [mine, HISTOGRAM], augmentation).augmented
    written = write_views(pictures, str(tmp_path / "views"), augmentation)
    views = embed_files(network, [view.file for view in written]).reshape(3, 40, -1)
    expected = np.array([[[view @ image for image in embed_files(network, pictures)] for view in of] for of in views])
    np.testing.assert_allclose(found.similarities["mine"], expected, atol=1e-5)
    assert np.ptp(expected) > 0.1
    assert [each for of in found.transformations for each in of] == [view.transformation for view in written]


def test_layer_and_pooling_are_as_asked(pictures, network, mine, folder):
    choice = ModelChoice(backbone=mine.backbone, layer="third", pooling="max", precision="f32", engine="tensorflow")
    maps = keras.Model(network.input, network.get_layer("third").output)(pixels_of(pictures) / np.float32(127.5) - 1)
    expected = cosines(maps.numpy().max(axis=(1, 2)).astype(np.float64))
    np.testing.assert_allclose(compare(pictures, [choice]).similarities["mine"], expected, atol=1e-5)


def test_every_pair_comes_once_in_the_order_named_under_every_backbone(pictures, mine, other):
    found = compare(pictures, [mine, other, HISTOGRAM])
    pairs = list(found.iterate_pairs())
    assert [(pair.first, pair.second) for pair in pairs] == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    assert found.n_pairs == 6
    for pair in pairs:
        assert list(pair.similarities) == ["mine", "other", "histogram"]
        for name, similarity in pair.similarities.items():
            assert similarity == found.similarities[name][pair.first, pair.second]


def test_the_same_content_is_alike_whatever_it_is_called(folder, pictures, tmp_path):
    (tmp_path / "0.png").write_bytes(pictures[0].read_bytes())
    found = compare([pictures[0], tmp_path / "0.png", pictures[1]], [HISTOGRAM])
    matrix = found.similarities["histogram"]
    assert matrix[0, 1] == pytest.approx(1, abs=1e-6)
    assert matrix[0, 2] == matrix[2, 0] < 0.99


def test_the_builtin_backbone_is_the_default(pictures):
    assert list(compare(pictures[:2]).models) == ["builtin"]


def test_a_picture_that_cannot_be_read_is_left_out_and_told(pictures, tmp_path):
    torn = tmp_path / "torn.jpg"
    torn.write_bytes(b"\xff\xd8\xff\xe0 torn")
    found = compare([pictures[0], torn, *pictures[1:]], [HISTOGRAM])
    assert found.paths == tuple(map(str, pictures))
    assert [skip.path for skip in found.skips] == [str(torn)]
    np.testing.assert_array_equal(
        found.similarities["histogram"], compare(pictures, [HISTOGRAM]).similarities["histogram"]
    )


def test_a_backbone_without_the_layer_beside_one_that_has_it_uses_its_features(pictures, mine, other):
    third, lacking = (
        ModelChoice(backbone=each.backbone, layer="third", precision="f32", engine="tensorflow")
        for each in (mine, other)
    )
    found = compare(pictures, [third, lacking])
    assert found.notes == ("other has no layer third; its default features are compared",)
    assert (found.models["mine"].layer, found.models["other"].layer) == ("third", None)
    plain = compare(pictures, [other])
    np.testing.assert_array_equal(found.similarities["other"], plain.similarities["other"])


def test_a_layer_that_no_backbone_has_is_an_error(pictures, mine, other):
    choices = [
        ModelChoice(backbone=each.backbone, layer="thirt", precision="f32", engine="tensorflow")
        for each in (mine, other)
    ]
    with pytest.raises(UnknownLayer, match="mine has no layer 'thirt'; nearest names: third"):
        compare(pictures, choices)


def test_what_is_complete_as_it_is_takes_no_layer(pictures, mine):
    third = ModelChoice(backbone=mine.backbone, layer="third", precision="f32", engine="tensorflow")
    found = compare(pictures, [third, ModelChoice(backbone="histogram", layer="third")])
    assert found.notes == ("histogram has no choice of layer or pooling; these options are ignored",)
    with pytest.raises(ModelError, match="--layer does not apply to the backbone histogram; remove --layer"):
        compare(pictures, [ModelChoice(backbone="histogram", layer="third")])


@pytest.mark.parametrize("n", [1, MAX_COMPARED_IMAGES + 1])
def test_one_picture_and_too_many_are_wrong_questions(n: int):
    with pytest.raises(UsageError, match=f"{n:,} image"):
        compare(["any.png"] * n, [HISTOGRAM])


def test_one_readable_picture_is_too_few(pictures, tmp_path):
    with pytest.raises(ImageError, match=r"missing\.png"):
        compare([pictures[0], tmp_path / "missing.png"], [HISTOGRAM])


# The original study


@pytest.fixture(scope="module")
def seed_features() -> ImageComparison:
    if not SHARED.is_dir():
        pytest.skip("../shared, with the original study's pictures, is not on this machine")
    return compare([*SEED_PICTURES, *AUGMENTED], [MOBILENET])


def test_the_other_vase_is_nearer_than_the_flowerpot(seed_features):
    to_vase = seed_features.similarities["mobilenet_v2"][0]
    assert to_vase[1:3] == pytest.approx([0.761, 0.408], abs=0.01)


def test_augmented_vases_are_as_near_as_was_measured(seed_features):
    measured = [0.783, 0.787, 0.771, 0.793, 0.788, 0.954, 0.750, 0.967, 0.921, 0.947]
    assert seed_features.similarities["mobilenet_v2"][0, 3:] == pytest.approx(measured, abs=0.01)


def test_augmented_vases_rank_as_in_the_original_study(seed_features):
    ranks = [np.argsort(np.argsort(values)) for values in (seed_features.similarities["mobilenet_v2"][0, 3:], ORIGINAL)]
    assert np.corrcoef(*ranks)[0, 1] >= 0.8  # Spearman's, as there are no ties


def test_softmax_outputs_are_saturated_and_features_are_not(seed_features):
    """Why the original study saw 1.0000 under ResNet50: it compared class probabilities."""
    softmax = ModelChoice(
        backbone="mobilenet_v2", weights=MOBILENET.weights, layer="predictions", precision="f32", engine="tensorflow"
    )
    saturated = compare([*SEED_PICTURES, *AUGMENTED], [softmax]).similarities["mobilenet_v2"][0]
    plain = seed_features.similarities["mobilenet_v2"][0]
    assert saturated[1] > 0.99 > 0.8 > plain[1]
    assert saturated[2] < plain[2]
    assert np.ptp(saturated[3:]) < 0.03 < 0.2 < np.ptp(plain[3:])


def test_the_original_figures_of_vgg16_are_reproduced(shared):
    """Its fc2, on pictures squeezed by Keras's `load_img`: the nearest pixel."""

    def refuse(*_: object) -> None:
        raise AssertionError("nothing is downloaded offline")

    try:
        file = weights.find(BACKBONES["vgg16"], WeightsOptions(offline=True), with_head=True, download=refuse)
    except WeightsMissing as error:
        pytest.skip(f"the real weights of VGG16 are not on this machine: {error.problem}")
    choice = ModelChoice(backbone="vgg16", weights=file, layer="fc2", resize="nearest", precision="f32")
    to_vase = compare([*SEED_PICTURES, *AUGMENTED], [choice]).similarities["vgg16"][0]
    assert to_vase[1:] == pytest.approx([0.8257, 0.2952, *ORIGINAL], abs=0.01)
