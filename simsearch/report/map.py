"""A map of a collection: its pictures laid out in the plane, as one PNG or as one page to walk about in."""

from __future__ import annotations

import base64
import colorsys
import html
import io
import json
import os
import urllib.parse
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from simsearch.errors import UsageError
from simsearch.files import replace_output_file
from simsearch.report.drawing.tiles import TileSheet, load_tiles
from simsearch.sources.addresses import find_common_folder
from simsearch.text import replace_invalid_unicode
from simsearch.visualization.clusters import Cluster
from simsearch.visualization.tsne import GridLayout

MAX_MAP_IMAGES = 50_000
"""More pictures than this are not readable on one map; a caller draws a sample of them."""

_PNG_SIDE_PX = 8_000
_MIN_CELL_PX, _MAX_CELL_PX = 20, 104
_FRAME_SHARE = 0.06
_MARGIN_PX, _CAPTION_PX = 40, 72
_PAPER, _INK, _FAINT = "#ffffff", "#1d1f23", "#7b818a"

_PAGE_PIXELS = 24e6
_MIN_TILE_PX, _MAX_TILE_PX = 24, 160
_SHEET_PX = 4_096  # what every browser can draw from
_WEBP_QUALITY = 80


@dataclass(frozen=True, slots=True)
class MapImage:
    """A picture on the map. `label` is its class, where there are classes."""

    image_id: int
    path: str
    label: str | None = None


@dataclass(frozen=True, slots=True)
class CollectionMap:
    """What is drawn: images with their places on a grid, and their clusters.

    `clusters` hold row numbers of `images`; there may be none. `title` is text.
    """

    title: str
    images: Sequence[MapImage]
    grid: GridLayout
    clusters: Sequence[Cluster] = ()


def draw_map(drawn: CollectionMap, file: Path) -> None:
    """Draw a PNG, JPEG or WebP: every picture's middle square in its cell, framed in the colour of its cluster.

    Cells are at most 104 px wide, and so many that the whole is about 8,000 px wide at most.

    Raises `UsageError` when there are too many images or the extension means no picture, `SimsearchError` when it
    cannot be saved.
    """
    _check_size(drawn)
    if file.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise UsageError(f"{file} has no extension of a picture", "name it .png, .jpg or .webp, or .html for a page")
    columns, rows = drawn.grid.columns - drawn.grid.columns.min(), drawn.grid.rows - drawn.grid.rows.min()
    n_cells = 1 + max(int(columns.max()), int(rows.max()))
    cell_px = min(_MAX_CELL_PX, max(_MIN_CELL_PX, _PNG_SIDE_PX // n_cells))
    width = max((int(columns.max()) + 1) * cell_px, 480) + 2 * _MARGIN_PX
    below = round(_CAPTION_PX * _compute_caption_scale(width))
    image = Image.new("RGB", (width, (int(rows.max()) + 1) * cell_px + 2 * _MARGIN_PX + below), _PAPER)
    pen = ImageDraw.Draw(image)
    colours, own = choose_group_colors(len(drawn.clusters)), _assign_clusters(drawn)
    frame = max(1, round(_FRAME_SHARE * cell_px / 2))
    inset = frame if drawn.clusters else 0
    for number, tile in enumerate(load_tiles((one.path for one in drawn.images), cell_px - 2 * frame - 2 * inset)):
        left, top = (int(axis[number]) * cell_px + frame + _MARGIN_PX for axis in (columns, rows))
        if drawn.clusters:
            last = cell_px - 2 * frame - 1
            pen.rectangle([left, top, left + last, top + last], colours[own[number]])
        image.paste(tile, (left + inset, top + inset))
    _draw_caption(image, pen, drawn)
    with replace_output_file(file) as workshop:
        image.save(workshop)


def write_map_page(drawn: CollectionMap, file: Path) -> None:
    """Write one HTML file that needs nothing else: the map to pan, zoom, colour and filter, with all thumbnails.

    Thumbnails share 24 million px (160 px wide where there are few, 48 px at 10,000 images, 24 px at 50,000), which
    makes a page of at most about 12 MB. A picture that is opened is shown from its file, where the page can reach it.

    Raises `UsageError` when there are too many images, `SimsearchError` when it cannot be written.
    """
    _check_size(drawn)
    wanted_px = int((_PAGE_PIXELS / len(drawn.images)) ** 0.5)
    tile_px = min(_MAX_TILE_PX, max(_MIN_TILE_PX, wanted_px)) // 8 * 8  # on the blocks that WebP compresses
    n_in_row = _SHEET_PX // tile_px
    colours: list[str] = []
    template = resources.files("simsearch.report").joinpath("templates/map.html").read_text("utf-8")
    head, middle, tail = template.split("<!--split-->")
    with replace_output_file(file) as workshop, workshop.open("w", encoding="utf-8") as page:
        page.write(head.replace("<!--title-->", html.escape(replace_invalid_unicode(drawn.title))))
        n_sheets = 0
        for sheet in _encode_sheets(drawn.images, TileSheet(tile_px, n_in_row, n_in_row), colours):
            page.write(f'<img class="sheet" alt="" hidden src="data:image/webp;base64,{sheet}">\n')
            n_sheets += 1
        page.write(middle)
        facts = _build_page_data(drawn) | {"tile": tile_px, "inRow": n_in_row, "sheets": n_sheets, "average": colours}
        page.write(json.dumps(facts, separators=(",", ":")).replace("<", "\\u003c"))
        page.write(tail)


def choose_group_colors(n: int) -> list[str]:
    """n colours as #rrggbb, those next to each other far apart: hues by the golden angle, in three lightnesses."""
    colours = []
    for number in range(n):
        hue, lightness = (0.56 + number * 0.381966) % 1, (0.50, 0.62, 0.40)[number % 3]
        rgb = colorsys.hls_to_rgb(hue, lightness, 0.62)
        colours.append("#" + "".join(f"{round(255 * part):02x}" for part in rgb))
    return colours


def _check_size(drawn: CollectionMap) -> None:
    n = len(drawn.images)
    if not 0 < n <= MAX_MAP_IMAGES:
        raise UsageError(f"a map cannot hold {n:,} images", f"lay out a sample of 1 to {MAX_MAP_IMAGES:,}")


def _assign_clusters(drawn: CollectionMap) -> NDArray[np.int64]:
    """Which of the clusters (from 0) each image is in."""
    own = np.full(len(drawn.images), -1)
    for number, cluster in enumerate(drawn.clusters):
        own[list(cluster.members)] = number
    return own


def _draw_caption(image: Image.Image, pen: ImageDraw.ImageDraw, drawn: CollectionMap) -> None:
    n, k = len(drawn.images), len(drawn.clusters)
    scale = _compute_caption_scale(image.width)
    large, small = ImageFont.load_default(round(26 * scale)), ImageFont.load_default(round(17 * scale))
    title = replace_invalid_unicode(drawn.title)
    while len(title) > 4 and pen.textlength(title, large) > image.width - 2 * _MARGIN_PX:
        title = title[:-2] + "…"
    top = image.height - _MARGIN_PX - round(_CAPTION_PX * scale)
    pen.text((_MARGIN_PX, top + 12 * scale), title, _INK, large)
    framed = f" · frames: {k} clusters" if k else ""
    pen.text((_MARGIN_PX, top + 46 * scale), f"{n:,} images, alike ones near each other{framed}", _FAINT, small)


def _compute_caption_scale(width_px: int) -> float:
    """How much larger the caption is than on a small map: readable where the whole picture is looked at."""
    return max(1.0, width_px / 2_400)


def _encode_sheets(images: Sequence[MapImage], sheet: TileSheet, colours: list[str]) -> Iterator[str]:
    """The tiles in sheets, base64 of WebP each; the tiles' mean colours are added to `colours`."""
    n_in_sheet = sheet.columns * sheet.rows
    made = load_tiles((image.path for image in images), sheet.side_px)
    for first in range(0, len(images), n_in_sheet):
        n = min(n_in_sheet, len(images) - first)
        picture = Image.new("RGB", (sheet.size[0], -(-n // sheet.columns) * sheet.side_px), "#808080")
        for number in range(n):
            tile = next(made)
            picture.paste(tile, sheet.locate_tile(number))
            mean = tile.resize((1, 1), Image.Resampling.BOX).tobytes()
            colours.append(mean.hex())
        packed = io.BytesIO()
        picture.save(packed, "WEBP", quality=_WEBP_QUALITY, method=4)
        yield base64.b64encode(packed.getbuffer()).decode()


def _build_page_data(drawn: CollectionMap) -> dict[str, Any]:
    """What the page's script reads: columns of numbers and texts, one entry an image."""
    paths = [image.path for image in drawn.images]
    root = _find_root(paths)
    names = [replace_invalid_unicode(path[len(root) :]) for path in paths]
    odd = {number: _build_url(path) for number, path in enumerate(paths) if _needs_address(path)}
    labels, label_rows = _number_labels(image.label for image in drawn.images)
    own = _assign_clusters(drawn)
    return {
        "n": len(paths),
        "root": replace_invalid_unicode(root),
        "names": names,
        "addresses": odd,
        "ids": [image.image_id for image in drawn.images],
        "side": drawn.grid.side,
        "columns": drawn.grid.columns.tolist(),
        "rows": drawn.grid.rows.tolist(),
        "x": np.round(drawn.grid.exact[:, 0], 2).tolist(),
        "y": np.round(drawn.grid.exact[:, 1], 2).tolist(),
        "groupings": [
            _build_grouping("Cluster", [_format_cluster(one) for one in drawn.clusters], own.tolist()),
            _build_grouping("Class", [replace_invalid_unicode(label) for label in labels], label_rows),
        ],
    }


def _build_grouping(title: str, names: Sequence[str], rows: Sequence[int]) -> dict[str, Any]:
    return {"title": title, "names": list(names), "colours": choose_group_colors(len(names)), "of": list(rows)}


def _format_cluster(cluster: Cluster) -> str:
    """Its number, with its commonest class where there is one."""
    if cluster.label is None:
        return f"{cluster.number}"
    return f"{cluster.number} · {replace_invalid_unicode(cluster.label)} {cluster.label_share:.0%}"


def _number_labels(labels: Iterable[str | None]) -> tuple[list[str], list[int]]:
    """The labels, the commonest first, and each image's as a number; -1 for none."""
    listed = list(labels)
    counts = Counter(label for label in listed if label is not None)
    names = sorted(counts, key=lambda name: (-counts[name], name))
    numbers = {name: number for number, name in enumerate(names)}
    return names, [-1 if label is None else numbers[label] for label in listed]


def _find_root(paths: Sequence[str]) -> str:
    """The folder that all paths lie in, with its separator, or nothing."""
    common = find_common_folder(paths)
    return os.path.join(common, "") if common else ""


def _needs_address(path: str) -> bool:
    """Whether the page cannot make the file's address from its text."""
    return not os.path.isabs(path) or replace_invalid_unicode(path) != path


def _build_url(path: str) -> str:
    if "://" in path:
        return replace_invalid_unicode(path)
    return "file://" + urllib.parse.quote(os.fsencode(os.path.abspath(path)))
