"""The menu of collections in Chromium: by mouse and keyboard, with and without scripts, on a screen and a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simsearch.web.settings import ServerSettings
from tests.conftest import HISTOGRAM, ROOT
from tests.support import oneshot
from tests.web.conftest import serving
from tests.web.test_in_a_browser import PHONE, SCREEN, chromium  # noqa: F401 - a fixture

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with the collections `lamps` and `vases & bowls`."""
    folder = tmp_path_factory.mktemp("indexes")
    oneshot.ingest(folder / "lamps", [ROOT / "data" / "objects" / "lamp"], HISTOGRAM)
    oneshot.ingest(folder / "vases & bowls", [ROOT / "data" / "objects" / "vase"], HISTOGRAM)
    settings = ServerSettings(collection=str(folder / "lamps"), port=0)
    with serving(settings, None, folder / "vases & bowls") as address:
        yield address


def open_page(browser: Any, url: str, **visitor: Any) -> tuple[Any, list[str]]:
    context, complaints = browser.new_context(**(SCREEN | visitor)), list[str]()
    context.set_default_timeout(60_000)
    page = context.new_page()
    page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(url)
    return page, complaints


def names(page: Any, selector: str) -> list[str]:
    page.wait_for_load_state()
    return [str(name) for name in page.locator(selector).evaluate_all("all => all.map((one) => one.alt)")]


@pytest.mark.parametrize("visitor", [{}, PHONE, {"java_script_enabled": False}], ids=["screen", "phone", "no scripts"])
def test_the_menu_leads_to_the_same_page_of_another_collection(chromium: Any, place: str, visitor: dict[str, Any]):  # noqa: F811
    page, complaints = open_page(chromium, place, **visitor)
    assert page.locator(".shelf b").all_inner_texts() == ["lamps", "vases & bowls"]
    page.locator(".shelf a").first.click()
    page.get_by_role("link", name="Browse").click()
    assert page.url == f"{place}/c/lamps/browse"
    assert {name.partition("_")[0] for name in names(page, ".wall img")} == {"lamp"}
    page.locator(".switch summary").click()
    page.locator(".switch").get_by_role("link", name="vases & bowls").click()
    assert page.url == f"{place}/c/vases%20%26%20bowls/browse"
    assert {name.partition("_")[0] for name in names(page, ".wall img")} == {"vase"}
    shown = page.locator(".wall img").first
    shown.evaluate("image => image.decode()")
    assert shown.evaluate("image => image.naturalWidth") > 0
    page.locator(".wall .open").first.click()
    assert page.url.startswith(f"{place}/c/vases%20%26%20bowls/images/")
    page.get_by_text("Search with this picture").click()
    assert page.url.startswith(f"{place}/c/vases%20%26%20bowls/?like=")
    assert complaints == []
    page.context.close()


def test_the_menu_works_by_keyboard_and_closes(chromium: Any, place: str):  # noqa: F811
    page, complaints = open_page(chromium, f"{place}/c/lamps/duplicates")
    menu = page.locator(".switch")
    page.locator(".switch summary").focus()
    page.keyboard.press("Enter")
    assert menu.get_attribute("open") is not None
    page.keyboard.press("Escape")
    assert menu.get_attribute("open") is None
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    assert page.url == f"{place}/c/vases%20%26%20bowls/duplicates"
    page.locator(".switch summary").click()
    page.locator("main").click(position={"x": 5, "y": 5})
    assert page.locator(".switch").get_attribute("open") is None
    assert complaints == []
    page.context.close()


def test_a_selection_belongs_to_its_collection_and_labels_it(chromium: Any, place: str):  # noqa: F811
    page, complaints = open_page(chromium, f"{place}/c/lamps/browse")
    page.locator(".wall .pick").first.check()
    page.locator("#label-value").fill("old")
    page.get_by_role("button", name="Label", exact=True).click()
    page.get_by_text("1 labeled old.").wait_for()
    page.goto(f"{place}/c/vases%20%26%20bowls/browse")
    page.locator(".wall .pick").first.wait_for()
    assert not page.locator(".selection").is_visible()
    assert page.get_by_text("label", exact=True).count() == 0
    page.goto(f"{place}/c/lamps/browse")
    assert page.locator(".selection .count").inner_text() == "1 selected"
    assert complaints == []
    page.context.close()


def test_an_uploaded_picture_stays_with_the_visitor_who_switches(chromium: Any, place: str):  # noqa: F811
    page, complaints = open_page(chromium, f"{place}/c/lamps/")
    lamp = ROOT / "data" / "objects" / "lamp" / "lamp_03.jpg"
    with page.expect_navigation():
        page.set_input_files("input[type=file]", Path(lamp))
    assert names(page, ".answer .tile img")[0] == lamp.name
    page.locator(".switch summary").click()
    with page.expect_navigation():
        page.locator(".switch").get_by_role("link", name="vases & bowls").click()
    assert {name.partition("_")[0] for name in names(page, ".answer .tile img")} == {"vase"}
    assert page.locator(".example img").evaluate("image => image.naturalWidth") > 0
    assert complaints == []
    page.context.close()
