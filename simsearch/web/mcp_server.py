"""A server of the Model Context Protocol: an assistant searches and looks at one collection. The only import of mcp.

It reads only: no tool writes to the collection, and none takes a path.
"""

from __future__ import annotations

import base64
import binascii
import functools
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mcp.server.mcpserver import Image as McpImage
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from PIL import Image, ImageDraw, ImageFont

from simsearch import __version__
from simsearch.collection import Collection
from simsearch.errors import SimsearchError, UsageError
from simsearch.images.decode import compute_default_max_pixels
from simsearch.images.thumbnails import render_thumbnail
from simsearch.models.weights import WeightsOptions
from simsearch.search.examples import Example, make_text_examples
from simsearch.search.query import Query
from simsearch.store.image_table import SortKey
from simsearch.store.snapshot import StoredImage
from simsearch.web.browse import BrowseQuery, CollectionBrowser
from simsearch.web.images import draw_gone_tile, read_stored_image, read_stored_images, read_stored_original
from simsearch.web.path_names import PathNames

_MAX_RESULTS = 100
_MAX_SHEET = 48
_THUMBNAIL_PX, _SHEET_PX, _CAPTION_PX, _COLUMNS = 640, 220, 20, 4
_READ_ONLY = ToolAnnotations(read_only_hint=True, destructive_hint=False, open_world_hint=False)
_INSTRUCTIONS = """A collection of pictures, indexed by simsearch. `facets` tells what there is; `search` finds pictures
by words, or like a stored picture (image_id) or a given one (Base64); `list_images` lists them by a filter;
`contact_sheet` shows several, `get_image` one. Filters: width >= 800 and class = 'lamp'; taken between 2024 and 2025;
name ~ 'img'; camera is missing."""


class CollectionTools:
    """The tools, for one open collection."""

    def __init__(self, collection: Collection, *, show_paths: bool = False, offline: bool = False) -> None:
        self._collection = collection
        self._folder = collection.folder
        self._browser = CollectionBrowser(collection.folder)
        self._show_paths = show_paths
        self._weights = WeightsOptions(offline=offline)

    def search(
        self,
        text: str = "",
        image_id: int | None = None,
        image_base64: str = "",
        unlike_text: str = "",
        where: str = "",
        k: int = 10,
    ) -> dict[str, Any]:
        """Find the pictures most similar to a text, to a stored picture, or to a given one. Several are averaged."""
        pictures = [] if image_id is None else [Example(image_id)]
        if image_base64:
            pictures.append(Example(_decode_base64(image_base64), name="the given picture"))
        texts = make_text_examples([text] if text else [], [unlike_text] if unlike_text else [])
        query = Query(
            examples=(*pictures, *texts), k=min(k, _MAX_RESULTS), where=where or None, exclude_self=True,
            weights=self._weights,
        )  # fmt: skip
        answer = self._collection.run_query(query)
        names = self._load_names()
        hits = [
            {"image_id": hit.image_id, "similarity": hit.similarity, "probability": hit.probability,
             "path": names.name(hit.path)}
            for hit in answer.hits
        ]  # fmt: skip
        return {"backbone": answer.backbone, "hits": hits, "notes": list(answer.notes)}

    def list_images(
        self, where: str = "", sort: SortKey = "id", descending: bool = False, start: int = 0, limit: int = 50
    ) -> dict[str, Any]:
        """List the pictures that match a filter, sorted by id, name, date, size or folder."""
        query = BrowseQuery(where, sort, "descending" if descending else "ascending")
        page = self._browser.list_page(query, min(max(1, limit), _MAX_RESULTS), start=max(0, start))
        images, names = read_stored_images(self._folder, page.image_ids), self._load_names()
        found = [_describe(images[image_id], names) for image_id in page.image_ids if image_id in images]
        return {"total": page.n_matches, "start": page.start, "images": found}

    def facets(self, where: str = "", limit: int = 20) -> dict[str, Any]:
        """Count the pictures that match a filter by class, folder, year, camera, format and own columns."""
        total, facets = self._browser.count_facets(where, min(max(1, limit), _MAX_RESULTS))
        return {
            "total": total,
            "facets": {
                facet.name: [{"value": one.value, "images": one.n_images, "where": one.where} for one in facet.values]
                for facet in facets
            },
        }

    def get_image(self, image_id: int) -> list[Any]:
        """Show one picture, with its size, files, date, camera and own columns."""
        image = read_stored_image(self._folder, image_id)
        return [_describe(image, self._load_names()), McpImage(data=_render(image, _THUMBNAIL_PX), format="webp")]

    def contact_sheet(self, image_ids: list[int]) -> list[Any]:
        """Show up to 48 pictures by their ids in one, each with its id below."""
        if not 1 <= len(image_ids) <= _MAX_SHEET:
            raise UsageError(f"{len(image_ids)} images", f"give 1 to {_MAX_SHEET} ids")
        images = read_stored_images(self._folder, image_ids)
        shown = [images[image_id] for image_id in image_ids if image_id in images]
        if not shown:
            raise UsageError("the collection has none of these images", "use ids of search or list_images")
        return [McpImage(data=_draw_sheet(shown), format="webp")]

    def _load_names(self) -> PathNames:
        return PathNames(self._browser.load_table().root, self._show_paths)


def make_mcp_server(tools: CollectionTools, name: str) -> MCPServer:
    """Make the server of some tools."""
    server = MCPServer(f"simsearch {name}", instructions=_INSTRUCTIONS, version=__version__, log_level="WARNING")
    documents: tuple[Callable[..., Any], ...] = (tools.search, tools.list_images, tools.facets)
    pictures: tuple[Callable[..., Any], ...] = (tools.get_image, tools.contact_sheet)
    for tool in documents:
        server.tool(annotations=_READ_ONLY)(_tell_errors(tool))
    for tool in pictures:
        server.tool(annotations=_READ_ONLY, structured_output=False)(_tell_errors(tool))
    return server


def _tell_errors(tool: Callable[..., Any]) -> Callable[..., Any]:
    """Make a tool tell the assistant its expected errors, which the package hides otherwise."""

    @functools.wraps(tool)
    def call(*arguments: Any, **options: Any) -> Any:
        try:
            return tool(*arguments, **options)
        except SimsearchError as error:
            raise ToolError(f"{error.problem}; {error.advice}") from error

    return call


def serve_by_stdio(folder: str, *, show_paths: bool, offline: bool) -> None:
    """Serve a collection on stdin and stdout until stdin ends."""
    with Collection.open(folder) as collection:
        tools = CollectionTools(collection, show_paths=show_paths, offline=offline)
        make_mcp_server(tools, Path(folder).resolve().name).run("stdio")


def _describe(image: StoredImage, names: PathNames) -> dict[str, Any]:
    return {
        "image_id": image.image_id,
        "paths": [names.name(file.path) for file in image.files],
        "width": image.width,
        "height": image.height,
        "format": image.format,
        "size_bytes": image.size_bytes,
        "taken_at": image.taken_at,
        "camera": image.camera,
        "columns": dict(image.columns),
    }


def _render(image: StoredImage, side_px: int) -> bytes:
    """Render a thumbnail as WebP; a gray tile if the file is gone."""
    try:
        raw = read_stored_original(image)
        return render_thumbnail(raw.data, raw.path, side_px, compute_default_max_pixels())
    except SimsearchError:
        return draw_gone_tile()


def _draw_sheet(images: Sequence[StoredImage]) -> bytes:
    columns = min(_COLUMNS, len(images))
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * _SHEET_PX, rows * (_SHEET_PX + _CAPTION_PX)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for number, image in enumerate(images):
        x, y = number % columns * _SHEET_PX, number // columns * (_SHEET_PX + _CAPTION_PX)
        tile = Image.open(io.BytesIO(_render(image, _SHEET_PX - 8)))
        tile.thumbnail((_SHEET_PX - 8, _SHEET_PX - 8))
        sheet.paste(tile, (x + (_SHEET_PX - tile.width) // 2, y + (_SHEET_PX - tile.height) // 2))
        draw.text((x + _SHEET_PX // 2, y + _SHEET_PX + 8), str(image.image_id), "black", font, anchor="mm")
    data = io.BytesIO()
    sheet.save(data, "WEBP", quality=82)
    return data.getvalue()


def _decode_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UsageError("image_base64 is not valid Base64", "encode the bytes of a picture file") from error
