"""Panoramas, tall pictures and missing files in the grids; navigation on error pages; what a phone is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from PIL import Image

from simsearch.web.settings import ServerSettings
from tests.conftest import HISTOGRAM, draw_picture
from tests.support import oneshot
from tests.support.browser import open_browser
from tests.web.conftest import serving

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
SCREEN = {"viewport": {"width": 1400, "height": 900}}
SHAPES = {"panorama": (1600, 100), "tower": (100, 1600), "usual": (640, 480)}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of pictures of odd shapes, and one whose file is gone."""
    home = tmp_path_factory.mktemp("odd")
    for name, size in SHAPES.items():
        file = draw_picture(home / "photos" / f"{name}.png", len(name))
        with Image.open(file) as image:
            resized = image.convert("RGB").resize(size)
        resized.save(file)
    gone = draw_picture(home / "photos" / "gone.png", 50)
    oneshot.ingest(home / "ix", [home / "photos"], HISTOGRAM)
    gone.unlink()
    with serving(ServerSettings(collection=str(home / "ix"), port=0)) as found:
        yield found


def test_every_error_page_has_the_navigation_and_a_way_back(address: str):
    headers = {"Accept": "text/html"}
    with httpx.Client(base_url=address, headers=headers | {"Origin": address}, timeout=60) as client:
        answers = [
            client.get("/nothing"), client.get("/images/99"), client.get("/?like=x"),
            client.post("/pictures", files={"picture": ("a.jpg", b"no picture")}, data={"state": "/?like=1"}),
        ]  # fmt: skip
    assert [answer.status_code for answer in answers] == [404, 404, 400, 422]
    for answer in answers:
        navigation = answer.text.partition("<nav")[2].partition("</nav>")[0]
        for path in ("/", "/browse", "/label", "/duplicates", "/quality", "/map"):
            assert f'href="{path}"' in navigation
        assert 'href="/">Start page' in answer.text
    assert 'href="/?like=1">Back to the search' in answers[-1].text


@pytest.mark.long
@pytest.mark.parametrize("visitor", [SCREEN, PHONE], ids=["desktop", "phone"])
def test_no_picture_is_a_thin_strip_in_a_grid(chromium: Any, address: str, visitor: dict[str, Any]):
    context = chromium.new_context(**visitor)
    page = context.new_page()
    for path in ("/browse", "/", "/?like=1"):
        page.goto(address + path)
        page.locator(".virtual .cell img" if path == "/browse" else ".tile img").first.wait_for()
        page.wait_for_load_state("networkidle")
        seen = page.locator(".cell, .tile").evaluate_all(
            """all => all.map((one) => {
                const image = one.querySelector("img"), box = image.getBoundingClientRect();
                const fit = getComputedStyle(image).objectFit, scales = [box.width / image.naturalWidth, box.height / image.naturalHeight];
                const scale = fit === "contain" ? Math.min(...scales) : Math.max(...scales);
                return [image.alt, Math.min(box.width, scale * image.naturalWidth, box.height, scale * image.naturalHeight)];
            })"""  # noqa: E501
        )
        assert min(shorter for _, shorter in seen) >= 50, (path, seen)
    context.close()


@pytest.mark.long
def test_a_file_that_is_gone_is_a_picture_that_says_so(chromium: Any, address: str):
    page = chromium.new_page()
    page.goto(f"{address}/browse")
    image = page.locator(".cell img[alt='gone.png']")
    image.wait_for()
    page.wait_for_load_state("networkidle")
    assert image.evaluate("one => one.complete && one.naturalWidth > 100")  # a broken picture has no width
    page.close()


@pytest.mark.long
def test_a_phone_is_not_told_to_drop_or_to_press_keys(chromium: Any, address: str):
    for visitor, words in ((PHONE, ("take a photo",)), (SCREEN, ("Drop a picture", "Ctrl"))):
        context = chromium.new_context(**visitor)
        page = context.new_page()
        page.goto(address)
        shown = page.locator(".welcome .lead").inner_text()
        assert all(word in shown for word in words)
        assert ("Drop" in shown) is (visitor is SCREEN)
        page.goto(f"{address}/browse")
        assert page.locator(".hint").is_visible() is (visitor is SCREEN)
        context.close()
