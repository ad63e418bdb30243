"""How models take changes, with one whose vectors NumPy knows: the histogram."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from simsearch.evaluation.embedding import TaskVectors, list_images, load_vectors
from simsearch.evaluation.model_probe import ModelProbe
from simsearch.evaluation.protocol import TaskImage
from simsearch.evaluation.robustness import PERTURBATIONS, measure_robustness, sample_positions
from simsearch.images.augmentation import AugmentationRanges, apply_transformation, sample_transformation
from simsearch.images.decode import decode_square, read_raw_file
from simsearch.images.resize import ResizeRule
from simsearch.images.views import ViewChoice
from simsearch.models.histogram import SIDE_PX, compute_histograms
from simsearch.models.weights import WeightsOptions
from simsearch.sources.scan import scan_sources
from simsearch.store.catalog import Catalog
from tests.conftest import HISTOGRAM, draw_picture
from tests.support import oneshot

pytestmark = pytest.mark.long

N_IMAGES = 90


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("changed") / "photos"
    for seed in range(N_IMAGES):
        draw_picture(folder / f"{seed:03}.png", seed, side_px=64)
    return folder


@pytest.fixture(scope="module")
def catalog(photos: Path):
    oneshot.ingest(photos.parent / "ix", [photos], HISTOGRAM, augment=ViewChoice(2))
    with Catalog.open(photos.parent / "ix") as opened:
        yield opened


@pytest.fixture(scope="module")
def items(photos: Path, catalog: Catalog) -> list[TaskImage]:
    return list_images(catalog, [file.path for file in scan_sources([str(photos)]).files])


@pytest.fixture(scope="module")
def opened(catalog: Catalog) -> ModelProbe:
    return ModelProbe(catalog.list_models()[0], catalog, WeightsOptions(None, offline=True), 10**8)


@pytest.fixture(scope="module")
def embedded(catalog: Catalog, items: list[TaskImage]) -> TaskVectors:
    return load_vectors(catalog, catalog.list_models()[0], [item.digest for item in items])


def squares(items: list[TaskImage]) -> list[np.ndarray]:
    raws = [read_raw_file(item.paths[0], has_picture_extension=True, max_pixels=10**8) for item in items]
    return [decode_square(raw, ResizeRule(SIDE_PX, "squash"), max_pixels=10**8)[1] for raw in raws]


def test_vectors_come_in_the_order_of_the_items_with_their_views(items: list[TaskImage], embedded: TaskVectors):
    assert (embedded.originals.shape, embedded.augmented.shape) == ((N_IMAGES, 864), (N_IMAGES, 2, 864))
    some = squares(items)
    np.testing.assert_allclose(embedded.originals, compute_histograms(np.array(some)), atol=1e-6)
    for number in (1, 2):
        views = [
            apply_transformation(some[at], sample_transformation(AugmentationRanges(), 0, items[at].digest, number))
            for at in range(N_IMAGES)
        ]
        np.testing.assert_allclose(embedded.augmented[:, number - 1], compute_histograms(np.array(views)), atol=1e-6)
    np.testing.assert_array_equal(embedded.with_views(1).augmented, embedded.augmented[:, :1])


def test_every_change_is_measured_as_by_hand(opened: ModelProbe, items: list[TaskImage], embedded: TaskVectors):
    positions = sample_positions(N_IMAGES, 70, seed=3)  # more than a block
    some = squares(items)
    found, n_changed = measure_robustness(opened, items, embedded, positions, [0, 2])
    assert n_changed == 70
    assert [(change.kind, change.strength) for change in found] == [(c.kind, c.strength) for c in PERTURBATIONS]
    rates = []
    for change, told in zip(PERTURBATIONS, found, strict=True):
        views = [
            apply_transformation(
                some[at],
                change.transformation or sample_transformation(AugmentationRanges(), 20_241_122, items[at].digest, 1),
            )
            for at in positions
        ]
        vectors = compute_histograms(np.array(views))
        own = (vectors * embedded.originals[positions]).sum(axis=1)
        assert told.similarity == pytest.approx(own.mean(), abs=1e-5)
        assert told.similarity_low == pytest.approx(np.percentile(own, 5), abs=1e-5)
        n_found = {0: 0, 2: 0}
        for vector, at in zip(vectors, positions, strict=True):
            plain = embedded.originals @ vector
            best = np.max([plain, *(embedded.augmented @ vector).T], axis=0)
            n_found[0] += plain[at] >= plain.max() - 1e-6
            n_found[2] += best[at] >= best.max() - 1e-6
        assert told.hit_at_1 == {count: n / 70 for count, n in n_found.items()}
        rates.append(tuple(told.hit_at_1.values()))
    assert any(few < more for few, more in rates)  # views help somewhere
    assert any(0 < few < 1 for few, _ in rates)


def test_stronger_changes_of_a_kind_leave_less(opened: ModelProbe, items: list[TaskImage], embedded: TaskVectors):
    found, _ = measure_robustness(opened, items, embedded, list(range(20)), [0])
    for first, second in itertools.pairwise(found):
        if first.kind == second.kind:
            assert first.similarity > second.similarity


def test_the_changes_are_what_they_say():
    """On a picture that tells left from right and top from bottom."""
    square = np.random.default_rng(0).integers(60, 190, (32, 32, 3), dtype=np.uint8)
    by_name = {(change.kind, change.strength): change.transformation for change in PERTURBATIONS}
    mirrored = apply_transformation(square, by_name["flip", "mirrored"])
    np.testing.assert_array_equal(mirrored, square[:, ::-1])
    np.testing.assert_array_equal(apply_transformation(mirrored, by_name["flip", "mirrored"]), square)
    for strength, levels in (("+30", 30), ("-60", -60)):
        shifted = np.clip(square.astype(int) + levels, square.min(), square.max())  # as Keras bounds it
        np.testing.assert_array_equal(apply_transformation(square, by_name["brightness", strength]), shifted)
    grey = np.full((32, 32, 3), 90, np.uint8)
    for transformation in by_name.values():
        if transformation is not None and transformation.channel_shift == 0:
            np.testing.assert_array_equal(apply_transformation(grey, transformation), grey)


def test_pictures_of_the_same_pixels_are_found_all_the_same(
    opened: ModelProbe, items: list[TaskImage], embedded: TaskVectors
):
    """Two files of other bytes and equal pixels are equally near; neither is a failure of the model."""
    twins = TaskVectors(np.vstack([embedded.originals[:5]] * 2), np.vstack([embedded.augmented[:5]] * 2))
    found, _ = measure_robustness(opened, [*items[:5], *items[:5]], twins, [1, 6], [0])
    flip = next(change for change in found if change.kind == "brightness" and change.strength == "+30")
    alone, _ = measure_robustness(opened, items[:5], embedded_of(embedded, 5), [1], [0])
    expected = next(change for change in alone if (change.kind, change.strength) == (flip.kind, flip.strength))
    assert flip.hit_at_1 == expected.hit_at_1 == {0: 1.0}


def embedded_of(embedded: TaskVectors, n: int) -> TaskVectors:
    return TaskVectors(embedded.originals[:n], embedded.augmented[:n])


def test_images_that_are_gone_are_passed_over(opened: ModelProbe, items: list[TaskImage], embedded: TaskVectors):
    gone = [TaskImage(items[0].digest, ("/nowhere/gone.png",)), *items[1:]]
    with_gone = measure_robustness(opened, gone, embedded, [0, 1, 2], [0])
    assert with_gone == measure_robustness(opened, items, embedded, [1, 2], [0])
    assert with_gone[1] == 2
    assert measure_robustness(opened, gone, embedded, [0], [0]) == ([], 0)


def test_the_images_that_are_changed_are_drawn_by_seed_and_never_more_than_there_are():
    assert sample_positions(50, 7, 1) == sample_positions(50, 7, 1) == sorted(set(sample_positions(50, 7, 1)))
    assert sample_positions(50, 7, 1) != sample_positions(50, 7, 2)
    assert sample_positions(3, 100, 0) == [0, 1, 2]
    assert sample_positions(3, 0, 0) == []
