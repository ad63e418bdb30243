"""The HTML pages: search, image, quality and map. They are rendered here and work without scripts."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import re
import urllib.parse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Query, Request, Response, UploadFile
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse

from simsearch.collection import Collection
from simsearch.errors import ImageError, ModelError, ModelNotIndexed, UsageError
from simsearch.quality.results import QUALITY_KINDS, QualityKind
from simsearch.search.examples import Crop
from simsearch.search.results import Answer
from simsearch.web.api import ImageId, fetch_picture, find_engine, list_engines
from simsearch.web.api_reference import list_operations
from simsearch.web.engine import SearchEngine
from simsearch.web.errors import UploadExpired, to_error_response
from simsearch.web.images import THUMBNAIL_SIDES, read_stored_image, read_stored_images
from simsearch.web.login import render_error_page, render_response
from simsearch.web.middleware import CAN_WRITE, IMAGE_POLICY, strip_root
from simsearch.web.page_state import PageState, PictureRef
from simsearch.web.query import MAX_EXAMPLES, MAX_OFFSET, RequestPicture, build_query
from simsearch.web.tiles import (
    ImageTile,
    add_other_ranks,
    build_hit_tiles,
    build_tiles,
    is_long,
    sample_tiles,
)

RESULTS_PER_PAGE = 48
_MAX_RELATED = 12
_FINDINGS_PER_PAGE = 96
_MENU_PATHS = frozenset({"/", "/browse", "/label", "/duplicates", "/quality", "/map", "/docs"})
_QUERY_SIDE_PX = 640
_UPLOAD_CACHE_CONTROL = "private, max-age=3600"

_NO_RESULTS: dict[str, Any] = {"answers": [], "pictures": [], "crop": None, "has_more": False, "error": None}

Offset = Annotated[int, Query(ge=0, le=10_000_000)]
"""The position of the first result of a page."""

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class CollectionLink:
    """A collection of the server, and the address of the same page there."""

    name: str
    url: str
    is_shown: bool


@dataclass(frozen=True, slots=True)
class QueryPicture:
    """A query picture on the search page: its reference, the URL of its thumbnail, and its name or an empty text."""

    picture: PictureRef
    url: str
    name: str


@router.get("/")
async def search_page(request: Request) -> Response:
    """Show the results for the pictures and texts in the URL, or a sample of the collection if there are none."""
    engine = find_engine(request)
    state = PageState.parse(request.query_params.multi_items(), engine.root)
    if state.is_empty:
        sample = await engine.run_image_work(lambda: sample_tiles(engine.folder))
        return await render_page(request, "search.html.j2", state=state, tiles=[sample], **_NO_RESULTS)
    pictures = await engine.run_image_work(lambda: _list_query_pictures(state, engine))
    try:
        answers = [await _search(state, engine, backbone) for backbone in state.backbones]
    except (
        UsageError,
        ModelError,
        ModelNotIndexed,
    ) as error:  # shown beside the form, to be corrected there
        response = to_error_response(error)
        values = _NO_RESULTS | {"pictures": pictures, "error": response}
        return await render_page(request, "search.html.j2", response.status, state=state, tiles=[], **values)
    tiles = [
        await engine.run_image_work(functools.partial(build_hit_tiles, engine.folder, answer)) for answer in answers
    ]
    if len(tiles) > 1:
        tiles = [add_other_ranks(tiles[0], tiles[1]), add_other_ranks(tiles[1], tiles[0])]
    is_full = any(len(answer.hits) == RESULTS_PER_PAGE for answer in answers)
    return await render_page(
        request, "search.html.j2", state=state, answers=answers, tiles=tiles, pictures=pictures,
        crop=_parse_crop(state), has_more=is_full and state.offset + RESULTS_PER_PAGE <= MAX_OFFSET, error=None,
    )  # fmt: skip


@router.post("/pictures")
async def take_pictures(
    request: Request,
    picture: Annotated[list[UploadFile], File(default_factory=list)],
    url: Annotated[str, Form(max_length=2000)] = "",
    state: Annotated[str, Form(max_length=10_000)] = "",
) -> Response:
    """Store uploaded pictures and redirect to a search with them. `state` is the URL of the page with the form."""
    engine = find_engine(request)
    uploads = [data for file in picture[:MAX_EXAMPLES] if (data := await file.read())]
    if url.strip():
        uploads.append(await fetch_picture(url, engine, request.app.state.fetcher))
    if not uploads:
        raise UsageError("no picture was uploaded", "choose, drop or paste one")
    previous = PageState.parse(_parse_query_string(state), engine.root)
    try:
        for data in uploads:  # reject files that are not pictures before any is stored
            await engine.render_upload(data, 64)
    except ImageError as failure:
        if "text/html" not in request.headers.get("accept", ""):
            raise
        error = to_error_response(failure)
        return render_error_page(error, error.headers, root=engine.root, back=previous.build_url())
    names = tuple(dict.fromkeys(engine.uploads.put(data) for data in uploads))
    url = previous.build_url(like=names, unlike=(), text="", unlike_text="", crop="")
    if request.headers.get("accept") == "application/json":  # the script of the page, which stays there on errors
        return JSONResponse({"url": url})
    return RedirectResponse(url, 303)


@router.get("/pictures/{name}")
async def picture(request: Request, name: str) -> Response:
    """Send the thumbnail of an uploaded picture."""
    engine = find_engine(request)
    thumbnail = await engine.render_upload(_load_upload(name, engine), _QUERY_SIDE_PX)
    headers = {"Cache-Control": _UPLOAD_CACHE_CONTROL, "Content-Security-Policy": IMAGE_POLICY}
    return Response(thumbnail, media_type="image/webp", headers=headers)


@router.get("/images/{image_id}")
async def image_page(request: Request, image_id: ImageId) -> Response:
    """Show an image with its metadata and its nearest neighbors. As the source of an <img>, send the picture."""
    engine = find_engine(request)
    if request.headers.get("sec-fetch-dest") == "image":
        return RedirectResponse(f"{engine.root}/api/v1/images/{image_id}/thumbnail?side={THUMBNAIL_SIDES[-1]}", 303)
    image = await engine.run_image_work(lambda: read_stored_image(engine.folder, image_id))
    related: list[ImageTile] = []
    with contextlib.suppress(ModelNotIndexed):  # an image without a vector of the model has no neighbors
        answer = await engine.search(build_query(engine.settings, [image_id], k=_MAX_RELATED, exclude_self=True))
        related = await engine.run_image_work(lambda: build_hit_tiles(engine.folder, answer))
    name = Path(image.files[0].path).name
    return await render_page(
        request,
        "image.html.j2",
        image=image,
        image_name=name,
        related=related,
        is_long=is_long(image.width, image.height),
        state=PageState(root=engine.root),
    )


@router.get("/quality")
async def quality_page(request: Request, kind: QualityKind | None = None, start: Offset = 0) -> Response:
    """Show the pictures that are worth a look, of one kind, or the progress of looking for them."""
    engine = find_engine(request)
    job = await engine.check_quality()
    if not job.is_done:
        return await render_page(request, "progress.html.j2", heading="Checking the pictures", job=job)
    report = job.result()
    counts = report.count()
    present: list[QualityKind] = [name for name, n in counts.items() if n]
    chosen = kind if kind is not None else (present or QUALITY_KINDS)[0]
    found = report.select(chosen)
    shown = found[start : start + _FINDINGS_PER_PAGE]
    tiles = await engine.run_image_work(
        lambda: build_tiles(engine.folder, [finding.image_id for finding in shown], most=_FINDINGS_PER_PAGE)
    )
    reasons = {finding.image_id: finding.reason for finding in shown}
    return await render_page(
        request, "quality.html.j2", report=report, counts=counts, kind=chosen, n_found=len(found), start=start,
        findings_per_page=_FINDINGS_PER_PAGE, state=PageState(root=engine.root),
        tiles=[replace(tile, remark=reasons[tile.image_id]) for tile in tiles],
    )  # fmt: skip


@router.get("/docs")
async def docs_page(request: Request) -> Response:
    """Show the reference of the API."""
    tags = list_operations(request.app.openapi())
    address = f"{request.url.scheme}://{request.url.netloc}{find_engine(request).root}"
    return await render_page(request, "docs.html.j2", tags=tags, address=address)


@router.get("/map")
async def map_page(request: Request) -> Response:
    """Show the map of the collection, or the progress of drawing it."""
    job = await find_engine(request).draw_map()
    if not job.is_done:
        return await render_page(request, "progress.html.j2", heading="Drawing the map", job=job)
    job.result()
    return await render_page(request, "map.html.j2")


@router.get("/map/view")
async def map_view(request: Request) -> Response:
    """Send the map itself, for the frame in its page. It is the page that `simsearch map` writes."""
    engine = find_engine(request)
    job = await engine.draw_map()
    if not job.is_done:
        return RedirectResponse(f"{engine.root}/map", 303)
    page = job.result()
    headers = {"Content-Security-Policy": _build_policy(page), "X-Frame-Options": "SAMEORIGIN"}
    return HTMLResponse(page, headers=headers | {"Cache-Control": "private, no-cache"})


def _build_policy(page: bytes) -> str:
    """Build a content security policy that allows only the inline scripts and styles of this page, by their hashes."""
    allowed = {}
    for element in (b"script", b"style"):
        texts = re.findall(b"<%s>(.*?)</%s>" % (element, element), page, re.DOTALL)
        digests = (base64.b64encode(hashlib.sha256(text).digest()).decode() for text in texts)
        allowed[element] = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; img-src 'self' data:; script-src {allowed[b'script']}; style-src {allowed[b'style']}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    )


async def render_page(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    """Render a page with what every page shows: the name of the collection, the number of its images, the menu."""
    engine, path = find_engine(request), strip_root(request.scope["path"])
    info = await engine.load_info()
    return render_response(
        template, status, root=engine.root, info=info, page_size=RESULTS_PER_PAGE,
        name=engine.settings.name, settings=engine.settings, backbones=[model.backbone for model in info.models],
        paths=engine.paths, answers_text=await engine.run_lookup(Collection.answers_text),
        path=path, collections=_list_collections(request, path, values.get("state")),
        can_write=bool(request.scope.get(CAN_WRITE)), **values,
    )  # fmt: skip


def _list_collections(request: Request, path: str, state: PageState | None) -> list[CollectionLink]:
    """List the collections of the server, each with the address of the same page there; none if there is only one."""
    engines = list_engines(request)
    if len(engines) == 1:
        return []
    links = []
    for engine in engines:
        url = engine.root + (path if path in _MENU_PATHS else "/")
        if path == "/" and state is not None:
            url = state.move_to(engine.root).build_url()
        links.append(CollectionLink(engine.settings.name, url, engine is find_engine(request)))
    return links


async def _search(state: PageState, engine: SearchEngine, backbone: str) -> Answer:
    like = [_load_example(picture, engine) for picture in state.like]
    is_single = len(state.like) == 1 and not (state.unlike or state.text or state.unlike_text)
    query = build_query(
        engine.settings, like, [_load_example(picture, engine) for picture in state.unlike],
        text=[state.text] if state.text else (), unlike_text=[state.unlike_text] if state.unlike_text else (),
        crop=state.crop or None, where=state.where, k=RESULTS_PER_PAGE, offset=state.offset,
        min_similarity=state.min_similarity, exclude_self=all(isinstance(picture, int) for picture in like),
        backbone=backbone, rerank="geometric" if state.verify and is_single else "default",
    )  # fmt: skip
    return await engine.search(query)


def _parse_crop(state: PageState) -> Crop | None:
    """Parse the crop if it is in fractions. The page cannot draw a crop in px, as it does not know the picture size."""
    crop = Crop.parse(state.crop) if state.crop else None
    is_fraction = crop is not None and max(crop.x, crop.y, crop.width, crop.height) <= 1
    return crop if is_fraction else None


def _load_example(picture: PictureRef, engine: SearchEngine) -> RequestPicture:
    return picture if isinstance(picture, int) else ("the uploaded picture", _load_upload(picture, engine))


def _load_upload(name: str, engine: SearchEngine) -> bytes:
    data = engine.uploads.get(name)
    if data is None:
        raise UploadExpired("the uploaded picture is no longer in memory", "upload it again")
    return data


def _list_query_pictures(state: PageState, engine: SearchEngine) -> list[QueryPicture]:
    references = [*state.like, *state.unlike]
    images = read_stored_images(engine.folder, [picture for picture in references if isinstance(picture, int)])
    pictures = []
    for picture in references:
        if isinstance(picture, int):
            name = Path(images[picture].files[0].path).name if picture in images else ""
            url = f"{engine.root}/api/v1/images/{picture}/thumbnail?side={_QUERY_SIDE_PX}"
            pictures.append(QueryPicture(picture, url, name))
        else:
            pictures.append(QueryPicture(picture, f"{engine.root}/pictures/{picture}", ""))
    return pictures


def _parse_query_string(url: str) -> list[tuple[str, str]]:
    return urllib.parse.parse_qsl(url.partition("?")[2])
