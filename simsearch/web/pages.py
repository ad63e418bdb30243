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

from simsearch.collection import Answer, Crop
from simsearch.duplicates.results import TIERS, Tier
from simsearch.errors import ModelNotIndexed, UsageError
from simsearch.web.api import ImageId, engine_of, fetched
from simsearch.web.engine import Engine
from simsearch.web.errors import Gone, refusal
from simsearch.web.images import THUMBNAIL_SIDES, rendition, stored_image, stored_images
from simsearch.web.page_state import Pick, Screen
from simsearch.web.query import MOST_EXAMPLES, MOST_OFFSET, Question, answered
from simsearch.web.rendering import rendered
from simsearch.web.schemas import FileDocument, shown
from simsearch.web.tiles import Tile, beginnings, compared, group_tiles, tiles_of

N_ANSWERS = 48
_N_RELATED = 12
_MOST_GROUPS = 100
_QUERY_SIDE_PX = 640
_UPLOADS_KEPT = "private, max-age=3600"

_NO_ANSWER: dict[str, Any] = {"answers": [], "queries": [], "cut": None, "has_more": False, "complaint": None}

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture that is asked with: where it is seen, and its name, if it has one."""

    pick: Pick
    address: str
    name: str


@router.get("/")
async def search_page(request: Request) -> Response:
    """What is like the pictures in the address; pictures to begin with, where there are none."""
    engine, screen = engine_of(request), Screen.parse(request.query_params.multi_items())
    if screen.is_empty:
        first = await engine.read(lambda: beginnings(engine))
        return await _page(request, "search.html.j2", screen=screen, tiles=[first], **_NO_ANSWER)
    queries = await engine.read(lambda: _queries(screen, engine))
    try:
        answers = [await _answer(screen, engine, backbone) for backbone in screen.backbones]
    except (UsageError, ModelNotIndexed) as error:  # said beside the question, which can then be put right
        said = refusal(error)
        values = _NO_ANSWER | {"queries": queries, "complaint": said}
        return await _page(request, "search.html.j2", said.status, screen=screen, tiles=[], **values)
    tiles = [await engine.read(functools.partial(tiles_of, engine, answer)) for answer in answers]
    if len(tiles) > 1:
        tiles = [compared(tiles[0], tiles[1]), compared(tiles[1], tiles[0])]
    has_more = any(len(answer.hits) == N_ANSWERS for answer in answers) and screen.offset + N_ANSWERS <= MOST_OFFSET
    return await _page(
        request, "search.html.j2", screen=screen, answers=answers, tiles=tiles, queries=queries, cut=_cut(screen),
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
    engine = engine_of(request)
    sent = [data for file in picture[:MOST_EXAMPLES] if (data := await file.read())]
    if url.strip():
        sent.append(await fetched(url, engine, request.app.state.fetcher))
    if not sent:
        raise UsageError("no picture was sent", "choose one, drop one, or paste one")
    for data in sent:  # what is none is told here, and not kept
        await engine.read(functools.partial(rendition, data, "the picture that was sent", 64, _most_pixels(engine)))
    names = tuple(dict.fromkeys(engine.uploads.keep(data) for data in sent))
    before = Screen.parse(_pairs(state))
    return RedirectResponse(before.address(like=names, unlike=(), crop=""), 303)


@router.get("/pictures/{name}")
async def picture(request: Request, name: str) -> Response:
    """A picture that was sent, as it is shown beside its answers."""
    engine = engine_of(request)
    data = _kept(name, engine)
    small = await engine.read(lambda: rendition(data, "the picture", _QUERY_SIDE_PX, _most_pixels(engine)))
    return Response(small, media_type="image/webp", headers={"Cache-Control": _UPLOADS_KEPT})


@router.get("/images/{image_id}")
async def image_page(request: Request, image_id: ImageId) -> Response:
    """What is known of an image, with what is nearest to it; where a picture is wanted, the picture."""
    engine = engine_of(request)
    if request.headers.get("sec-fetch-dest") == "image":
        return RedirectResponse(f"/api/v1/images/{image_id}/thumbnail?side={THUMBNAIL_SIDES[-1]}", 303)
    image = await engine.read(lambda: stored_image(engine.folder, image_id))
    related: list[Tile] = []
    with contextlib.suppress(ModelNotIndexed):  # an image that the model has no vector of has no neighbours
        answer = await answered(Question(like=[image_id], k=_N_RELATED, exclude_self=True), engine)
        related = await engine.read(lambda: tiles_of(engine, answer))
    image_name = shown(Path(image.files[0].path).name)
    files = [FileDocument.model_validate(asdict(file) | {"path": shown(file.path)}) for file in image.files]
    return await _page(
        request, "image.html.j2", image=image, image_name=image_name, files=files, related=related, screen=Screen()
    )


@router.get("/duplicates")
async def duplicates_page(request: Request, tier: Tier = "near") -> Response:
    """What the collection holds more than once."""
    engine = engine_of(request)
    making = await engine.duplicates(tier)
    if not making.is_done:
        return await _page(request, "making.html.j2", what="duplicates", making=making)
    report = making.result()
    groups = report.groups[:_MOST_GROUPS]
    tiles = await engine.read(lambda: [group_tiles(engine, group) for group in groups])
    return await _page(
        request, "duplicates.html.j2", report=report, groups=list(zip(groups, tiles, strict=True)), tier=tier,
        tiers=TIERS, screen=Screen(), shown=shown,
    )  # fmt: skip


@router.get("/map")
async def map_page(request: Request) -> Response:
    """The collection laid out in the plane."""
    making = await engine_of(request).map_page()
    if not making.is_done:
        return await _page(request, "making.html.j2", what="the map", making=making)
    making.result()
    return await _page(request, "map.html.j2")


@router.get("/map/view")
async def map_view(request: Request) -> Response:
    """The map itself, for the frame in its page: the one that `simsearch map` writes."""
    making = await engine_of(request).map_page()
    if not making.is_done:
        return RedirectResponse("/map", 303)
    page = making.result()
    headers = {"Content-Security-Policy": _policy_for(page), "X-Frame-Options": "SAMEORIGIN"}
    return HTMLResponse(page, headers=headers | {"Cache-Control": "private, no-cache"})


def _policy_for(page: bytes) -> str:
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


async def _page(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    engine = engine_of(request)
    info = await engine.info()
    return rendered(
        template, status, info=info, n_answers=N_ANSWERS, name=Path(os.path.abspath(engine.folder)).name,
        settings=engine.settings, backbones=[model["backbone"] for model in info["models"]],
        path=request.url.path, **values,
    )  # fmt: skip


async def _answer(screen: Screen, engine: Engine, backbone: str) -> Answer:
    like = [_given(pick, engine) for pick in screen.like]
    return await answered(
        Question(
            like=like, unlike=[_given(pick, engine) for pick in screen.unlike], crop=screen.crop or None,
            where=screen.where or None, k=N_ANSWERS, offset=screen.offset, min_similarity=screen.least,
            exclude_self=all(isinstance(pick, int) for pick in like), backbone=backbone or None,
        ),
        engine,
    )  # fmt: skip


def _cut(screen: Screen) -> Crop | None:
    """The part that is asked with, where it is in fractions: one in px is no part of a picture of unknown size."""
    crop = Crop.parse(screen.crop) if screen.crop else None
    is_fraction = crop is not None and max(crop.x, crop.y, crop.width, crop.height) <= 1
    return crop if is_fraction else None


def _given(pick: Pick, engine: Engine) -> int | tuple[str, bytes]:
    return pick if isinstance(pick, int) else ("the picture that was sent", _kept(pick, engine))


def _kept(name: str, engine: Engine) -> bytes:
    data = engine.uploads.get(name)
    if data is None:
        raise Gone("that picture is not kept here any more", "drop it on the page again")
    return data


def _most_pixels(engine: Engine) -> int:
    return engine.settings.max_pixels


def _queries(screen: Screen, engine: Engine) -> list[Shown]:
    picks = [*screen.like, *screen.unlike]
    images = stored_images(engine.folder, [pick for pick in picks if isinstance(pick, int)])
    found = []
    for pick in picks:
        if isinstance(pick, int):
            name = shown(Path(images[pick].files[0].path).name) if pick in images else ""
            found.append(Shown(pick, f"/api/v1/images/{pick}/thumbnail?side={_QUERY_SIDE_PX}", name))
        else:
            found.append(Shown(pick, f"/pictures/{pick}", ""))
    return found


def _pairs(state: str) -> list[tuple[str, str]]:
    return urllib.parse.parse_qsl(state.partition("?")[2])
