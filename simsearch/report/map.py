"""A map of a collection: its images laid out in the plane, as a picture or as an interactive HTML page."""

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
from PIL import Image

from simsearch.errors import ImageError, UsageError
from simsearch.files import replace_output_file
from simsearch.report.drawing.canvas import FAINT, INK, Canvas, check_extension
from simsearch.report.drawing.tiles import MAX_WAIT_S, TileSheet, load_tiles
from simsearch.sources.addresses import find_common_folder
from simsearch.sources.retry import limit_patience
from simsearch.text import replace_invalid_unicode
from simsearch.visualization.clusters import Cluster
from simsearch.visualization.grid import GridLayout

MAX_MAP_IMAGES = 100_000
"""A map of more images is not readable; callers draw a sample."""

_PNG_SIDE_PX = 8_000
_MIN_CELL_PX, _MAX_CELL_PX = 20, 104
_FRAME_SHARE = 0.06
_MARGIN_PX, _CAPTION_PX = 40, 72
_MIN_WIDTH_PX = 480
_CAPTION_REFERENCE_PX = 2_400

_PAGE_PIXELS = 24e6
_MIN_TILE_PX, _MAX_TILE_PX = 16, 160
_SHEET_PX = 4_096
"""Every browser can draw from pictures of this width."""

_WEBP_QUALITY = 80
_N_TYPICAL = 3


@dataclass(frozen=True, slots=True)
class MapImage:
    """An image on the map. `label` is its class, None where there are no classes.

    `url` is the link of the image on the page; None for a link to its file.
    """

    image_id: int
    path: str
    label: str | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class CollectionMap:
    """Images with their positions on a grid, and their clusters.

    The members of `clusters` are positions in `images`; there may be no clusters. `names` are those of the clusters,
    empty ones for clusters without a name. `title` is plain text. `search_url` is the beginning of the URL of a search
    with an image, to which its id is appended; empty where no server searches.
    """

    title: str
    images: Sequence[MapImage]
    grid: GridLayout
    clusters: Sequence[Cluster] = ()
    names: Sequence[str] = ()
    search_url: str = ""


@dataclass(frozen=True, slots=True)
class MapGrouping:
    """A way to group the images of a map: names and colors of the groups, and the group of each image (-1: none).

    `typical` has the positions of a few images of each group, for the legend.
    """

    title: str
    names: Sequence[str]
    groups: Sequence[int]
    typical: Sequence[Sequence[int]]

    def to_dict(self) -> dict[str, Any]:
        """The form that the script of the page reads."""
        colors = choose_group_colors(len(self.names))
        lists = {"names": list(self.names), "of": list(self.groups), "typical": [list(some) for some in self.typical]}
        return {"title": self.title, "colours": colors, **lists}


def draw_map(map_: CollectionMap, file: Path) -> tuple[ImageError, ...]:
    """Draw a PNG, JPEG or WebP: the central square of each image in its cell, with a frame in its cluster's color.

    Cells are at most 104 px wide, and smaller where the picture would be wider than about 8,000 px. Pictures that
    cannot be read are crossed squares, and their errors are returned. A server that does not answer is waited for
    `MAX_WAIT_S` seconds.

    Raises `UsageError` when there are too many images or the extension is not that of a picture format,
    `SimsearchError` when the file cannot be written.
    """
    _check_size(map_)
    check_extension(file, "use .png, .jpg or .webp for a picture, or .html for a page")
    columns, rows = map_.grid.columns - map_.grid.columns.min(), map_.grid.rows - map_.grid.rows.min()
    n_cells = 1 + max(int(columns.max()), int(rows.max()))
    cell_px = min(_MAX_CELL_PX, max(_MIN_CELL_PX, _PNG_SIDE_PX // n_cells))
    width = max((int(columns.max()) + 1) * cell_px, _MIN_WIDTH_PX) + 2 * _MARGIN_PX
    caption_px = round(_CAPTION_PX * _compute_caption_scale(width))
    canvas = Canvas(width, (int(rows.max()) + 1) * cell_px + 2 * _MARGIN_PX + caption_px)
    colors, clusters = choose_group_colors(len(map_.clusters)), _assign_clusters(map_)
    frame = max(1, round(_FRAME_SHARE * cell_px / 2))
    inset = frame if map_.clusters else 0
    failures: list[ImageError] = []
    with limit_patience(MAX_WAIT_S):
        tiles = load_tiles((image.path for image in map_.images), cell_px - 2 * frame - 2 * inset, failures.append)
        for number, tile in enumerate(tiles):
            left, top = (int(axis[number]) * cell_px + frame + _MARGIN_PX for axis in (columns, rows))
            if map_.clusters:
                last = cell_px - 2 * frame - 1
                canvas.draw.rectangle([left, top, left + last, top + last], colors[clusters[number]])
            canvas.paste(tile, (left + inset, top + inset))
    _draw_caption(canvas, map_)
    canvas.save(file)
    return tuple(failures)


def write_map_page(map_: CollectionMap, file: Path) -> tuple[ImageError, ...]:
    """Write one self-contained HTML file: a map to pan, zoom, color and filter, with all thumbnails.

    Thumbnails share 24 million px (160 px wide for few images, 48 px for 10,000, 24 px for 40,000, 16 px for 100,000),
    so that the page has at most about 12 MB of pictures. The page opens an image from its own file, where the browser
    can reach it. Returns and waits as `draw_map` does.

    Raises `UsageError` when there are too many images, `SimsearchError` when the file cannot be written.
    """
    _check_size(map_)
    fitting_px = int((_PAGE_PIXELS / len(map_.images)) ** 0.5)
    tile_px = min(_MAX_TILE_PX, max(_MIN_TILE_PX, fitting_px)) // 8 * 8  # WebP compresses blocks of 8 px
    n_in_row = _SHEET_PX // tile_px
    colors: list[str] = []
    failures: list[ImageError] = []
    template = resources.files("simsearch.report").joinpath("templates/map.html").read_text("utf-8")
    head, middle, tail = template.split("<!--split-->")
    with replace_output_file(file) as temporary, temporary.open("w", encoding="utf-8") as page:
        page.write(head.replace("<!--title-->", html.escape(replace_invalid_unicode(map_.title))))
        n_sheets = 0
        with limit_patience(MAX_WAIT_S):
            tiles = load_tiles((image.path for image in map_.images), tile_px, failures.append)
            for sheet in _encode_sheets(tiles, len(map_.images), TileSheet(tile_px, n_in_row, n_in_row), colors):
                page.write(f'<img class="sheet" alt="" hidden src="data:image/webp;base64,{sheet}">\n')
                n_sheets += 1
        page.write(middle)
        data = _build_page_data(map_) | {"tile": tile_px, "inRow": n_in_row, "sheets": n_sheets, "average": colors}
        page.write(json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"))
        page.write(tail)
    return tuple(failures)


def choose_group_colors(n: int) -> list[str]:
    """Choose n colors, #rrggbb: hues by the golden angle, in three lightnesses, so that neighbors differ clearly."""
    colors = []
    for number in range(n):
        hue, lightness = (0.56 + number * 0.381966) % 1, (0.50, 0.62, 0.40)[number % 3]
        rgb = colorsys.hls_to_rgb(hue, lightness, 0.62)
        colors.append("#" + "".join(f"{round(255 * part):02x}" for part in rgb))
    return colors


def _check_size(map_: CollectionMap) -> None:
    n = len(map_.images)
    if not 0 < n <= MAX_MAP_IMAGES:
        raise UsageError(f"a map cannot show {n:,} images", f"lay out a sample of 1 to {MAX_MAP_IMAGES:,}")


def _assign_clusters(map_: CollectionMap) -> NDArray[np.int64]:
    """The position in `clusters` of the cluster of each image, -1 for none."""
    positions = np.full(len(map_.images), -1)
    for number, cluster in enumerate(map_.clusters):
        positions[list(cluster.members)] = number
    return positions


def _draw_caption(canvas: Canvas, map_: CollectionMap) -> None:
    n, k = len(map_.images), len(map_.clusters)
    scale = _compute_caption_scale(canvas.image.width)
    width_px = canvas.image.width - 2 * _MARGIN_PX
    top = canvas.image.height - _MARGIN_PX - round(_CAPTION_PX * scale)
    canvas.draw_name((_MARGIN_PX, top + round(12 * scale)), map_.title, round(26 * scale), width_px, INK)
    frames = f" · frames: {k} clusters" if k else ""
    text = f"{n:,} images, similar ones near each other{frames}"
    canvas.draw_name((_MARGIN_PX, top + round(46 * scale)), text, round(17 * scale), width_px, FAINT)


def _compute_caption_scale(width_px: int) -> float:
    """The factor that keeps the caption readable when the whole picture is fitted to a screen."""
    return max(1.0, width_px / _CAPTION_REFERENCE_PX)


def _encode_sheets(tiles: Iterator[Image.Image], n_tiles: int, sheet: TileSheet, colors: list[str]) -> Iterator[str]:
    """Yield the tiles in sheets, each a base64 WebP; the mean color of each tile is appended to `colors`."""
    n_in_sheet = sheet.columns * sheet.rows
    for first in range(0, n_tiles, n_in_sheet):
        n = min(n_in_sheet, n_tiles - first)
        picture = Image.new("RGB", (sheet.size[0], -(-n // sheet.columns) * sheet.side_px), "#808080")
        for number in range(n):
            tile = next(tiles)
            picture.paste(tile, sheet.locate_tile(number))
            colors.append(tile.resize((1, 1), Image.Resampling.BOX).tobytes().hex())
        packed = io.BytesIO()
        picture.save(packed, "WEBP", quality=_WEBP_QUALITY, method=4)
        yield base64.b64encode(packed.getbuffer()).decode()


def _build_page_data(map_: CollectionMap) -> dict[str, Any]:
    """Build the data that the script of the page reads: columns of numbers and texts, one entry per image."""
    paths = [image.path for image in map_.images]
    root = _find_root(paths)
    labels, label_numbers = _number_labels(image.label for image in map_.images)
    groupings = (
        MapGrouping(
            "Cluster",
            _format_clusters(map_),
            _assign_clusters(map_).tolist(),
            [one.members[:_N_TYPICAL] for one in map_.clusters],
        ),
        MapGrouping(
            "Class",
            [replace_invalid_unicode(label) for label in labels],
            label_numbers,
            _list_firsts(label_numbers, len(labels)),
        ),
    )
    return {
        "n": len(paths),
        "search": map_.search_url,
        "root": "" if all(image.url for image in map_.images) else replace_invalid_unicode(root),
        "names": [replace_invalid_unicode(path[len(root) :]) for path in paths],
        "addresses": {
            number: image.url or _build_url(image.path)
            for number, image in enumerate(map_.images)
            if image.url is not None or _needs_url(image.path)
        },
        "ids": [image.image_id for image in map_.images],
        "side": map_.grid.side,
        "columns": map_.grid.columns.tolist(),
        "rows": map_.grid.rows.tolist(),
        "x": np.round(map_.grid.exact[:, 0], 2).tolist(),
        "y": np.round(map_.grid.exact[:, 1], 2).tolist(),
        "groupings": [grouping.to_dict() for grouping in groupings],
    }


def _format_clusters(map_: CollectionMap) -> list[str]:
    """Format the numbers of the clusters with their names, and the share of the class that is the name."""
    names = map_.names or [cluster.label or "" for cluster in map_.clusters]
    formatted = []
    for cluster, name in zip(map_.clusters, names, strict=True):
        share = f" {cluster.label_share:.0%}" if name and name == cluster.label else ""
        formatted.append(f"{cluster.number} · {replace_invalid_unicode(name)}{share}" if name else f"{cluster.number}")
    return formatted


def _list_firsts(groups: Sequence[int], n_groups: int) -> list[list[int]]:
    """List the positions of the first images of each group."""
    firsts: list[list[int]] = [[] for _ in range(n_groups)]
    for position, group in enumerate(groups):
        if group >= 0 and len(firsts[group]) < _N_TYPICAL:
            firsts[group].append(position)
    return firsts


def _number_labels(labels: Iterable[str | None]) -> tuple[list[str], list[int]]:
    """Sort the labels by frequency, and number the label of each image; -1 for none."""
    listed = list(labels)
    counts = Counter(label for label in listed if label is not None)
    names = sorted(counts, key=lambda name: (-counts[name], name))
    numbers = {name: number for number, name in enumerate(names)}
    return names, [-1 if label is None else numbers[label] for label in listed]


def _find_root(paths: Sequence[str]) -> str:
    """Find the folder that contains all paths, with a separator at its end; empty where there is none."""
    common = find_common_folder(paths)
    return os.path.join(common, "") if common else ""


def _needs_url(path: str) -> bool:
    """Whether the page cannot derive the URL of a file from its name."""
    return not os.path.isabs(path) or replace_invalid_unicode(path) != path


def _build_url(path: str) -> str:
    if "://" in path:
        return replace_invalid_unicode(path)
    return "file://" + urllib.parse.quote(os.fsencode(os.path.abspath(path)))
