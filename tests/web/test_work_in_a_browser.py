"""Work on the pages in Chromium by keys alone: labels on the page Label, and the images that can go on Duplicates."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from simsearch import Collection
from simsearch.web.settings import ServerSettings
from tests.conftest import HISTOGRAM, draw_picture
from tests.support import oneshot
from tests.support.browser import open_browser
from tests.web.conftest import serving

pytestmark = pytest.mark.long

SIZES = {"desktop": {"viewport": {"width": 1400, "height": 900}},
         "phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}}  # fmt: skip


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with open_browser() as browser:
        yield browser


@pytest.fixture(params=list(SIZES))
def desk(request: pytest.FixtureRequest, chromium: Any, tmp_path: Path) -> Iterator[tuple[Any, Path]]:
    """A page of a server of twelve pictures, of which three have a recompressed copy; and the collection."""
    for seed in range(12):
        file = draw_picture(tmp_path / "photos" / ("lamp" if seed < 6 else "vase") / f"picture_{seed:02}.png", seed)
        if seed < 3:
            with Image.open(file) as image:
                image.convert("RGB").save(file.with_suffix(".jpg"), quality=92)
    oneshot.ingest(tmp_path / "ix", [tmp_path / "photos"], HISTOGRAM)
    context = chromium.new_context(**SIZES[request.param])
    context.set_default_timeout(60_000)
    with serving(ServerSettings(collection=str(tmp_path / "ix"), port=0)) as address:
        page, errors = context.new_page(), []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        yield page, tmp_path / "ix"
        context.close()
    assert errors == []


def read_labels(folder: Path, column: str = "label") -> dict[int, str]:
    with Collection.open(folder) as collection:
        return {one.image_id: str(one.columns[column]) for one in collection if column in one.columns}


def open_view(page: Any, path: str, selector: str) -> None:
    page.goto(page.url.partition("/")[0] + "//" + page.url.split("/")[2] + path)
    page.locator(selector).first.wait_for()


def get_focused(page: Any) -> int:
    return int(page.evaluate("Number(document.activeElement.closest('.tile').dataset.id)"))


def test_pictures_are_labeled_by_digits_and_by_a_new_word_and_undone(desk: tuple[Any, Path]):
    page, folder = desk
    open_view(page, "/label", ".palette")
    ids = [int(one) for one in page.locator(".tile").evaluate_all("all => all.map((one) => one.dataset.id)")]
    assert get_focused(page) == ids[0]
    page.keyboard.press("1")
    page.locator(".given", has_text="lamp").wait_for()
    page.wait_for_timeout(100)
    assert get_focused(page) == ids[1]
    page.keyboard.press("ArrowRight")
    assert get_focused(page) == ids[2]
    page.keyboard.press("2")
    page.locator(".given", has_text="vase").wait_for()
    page.wait_for_timeout(100)
    assert get_focused(page) == ids[3]
    page.keyboard.press("l")
    page.keyboard.type("clock")
    page.keyboard.press("Enter")
    page.locator(".given", has_text="clock").wait_for()
    assert read_labels(folder) == {ids[0]: "lamp", ids[2]: "vase", ids[3]: "clock"}
    assert page.locator(".palette li").last.inner_text().split() == ["3", "clock"]
    assert page.inner_text(".palette .count") == "3 of 15 labeled."
    for n_left in (2, 1):
        page.wait_for_timeout(100)
        page.keyboard.press("z")
        if n_left == 2:
            page.keyboard.press("z")  # the selection that l made was a step of its own
        page.locator(".palette .count", has_text=f"{n_left} of 15").wait_for()
    assert read_labels(folder) == {ids[0]: "lamp"}
    page.keyboard.press("n")
    page.wait_for_load_state()
    page.locator(".tile").nth(13).wait_for()
    assert page.locator(f".tile[data-id='{ids[0]}']").count() == 0


def test_the_images_that_can_go_are_selected_at_once_and_saved(desk: tuple[Any, Path]):
    page, folder = desk
    open_view(page, "/duplicates", ".groups")
    button = page.get_by_role("button", name="Select all 3 images that can go")
    button.focus()
    page.keyboard.press("Enter")
    page.locator(".selection .count", has_text="3 selected").wait_for()
    with Collection.open(folder) as collection:
        removable = set(collection.duplicates().removable_paths)
        chosen = page.locator(".tile.chosen").evaluate_all("all => all.map((one) => Number(one.dataset.id))")
        paths = {one.image_id: one.files[0].path for one in collection}
    assert {paths[id_] for id_ in chosen} == removable
    page.keyboard.press("x")
    assert page.locator(".tile.to-remove").count() == 3
    page.keyboard.press("z")
    assert page.locator(".tile.to-remove").count() == 0
    with page.expect_download() as download:
        page.get_by_role("link", name="Save the list of 3 files").press("Enter")
    saved = Path(download.value.path()).read_text().splitlines()
    assert {Path(line).name for line in saved} == {Path(path).name for path in removable}


def test_pictures_are_selected_labeled_and_undone_by_keys_on_browse(desk: tuple[Any, Path]):
    page, folder = desk
    open_view(page, "/browse?sort=name", ".wall.virtual .cell img")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    page.keyboard.press("Shift+ArrowRight")
    page.locator(".selection .count", has_text="2 selected").wait_for()
    page.keyboard.press("l")
    page.keyboard.type("favorite")
    page.keyboard.press("Enter")
    page.locator(".said-undo", has_text="2 labeled favorite.").wait_for()
    assert list(read_labels(folder).values()) == ["favorite"] * 2
    assert page.evaluate("document.activeElement.closest('.cell') !== null")  # the keys go on where they were
    page.keyboard.press("z")
    page.locator(".said-undo").wait_for(state="hidden")
    page.wait_for_load_state("networkidle")
    assert read_labels(folder) == {}
    page.keyboard.press("Escape")
    assert page.locator(".selection").is_hidden()


def test_images_on_the_map_are_selected_labeled_and_searched_with(desk: tuple[Any, Path]):
    page, folder = desk
    open_view(page, "/map", "iframe.map")
    frame = page.frame_locator("iframe.map")
    frame.locator("html[data-ready]").wait_for()
    frame.locator("#filter").fill("lamp/")
    frame.locator("#filter").press("Enter")
    frame.locator("#map").press("a")
    page.locator(".selection .count", has_text="9 selected").wait_for()
    frame.locator("#map").press("l")
    page.locator("#label-value:focus").wait_for()  # the map asks the page around it for the form
    page.keyboard.type("light")
    page.keyboard.press("Enter")
    page.locator(".said-undo", has_text="9 labeled light.").wait_for()
    assert list(read_labels(folder).values()) == ["light"] * 9
    page.get_by_role("button", name="Clear").press("Enter")
    page.locator(".selection").wait_for(state="hidden")
    frame.locator("#map").press("Enter")
    frame.locator("#search-link").press("Enter")
    page.wait_for_url("**/?like=*")
