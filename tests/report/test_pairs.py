"""Pictures of a comparison."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simsearch.errors import SimsearchError
from simsearch.models.choice import resolve_model
from simsearch.report.drawing.canvas import map_to_colors
from simsearch.report.drawing.comparison import MAX_PAIRS, draw_comparison, draw_heat_map
from simsearch.study.compare import ImageComparison
from tests.conftest import HISTOGRAM, draw_picture


def comparison(paths: list[Path | str], names: tuple[str, ...] = ("one",), seed: int = 0) -> ImageComparison:
    """Any similarities."""
    n = len(paths)
    above = np.triu(np.random.default_rng(seed).uniform(0.1, 0.9, (n, n)), 1)
    matrix = above + above.T + np.eye(n)
    model = resolve_model(HISTOGRAM)
    return ImageComparison(tuple(map(str, paths)), dict.fromkeys(names, model), dict.fromkeys(names, matrix), (), ())


def pictures(folder: Path, *names: str) -> list[Path]:
    return [draw_picture(folder / name, seed) for seed, name in enumerate(names)]


def test_a_picture_of_each_pair_is_named_after_both_under_each_backbone(tmp_path):
    paths = pictures(tmp_path, "vase.png", "vase2.png", "flowerpot.png")
    drawn = draw_comparison(comparison(paths, ("one", "other")), tmp_path / "report")
    expected = {
        f"cos_sim/{name}/{pair}.jpg"
        for name in ("one", "other")
        for pair in ("vase_vase2", "vase_flowerpot", "vase2_flowerpot")
    }
    made = {path.relative_to(tmp_path / "report").as_posix() for path in (tmp_path / "report").rglob("*.*")}
    assert made == expected
    assert drawn.pairs["other"][0, 2] == tmp_path / "report" / "cos_sim" / "other" / "vase_flowerpot.jpg"
    assert drawn.heat_maps == {}


def test_the_two_pictures_stand_side_by_side(tmp_path):
    paths = [tmp_path / "red.png", tmp_path / "blue.png"]
    for path in paths:
        Image.new("RGB", (50, 50), path.stem).save(path)
    file = draw_comparison(comparison(paths), tmp_path / "report").pairs["one"][0, 1]
    with Image.open(file) as image:
        left, right = (image.getpixel((x, 200)) for x in (200, 600))
    assert left[0] > 240 > 20 > left[2]
    assert right[2] > 240 > 20 > right[0]


def test_files_of_one_name_do_not_overwrite_each_other(tmp_path):
    paths = pictures(tmp_path, "a/vase.png", "b/vase.png", "c/VASE.png", "c/vase_vase.png")
    drawn = draw_comparison(comparison(paths), tmp_path / "report")
    files = [file.name.casefold() for file in drawn.pairs["one"].values()]
    assert len(set(files)) == 6
    assert all(file.exists() for file in drawn.pairs["one"].values())


def test_names_as_long_as_a_file_system_takes_are_shortened(tmp_path):
    paths = pictures(tmp_path, "a" * 240 + ".png", "花" * 80 + ".png")
    drawn = draw_comparison(comparison(paths), tmp_path / "report")
    assert drawn.pairs["one"][0, 1].exists()


def test_many_pairs_are_drawn_up_to_a_number_and_all_in_the_heat_map(tmp_path):
    paths = pictures(tmp_path, *(f"{n}.png" for n in range(16)))
    drawn = draw_comparison(comparison(paths), tmp_path / "report")
    assert len(drawn.pairs["one"]) == MAX_PAIRS < 16 * 15 / 2
    assert list(drawn.pairs["one"])[:16] == [*((0, n) for n in range(1, 16)), (1, 2)]
    assert drawn.heat_maps["one"].exists()


def test_a_picture_that_is_gone_by_now_leaves_a_grey_square(tmp_path):
    paths = [*pictures(tmp_path, "vase.png"), tmp_path / "gone.png"]
    assert draw_comparison(comparison(paths), tmp_path / "report").pairs["one"][0, 1].exists()


def test_a_place_that_cannot_be_written_to_is_told(tmp_path):
    (tmp_path / "report").write_text("a file")
    with pytest.raises(SimsearchError, match="cannot be written"):
        draw_comparison(comparison(pictures(tmp_path, "a.png", "b.png")), tmp_path / "report")


def test_the_heat_map_is_brightest_where_images_are_most_alike_and_empty_on_its_diagonal():
    n = 130  # no room for letters: cells of 10 px from (34, 78) on
    found = comparison([f"{number}.png" for number in range(n)], seed=1)
    matrix = found.similarities["one"]
    image = np.asarray(draw_heat_map(found.paths, matrix, "one").image)
    cells = image[78 + 5 : 78 + 10 * n : 10, 34 + 5 : 34 + 10 * n : 10]
    others = matrix[~np.eye(n, dtype=bool)]
    expected = map_to_colors((matrix - others.min()) / np.ptp(others))
    is_off_diagonal = ~np.eye(n, dtype=bool)
    np.testing.assert_array_equal(cells[is_off_diagonal], expected[is_off_diagonal])
    assert len({tuple(cell) for cell in cells[~is_off_diagonal]}) == 1


@pytest.mark.parametrize("n", [2, 4, 17, 39, 60, 300])
def test_a_heat_map_of_any_number_of_images_has_a_sensible_size(n: int, tmp_path):
    path = draw_picture(tmp_path / "a.png", 1)
    found = comparison([path] * n)
    width, height = draw_heat_map(found.paths, found.similarities["one"], "one").image.size
    assert 200 < height <= width + 200
    assert 500 < width < 1700


def test_equal_similarities_have_one_colour():
    image = np.asarray(draw_heat_map(["gone.png"] * 130, np.ones((130, 130)), "one").image)
    cells = image[78 + 5 : 78 + 1300 : 10, 34 + 5 : 34 + 1300 : 10]
    assert len(np.unique(cells[~np.eye(130, dtype=bool)], axis=0)) == 1
