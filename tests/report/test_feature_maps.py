"""The drawing of feature maps."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from simsearch.models.choice import resolve_model
from simsearch.report.drawing.canvas import map_to_colors
from simsearch.report.drawing.feature_maps import draw_feature_maps, scale_maps
from simsearch.study.features import ImageFeatures, LayerFeatures
from tests.conftest import HISTOGRAM

DARK, BRIGHT = (tuple(map_to_colors(np.array(end)).tolist()) for end in (0.0, 1.0))


def features(*maps: np.ndarray) -> ImageFeatures:
    """A finding with a block for each array (h, w, n)."""
    blocks = tuple(
        LayerFeatures(f"layer_{number}", number, of.shape[2], tuple(range(of.shape[2])), of, of.mean(axis=(0, 1)))
        for number, of in enumerate(maps)
    )
    pixels = np.full((128, 128, 3), (255, 0, 255), dtype=np.uint8)
    return ImageFeatures("photos/vase.jpg", resolve_model(HISTOGRAM), pixels, blocks, False, ("a note",))


def drawn(found: ImageFeatures, file) -> np.ndarray:
    draw_feature_maps(found, file)
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


def test_each_map_is_scaled_to_its_own_range():
    maps = np.zeros((2, 2, 3), dtype=np.float32)
    maps[..., 0] = [[-5, 0], [5, 5]]
    maps[..., 1] = [[100, 300], [200, 100]]
    maps[..., 2] = 7
    expected = np.zeros((2, 2, 3))
    expected[..., 0] = [[0, 0.5], [1, 1]]
    expected[..., 1] = [[0, 1], [0.5, 0]]
    np.testing.assert_allclose(scale_maps(maps), expected, atol=1e-6)


def test_a_bright_place_of_a_map_is_bright_in_its_cell_and_nowhere_else(tmp_path):
    maps = np.zeros((2, 2, 64), dtype=np.float32)
    maps[0, 1, 9] = 3  # above and right in the map of the second row, second column
    image = drawn(features(maps), tmp_path / "maps.png")
    cell, gap = 68, 4
    left, top = 28 + 572 + 36, 28 + 58
    is_bright = (image[top : top + 572, left : left + 572] == BRIGHT).all(axis=2)
    expected = np.zeros((572, 572), dtype=bool)
    expected[cell + gap : cell + gap + cell // 2, cell + gap + cell // 2 : 2 * cell + gap] = True
    np.testing.assert_array_equal(is_bright, expected)
    assert (image[top : top + cell, left : left + cell] == DARK).all()


def test_the_picture_that_went_in_is_shown(tmp_path):
    image = drawn(features(np.zeros((2, 2, 1), dtype=np.float32)), tmp_path / "maps.png")
    assert (image == (255, 0, 255)).all(axis=2).sum() == 400 * 400


@pytest.mark.parametrize(("n_blocks", "columns", "rows"), [(1, 2, 1), (2, 3, 1), (3, 2, 2), (5, 3, 2), (6, 3, 3)])
def test_panels_fill_rows(n_blocks: int, columns: int, rows: int, tmp_path):
    image = drawn(features(*[np.zeros((4, 4, 5), dtype=np.float32)] * n_blocks), tmp_path / "maps.png")
    assert image.shape == (56 + rows * 666 - 36, 56 + columns * 608 - 36, 3)


@pytest.mark.parametrize("n_maps", [1, 3, 64, 65, 512, 2048])
def test_any_number_of_maps_stays_within_its_panel(n_maps: int, tmp_path):
    image = drawn(features(np.zeros((7, 7, n_maps), dtype=np.float32)), tmp_path / "maps.png")
    is_dark = (image == DARK).all(axis=2)[28 + 58 :, 28 + 572 + 36 :]
    rows, columns = np.flatnonzero(is_dark.any(axis=1)), np.flatnonzero(is_dark.any(axis=0))
    assert (rows[0], columns[0]) == (0, 0)
    assert max(rows[-1], columns[-1]) < 572
    assert columns[-1] > 500
