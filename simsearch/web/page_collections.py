"""The start page of a server with several collections: a list of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from starlette.exceptions import HTTPException

from simsearch.web.api import list_engines
from simsearch.web.engine import SearchEngine
from simsearch.web.login import render_response
from simsearch.web.tiles import sample_tiles

_N_SAMPLES = 6

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class CollectionCard:
    """A collection in the list: its name, what its addresses begin with, its number of images, and ids of some."""

    name: str
    root: str
    n_images: int
    image_ids: Sequence[int]


@router.get("/")
async def collections_page(request: Request) -> Response:
    """List the collections of the server, each with some of its images."""
    cards = [await _describe_collection(engine) for engine in list_engines(request)]
    return render_response("collections.html.j2", collections=cards)


@router.get("/c/{name}")
async def collection_page(request: Request, name: str) -> Response:
    """Lead from the address of a collection without its last slash to its start page."""
    for engine in list_engines(request):
        if engine.settings.name == name:
            return RedirectResponse(f"{engine.root}/", 303)
    raise HTTPException(404, "there is no collection of this name")


async def _describe_collection(engine: SearchEngine) -> CollectionCard:
    info = await engine.load_info()
    tiles = await engine.run_image_work(lambda: sample_tiles(engine.folder, _N_SAMPLES))
    return CollectionCard(engine.settings.name, engine.root, info.n_images, [tile.image_id for tile in tiles])
