"""The map in Chromium: many images by WebGL and by the canvas alike, the lasso, and the list of what it selects."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from simsearch.report.map import CollectionMap, MapImage, write_map_page
from simsearch.visualization.clusters import Cluster
from simsearch.visualization.grid import snap_to_grid
from tests.conftest import draw_picture
from tests.support.browser import list_violations, open_browser

pytestmark = pytest.mark.long

N_IMAGES = 2_000  # more than the canvas draws where there is WebGL


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with open_browser("--enable-unsafe-swiftshader") as browser:
        yield browser


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2,000 images, of 20 pictures, in two clusters: the left and the right half."""
    home = tmp_path_factory.mktemp("map")
    files = [draw_picture(home / "photos" / f"{seed:02}.png", seed) for seed in range(20)]
    images = [MapImage(number + 1, str(files[number % 20])) for number in range(N_IMAGES)]
    places = np.random.default_rng(3).random((N_IMAGES, 2)).astype(np.float32)
    halves = [np.flatnonzero(side).tolist() for side in (places[:, 0] < 0.5, places[:, 0] >= 0.5)]
    clusters = [Cluster(number, tuple(half), 0.5, None, 0.0) for number, half in enumerate(halves, start=1)]
    drawn = CollectionMap("many", images, snap_to_grid(places), clusters, ("left", "right"))
    write_map_page(drawn, home / "map.html")
    return home / "map.html"


@pytest.fixture
def visit(chromium: Any, page_file: Path) -> Iterator[Any]:
    contexts, errors = [], []

    def open_map(fragment: str = "", **visitor: Any) -> Any:
        contexts.append(chromium.new_context(**({"viewport": {"width": 1400, "height": 900}} | visitor)))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(page_file.as_uri() + fragment)
        page.locator("html[data-ready]").wait_for()
        return page

    yield open_map
    for context in contexts:
        context.close()
    assert errors == []


def take_picture(page: Any) -> np.ndarray:
    shot = page.screenshot(clip={"x": 0, "y": 60, "width": 1090, "height": 780})
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB").resize((109, 78), Image.Resampling.BOX), float)


def test_webgl_and_the_canvas_draw_the_same(visit: Any):
    by_webgl, by_canvas = visit(), visit("#canvas")
    if by_webgl.locator("html").get_attribute("data-drawn-by") != "webgl":
        pytest.skip("this Chromium has no WebGL")
    assert by_canvas.locator("html").get_attribute("data-drawn-by") == "canvas"
    for keys in ((), ("c",), ("g",), ("c", "+", "+", "+", "+")):
        for page in (by_webgl, by_canvas):
            page.emulate_media(reduced_motion="reduce")
            for key in keys:
                page.keyboard.press(key)
            page.wait_for_timeout(300)
        one, other = take_picture(by_webgl), take_picture(by_canvas)
        assert one.std() > 10
        assert np.abs(one - other).mean() < 4, keys
    for page in (by_webgl, by_canvas):
        page.locator("#legend button").first.click()
        page.wait_for_timeout(300)
    assert np.abs(take_picture(by_webgl) - take_picture(by_canvas)).mean() < 4


@pytest.mark.parametrize("fragment", ["", "#canvas"])
def test_the_lasso_selects_what_it_surrounds_and_the_list_has_it(visit: Any, fragment: str):
    page = visit(fragment)
    box = page.locator("#map").bounding_box()
    before = take_picture(page)
    page.keyboard.press("s")
    left, top, right, bottom = box["x"] + 2, box["y"] + 2, box["x"] + box["width"] / 2, box["y"] + box["height"] - 2
    page.mouse.move(left, top)
    page.mouse.down()
    for x, y in ((right, top), (right, bottom), (left, bottom)):
        page.mouse.move(x, y, steps=4)
    page.mouse.up()
    said = page.inner_text("#selected-count")
    n = int(said.split()[0].replace(",", ""))
    assert abs(n - N_IMAGES / 2) < 0.05 * N_IMAGES
    assert np.abs(take_picture(page)[:, :50] - before[:, :50]).mean() > 2  # it is marked
    with page.expect_download() as download:
        page.click("#save")
    assert len(Path(download.value.path()).read_text().splitlines()) == n
    page.click("#clear")
    assert page.locator("#selected").is_hidden()


def test_a_cluster_is_selected_by_keys_alone(visit: Any):
    page = visit()
    n = int(page.locator("#legend button b").first.inner_text())
    page.locator("#legend button").first.press("Enter")
    page.locator("#map").focus()
    page.keyboard.press("a")
    assert page.inner_text("#selected-count") == f"{n:,} selected"
    page.keyboard.press("Escape")
    assert page.locator("#selected").is_hidden()


def test_the_legend_shows_names_and_pictures_and_all_is_accessible(visit: Any):
    page = visit()
    assert page.locator("#legend button span").all_inner_texts() == ["1 · left", "2 · right"]
    painted = page.locator("#legend canvas").first.evaluate(
        "one => new Set(one.getContext('2d').getImageData(0, 0, 252, 78).data).size"
    )
    assert painted > 20
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert list_violations(page) == []
