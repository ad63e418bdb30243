"""Every page holds the rules of axe-core, light and dark, on a desktop and a phone, and fits the window.

Each rule is checked in both schemes and both sizes; the schemes change colors only, and colors do not depend on the
size, so the two other pairs are thorough.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageOps

from simsearch import Collection, ModelChoice
from simsearch.web.settings import ServerSettings
from tests.conftest import ROOT
from tests.support import oneshot
from tests.support.browser import list_violations, open_browser
from tests.web.conftest import TOKEN, serving

pytestmark = pytest.mark.long

SIZES = {"desktop": {"viewport": {"width": 1400, "height": 900}},
         "phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}}  # fmt: skip
VIEWS = {
    "start": ("/", ".tile"),
    "search": ("/?like=3&like=20&unlike=5&where=width+>+10", ".tile"),
    "words": ("/?text=lamp", ".tile"),
    "wrong filter": ("/?like=3&where=width+>", "#complaint"),
    "image": ("/images/3", ".facts-of"),
    "browse": ("/browse", ".wall.virtual .cell img"),
    "browse with a wrong filter": ("/browse?where=width+>", "#complaint"),
    "label": ("/label", ".palette"),
    "duplicates": ("/duplicates", ".groups"),
    "rejected": ("/duplicates/rejected", ".group"),
    "quality": ("/quality", ".kinds"),
    "map": ("/map", "iframe.map"),
    "API": ("/docs", ".operation"),
    "missing": ("/nothing", ".problem"),
}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Sixty pictures with edited copies, some labels, and a rejected pair."""
    home = tmp_path_factory.mktemp("accessible")
    for name in ("amphora", "bell", "bottle", "bowl", "lamp", "vase"):
        shutil.copytree(ROOT / "data" / "objects" / name, home / "objects" / name)
    for number, name in enumerate(("lamp/lamp_03.jpg", "bell/bell_01.jpg", "vase/vase_02.jpg")):
        with Image.open(home / "objects" / name) as image:
            ImageOps.mirror(image).save(home / "objects" / f"copy_{number}.jpg", quality=70)
    Image.new("RGB", (200, 150), "#202020").save(home / "objects" / "uniform.png")
    oneshot.ingest(home / "ix", [home / "objects"], ModelChoice(backbone="builtin"))
    with Collection.open(home / "ix") as collection:
        ids = [image.image_id for image in collection]
        collection.set_values({(id_, "label"): "round" if id_ % 2 else "tall" for id_ in ids[:12]})
        collection.reject_duplicates(ids[:2])
    with serving(ServerSettings(collection=str(home / "ix"), port=0)) as address:
        yield address


@pytest.fixture(scope="module")
def visitors(chromium: Any) -> Iterator[Callable[[str, str], Any]]:
    """A page for each size and scheme, opened once: a window of Chromium takes longer than most pages."""

    @functools.cache
    def open_visitor(size: str, scheme: Any) -> Any:
        context = chromium.new_context(**SIZES[size], color_scheme=scheme, reduced_motion="reduce")
        return stack.enter_context(contextlib.closing(context)).new_page()

    with contextlib.ExitStack() as stack:
        yield open_visitor


def check(page: Any) -> None:
    page.wait_for_load_state("networkidle")
    assert list_violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]


with_every_size_and_scheme = pytest.mark.parametrize(
    ("size", "scheme"),
    [
        ("desktop", "light"),
        ("phone", "dark"),
        pytest.param("desktop", "dark", marks=pytest.mark.thorough),
        pytest.param("phone", "light", marks=pytest.mark.thorough),
    ],
)


@pytest.mark.parametrize("view", VIEWS)
@with_every_size_and_scheme
def test_a_page_is_accessible(visitors: Any, place: str, view: str, size: str, scheme: str):
    path, selector = VIEWS[view]
    page = visitors(size, scheme)
    page.goto(place + path)
    page.locator(selector).first.wait_for(timeout=120_000)
    if view == "map":
        frame = page.frame_locator("iframe.map")
        frame.locator("#legend button").first.wait_for()
        check(page)
        frame.locator("#map").press("Enter")
        frame.locator("#chosen").wait_for()
        frame.locator("#map").press("a")
        page.locator(".selection").wait_for()
    elif view in ("browse", "search", "label", "quality"):  # with images selected and marked
        page.keyboard.press("Control+a")
        page.locator(".selection").wait_for()
        page.keyboard.press("x")
        page.locator(".marked").wait_for()
    elif view == "start":
        check(page)
        page.keyboard.press("?")
        page.locator("dialog.keys").wait_for()
    check(page)
    page.evaluate("sessionStorage.clear()")  # what is selected and marked is kept there


@with_every_size_and_scheme
def test_the_login_page_is_accessible(visitors: Any, collection: Path, size: str, scheme: str):
    page = visitors(size, scheme)
    with serving(ServerSettings(collection=str(collection), port=0, token=TOKEN)) as address:
        page.goto(address)
        page.fill("#token", "wrong")
        page.get_by_role("button").click()
        page.locator(".complaint").wait_for()
        check(page)
