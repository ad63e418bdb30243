"""The pages in Chromium: on a desktop and a phone, with mouse, keyboard and touch, and without scripts."""

from __future__ import annotations

import base64
import io
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from simsearch import Collection, ModelChoice
from simsearch.search.examples import Crop, Example
from simsearch.web.settings import ServerSettings
from tests.conftest import HISTOGRAM, ROOT
from tests.support import oneshot
from tests.support.browser import open_browser
from tests.web.conftest import serving

pytestmark = pytest.mark.long

OBJECTS = ROOT / "data" / "objects"
LAMP = OBJECTS / "lamp" / "lamp_03.jpg"
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
SCREEN = {"viewport": {"width": 1440, "height": 900}}
FOUND_DUPLICATES = "h1:text-is('Duplicates')"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pictures in data/objects with two backbones; the built-in one is the default."""
    folder = tmp_path_factory.mktemp("indexes") / "objects"
    oneshot.ingest(folder, [OBJECTS], ModelChoice(backbone="builtin"))
    oneshot.ingest(folder, [OBJECTS], HISTOGRAM)
    return folder


@pytest.fixture(scope="module")
def place(objects: Path) -> Iterator[str]:
    with serving(ServerSettings(collection=str(objects), port=0)) as address:
        yield address


@pytest.fixture
def visit(chromium: Any, place: str) -> Iterator[Callable[..., Any]]:
    """Open a page. At the end, check that its policy blocked nothing and no other host was contacted."""
    contexts, complaints = [], []

    def said(message: Any) -> None:
        if message.type in ("error", "warning") and "status of 4" not in message.text:
            complaints.append(message.text)

    def asked(request: Any) -> None:
        if not request.url.startswith((place, "blob:", "data:")):
            complaints.append(f"asked for {request.url}")

    def open_page(path: str = "/", **visitor: Any) -> Any:
        context = chromium.new_context(**(SCREEN | visitor))
        context.set_default_timeout(120_000)  # the first search of a run loads its model, beside other tests
        contexts.append(context)
        page = context.new_page()
        page.on("console", said)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", asked)
        page.on("dialog", lambda dialog: complaints.append(f"a dialog: {dialog.message}"))
        page.goto(place + path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def test_a_picture_in_a_tab_of_its_own_breaks_no_policy(visit: Callable[..., Any]):
    """Chromium builds a page with an inline style around it."""
    page = visit("/images/1")
    page.click(".large")
    page.wait_for_url("**/thumbnail?side=1600")
    assert page.locator("img").evaluate("one => one.naturalWidth") > 0


def edited() -> bytes:
    """An edited copy of the lamp: smaller, with another JPEG quality."""
    file = io.BytesIO()
    Image.open(LAMP).resize((250, 200)).save(file, "JPEG", quality=70)
    return file.getvalue()


def names(page: Any, side: int = 0) -> list[str]:
    page.wait_for_load_state()  # a page that is still coming in has fewer tiles
    grid = page.locator(".answer .grid").nth(side)
    return [str(name) for name in grid.locator(".tile img").evaluate_all("all => all.map((one) => one.alt)")]


def expected(objects: Path, examples: list[Example], **options: Any) -> list[str]:
    with Collection.open(objects) as opened:
        hits = opened.search(examples, **({"k": 48} | options)).hits
    return [Path(hit.path).name for hit in hits]


def image_id(objects: Path, name: str) -> int:
    with Collection.open(objects) as opened:
        hits = opened.search(str(next(OBJECTS.rglob(name))), k=1).hits
    return hits[0].image_id


def carry(page: Any, kind: str, data: bytes, name: str = "rose.jpg") -> None:
    """Drop or paste a file by the events that a browser sends."""
    with page.expect_navigation():
        page.evaluate(
            """([kind, text, name]) => {
                const bytes = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
                const carrier = new DataTransfer();
                carrier.items.add(new File([bytes], name, { type: "image/jpeg" }));
                const init = { bubbles: true, cancelable: true };
                if (kind === "paste") document.body.dispatchEvent(new ClipboardEvent("paste", { ...init, clipboardData: carrier }));
                else for (const step of ["dragenter", "dragover", "drop"])
                    document.body.dispatchEvent(new DragEvent(step, { ...init, dataTransfer: carrier }));
            }""",  # noqa: E501
            [kind, base64.b64encode(data).decode(), name],
        )


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_a_dropped_or_pasted_picture_finds_what_the_library_finds(visit: Any, objects: Path, kind: str):
    page = visit()
    carry(page, kind, edited())
    assert "like=u-" in page.url
    assert names(page) == expected(objects, [Example(edited())])
    assert names(page)[0] == LAMP.name
    shown = page.locator(".example img")
    assert shown.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [250, 200]


def test_a_chosen_picture_is_searched_at_once_and_its_url_can_be_shared(visit: Any):
    page = visit()
    with page.expect_navigation():
        page.set_input_files("input[type=file]", LAMP)
    found = names(page)
    assert found[0] == LAMP.name
    assert page.locator(".tile .score").first.inner_text() == "1.000"
    other = visit(page.url.partition("/?")[2] and "/?" + page.url.partition("/?")[2])
    assert names(other) == found


def test_a_text_file_is_reported_as_not_a_picture(visit: Any):
    page = visit()
    page.set_input_files("input[type=file]", {"name": "a.txt", "mimeType": "text/plain", "buffer": b"text"})
    assert page.locator(".ask .complaint").inner_text() == "This is not a picture."


def test_a_click_searches_with_that_picture_and_back_returns(visit: Any, objects: Path):
    page = visit(f"/?like={image_id(objects, 'lamp_03.jpg')}")
    first = names(page)
    second = first[3]
    page.locator(".tile .open").nth(3).click()
    page.wait_for_url(f"**like={image_id(objects, second)}")
    assert names(page) == expected(objects, [Example(image_id(objects, second))], exclude_self=True)
    page.go_back()
    assert names(page)[:48] == first[:48]


def test_a_rectangle_drawn_on_the_picture_searches_with_the_crop(visit: Any, objects: Path):
    lamp = image_id(objects, "lamp_03.jpg")
    page = visit(f"/?like={lamp}")
    box = page.locator(".example .frame").bounding_box()
    page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 0.1 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"])
    page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.6 * box["height"])
    with page.expect_navigation():
        page.mouse.up()
    crop = page.evaluate("new URLSearchParams(location.search).get('crop')")
    assert [float(number) for number in crop.split(",")] == pytest.approx([0.2, 0.1, 0.5, 0.5], abs=0.02)
    assert names(page) == expected(objects, [Example(lamp, crop=Crop.parse(crop))], exclude_self=True)
    assert page.locator(".cut").is_visible()
    page.get_by_text("Use the whole picture").click()
    assert "crop" not in page.url


def test_a_crop_can_be_chosen_by_keys(visit: Any, objects: Path):
    page = visit(f"/?like={image_id(objects, 'lamp_03.jpg')}")
    page.keyboard.press("c")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Shift+ArrowDown")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    assert page.evaluate("new URLSearchParams(location.search).get('crop')") == "0.21,0.25,0.5,0.54"


def test_a_filter_limits_the_results_and_a_syntax_error_shows_the_position(visit: Any, objects: Path):
    page = visit(f"/?like={image_id(objects, 'lamp_03.jpg')}")
    page.keyboard.press("/")
    page.keyboard.type("class = 'vase'")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    assert len(names(page)) == 10
    assert all(name.startswith("vase") for name in names(page))
    page.fill("#where", "class =")
    with page.expect_navigation():
        page.press("#where", "Enter")
    assert "column" in page.locator("#complaint").inner_text()
    assert page.input_value("#where") == "class ="


def test_the_slider_hides_tiles_at_once_and_then_searches(visit: Any, objects: Path):
    lamp = image_id(objects, "lamp_03.jpg")
    page = visit(f"/?like={lamp}")
    slide = "([slider, value, kind]) => { slider.value = value; slider.dispatchEvent(new Event(kind)); }"
    slider = page.locator("#min").element_handle()
    page.evaluate(slide, [slider, "0.6", "input"])
    wanted = expected(objects, [Example(lamp)], exclude_self=True, min_similarity=0.6)
    assert 0 < len(wanted) < 20
    assert page.locator(".tile:visible").count() == len(wanted)
    with page.expect_navigation():
        page.evaluate(slide, [slider, "0.6", "change"])
    assert "min=0.6" in page.url
    assert names(page) == wanted


def test_examples_can_be_added_and_removed(visit: Any, objects: Path):
    lamp, bell, vase = (image_id(objects, name) for name in ("lamp_03.jpg", "bell_01.jpg", "vase_02.jpg"))
    page = visit(f"/?like={lamp}&where=id+in+({bell},{vase},{lamp})")
    bells = page.locator(".tile", has=page.locator("img[alt='bell_01.jpg']"))
    bells.hover()
    bells.locator(".more-like").click()
    page.wait_for_url(lambda address: f"&like={bell}&" in address)
    page.goto(page.url.partition("&where")[0] + f"&unlike={vase}")
    examples = [Example(lamp), Example(bell), Example(vase, -1.0)]
    assert names(page) == expected(objects, examples, exclude_self=True)
    assert page.locator(".picks li").count() == 3
    page.get_by_label("Remove bell_01.jpg").click()
    page.wait_for_url(lambda address: address.endswith(f"/?like={lamp}&unlike={vase}"))
    assert names(page) == expected(objects, [examples[0], examples[2]], exclude_self=True)


def test_another_backbone_searches_and_two_are_shown_side_by_side(visit: Any, objects: Path):
    lamp = image_id(objects, "lamp_03.jpg")
    page = visit(f"/?like={lamp}")
    with page.expect_navigation():
        page.select_option("#backbone", "histogram")
    by_histogram = expected(objects, [Example(lamp)], exclude_self=True, backbone="histogram")
    assert names(page) == by_histogram
    with page.expect_navigation():
        page.select_option("#beside", "builtin")
    by_builtin = expected(objects, [Example(lamp)], exclude_self=True, backbone="builtin")
    assert [names(page, 0)[:48], names(page, 1)[:48]] == [by_histogram, by_builtin]
    assert by_histogram != by_builtin
    both = next(name for name in by_histogram if name in by_builtin)
    tile = page.locator(".answer").nth(0).locator(".tile", has=page.locator(f"img[alt='{both}']"))
    assert tile.locator(".beside").inner_text() == f"№ {by_builtin.index(both) + 1}"
    lefts = [page.locator(".answer").nth(side).bounding_box()["x"] for side in (0, 1)]
    assert lefts[0] < lefts[1]


def test_scrolling_loads_more_results_until_all_are_there(visit: Any, objects: Path):
    lamp = image_id(objects, "lamp_03.jpg")
    page = visit(f"/?like={lamp}")
    for _ in range(40):
        page.mouse.wheel(0, 3000)
        page.wait_for_timeout(60)
        if page.locator(".tile").count() == 119:
            break
    assert names(page) == expected(objects, [Example(lamp)], exclude_self=True, k=200)
    assert page.locator(".pager .more").count() == 0


def test_the_keyboard_moves_between_pictures(visit: Any, objects: Path):
    page = visit(f"/?like={image_id(objects, 'lamp_03.jpg')}")
    found = names(page)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.querySelector('img').alt") == found[1]
    page.keyboard.press("ArrowDown")
    below = page.evaluate("document.activeElement.querySelector('img').alt")
    assert found.index(below) > 1
    page.keyboard.press("ArrowUp")
    page.keyboard.press("i")
    page.wait_for_url("**/images/*")
    page.go_back()
    page.keyboard.press("?")
    assert page.locator("dialog.keys").is_visible()
    page.keyboard.press("Escape")
    page.locator("dialog.keys").wait_for(state="hidden")
    page.locator("dialog:focus, dialog :focus").wait_for(state="detached")  # the focus has gone back, too
    assert page.evaluate("document.activeElement.closest('dialog') === null")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.closest('.tile') !== null")
    page.keyboard.press("-")
    page.wait_for_url("**unlike=*")


def test_a_word_finds_its_pictures_and_an_unknown_one_gets_the_nearest(visit: Any):
    page = visit("/")
    page.fill("#text", "lamp")
    page.press("#text", "Enter")
    page.wait_for_url("**/?text=lamp")
    names = page.locator(".tile .user").all_inner_texts()
    assert sum(name.startswith("lamp") for name in names[:10]) >= 8
    page.locator(".more-like").first.click()
    page.wait_for_url("**like=*text=lamp*")
    assert page.locator(".example img").count() == 1
    assert page.input_value("#text") == "lamp"
    assert "the nearest words are vase" in visit("/?text=vaze").inner_text("#complaint")


def test_an_image_page_shows_the_metadata(visit: Any, objects: Path):
    page = visit(f"/images/{image_id(objects, 'lamp_03.jpg')}")
    said = page.locator(".facts-of").inner_text()
    for part in (
        "lamp_03.jpg",
        "400 \N{MULTIPLICATION SIGN} 320 px, JPEG",
        "13.8 kB",
        "objects/lamp/lamp_03.jpg",
        "modified 20",
    ):
        assert part in said
    assert str(LAMP.parents[2]) not in said  # `--show-paths` shows where it is
    with page.expect_download() as download:
        page.get_by_text("Save the file").click()
    assert Path(download.value.path()).read_bytes() == LAMP.read_bytes()
    page.get_by_text("Search with this picture").click()
    assert "like=" in page.url


def test_the_map_links_to_pictures_of_this_server(visit: Any):
    page = visit("/map")
    page.wait_for_selector("iframe.map")
    frame = page.frame_locator("iframe.map")
    frame.locator("#map").focus()
    page.keyboard.press("Enter")
    link = frame.locator("#chosen-link")
    link.wait_for()
    assert "/images/" in link.get_attribute("href")
    frame.locator("#original").wait_for(state="visible")
    assert frame.locator("#original").evaluate("image => image.naturalWidth") > 200


def test_duplicates_are_found_and_shown(visit: Any):
    page = visit("/duplicates?tier=similar")
    page.wait_for_selector(FOUND_DUPLICATES)
    assert "among 120 images" in page.locator("main").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_fits_a_phone_of_360_px(visit: Any, objects: Path, scheme: str):
    lamp, vase = image_id(objects, "lamp_03.jpg"), image_id(objects, "vase_02.jpg")
    wide = f"/?like={lamp}&like={vase}&unlike=5&crop=0.1,0.1,0.5,0.5&where=width+>+{'1' * 60}"
    beside = f"/?like={lamp}&beside=histogram"
    for path in ("/", f"/?like={lamp}", wide, beside, f"/images/{lamp}", "/nothing", "/duplicates"):
        page = visit(path, **PHONE, color_scheme=scheme)
        if path == "/duplicates":
            page.wait_for_selector(FOUND_DUPLICATES)  # until then the page reloads by itself
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert dark == ("rgb(21, 24, 27)" if scheme == "dark" else "rgb(255, 255, 255)")


def test_a_phone_can_search_and_add_examples_by_touch(visit: Any, objects: Path):
    page = visit(f"/?like={image_id(objects, 'lamp_03.jpg')}", **PHONE)
    assert page.locator(".tile").first.bounding_box()["y"] < 740  # an answer is on the first screen
    page.locator(".options > summary").tap()
    page.fill("#where", "class = 'bell'")
    with page.expect_navigation():
        page.press("#where", "Enter")
    assert len(names(page)) == 10
    page.locator(".tile .more-like").first.tap()
    page.wait_for_url("**like=*&like=*")


def test_searching_filtering_and_paging_work_without_scripts(visit: Any, objects: Path):
    lamp = image_id(objects, "lamp_03.jpg")
    page = visit("/", java_script_enabled=False)
    page.fill("#text", "lamp")
    with page.expect_navigation():
        page.get_by_role("search").get_by_role("button", name="Search").click()
    assert page.input_value("#text") == "lamp"
    assert sum(name.startswith("lamp") for name in names(page)[:10]) >= 8
    page.goto(page.url.partition("?")[0])
    page.set_input_files("input[type=file]", LAMP)
    with page.expect_navigation():
        page.locator("form.ask").get_by_role("button", name="Search").click()
    assert names(page)[0] == LAMP.name
    page.goto(page.url.partition("?")[0] + f"?like={lamp}&crop=0.2,0.1,0.5,0.5")
    assert page.locator(".cut").is_visible()
    page.fill("#where", "class != 'lamp'")
    with page.expect_navigation():
        page.get_by_role("button", name="Apply").click()
    assert not any(name.startswith("lamp") for name in names(page))
    with page.expect_navigation():
        page.get_by_role("link", name="More", exact=True).click()
    assert len(names(page)) == 48
    with page.expect_navigation():
        page.get_by_role("link", name="Previous").click()
    with page.expect_navigation():
        page.locator(".tile .open").first.click()
    assert len(names(page)) == 48


def test_scripts_in_file_names_are_not_executed(chromium: Any, address: str):
    page, heard = chromium.new_page(), []
    ends = {"/duplicates": FOUND_DUPLICATES, "/map": "iframe.map"}  # until then these pages reload by themselves
    page.on("dialog", lambda dialog: heard.append(dialog.message))
    page.on("pageerror", lambda error: heard.append(str(error)))
    for path in ("/", "/?like=1", "/images/15", "/duplicates", "/map"):
        page.goto(address + path)
        if path in ends:
            page.wait_for_selector(ends[path], timeout=120_000)
        page.wait_for_load_state("networkidle")
    page.wait_for_timeout(300)
    assert heard == []
    assert page.locator("text=onerror").count() == 0  # on the map it is drawn
    page.close()


# All images


def chosen(page: Any) -> list[str]:
    return [str(name) for name in page.locator(".chosen img").evaluate_all("all => all.map((one) => one.alt)")]


def test_the_grid_of_all_images_holds_the_rows_near_the_window_only(visit: Any, objects: Path):
    page = visit("/browse?sort=name")
    with Collection.open(objects) as opened:
        n = len(opened)
    assert f"{n} images" in page.inner_text("h1")
    page.wait_for_selector(".wall.virtual .cell img")
    assert page.locator(".cell").count() < n
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.locator(".cell img[alt='vase_10.jpg']").wait_for()
    assert page.locator(".cell").count() < n
    indexes = page.locator(".cell").evaluate_all("all => all.map((one) => Number(one.dataset.index))")
    assert indexes == sorted(indexes)


def test_images_are_selected_by_keys_and_clicks_saved_and_marked(visit: Any):
    page = visit("/browse?where=class+%3D+'lamp'")
    page.wait_for_selector(".wall.virtual .cell img")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    for _ in range(2):
        page.keyboard.press("Shift+ArrowRight")
    assert chosen(page) == ["lamp_01.jpg", "lamp_02.jpg", "lamp_03.jpg"]
    page.locator(".cell .pick").nth(4).click()
    page.locator(".cell .open").nth(6).click(modifiers=["Shift"])
    assert len(chosen(page)) == 6
    assert page.inner_text(".selection .count") == "6 selected"
    page.keyboard.press("z")
    assert len(chosen(page)) == 4
    with page.expect_download() as download:
        page.locator(".export-form button").click()
    assert Path(download.value.path()).read_text().splitlines() == [
        f"objects/lamp/lamp_{number:02}.jpg" for number in (1, 2, 3, 5)]  # fmt: skip
    page.keyboard.press("x")
    assert page.locator(".cell.to-remove").count() == 4
    page.keyboard.press("Escape")
    assert page.locator(".selection").is_hidden()
    with page.expect_download() as download:
        page.locator(".marked form button").click()
    assert download.value.suggested_filename == "to-remove.txt"
    page.keyboard.press("Control+a")
    page.locator(".selection .count", has_text="10 selected").wait_for()


def test_results_are_labelled_by_keys_and_the_label_is_taken_back(visit: Any, objects: Path):
    page = visit(f"/?like={image_id(objects, 'lamp_03.jpg')}")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    page.keyboard.press("l")
    page.keyboard.type("favorite")
    page.keyboard.press("Enter")
    page.wait_for_selector(".said-undo:not([hidden])")

    def labels() -> list[str]:
        first = page.locator(".tile").first.get_attribute("data-id")
        document = page.request.get(f"{page.url.partition('/?')[0]}/api/v1/images/{first}").json()
        return list(document["columns"].values())

    assert labels() == ["favorite"]
    page.locator(".said-undo button").click()
    page.wait_for_selector(".said-undo", state="hidden")
    page.wait_for_load_state("networkidle")
    assert labels() == []


def test_facets_and_the_form_of_filters_work_without_scripts(visit: Any):
    page = visit("/browse", java_script_enabled=False)
    page.get_by_role("link", name="bell 10").first.click()
    assert page.inner_text("h1") == "10 images"
    page.select_option("#field", "name")
    page.select_option("#operator", "contains")
    page.fill("#value", "_03")
    page.get_by_role("button", name="Add").click()
    assert page.inner_text("h1") == "1 image"
    assert page.locator(".chips li").count() == 2
    page.locator(".chips a").first.click()
    assert page.inner_text("h1") == "12 images"


def test_a_dropped_file_that_is_no_picture_leaves_the_search(visit: Any, objects: Path):
    page = visit(f"/?like={image_id(objects, 'lamp_03.jpg')}")
    before, address = names(page), page.url
    page.set_input_files("input[type=file]", {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": b"not a picture"})
    page.wait_for_selector(".ask .complaint:not([hidden])")
    assert "not a picture" in page.inner_text(".ask .complaint")
    assert (page.url, names(page)) == (address, before)


def save_screenshot(page: Any, file: Path) -> None:
    page.wait_for_load_state("networkidle")
    raw = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    palette = raw.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=4)
    raw.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(file, optimize=True)
    assert file.stat().st_size < 400_000, file.name


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """The pictures in data/objects with edited copies, poor pictures and some labels."""
    photos = tmp_path / "objects"
    shutil.copytree(OBJECTS, photos)
    lamp, bell, vase, amphora = (
        Image.open(OBJECTS / name.partition("_")[0] / f"{name}.jpg").convert("RGB")
        for name in ("lamp_03", "bell_01", "vase_02", "amphora_06")
    )
    (photos / "edited").mkdir()
    for name, picture, quality in (
        ("lamp_small", lamp.resize((250, 200)), 70),
        ("vase_crop", vase.crop((60, 20, 330, 300)), 95),
        ("bell_mirrored", ImageOps.mirror(bell), 88),
        ("bell_strong", bell, 30),
        ("amphora_bright", ImageEnhance.Brightness(amphora).enhance(1.35), 90),
        ("vase_dark", ImageEnhance.Brightness(vase).enhance(0.08), 90),
        ("bell_dark", ImageEnhance.Brightness(bell).enhance(0.05), 90),
    ):
        picture.save(photos / "edited" / f"{name}.jpg", quality=quality)
    for number, name in enumerate(("bottle_02", "goblet_03", "teapot_05", "candlestick_04", "hourglass_01", "bowl_08")):
        file = photos / name.partition("_")[0] / f"{name}.jpg"
        with Image.open(file) as picture:
            blurred = picture.convert("RGB").filter(ImageFilter.GaussianBlur(5 + number))
        blurred.save(file, quality=90)
    folder = tmp_path / "indexes" / "objects"
    oneshot.ingest(folder, [photos], ModelChoice(backbone="builtin"))
    with Collection.open(folder) as opened:
        labels = {}
        for image in opened:
            path = Path(image.files[0].path)
            if path.parent.name in ("lamp", "vase", "bell", "bowl") and path.stem < f"{path.parent.name}_06":
                labels[image.image_id, "label"] = path.parent.name
        opened.set_values(labels)
    return folder


@pytest.mark.thorough
def test_screenshots_of_work_for_the_documentation(chromium: Any, album: Path, tmp_path: Path):
    out = Path(os.environ.get("SIMSEARCH_SCREENSHOTS") or tmp_path)
    window = {"viewport": {"width": 1200, "height": 740}}
    phone = {"viewport": {"width": 390, "height": 780}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
    with serving(ServerSettings(collection=str(album), port=0)) as address:

        def open_page(path: str, selector: str, **visitor: Any) -> Any:
            page = chromium.new_context(**(window | visitor)).new_page()
            page.goto(address + path)
            page.locator(selector).first.wait_for(timeout=120_000)
            return page

        page = open_page("/browse?sort=name", ".wall.virtual .cell img")
        for index in (1, 2, 4):
            page.locator(".cell .pick").nth(index).click(force=True)
        page.mouse.move(5, 5)
        save_screenshot(page, out / "serve-browse.png")
        save_screenshot(open_page("/duplicates", ".groups", color_scheme="dark"), out / "serve-duplicates.png")
        save_screenshot(open_page("/quality", ".tile img"), out / "serve-quality.png")
        page = open_page("/label", ".palette")
        for key in "213":
            page.keyboard.press(key)
            page.locator(".palette .count", has_text=f"{'213'.index(key) + 1} of").wait_for()
        page.locator(".said-undo").evaluate("one => one.hidden = true")
        save_screenshot(page, out / "serve-label.png")
        page = open_page("/map", "iframe.map")
        frame = page.frame_locator("iframe.map")
        frame.locator("html[data-ready]").wait_for()
        frame.locator("#legend button").nth(2).click()
        frame.locator("#map").press("a")
        frame.locator("#legend button").nth(2).click()
        page.locator(".selection").wait_for()
        page.mouse.move(5, 5)
        save_screenshot(page, out / "serve-map.png")
        save_screenshot(open_page("/browse", ".wall.virtual .cell img", **phone), out / "serve-phone-browse.png")


@pytest.mark.thorough
def test_screenshots_for_the_documentation(visit: Any, objects: Path, tmp_path: Path):
    """Saved to the folder $SIMSEARCH_SCREENSHOTS; `make screenshots` saves them to docs/."""
    out = Path(os.environ.get("SIMSEARCH_SCREENSHOTS") or tmp_path)
    lamp, vase = image_id(objects, "lamp_03.jpg"), image_id(objects, "amphora_06.jpg")
    window = {"viewport": {"width": 1200, "height": 740}}
    shots = [
        ("serve-search.png", f"/?like={lamp}", window),
        ("serve-dark.png", f"/?like={vase}&crop=0.24,0.22,0.52,0.42", window | {"color_scheme": "dark"}),
        ("serve-beside.png", f"/?like={lamp}&backbone=builtin&beside=histogram", window),
        ("serve-phone.png", f"/?like={lamp}", PHONE),
    ]
    for name, path, visitor in shots:
        save_screenshot(visit(path, **visitor), out / name)
