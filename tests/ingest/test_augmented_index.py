"""Indexes with augmented views: adding, increasing, reducing and removing views, and the hits of a query."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simsearch import Collection
from simsearch.errors import UsageError
from simsearch.images.augmentation import (
    AugmentationRanges,
    Transformation,
    apply_transformation,
    sample_transformation,
)
from simsearch.images.decode import decode_square, read_raw_file
from simsearch.images.resize import ResizeRule
from simsearch.images.views import ViewChoice
from simsearch.models.histogram import SIDE_PX, compute_histograms
from simsearch.store.catalog import Catalog
from tests.conftest import HISTOGRAM, draw_picture
from tests.support import oneshot


def _index(collection: Path, photos: Path, choice: ViewChoice | None = None):
    return oneshot.ingest(collection, [photos], HISTOGRAM, augment=choice)


def _vectors(collection: Path) -> dict[tuple[str, str, str], bytes]:
    """Every vector by content, kind and parameters of its view."""
    with Catalog.open(collection) as catalog:
        stored = catalog.list_models()[0]
        ids = catalog.list_vector_ids(stored.id)
        views = catalog.find_live_views(ids.tolist())
        rows = {
            view_id: row
            for some, block in catalog.iterate_vectors(stored, ids)
            for view_id, row in zip(some.tolist(), block, strict=True)
        }
    return {
        (view.digest, view.kind, json.dumps(view.parameters, sort_keys=True)): rows[view_id].tobytes()
        for view_id, view in views.items()
    }


def _originals(collection: Path) -> dict[tuple[str, str, str], bytes]:
    return {key: row for key, row in _vectors(collection).items() if key[1] == "original"}


def test_every_image_gets_its_views_beside_the_original(photos: Path, collection: Path):
    report = _index(collection, photos, ViewChoice(4))
    assert (report.n_images, report.n_views, report.n_embedded) == (12, 60, 12)
    with Collection.open(collection) as opened:
        assert opened.info().to_dict()["models"][0]["augment"] == 4
        assert opened.verify().problems == ()


def test_of_views_that_are_equal_the_original_is_shown(collection: Path, tmp_path: Path):
    (tmp_path / "plain").mkdir()
    for number, color in enumerate(("red", "blue")):  # a picture of one color looks the same however it is changed
        Image.new("RGB", (64, 64), color).save(tmp_path / "plain" / f"{number}.png")
    _index(collection, tmp_path / "plain", ViewChoice(3))
    with Collection.open(collection) as opened:
        hits = opened.search(tmp_path / "plain" / "0.png").hits
    assert [(hit.image_id, hit.view.kind) for hit in hits] == [(1, "original"), (2, "original")]


def test_a_view_is_embedded_as_its_recorded_parameters_say(photos: Path, collection: Path):
    _index(collection, photos, ViewChoice(3, seed=5))
    for (digest, kind, parameters), vector in _vectors(collection).items():
        if kind == "original":
            continue
        recorded = json.loads(parameters)
        path = next(str(p) for p in photos.rglob("*.png") if _read(p).digest == digest)
        square = decode_square(_read(Path(path)), ResizeRule(SIDE_PX, "squash"), max_pixels=10**9)[1]
        transformation = Transformation.from_parameters(recorded)
        assert transformation == sample_transformation(AugmentationRanges(), 5, digest, recorded["number"])
        expected = compute_histograms(apply_transformation(square, transformation)[None])[0]
        assert np.abs(np.frombuffer(vector, np.float32) - expected).max() < 1e-6


def _read(path: Path):
    return read_raw_file(str(path), has_picture_extension=True, max_pixels=10**9)


def test_an_unchanged_collection_keeps_its_views(photos: Path, collection: Path):
    _index(collection, photos, ViewChoice(2))
    before = _vectors(collection)
    report = _index(collection, photos)
    assert (report.n_embedded, report.n_reused, report.n_views) == (0, 12, 36)
    assert _vectors(collection) == before


def test_a_new_picture_gets_as_many_views_as_the_others(photos: Path, collection: Path):
    _index(collection, photos, ViewChoice(2))
    draw_picture(photos / "a" / "new.png", seed=77)
    report = _index(collection, photos)
    assert (report.n_embedded, report.n_views) == (1, 39)


def test_raising_the_number_keeps_every_vector_that_is_there(photos: Path, collection: Path):
    _index(collection, photos)
    plain = _originals(collection)
    _index(collection, photos, ViewChoice(2))
    two = _vectors(collection)
    report = _index(collection, photos, ViewChoice(5))
    five = _vectors(collection)
    assert report.n_views == 72
    assert {key: five[key] for key in two} == two
    assert _originals(collection) == plain


def test_lowering_the_number_removes_the_last_views_alone(photos: Path, collection: Path):
    _index(collection, photos, ViewChoice(5))
    five = _vectors(collection)
    report = _index(collection, photos, ViewChoice(2))
    two = _vectors(collection)
    assert (report.n_views, report.n_embedded) == (36, 0)
    assert two == {key: row for key, row in five.items() if key[1] == "original" or json.loads(key[2])["number"] <= 2}


def test_other_ranges_or_another_seed_replace_the_views_and_keep_the_originals(photos: Path, collection: Path):
    _index(collection, photos, ViewChoice(2))
    before = _vectors(collection)
    _index(collection, photos, ViewChoice(seed=9))
    after = _vectors(collection)
    assert len(after) == len(before)
    assert set(after) & set(before) == set(_originals(collection))
    _index(collection, photos, ViewChoice(ranges=AugmentationRanges(rotation_deg=5)))
    assert set(_vectors(collection)) & set(after) == set(_originals(collection))


@pytest.mark.parametrize("how", ["prune", "index"])
def test_views_are_removed_again_and_originals_stay(photos: Path, collection: Path, how: str):
    _index(collection, photos)
    plain = _vectors(collection)
    _index(collection, photos, ViewChoice(3))
    if how == "prune":
        assert oneshot.prune(collection, only_augmented=True).to_dict()["views"] == 36
    else:
        _index(collection, photos, ViewChoice(0))
    assert _vectors(collection) == plain
    assert _index(collection, photos).n_views == 12
    with Collection.open(collection) as opened:
        assert opened.verify() == type(opened.verify())((), ())


def test_views_of_two_models_are_the_same_and_go_with_the_last(photos: Path, collection: Path):
    from simsearch import ModelChoice

    _index(collection, photos, ViewChoice(2))
    cropped = ModelChoice(backbone="histogram", resize="crop")
    oneshot.ingest(collection, [photos], cropped, augment=ViewChoice(2))
    with Catalog.open(collection) as catalog:
        assert catalog.count_contents()["views"] == 36
        first, second = (stored.fingerprint for stored in catalog.list_models())
    assert oneshot.prune(collection, first, only_augmented=True).to_dict()["views"] == 0
    assert oneshot.prune(collection, second, only_augmented=True).to_dict()["views"] == 24


def test_a_hit_is_an_image_with_its_best_view(photos: Path, collection: Path, tmp_path: Path):
    """A turned picture finds its original through the view that was turned like it."""
    _index(collection, photos, ViewChoice(6))
    original = sorted(photos.rglob("*.png"))[3]
    digest = _read(original).digest
    turned = apply_transformation(
        np.asarray(Image.open(original).convert("RGB")), sample_transformation(AugmentationRanges(), 0, digest, 4)
    )
    Image.fromarray(turned).save(tmp_path / "turned.png")
    with Collection.open(collection) as opened:
        hits = opened.search(tmp_path / "turned.png", k=12).hits
    assert len({hit.image_id for hit in hits}) == 12
    assert hits[0].path == str(original.resolve())
    assert hits[0].view.kind == "augmented"
    assert hits[0].view.parameters["number"] == 4
    assert hits[0].view.description == sample_transformation(AugmentationRanges(), 0, digest, 4).describe()


def test_k_images_are_returned_although_many_views_match(photos: Path, collection: Path):
    _index(collection, photos, ViewChoice(30))
    with Collection.open(collection) as opened:
        for k in (1, 5, 12):
            hits = opened.search(sorted(photos.rglob("*.png"))[0], k=k).hits
            assert len({hit.image_id for hit in hits}) == k
            assert [hit.similarity for hit in hits] == sorted((hit.similarity for hit in hits), reverse=True)


def test_hits_equal_brute_force_over_all_views(photos: Path, collection: Path):
    _index(collection, photos, ViewChoice(4))
    vectors = _vectors(collection)
    with Collection.open(collection) as opened:
        for path in sorted(photos.rglob("*.png"))[:4]:
            digest = _read(path).digest
            query = np.frombuffer(vectors[digest, "original", "{}"], np.float32)
            best: dict[str, float] = {}
            for (other, _, _), row in vectors.items():
                best[other] = max(best.get(other, -2), float(np.frombuffer(row, np.float32) @ query))
            found = {_read(Path(hit.path)).digest: hit.similarity for hit in opened.search(path, k=12).hits}
            assert found == pytest.approx(best, abs=2e-6)


def test_a_negative_number_of_views_is_rejected_before_anything_is_written(photos: Path, collection: Path):
    with pytest.raises(UsageError, match="from 0"):
        _index(collection, photos, ViewChoice(-1))
    assert not collection.exists()
