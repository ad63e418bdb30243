"""PCA against the singular value decomposition of NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from simsearch.errors import UsageError
from simsearch.models.projection import Projection
from tests.rerank.conftest import clustered, unit


@pytest.fixture
def vectors() -> np.ndarray:
    return clustered(120)


def _by_svd(vectors: np.ndarray, width: int, whitening: float) -> np.ndarray:
    centred = vectors - vectors.mean(axis=0, dtype=np.float64)
    _, singular, axes = np.linalg.svd(centred, full_matrices=False)
    axes *= np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])[:, None]
    rows = centred @ axes[:width].T / singular[:width] ** whitening
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("whitening", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("n", "width"), [(120, 8), (120, 32), (20, 12)])
def test_projected_rows_are_those_of_the_singular_value_decomposition(n: int, width: int, whitening: float):
    vectors = clustered(n)
    projected = Projection.fit(vectors, width, whitening).apply(vectors)
    assert projected.dtype == np.float32
    np.testing.assert_allclose(projected, _by_svd(vectors, width, whitening), atol=1e-5)


def test_full_whitening_gives_every_axis_the_same_variance(vectors: np.ndarray):
    projection = Projection.fit(vectors, 16, whitening=1.0)
    covariance = np.cov((vectors - projection.mean) @ projection.axes, rowvar=False, bias=True)
    np.testing.assert_allclose(covariance, np.eye(16), atol=1e-4)


def test_blocks_and_the_whole_give_the_same_projection():
    vectors = clustered(10_000, width=6, n_clusters=3)
    whole, blocks = Projection.fit(vectors, 4), Projection.fit(iter(np.array_split(vectors, 7)), 4)
    np.testing.assert_allclose(whole.axes, blocks.axes, atol=1e-6)
    np.testing.assert_allclose(whole.apply(vectors), _by_svd(vectors, 4, 0), atol=1e-5)


def test_the_sign_of_an_axis_does_not_depend_on_the_order_of_the_rows(vectors: np.ndarray):
    turned = Projection.fit(vectors[::-1], 16)
    np.testing.assert_allclose(turned.axes, Projection.fit(vectors, 16).axes, atol=1e-5)


@pytest.mark.parametrize(("n", "wanted", "width"), [(120, 256, 32), (10, 256, 9), (10, 4, 4), (2, 5, 1)])
def test_the_width_is_cut_to_what_there_is(n: int, wanted: int, width: int):
    projection = Projection.fit(clustered(n), wanted)
    assert (projection.width, projection.axes.shape) == (width, (32, width))


def test_axes_along_which_nothing_varies_are_left_out_even_of_whitening(vectors: np.ndarray):
    few = np.vstack([vectors[:5]] * 20)
    projected = Projection.fit(few, 32, whitening=1.0).apply(few)
    assert projected.shape == (100, 4)
    np.testing.assert_allclose(projected[:5] @ projected[:5].T, _simplex(5), atol=1e-3)


def _simplex(n: int) -> np.ndarray:
    """Cosines among whitened rows of full rank: corners of a regular simplex."""
    return np.full((n, n), -1 / (n - 1)) + np.eye(n) * (1 + 1 / (n - 1))


@pytest.mark.parametrize("n", [0, 1, 7])
def test_rows_that_are_all_the_same_have_no_projection(n: int):
    with pytest.raises(UsageError, match="two different pictures"):
        Projection.fit(np.repeat(clustered(1), n, axis=0), 4)


def test_a_row_at_the_mean_becomes_zeros_and_others_unit_length():
    vectors = unit(np.array([[1, 1, 0], [1, -1, 0], [1, 0, 1], [1, 0, -1]]))
    projected = Projection.fit(vectors, 2).apply(np.vstack([vectors.mean(axis=0), vectors]))
    np.testing.assert_array_equal(projected[0], 0)
    np.testing.assert_allclose(np.linalg.norm(projected[1:], axis=1), 1, atol=1e-6)


def test_a_stored_projection_is_read_back_with_the_same_digest(vectors: np.ndarray):
    projection = Projection.fit(vectors, 7)
    again = Projection.from_bytes(projection.to_bytes())
    np.testing.assert_array_equal(again.mean, projection.mean)
    np.testing.assert_array_equal(again.axes, projection.axes)
    assert again.digest == projection.digest
    assert Projection.fit(vectors, 6).digest != projection.digest


@pytest.mark.parametrize("stored", [b"", b"\x20\0\0\0", b"\x02\0\0\0" + bytes(20), b"\x02\0\0\0" + bytes(7)])
def test_bytes_that_are_no_projection_are_refused(stored: bytes):
    with pytest.raises(ValueError, match=r"."):
        Projection.from_bytes(stored)
