"""Maps and projector folders, taken apart again: every picture where it belongs, every name harmless."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import socket
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from simsearch.errors import ModelNotIndexed, SimsearchError, UsageError
from simsearch.report.drawing.tiles import load_tiles
from simsearch.report.map import MAX_MAP_IMAGES, CollectionMap, MapImage, choose_group_colors, draw_map, write_map_page
from simsearch.report.projector import MAX_SPRITE_PX, export_projector, plan_sprite
from simsearch.sources.retry import limit_patience
from simsearch.store.catalog import Catalog
from simsearch.visualization.clusters import Cluster, find_clusters
from simsearch.visualization.grid import snap_to_grid
from tests.conftest import HISTOGRAM, draw_picture
from tests.support import oneshot

EVIL = "</script><script>alert('x')&amp;.png"
NOT_UTF8 = os.fsdecode(b"caf\xe9.png")


def plain_picture(path, colour):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (70, 50), colour).save(path, "PNG")
    return str(path)


@pytest.fixture(scope="module")
def coloured(tmp_path_factory):
    """A map of 30 pictures of one colour each, two with awkward names, one whose file is gone."""
    base = tmp_path_factory.mktemp("map")
    random = np.random.default_rng(0)
    colours = [tuple(int(part) for part in random.integers(20, 236, 3)) for _ in range(30)]
    folders = ["red & <b>", "blue"]
    names = {3: EVIL.replace("/", "\u2215"), 7: NOT_UTF8}
    images = []
    for number, colour in enumerate(colours):
        folder = folders[number % 2]
        path = plain_picture(base / folder / names.get(number, f"{number:02}.png"), colour)
        images.append(MapImage(100 + number, path, folder))
    os.unlink(images[29].path)
    places = random.random((30, 2)).astype(np.float32)
    clusters = [
        Cluster(1, tuple(range(0, 30, 2)), 0.9, "</script>", 1.0),
        Cluster(2, tuple(range(1, 30, 2)), 0.8, None, 0.0),
    ]
    return CollectionMap("My <map> & </title>", images, snap_to_grid(places), clusters), colours


def near(found, expected, tolerance=10):
    return all(abs(int(a) - int(b)) <= tolerance for a, b in zip(found, expected, strict=True))


# The picture


def test_every_picture_is_drawn_in_its_own_cell_framed_in_its_clusters_colour(coloured, tmp_path):
    drawn, colours = coloured
    draw_map(drawn, tmp_path / "map.png")
    with Image.open(tmp_path / "map.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    grid = drawn.grid
    n_columns, n_rows = (int(axis.max() - axis.min()) + 1 for axis in (grid.columns, grid.rows))
    cell = (pixels.shape[1] - 80) // n_columns
    assert pixels.shape[0] >= 80 + n_rows * cell
    frames = choose_group_colors(2)
    for number in range(29):
        left = 40 + (grid.columns[number] - grid.columns.min()) * cell
        top = 40 + (grid.rows[number] - grid.rows.min()) * cell
        assert near(pixels[top + cell // 2, left + cell // 2], colours[number], 1)
        frame = np.array([int(frames[number % 2][at : at + 2], 16) for at in (1, 3, 5)])
        inside = pixels[top : top + cell, left + cell // 2]
        assert (inside == frame).all(axis=1).sum() >= 2


def test_a_file_that_is_gone_is_a_crossed_out_tile(coloured):
    drawn, _ = coloured
    (tile,) = load_tiles([drawn.images[29].path], 40)
    assert tile.size == (40, 40)
    assert tile.getpixel((5, 5)) != tile.getpixel((20, 5))


def test_tiles_come_in_the_order_of_their_paths(coloured):
    drawn, colours = coloured
    found = [tile.getpixel((4, 4)) for tile in load_tiles([image.path for image in drawn.images[:29]] * 4, 8)]
    assert all(near(one, other, 1) for one, other in zip(found, colours[:29] * 4, strict=True))


def test_a_map_without_clusters_or_classes_is_a_map_too(coloured, tmp_path):
    drawn, _ = coloured
    images = [MapImage(image.image_id, image.path) for image in drawn.images]
    plain = CollectionMap("plain", images, drawn.grid)
    draw_map(plain, tmp_path / "map.webp")
    write_map_page(plain, tmp_path / "map.html")
    assert all(grouping["names"] == [] for grouping in facts_of(tmp_path / "map.html")["groupings"])


def test_neighbouring_colours_of_groups_differ():
    colours = choose_group_colors(100)
    assert len(set(colours)) == 100
    rgb = np.array([[int(one[at : at + 2], 16) for at in (1, 3, 5)] for one in colours], int)
    assert (np.abs(np.diff(rgb, axis=0)).sum(axis=1) > 80).all()


@pytest.mark.parametrize("name", ["map.txt", "map"])
def test_a_map_needs_the_name_of_a_picture(coloured, tmp_path, name):
    with pytest.raises(UsageError, match="has no extension of a picture"):
        draw_map(coloured[0], tmp_path / name)


@pytest.mark.parametrize("write", [draw_map, write_map_page])
def test_a_map_of_nothing_or_of_too_much_is_a_usage_error(write, coloured, tmp_path):
    for images in ([], [coloured[0].images[0]] * (MAX_MAP_IMAGES + 1)):
        drawn = CollectionMap("x", images, snap_to_grid(np.zeros((0, 2), np.float32)))
        with pytest.raises(UsageError, match="lay out a sample of 1 to 100,000"):
            write(drawn, tmp_path / "map.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("write", [draw_map, write_map_page])
def test_a_map_that_cannot_be_saved_is_said_so(write, coloured, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SimsearchError, match="cannot be written"):
        write(coloured[0], tmp_path / "file" / "map.png")


@pytest.mark.parametrize("name", ["map.png", "map.html"])
def test_a_server_that_does_not_answer_is_waited_for_once(coloured, tmp_path, name):
    drawn = coloured[0]
    write = write_map_page if name.endswith("html") else draw_map
    with socket.create_server(("127.0.0.1", 0), backlog=256) as silent:  # takes connections, and never answers
        host = f"http://127.0.0.1:{silent.getsockname()[1]}"
        images = [MapImage(number, f"{host}/{number}.jpg") for number in range(29)] + [drawn.images[28]]
        with limit_patience(0.2):
            missing = write(CollectionMap("x", images, drawn.grid), tmp_path / name)
    assert len(missing) == 29
    assert all("127.0.0.1" in str(error) for error in missing)
    assert (tmp_path / name).stat().st_size > 0


# The page


def facts_of(page):
    text = page.read_text("utf-8")
    return json.loads(re.search(r'<script type="application/json" id="facts">(.*?)</script>', text, re.DOTALL)[1])


def sheets_of(page):
    found = re.findall(r'src="data:image/webp;base64,([^"]*)"', page.read_text("utf-8"))
    return [Image.open(io.BytesIO(base64.b64decode(sheet))).convert("RGB") for sheet in found]


@pytest.fixture(scope="module")
def page(coloured, tmp_path_factory):
    file = tmp_path_factory.mktemp("page") / "map.html"
    write_map_page(coloured[0], file)
    return file


def test_the_page_holds_every_picture_at_its_place_with_its_name(coloured, page):
    drawn, colours = coloured
    facts, (sheet,) = facts_of(page), sheets_of(page)
    tile, in_row = facts["tile"], facts["inRow"]
    assert facts["n"] == len(facts["names"]) == len(facts["ids"]) == 30
    for number, image in enumerate(drawn.images):
        middle = (number % in_row * tile + tile // 2, number // in_row * tile + tile // 2)
        if number < 29:
            assert near(sheet.getpixel(middle), colours[number], 6)
            assert near(bytes.fromhex(facts["average"][number]), colours[number], 1)
        text = os.fsencode(image.path).decode("utf-8", "replace")
        assert facts["root"] + facts["names"][number] == text
        assert facts["ids"][number] == image.image_id
        assert (facts["columns"][number], facts["rows"][number]) == (
            drawn.grid.columns[number],
            drawn.grid.rows[number],
        )
        place = [facts[axis][number] for axis in "xy"]
        assert place == pytest.approx(drawn.grid.exact[number].tolist(), abs=0.006)


def test_the_page_knows_classes_and_clusters(coloured, page):
    by_title = {grouping["title"]: grouping for grouping in facts_of(page)["groupings"]}
    assert by_title["Cluster"]["names"] == ["1 · </script> 100%", "2"]
    assert by_title["Cluster"]["of"] == [0, 1] * 15
    names = by_title["Class"]["names"]
    assert [names[group] for group in by_title["Class"]["of"]] == ["red & <b>", "blue"] * 15
    assert all(len(grouping["colours"]) == len(grouping["names"]) for grouping in by_title.values())


def test_groups_have_typical_images_and_clusters_the_names_that_are_given(coloured, page, tmp_path):
    by_title = {grouping["title"]: grouping for grouping in facts_of(page)["groupings"]}
    assert by_title["Cluster"]["typical"] == [[0, 2, 4], [1, 3, 5]]
    assert by_title["Class"]["typical"] == [[1, 3, 5], [0, 2, 4]]  # blue, red
    drawn = replace(coloured[0], names=("</script>", "goblet"), search_url="/?like=")
    write_map_page(drawn, tmp_path / "named.html")
    facts = facts_of(tmp_path / "named.html")
    assert facts["groupings"][0]["names"] == ["1 · </script> 100%", "2 · goblet"]
    assert facts["search"] == "/?like="


def test_no_name_can_end_a_script_or_become_a_tag(page):
    text = page.read_text("utf-8")
    assert text.count("<script") == text.count("</script") == 2
    assert "<map>" not in text
    assert text.count("My &lt;map&gt; &amp; &lt;/title&gt;") == 2


def test_a_name_that_is_no_utf8_has_the_address_of_its_bytes(coloured, page):
    addresses = facts_of(page)["addresses"]
    assert list(addresses) == ["7"]
    assert addresses["7"].startswith("file:///")
    assert addresses["7"].endswith("/caf%E9.png")


def test_the_page_asks_the_network_for_nothing(page):
    text = page.read_text("utf-8")
    assert set(re.findall(r'(?:src|href)="([^"#]{0,12})', text)) == {"data:image/w"}
    assert "@import" not in text
    assert "fetch(" not in text


@pytest.mark.long
def test_many_pictures_share_several_sheets_of_small_tiles(coloured, tmp_path):
    drawn, _ = coloured
    n = 9000
    images = [drawn.images[number % 2] for number in range(n)]
    places = np.random.default_rng(1).random((n, 2)).astype(np.float32)
    write_map_page(CollectionMap("many", images, snap_to_grid(places)), tmp_path / "map.html")
    facts, sheets = facts_of(tmp_path / "map.html"), sheets_of(tmp_path / "map.html")
    assert facts["tile"] == 48
    assert facts["sheets"] == len(sheets) == 2
    assert all(max(sheet.size) <= 4096 for sheet in sheets)
    assert (tmp_path / "map.html").stat().st_size < 12e6


def test_the_page_works_in_a_browser(page, tmp_path):
    browser = next((found for name in ("chromium", "google-chrome") if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip("no Chromium on this machine to open the page in")
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=9000"]
    command = [browser, *flags, f"--user-data-dir={tmp_path}", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert re.findall(r"CONSOLE.*", done.stderr) == []
    assert '<span id="count" aria-live="polite">30 images</span>' in done.stdout
    assert "1 · &lt;/script&gt; 100%" in done.stdout


# The projector


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    base = tmp_path_factory.mktemp("projector")
    for seed in range(10):
        draw_picture(base / "photos" / ("a" if seed < 5 else "b") / f"{seed}\tx.png", seed)
    oneshot.ingest(base / "index", [base / "photos"], HISTOGRAM)
    return base / "index"


def written(index, folder, **options):
    with Catalog.open(index) as catalog:
        return export_projector(catalog, catalog.list_models()[0], folder, **options)


def test_the_projector_folder_holds_vectors_metadata_and_sprite_in_one_order(index, tmp_path):
    made = written(index, tmp_path / "p")
    assert (made.n_points, made.n_images) == (10, 10)
    with Catalog.open(index) as catalog:
        stored = catalog.list_models()[0]
        ids = catalog.list_vector_ids(stored.id)
        expected = np.concatenate([rows for _, rows in catalog.iterate_vectors(stored, ids)])
        paths = [view.paths[0] for view in catalog.find_live_views(ids.tolist()).values()]
    assert np.loadtxt(tmp_path / "p" / "tensors.tsv", delimiter="\t") == pytest.approx(expected, abs=1e-5)
    lines = [line.split("\t") for line in (tmp_path / "p" / "metadata.tsv").read_text("utf-8").splitlines()]
    assert lines[0][:4] == ["name", "class", "path", "image_id"]
    assert {len(line) for line in lines} == {len(lines[0])}
    assert [line[2] for line in lines[1:]] == [path.replace("\t", " ") for path in paths]
    assert [line[1] for line in lines[1:]] == ["a"] * 5 + ["b"] * 5
    with Image.open(tmp_path / "p" / "sprite.png") as sprite:
        assert sprite.size == (4 * made.tile_px, 3 * made.tile_px)
        for number, tile in enumerate(load_tiles(paths, made.tile_px)):
            left, top = number % 4 * made.tile_px, number // 4 * made.tile_px
            assert sprite.crop((left, top, left + made.tile_px, top + made.tile_px)).tobytes() == tile.tobytes()


def test_no_field_of_the_metadata_is_a_formula(tmp_path):
    for seed in range(4):
        draw_picture(tmp_path / "photos" / ("=cmd|x" if seed < 2 else "b") / f"@{seed}.png", seed)
    oneshot.ingest(tmp_path / "index", [tmp_path / "photos"], HISTOGRAM)
    written(tmp_path / "index", tmp_path / "p")
    lines = [line.split("\t") for line in (tmp_path / "p" / "metadata.tsv").read_text("utf-8").splitlines()]
    assert [line[:2] for line in lines[1:3]] == [["'@0.png", "'=cmd|x"], ["'@1.png", "'=cmd|x"]]


def test_both_settings_name_the_files_by_relative_paths(index, tmp_path):
    made = written(index, tmp_path / "p")
    (config,) = json.loads((tmp_path / "p" / "projector_config.json").read_text())["embeddings"]
    with Catalog.open(index) as catalog:
        stored = catalog.list_models()[0]
    assert config["tensorShape"] == [10, stored.width]
    assert config["sprite"] == {"imagePath": "sprite.png", "singleImageDim": [made.tile_px] * 2}
    text = (tmp_path / "p" / "projector_config.pbtxt").read_text()
    named = dict(re.findall(r'(\w+): "([^"]*)"', text))
    assert named == {
        "tensor_name": stored.fingerprint,
        "metadata_path": config["metadataPath"],
        "tensor_path": config["tensorPath"],
        "image_path": "sprite.png",
    }
    assert re.findall(r"single_image_dim: (\d+)", text) == [str(made.tile_px)] * 2
    assert all((tmp_path / "p" / named[key]).is_file() for key in ("metadata_path", "tensor_path", "image_path"))


def test_a_larger_collection_gives_the_same_sample_for_the_same_seed(index, tmp_path):
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        made = written(index, tmp_path / name, n_most=6, seed=seed)
        assert (made.n_points, made.n_images) == (6, 10)
    one, same, other = ((tmp_path / name / "metadata.tsv").read_text() for name in ("one", "same", "other"))
    assert one == same != other


@pytest.mark.parametrize("n", [1, 2, 10, 5_000, 16_384, 16_385, 100_000])
def test_a_sprite_never_exceeds_what_the_projector_takes(n):
    sheet = plan_sprite(n)
    assert sheet.columns * sheet.rows >= n
    assert max(sheet.size) <= MAX_SPRITE_PX
    assert sheet.side_px == (64 if n <= 16_384 else 63 if n == 16_385 else 25)


def test_an_empty_collection_has_nothing_to_project(index, tmp_path):
    shutil.copytree(index, tmp_path / "index")
    oneshot.remove(tmp_path / "index", [str(index.parent / "photos")])
    with pytest.raises(ModelNotIndexed, match="has no images of backbone histogram"):
        written(tmp_path / "index", tmp_path / "p")
    assert not (tmp_path / "p").exists()


@pytest.mark.long
def test_a_map_of_real_photographs_can_be_drawn(shared, tmp_path):
    photos = sorted((shared / "photos" / "imagenet_sample").iterdir())[:200]
    images = [MapImage(number, str(path)) for number, path in enumerate(photos)]
    vectors = np.stack([np.asarray(tile, np.float32).ravel() - 128 for tile in load_tiles([str(p) for p in photos], 8)])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    places = np.random.default_rng(0).random((200, 2)).astype(np.float32)
    drawn = CollectionMap("photographs", images, snap_to_grid(places), find_clusters(vectors))
    draw_map(drawn, tmp_path / "map.png")
    write_map_page(drawn, tmp_path / "map.html")
    with Image.open(tmp_path / "map.png") as image:
        assert min(image.size) > 1_000
    assert facts_of(tmp_path / "map.html")["tile"] == 160
