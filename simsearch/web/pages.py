"""The page: searches, images, duplicates, the map. Rendered here; scripts only make it nicer."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import os
import re
import urllib.parse
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Request, Response, UploadFile
from fastapi.responses import HTMLResponse, RedirectResponse

from simsearch.duplicates.results import TIERS, Tier
from simsearch.errors import ModelNotIndexed, UsageError
from simsearch.search.examples import Crop
from simsearch.search.results import Answer
from simsearch.text import replace_invalid_unicode
from simsearch.web.api import ImageId, fetch_picture, find_engine
from simsearch.web.engine import SearchEngine
from simsearch.web.errors import UploadExpired, to_error_response
from simsearch.web.images import THUMBNAIL_SIDES, load_stored_image, load_stored_images, render_thumbnail
from simsearch.web.page_state import PageState, PictureRef
from simsearch.web.query import MAX_EXAMPLES, MAX_OFFSET, SearchRequest, run_search
from simsearch.web.rendering import render_response
from simsearch.web.schemas import FileDocument
from simsearch.web.tiles import ImageTile, add_other_ranks, build_group_tiles, build_hit_tiles, sample_tiles

RESULTS_PER_PAGE = 48
_MAX_RELATED = 12
_MAX_GROUPS = 100
_QUERY_SIDE_PX = 640
_UPLOAD_CACHE_CONTROL = "private, max-age=3600"

_NO_RESULTS: dict[str, Any] = {"answers": [], "queries": [], "cut": None, "has_more": False, "complaint": None}

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class QueryPicture:
    """A picture that is asked with: where it is seen, and its name, if it has one."""

    pick: PictureRef
    address: str
    name: str


@router.get("/")
async def search_page(request: Request) -> Response:
    """What is like the pictures in the address; pictures to begin with, where there are none."""
    engine, screen = find_engine(request), PageState.parse(request.query_params.multi_items())
    if screen.is_empty:
        first = await engine.run_image_work(lambda: sample_tiles(engine))
        return await _render_page(request, "search.html.j2", screen=screen, tiles=[first], **_NO_RESULTS)
    queries = await engine.run_image_work(lambda: _list_query_pictures(screen, engine))
    try:
        answers = [await _search(screen, engine, backbone) for backbone in screen.backbones]
    except (UsageError, ModelNotIndexed) as error:  # said beside the question, which can then be put right
        said = to_error_response(error)
        values = _NO_RESULTS | {"queries": queries, "complaint": said}
        return await _render_page(request, "search.html.j2", said.status, screen=screen, tiles=[], **values)
    tiles = [await engine.run_image_work(functools.partial(build_hit_tiles, engine, answer)) for answer in answers]
    if len(tiles) > 1:
        tiles = [add_other_ranks(tiles[0], tiles[1]), add_other_ranks(tiles[1], tiles[0])]
    has_more = (
        any(len(answer.hits) == RESULTS_PER_PAGE for answer in answers)
        and screen.offset + RESULTS_PER_PAGE <= MAX_OFFSET
    )
    return await _render_page(
        request, "search.html.j2", screen=screen, answers=answers, tiles=tiles, queries=queries,
        cut=_parse_crop(screen),
        has_more=has_more, complaint=None,
    )  # fmt: skip


@router.post("/pictures")
async def take_pictures(
    request: Request,
    picture: Annotated[list[UploadFile], File(default_factory=list)],
    url: Annotated[str, Form(max_length=2000)] = "",
    state: Annotated[str, Form(max_length=10_000)] = "",
) -> Response:
    """Keep pictures that were sent, and go where they are asked with. `state` is the address they were sent from."""
    engine = find_engine(request)
    sent = [data for file in picture[:MAX_EXAMPLES] if (data := await file.read())]
    if url.strip():
        sent.append(await fetch_picture(url, engine, request.app.state.fetcher))
    if not sent:
        raise UsageError("no picture was sent", "choose one, drop one, or paste one")
    for data in sent:  # what is none is told here, and not kept
        await engine.run_image_work(
            functools.partial(render_thumbnail, data, "the picture that was sent", 64, _find_max_pixels(engine))
        )
    names = tuple(dict.fromkeys(engine.uploads.put(data) for data in sent))
    before = PageState.parse(_parse_query_string(state))
    return RedirectResponse(before.address(like=names, unlike=(), crop=""), 303)


@router.get("/pictures/{name}")
async def picture(request: Request, name: str) -> Response:
    """A picture that was sent, as it is shown beside its answers."""
    engine = find_engine(request)
    data = _load_upload(name, engine)
    small = await engine.run_image_work(
        lambda: render_thumbnail(data, "the picture", _QUERY_SIDE_PX, _find_max_pixels(engine))
    )
    return Response(small, media_type="image/webp", headers={"Cache-Control": _UPLOAD_CACHE_CONTROL})


@router.get("/images/{image_id}")
async def image_page(request: Request, image_id: ImageId) -> Response:
    """What is known of an image, with what is nearest to it; where a picture is wanted, the picture."""
    engine = find_engine(request)
    if request.headers.get("sec-fetch-dest") == "image":
        return RedirectResponse(f"/api/v1/images/{image_id}/thumbnail?side={THUMBNAIL_SIDES[-1]}", 303)
    image = await engine.run_image_work(lambda: load_stored_image(engine.folder, image_id))
    related: list[ImageTile] = []
    with contextlib.suppress(ModelNotIndexed):  # an image that the model has no vector of has no neighbours
        answer = await run_search(SearchRequest(like=[image_id], k=_MAX_RELATED, exclude_self=True), engine)
        related = await engine.run_image_work(lambda: build_hit_tiles(engine, answer))
    image_name = replace_invalid_unicode(Path(image.files[0].path).name)
    files = [
        FileDocument.model_validate(asdict(file) | {"path": replace_invalid_unicode(file.path)}) for file in image.files
    ]
    return await _render_page(
        request, "image.html.j2", image=image, image_name=image_name, files=files, related=related, screen=PageState()
    )


@router.get("/duplicates")
async def duplicates_page(request: Request, tier: Tier = "near") -> Response:
    """What the collection holds more than once."""
    engine = find_engine(request)
    making = await engine.find_duplicates(tier)
    if not making.is_done:
        return await _render_page(request, "making.html.j2", what="duplicates", making=making)
    report = making.result()
    groups = report.groups[:_MAX_GROUPS]
    tiles = await engine.run_image_work(lambda: [build_group_tiles(engine, group) for group in groups])
    return await _render_page(
        request, "duplicates.html.j2", report=report, groups=list(zip(groups, tiles, strict=True)), tier=tier,
        tiers=TIERS, screen=PageState(), shown=replace_invalid_unicode,
    )  # fmt: skip


@router.get("/map")
async def map_page(request: Request) -> Response:
    """The collection laid out in the plane."""
    making = await find_engine(request).draw_map()
    if not making.is_done:
        return await _render_page(request, "making.html.j2", what="the map", making=making)
    making.result()
    return await _render_page(request, "map.html.j2")


@router.get("/map/view")
async def map_view(request: Request) -> Response:
    """The map itself, for the frame in its page: the one that `simsearch map` writes."""
    making = await find_engine(request).draw_map()
    if not making.is_done:
        return RedirectResponse("/map", 303)
    page = making.result()
    headers = {"Content-Security-Policy": _build_policy(page), "X-Frame-Options": "SAMEORIGIN"}
    return HTMLResponse(page, headers=headers | {"Cache-Control": "private, no-cache"})


def _build_policy(page: bytes) -> str:
    """A policy that allows the scripts and styles that are in a page of ours, by their digests, and no others."""
    allowed = {}
    for element in (b"script", b"style"):
        found = re.findall(b"<%s>(.*?)</%s>" % (element, element), page, re.DOTALL)
        digests = (base64.b64encode(hashlib.sha256(text).digest()).decode() for text in found)
        allowed[element] = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; img-src 'self' data:; script-src {allowed[b'script']}; style-src {allowed[b'style']}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    )


async def _render_page(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    engine = find_engine(request)
    info = await engine.load_info()
    return render_response(
        template, status, info=info, n_answers=RESULTS_PER_PAGE, name=Path(os.path.abspath(engine.folder)).name,
        settings=engine.settings, backbones=[model["backbone"] for model in info["models"]],
        path=request.url.path, **values,
    )  # fmt: skip


async def _search(screen: PageState, engine: SearchEngine, backbone: str) -> Answer:
    like = [_load_example(pick, engine) for pick in screen.like]
    return await run_search(
        SearchRequest(
            like=like, unlike=[_load_example(pick, engine) for pick in screen.unlike], crop=screen.crop or None,
            where=screen.where or None, k=RESULTS_PER_PAGE, offset=screen.offset, min_similarity=screen.least,
            exclude_self=all(isinstance(pick, int) for pick in like), backbone=backbone or None,
        ),
        engine,
    )  # fmt: skip


def _parse_crop(screen: PageState) -> Crop | None:
    """The part that is asked with, where it is in fractions: one in px is no part of a picture of unknown size."""
    crop = Crop.parse(screen.crop) if screen.crop else None
    is_fraction = crop is not None and max(crop.x, crop.y, crop.width, crop.height) <= 1
    return crop if is_fraction else None


def _load_example(pick: PictureRef, engine: SearchEngine) -> int | tuple[str, bytes]:
    return pick if isinstance(pick, int) else ("the picture that was sent", _load_upload(pick, engine))


def _load_upload(name: str, engine: SearchEngine) -> bytes:
    data = engine.uploads.get(name)
    if data is None:
        raise UploadExpired("that picture is not kept here any more", "drop it on the page again")
    return data


def _find_max_pixels(engine: SearchEngine) -> int:
    return engine.settings.max_pixels


def _list_query_pictures(screen: PageState, engine: SearchEngine) -> list[QueryPicture]:
    picks = [*screen.like, *screen.unlike]
    images = load_stored_images(engine.folder, [pick for pick in picks if isinstance(pick, int)])
    found = []
    for pick in picks:
        if isinstance(pick, int):
            name = replace_invalid_unicode(Path(images[pick].files[0].path).name) if pick in images else ""
            found.append(QueryPicture(pick, f"/api/v1/images/{pick}/thumbnail?side={_QUERY_SIDE_PX}", name))
        else:
            found.append(QueryPicture(pick, f"/pictures/{pick}", ""))
    return found


def _parse_query_string(state: str) -> list[tuple[str, str]]:
    return urllib.parse.parse_qsl(state.partition("?")[2])
