"""Places in the plane, cells on a grid, and clusters, against brute force and planted structure."""

from __future__ import annotations

import numpy as np
import pytest

from simsearch.errors import UsageError
from simsearch.models.choice import ModelChoice
from simsearch.store.catalog import Catalog
from simsearch.store.snapshot import open_model_views
from simsearch.visualization.clusters import choose_k, derive_folder_labels, find_clusters
from simsearch.visualization.grid import snap_to_grid
from simsearch.visualization.tsne import _Repulsion, compute_pca, compute_tsne
from tests.support import oneshot


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def blobs(n_blobs, n_each, d=64, width=0.25, seed=0):
    """Unit rows around random directions, and the blob of each."""
    random = np.random.default_rng(seed)
    centres = unit(random.standard_normal((n_blobs, d)))
    own = np.repeat(np.arange(n_blobs), n_each)
    return unit(centres[own] + width / np.sqrt(d) * random.standard_normal((len(own), d)) * 3), own


def nearest_others(distances, k):
    distances = distances.astype(np.float64).copy()
    np.fill_diagonal(distances, np.inf)
    return np.argsort(distances, axis=1, kind="stable")[:, :k]


def plane_distances(places):
    return ((places[:, None].astype(np.float64) - places[None]) ** 2).sum(axis=2)


def trustworthiness(vectors, places, k=10):
    """Venna & Kaski 2001: 1 where the k nearest in the plane are the k nearest by similarity."""
    n = len(vectors)
    order = nearest_others(1 - vectors @ vectors.T, n - 1)
    ranks = np.zeros((n, n))
    np.put_along_axis(ranks, order, np.arange(1, n)[None].repeat(n, 0), axis=1)
    near = nearest_others(plane_distances(places), k)
    surplus = np.maximum(np.take_along_axis(ranks, near, axis=1) - k, 0).sum()
    return 1 - 2 / (n * k * (2 * n - 3 * k - 1)) * surplus


# Places


def test_places_fill_the_longer_side_and_lie_in_the_middle_of_the_other():
    places = compute_tsne(blobs(6, 30)[0])
    assert places.shape == (180, 2)
    assert places.dtype == np.float32
    low, high = places.min(axis=0), places.max(axis=0)
    assert (high - low).max() == pytest.approx(1)
    assert (low + high) / 2 == pytest.approx([0.5, 0.5], abs=1e-6)


def test_the_same_vectors_and_seed_give_the_same_places_to_the_last_bit():
    vectors, _ = blobs(5, 20)
    assert np.array_equal(compute_tsne(vectors, seed=3), compute_tsne(vectors, seed=3))


def test_groups_that_are_apart_stay_apart():
    vectors, own = blobs(12, 25)
    near = nearest_others(plane_distances(compute_tsne(vectors)), 10)
    assert (own[near] == own[:, None]).mean() > 0.99


def test_neighbours_are_kept_far_better_than_by_two_principal_directions():
    vectors, _ = blobs(30, 12, width=0.5)
    assert trustworthiness(vectors, compute_pca(vectors, 2)) < 0.8
    assert trustworthiness(vectors, compute_tsne(vectors)) > 0.93


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5, 8, 20])
def test_a_handful_of_images_is_laid_out_too(n):
    places = compute_tsne(
        unit(np.random.default_rng(n).standard_normal((n, 16))) if n else np.empty((0, 16), np.float32)
    )
    assert places.shape == (n, 2)
    assert ((places >= 0) & (places <= 1)).all()
    assert len(np.unique(places, axis=0)) == n


def test_equal_vectors_lie_together_and_break_nothing():
    vectors = unit(np.random.default_rng(0).standard_normal((4, 16))).repeat(60, axis=0)
    places = compute_tsne(vectors)
    assert np.isfinite(places).all()
    near = nearest_others(plane_distances(places), 10)
    assert (near // 60 == np.arange(240)[:, None] // 60).mean() > 0.99
    assert np.isfinite(compute_tsne(vectors[:60])).all()


@pytest.mark.parametrize("width", [0.3, 5, 60])
def test_the_repulsion_by_fft_is_that_of_all_pairs(width):
    places = np.random.default_rng(1).normal(scale=width, size=(400, 2))
    apart = places[:, None] - places[None]
    weights = 1 / (1 + (apart**2).sum(axis=2))
    exact = (weights[..., None] ** 2 * apart).sum(axis=1) / (weights.sum() - len(places))
    found = _Repulsion().push(places[:, 0] + 1j * places[:, 1])
    error = np.linalg.norm(np.stack([found.real, found.imag], axis=1) - exact) / np.linalg.norm(exact)
    assert error < 0.1


def test_principal_coordinates_are_those_of_the_singular_value_decomposition():
    random = np.random.default_rng(2)
    vectors = (random.standard_normal((300, 40)) * 0.8 ** np.arange(40)).astype(np.float32)
    left, values, _ = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    found = compute_pca(vectors, 8)
    assert np.abs(found) == pytest.approx(np.abs(left[:, :8] * values[:8]), abs=2e-3)


def test_principal_coordinates_of_equal_rows_are_zero():
    assert np.array_equal(compute_pca(np.ones((5, 8), np.float32), 3), np.zeros((5, 3)))


# Cells


def test_every_image_has_the_free_cell_that_is_nearest_when_its_turn_comes():
    places = np.random.default_rng(3).normal(0.5, 0.12, (150, 2)).clip(0, 1).astype(np.float32)
    grid = snap_to_grid(places)
    scaled = grid.exact
    own = scaled.astype(int)
    steps = np.diff(scaled, axis=0) / np.diff(places.astype(np.float64), axis=0)
    assert steps == pytest.approx(np.full_like(steps, np.sqrt(300)))
    turns = np.argsort(((scaled - own - 0.5) ** 2).sum(axis=1), kind="stable")
    middles = np.stack(np.meshgrid(np.arange(grid.side), np.arange(grid.side)), axis=2).reshape(-1, 2) + 0.5
    free = np.ones(len(middles), bool)
    for i in turns:
        cell = grid.rows[i] * grid.side + grid.columns[i]
        distances = ((middles - scaled[i]) ** 2).sum(axis=1)
        assert free[cell]
        if free[own[i, 1] * grid.side + own[i, 0]]:
            assert (grid.columns[i], grid.rows[i]) == tuple(own[i])
        assert distances[cell] <= distances[free].min() + 1e-9
        free[cell] = False


@pytest.mark.parametrize("n", [0, 1, 2, 7, 300])
def test_images_at_one_place_get_a_cell_each(n):
    grid = snap_to_grid(np.full((n, 2), 1.0, np.float32))
    assert len(set(zip(grid.columns.tolist(), grid.rows.tolist(), strict=True))) == n
    assert ((grid.columns >= 0) & (grid.rows >= 0)).all()
    assert ((grid.columns < grid.side) & (grid.rows < grid.side)).all()


# Clusters


@pytest.mark.parametrize("n_blobs", [3, 5, 8])
def test_as_many_clusters_are_found_as_there_are_groups(n_blobs):
    vectors, own = blobs(n_blobs, 24, width=0.15)
    found = find_clusters(vectors)
    assert len(found) == choose_k(vectors) == n_blobs
    assert {tuple(sorted(one.members)) for one in found} == {
        tuple(np.flatnonzero(own == blob).tolist()) for blob in range(n_blobs)
    }


def test_a_cluster_tells_its_size_its_most_typical_images_and_how_tight_it_is():
    vectors, _ = blobs(4, 30)
    for one in find_clusters(vectors, 6):
        rows = vectors[list(one.members)].astype(np.float64)
        similarities = rows @ (rows.mean(axis=0) / np.linalg.norm(rows.mean(axis=0)))
        assert one.tightness == pytest.approx(similarities.mean(), abs=1e-6)
        assert (np.diff(similarities) <= 1e-6).all()
        assert one.size == len(rows)
        assert one.typical == one.members[:5]


def test_clusters_share_out_every_image_once_the_largest_cluster_first():
    vectors, _ = blobs(5, 40, width=0.6)
    found = find_clusters(vectors, 9)
    assert sorted(row for one in found for row in one.members) == list(range(200))
    assert [one.number for one in found] == list(range(1, len(found) + 1))
    assert [one.size for one in found] == sorted((one.size for one in found), reverse=True)
    assert found == find_clusters(vectors, 9)


def test_a_cluster_is_named_by_its_commonest_class():
    vectors, own = blobs(3, 20, width=0.15)
    labels = [("cat", "dog", "owl")[blob] for blob in own]
    labels[0] = "owl"
    found = {one.label: one.label_share for one in find_clusters(vectors, 3, labels)}
    assert found == {"cat": pytest.approx(19 / 20), "dog": 1.0, "owl": 1.0}
    assert {(one.label, one.label_share) for one in find_clusters(vectors, 3)} == {(None, 0.0)}


@pytest.mark.parametrize("k", [0, -1, 11])
def test_more_clusters_than_images_or_none_is_a_usage_error(k):
    with pytest.raises(UsageError, match=f"10 images cannot form {k} clusters"):
        find_clusters(blobs(1, 10)[0], k)


def test_few_or_equal_images_are_one_cluster():
    assert [one.size for one in find_clusters(blobs(1, 7)[0])] == [7]
    assert find_clusters(np.empty((0, 8), np.float32)) == []
    same = unit(np.ones((30, 8)))
    assert sum(one.size for one in find_clusters(same, 4)) == 30


def test_folders_are_classes_where_they_tell_some_images_from_others():
    assert derive_folder_labels(["p/cat/1.jpg", "p/cat/2.jpg", "q/dog/1.jpg"]) == ["cat", "cat", "dog"]
    assert derive_folder_labels(["p/1.jpg", "p/2.jpg"]) is None
    assert derive_folder_labels(["p/a/1.jpg", "p/b/1.jpg"]) is None
    assert derive_folder_labels([]) is None


@pytest.mark.long
def test_real_photographs_of_a_class_lie_near_each_other(shared, tmp_path):
    photos = shared / "photos" / "caltech101_small"
    folders = sorted(folder for folder in photos.iterdir() if folder.is_dir())[:20]
    oneshot.ingest(tmp_path / "c", folders, ModelChoice(backbone="builtin"))
    with Catalog.open(tmp_path / "c") as catalog, open_model_views(catalog.folder, catalog.list_models()[0]) as found:
        records, vectors = found.read_records(found.sample_ids(10_000))
    labels = np.array(derive_folder_labels([record.path for record in records]))
    places = compute_tsne(vectors)
    assert trustworthiness(vectors, places) > 0.93
    by_vector = labels[nearest_others(1 - vectors @ vectors.T, 5)] == labels[:, None]
    by_place = labels[nearest_others(plane_distances(places), 5)] == labels[:, None]
    assert by_place.mean() > by_vector.mean() - 0.03
    assert 10 <= len(find_clusters(vectors)) <= 40
