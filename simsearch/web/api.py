"""The API, under /api/v1: searches, images, their pictures, and how the server is."""

from __future__ import annotations

import json
import mimetypes
from enum import IntEnum
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Header, Path, Query, Request, Response, UploadFile

from simsearch.errors import UsageError
from simsearch.images.decode import compute_default_max_pixels
from simsearch.web import metrics
from simsearch.web.engine import SearchEngine, ServerNotReady
from simsearch.web.images import THUMBNAIL_SIDES, load_stored_image, read_original
from simsearch.web.query import (
    MAX_EXAMPLES,
    MAX_ID,
    MAX_OFFSET,
    MAX_RESULTS,
    MAX_WHERE_LENGTH,
    Rerank,
    SearchRequest,
    run_search,
)
from simsearch.web.safe_fetch import Fetcher
from simsearch.web.schemas import (
    AnswerDocument,
    ImageDocument,
    Problem,
    StateDocument,
    StatsDocument,
    build_answer_document,
    build_image_document,
    build_stats_document,
)

PREFIX = "/api/v1"
_CACHE_FOREVER = "private, max-age=31536000, immutable"  # an id never comes to mean another content

ImageId = Annotated[int, Path(ge=1, le=MAX_ID, description="The id of a stored image, as answers give it.")]
_Side = IntEnum("_Side", {f"_{side}": side for side in THUMBNAIL_SIDES})  # type: ignore[misc]  # made of the list
_Id = Annotated[int, Query(ge=1, le=MAX_ID)]
ResultCount = Annotated[int, Query(ge=1, le=MAX_RESULTS, description="How many images to find.")]
_WHERE = "Which images may be found, such as `width >= 800 and class = 'lamp'`."
_CROP = "The part of the first picture that is meant: x,y,w,h in px, or in fractions."
_SELF = "Leave out images of the same content as a query."


def _declare_files(description: str) -> Any:
    """Files of a form; there may be none."""
    return File(default_factory=list, max_length=MAX_EXAMPLES, description=description)


def _declare_ids(description: str) -> Any:
    """Ids in a form; there may be none."""
    return Form(default_factory=list, max_length=MAX_EXAMPLES, description=description)


def _describe_errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    meanings = {
        400: "The question itself is wrong.",
        401: "A token is wanted.",
        403: "Another site sent this.",
        404: "There is no such image, or no such model here.",
        408: "The request came too slowly.",
        413: "The request is too large.",
        422: "The request is not what it should be, or its picture cannot be read.",
        421: "The server was asked by a name that is not its own.",
        500: "The server failed.",
        503: "Too much is asked at once; Retry-After says when to try again.",
    }
    return {status: {"model": Problem, "description": meanings[status]} for status in statuses}


_COMMON_ERRORS = (401, 421, 500)
router = APIRouter(prefix=PREFIX, responses=_describe_errors(*_COMMON_ERRORS))


def find_engine(request: Request) -> SearchEngine:
    """The engine of the app that a request came to."""
    engine: SearchEngine = request.app.state.engine
    return engine


@router.get("/search", response_model=AnswerDocument, responses=_describe_errors(400, 404, 422, 503), tags=["search"])
async def search_by_id(
    request: Request,
    *,
    id: Annotated[list[_Id], Query(min_length=1, max_length=MAX_EXAMPLES, description="Images to be like.")],
    unlike_id: Annotated[
        list[_Id], Query(default_factory=list, max_length=MAX_EXAMPLES, description="Images to be unlike.")
    ],
    crop: Annotated[str | None, Query(max_length=100, description=_CROP)] = None,
    where: Annotated[str | None, Query(max_length=MAX_WHERE_LENGTH, description=_WHERE)] = None,
    k: ResultCount = 20,
    offset: Annotated[int, Query(ge=0, le=MAX_OFFSET, description="How many answers to pass over.")] = 0,
    min_similarity: Annotated[float, Query(ge=-1, le=1)] = -1.0,
    exclude_self: Annotated[bool, Query(description=_SELF)] = False,
    backbone: Annotated[str | None, Query(max_length=200)] = None,
    rerank: Rerank = "default",
) -> Response:
    """The images most similar to stored ones, by falling cosine similarity."""
    question = SearchRequest(
        like=id, unlike=unlike_id,
        crop=crop, where=where, k=k, offset=offset, min_similarity=min_similarity,
        exclude_self=exclude_self, backbone=backbone, rerank=rerank,
    )  # fmt: skip
    return _to_json_response(build_answer_document(await run_search(question, find_engine(request))))


@router.post(
    "/search",
    response_model=AnswerDocument,
    responses=_describe_errors(400, 403, 404, 408, 413, 422, 503),
    tags=["search"],
)
async def search(
    request: Request,
    *,
    image: Annotated[list[UploadFile], _declare_files("Pictures to be like.")],
    unlike_image: Annotated[list[UploadFile], _declare_files("Pictures to be unlike.")],
    id: Annotated[list[Annotated[int, Form(ge=1, le=MAX_ID)]], _declare_ids("Images to be like.")],
    unlike_id: Annotated[list[Annotated[int, Form(ge=1, le=MAX_ID)]], _declare_ids("Images to be unlike.")],
    url: Annotated[str | None, Form(max_length=2000, description="Only where the server allows it.")] = None,
    crop: Annotated[str | None, Form(max_length=100, description=_CROP)] = None,
    where: Annotated[str | None, Form(max_length=MAX_WHERE_LENGTH, description=_WHERE)] = None,
    k: Annotated[int, Form(ge=1, le=MAX_RESULTS, description="How many images to find.")] = 20,
    offset: Annotated[int, Form(ge=0, le=MAX_OFFSET, description="How many answers to pass over.")] = 0,
    min_similarity: Annotated[float, Form(ge=-1, le=1)] = -1.0,
    exclude_self: Annotated[bool, Form(description=_SELF)] = False,
    backbone: Annotated[str | None, Form(max_length=200)] = None,
    rerank: Annotated[Rerank, Form()] = "default",
) -> Response:
    """The images most similar to pictures that are sent, to stored ones, or to both; several are averaged."""
    engine = find_engine(request)
    like: list[int | tuple[str, bytes]] = [await _read_upload(file) for file in image]
    if url:
        like.append(("the picture at that address", await fetch_picture(url, engine, request.app.state.fetcher)))
    question = SearchRequest(
        like=[*like, *id], unlike=[*[await _read_upload(file) for file in unlike_image], *unlike_id],
        crop=crop, where=where,
        k=k, offset=offset, min_similarity=min_similarity, exclude_self=exclude_self, backbone=backbone, rerank=rerank,
    )  # fmt: skip
    return _to_json_response(build_answer_document(await run_search(question, engine)))


@router.get("/images/{image_id}", responses=_describe_errors(404, 422, 503), tags=["images"])
async def image(request: Request, image_id: ImageId) -> ImageDocument:
    """What is known of an image: its size, its files, what its camera and its owner noted."""
    engine = find_engine(request)
    return build_image_document(await engine.run_image_work(lambda: load_stored_image(engine.folder, image_id)))


_PICTURE: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}


@router.get(
    "/images/{image_id}/thumbnail",
    response_class=Response,
    responses={
        200: {"content": {"image/webp": _PICTURE}, "description": "The picture, whole, as WebP."},
        304: {"description": "It is what If-None-Match says."},
        **_describe_errors(404, 422, 503),
    },
    tags=["images"],
)
async def thumbnail(
    request: Request,
    image_id: ImageId,
    side: Annotated[_Side, Query(description="px at most")] = _Side["_320"],
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """A small rendition of an image, to be kept for good: its ETag follows from the picture's content."""
    digest, data = await find_engine(request).load_thumbnail(image_id, side)
    headers = {"ETag": f'"{digest}-{side}"', "Cache-Control": _CACHE_FOREVER}
    if if_none_match is not None and headers["ETag"] in if_none_match:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type="image/webp", headers=headers)


@router.get(
    "/images/{image_id}/file",
    response_class=Response,
    responses={
        200: {"content": {"application/octet-stream": _PICTURE}, "description": "The file's bytes, to be saved."},
        **_describe_errors(404, 422, 503),
    },
    tags=["images"],
)
async def file(request: Request, image_id: ImageId) -> Response:
    """An image's own bytes, as they were indexed."""
    engine = find_engine(request)
    found = await engine.run_image_work(lambda: load_stored_image(engine.folder, image_id))
    raw = await engine.run_image_work(lambda: read_original(found, compute_default_max_pixels()))
    extension = mimetypes.guess_extension(f"image/{found.format.lower()}") or ""
    headers = {
        "Content-Disposition": f'attachment; filename="image-{image_id}{extension}"',
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Cache-Control": _CACHE_FOREVER,
    }
    return Response(raw.data, media_type="application/octet-stream", headers=headers)


@router.get("/stats", responses=_describe_errors(503), tags=["server"])
async def stats(request: Request) -> StatsDocument:
    """What the collection holds."""
    return build_stats_document(await find_engine(request).load_info())


@router.get("/health", tags=["server"])
async def health() -> StateDocument:
    """Whether the server is there. Needs no token."""
    return StateDocument(status="ok")


@router.get("/ready", responses=_describe_errors(503), tags=["server"])
async def ready(request: Request) -> StateDocument:
    """Whether the collection is open and its model is loaded."""
    engine = find_engine(request)
    if not engine.is_ready:
        raise ServerNotReady("the server is starting or stopping", "try again in a moment")
    await engine.load_info()
    return StateDocument(status="ready")


metrics_router = APIRouter(responses=_describe_errors(*_COMMON_ERRORS))


@metrics_router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "For Prometheus."}},
    tags=["server"],
)
async def prometheus(request: Request) -> Response:
    """Counts and times in Prometheus's text format."""
    return Response(request.app.state.metrics.text(), headers={"Content-Type": metrics.CONTENT_TYPE})


async def fetch_picture(url: str, engine: SearchEngine, fetcher: Fetcher) -> bytes:
    """A picture from the web, where that is allowed."""
    if not engine.settings.allow_url:
        raise UsageError("this server fetches nothing from the web", "send the picture itself")
    return await engine.run_fetch(lambda: fetcher.fetch(url))


async def _read_upload(file: UploadFile) -> tuple[str, bytes]:
    return "the picture that was sent", await file.read()


def _to_json_response(document: dict[str, Any]) -> Response:
    return Response(json.dumps(document, separators=(",", ":")), media_type="application/json")
