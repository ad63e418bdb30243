"""The API under /api/v1: searches, images, thumbnails, files, and the state of the server."""

from __future__ import annotations

import json
import mimetypes
from enum import IntEnum
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Header, Path, Query, Request, Response, UploadFile

from simsearch.errors import UsageError
from simsearch.images.decode import compute_default_max_pixels
from simsearch.store.originals import read_original
from simsearch.web import metrics
from simsearch.web.engine import SearchEngine, ServerNotReady
from simsearch.web.images import THUMBNAIL_SIDES, read_stored_image
from simsearch.web.middleware import IMAGE_POLICY
from simsearch.web.query import (
    MAX_EXAMPLES,
    MAX_ID,
    MAX_OFFSET,
    MAX_RESULTS,
    MAX_TEXT_LENGTH,
    MAX_WHERE_LENGTH,
    RequestPicture,
    Rerank,
    build_query,
)
from simsearch.web.safe_fetch import Fetcher
from simsearch.web.schemas import AnswerDocument, ImageDocument, Problem, StateDocument, StatsDocument

PREFIX = "/api/v1"
_CACHE_FOREVER = "private, max-age=31536000, immutable"  # an id is never reused for another content

ImageId = Annotated[int, Path(ge=1, le=MAX_ID, description="The id of a stored image, as in search results.")]
_Side = IntEnum("_Side", {f"_{side}": side for side in THUMBNAIL_SIDES})  # type: ignore[misc]  # built from the list
_Id = Annotated[int, Query(ge=1, le=MAX_ID)]
_Text = Annotated[str, Query(min_length=1, max_length=MAX_TEXT_LENGTH)]
_FormText = Annotated[str, Form(min_length=1, max_length=MAX_TEXT_LENGTH)]
ResultCount = Annotated[int, Query(ge=1, le=MAX_RESULTS, description="Number of results.")]
_IDS = "Ids of positive examples."
_WHERE_EXAMPLE = "width >= 800"
_CROP_EXAMPLE = "0.1,0.1,0.5,0.5"
_WHERE = "Filter on the images, such as `width >= 800 and class = 'lamp'`."
_CROP = "Crop of the first picture: x,y,w,h in px, or in fractions of its size."
_TEXT = "What results should show: words with an ImageNet network, any text with a model that has a text tower."
_UNLIKE_TEXT = "What results should not show."
_PROBABILITY = "Leaves out less probable results; needs a model that `simsearch calibrate` has calibrated."
_SELF = "Leave out images with the same content as a query picture."


def _declare_files(description: str) -> Any:
    """Declare an optional list of files in a form."""
    return File(default_factory=list, max_length=MAX_EXAMPLES, description=description)


def _declare_values(description: str, examples: list[Any] | None = None) -> Any:
    """Declare an optional list of ids or texts in a form."""
    return Form(default_factory=list, max_length=MAX_EXAMPLES, description=description, examples=examples)


def _describe_errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    meanings = {
        400: "A parameter is invalid.",
        401: "A token is required.",
        403: "The request comes from another site.",
        404: "The image or the model does not exist.",
        408: "The request body arrived too slowly.",
        413: "The request is too large.",
        429: "Too many wrong tokens were sent; Retry-After gives the time in seconds.",
        422: "The request is malformed, or its picture cannot be read.",
        421: "The Host header does not name this server.",
        500: "Internal server error.",
        503: "The server is overloaded; Retry-After gives the time in seconds.",
    }
    return {status: {"model": Problem, "description": meanings[status]} for status in statuses}


_COMMON_ERRORS = (401, 403, 421, 429, 500)
router = APIRouter(prefix=PREFIX, responses=_describe_errors(*_COMMON_ERRORS))


def find_engine(request: Request) -> SearchEngine:
    """Return the engine of the app."""
    engine: SearchEngine = request.app.state.engine
    return engine


@router.get("/search", response_model=AnswerDocument, responses=_describe_errors(400, 404, 422, 503), tags=["search"])
async def search_by_id(
    request: Request,
    *,
    id: Annotated[
        list[_Id],
        Query(default_factory=list, max_length=MAX_EXAMPLES, description=_IDS, examples=[[1]]),
    ],
    unlike_id: Annotated[
        list[_Id], Query(default_factory=list, max_length=MAX_EXAMPLES, description="Ids of negative examples.")
    ],
    text: Annotated[list[_Text], Query(default_factory=list, max_length=MAX_EXAMPLES, description=_TEXT)],
    unlike_text: Annotated[list[_Text], Query(default_factory=list, max_length=MAX_EXAMPLES, description=_UNLIKE_TEXT)],
    crop: Annotated[str | None, Query(max_length=100, description=_CROP, examples=[_CROP_EXAMPLE])] = None,
    where: Annotated[
        str | None, Query(max_length=MAX_WHERE_LENGTH, description=_WHERE, examples=[_WHERE_EXAMPLE])
    ] = None,
    k: ResultCount = 20,
    offset: Annotated[int, Query(ge=0, le=MAX_OFFSET, description="Number of results to skip.")] = 0,
    min_similarity: Annotated[float, Query(ge=-1, le=1)] = -1.0,
    min_probability: Annotated[float | None, Query(ge=0, le=1, description=_PROBABILITY)] = None,
    exclude_self: Annotated[bool, Query(description=_SELF)] = False,
    backbone: Annotated[str | None, Query(max_length=200)] = None,
    rerank: Rerank = "default",
) -> Response:
    """Find the images most similar to stored images and texts, sorted by cosine similarity."""
    engine = find_engine(request)
    query = build_query(
        engine.settings, id, unlike_id, text=text, unlike_text=unlike_text, crop=crop, where=where, k=k, offset=offset,
        min_similarity=min_similarity, min_probability=min_probability, exclude_self=exclude_self, backbone=backbone,
        rerank=rerank,
    )  # fmt: skip
    return _to_json_response((await engine.search(query)).to_api_dict())


@router.post(
    "/search",
    response_model=AnswerDocument,
    responses=_describe_errors(400, 403, 404, 408, 413, 422, 503),
    tags=["search"],
)
async def search(
    request: Request,
    *,
    image: Annotated[list[UploadFile], _declare_files("Pictures of positive examples.")],
    unlike_image: Annotated[list[UploadFile], _declare_files("Pictures of negative examples.")],
    id: Annotated[list[Annotated[int, Form(ge=1, le=MAX_ID)]], _declare_values(_IDS, examples=[[1]])],
    unlike_id: Annotated[list[Annotated[int, Form(ge=1, le=MAX_ID)]], _declare_values("Ids of negative examples.")],
    text: Annotated[list[_FormText], _declare_values(_TEXT)],
    unlike_text: Annotated[list[_FormText], _declare_values(_UNLIKE_TEXT)],
    url: Annotated[
        str | None, Form(max_length=2000, description="URL of a positive example, if the server allows URLs.")
    ] = None,
    crop: Annotated[str | None, Form(max_length=100, description=_CROP, examples=[_CROP_EXAMPLE])] = None,
    where: Annotated[
        str | None, Form(max_length=MAX_WHERE_LENGTH, description=_WHERE, examples=[_WHERE_EXAMPLE])
    ] = None,
    k: Annotated[int, Form(ge=1, le=MAX_RESULTS, description="Number of results.")] = 20,
    offset: Annotated[int, Form(ge=0, le=MAX_OFFSET, description="Number of results to skip.")] = 0,
    min_similarity: Annotated[float, Form(ge=-1, le=1)] = -1.0,
    min_probability: Annotated[float | None, Form(ge=0, le=1, description=_PROBABILITY)] = None,
    exclude_self: Annotated[bool, Form(description=_SELF)] = False,
    backbone: Annotated[str | None, Form(max_length=200)] = None,
    rerank: Annotated[Rerank, Form()] = "default",
) -> Response:
    """Find the images most similar to uploaded pictures, stored images and texts. Several examples are averaged."""
    engine = find_engine(request)
    like: list[RequestPicture] = [await _read_upload(file) for file in image]
    if url:
        like.append(("the picture at the URL", await fetch_picture(url, engine, request.app.state.fetcher)))
    unlike: list[RequestPicture] = [await _read_upload(file) for file in unlike_image]
    query = build_query(
        engine.settings, [*like, *id], [*unlike, *unlike_id], text=text, unlike_text=unlike_text, crop=crop,
        where=where, k=k, offset=offset, min_similarity=min_similarity, min_probability=min_probability,
        exclude_self=exclude_self, backbone=backbone,
        rerank=rerank,
    )  # fmt: skip
    return _to_json_response((await engine.search(query)).to_api_dict())


@router.get("/images/{image_id}", responses=_describe_errors(404, 422, 503), tags=["images"])
async def image(request: Request, image_id: ImageId) -> ImageDocument:
    """Return the metadata of an image: size, files, EXIF data and user columns."""
    engine = find_engine(request)
    return ImageDocument.from_image(await engine.run_image_work(lambda: read_stored_image(engine.folder, image_id)))


_PICTURE: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}


@router.get(
    "/images/{image_id}/thumbnail",
    response_class=Response,
    responses={
        200: {"content": {"image/webp": _PICTURE}, "description": "The whole picture as WebP."},
        304: {"description": "The thumbnail matches If-None-Match."},
        **_describe_errors(404, 422, 503),
    },
    tags=["images"],
)
async def thumbnail(
    request: Request,
    image_id: ImageId,
    side: Annotated[_Side, Query(description="Maximum width and height in px.")] = _Side["_320"],
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Return a thumbnail of an image. It can be cached forever: its ETag is derived from the content."""
    digest, data = await find_engine(request).load_thumbnail(image_id, side)
    headers = {
        "ETag": f'"{digest}-{side}"', "Cache-Control": _CACHE_FOREVER, "Content-Security-Policy": IMAGE_POLICY
    }  # fmt: skip
    if if_none_match is not None and headers["ETag"] in if_none_match:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type="image/webp", headers=headers)


@router.get(
    "/images/{image_id}/file",
    response_class=Response,
    responses={
        200: {
            "content": {"application/octet-stream": _PICTURE},
            "description": "The bytes of the file, as a download.",
        },
        **_describe_errors(404, 422, 503),
    },
    tags=["images"],
)
async def file(request: Request, image_id: ImageId) -> Response:
    """Return the original file of an image, with the content that was indexed and all its metadata, such as GPS."""
    engine = find_engine(request)
    found = await engine.run_image_work(lambda: read_stored_image(engine.folder, image_id))
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
    """Return statistics of the collection."""
    info = await find_engine(request).load_info()
    return StatsDocument.model_validate(info.to_dict())


@router.get("/health", tags=["server"])
async def health() -> StateDocument:
    """Report that the server runs. Needs no token."""
    return StateDocument(status="ok")


@router.get("/ready", responses=_describe_errors(503), tags=["server"])
async def ready(request: Request) -> StateDocument:
    """Report whether the collection is open and its model is loaded."""
    engine = find_engine(request)
    if not engine.is_ready:
        raise ServerNotReady("the server is starting or stopping", "try again in a moment")
    await engine.load_info()
    return StateDocument(status="ready")


metrics_router = APIRouter(responses=_describe_errors(*_COMMON_ERRORS))


@metrics_router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Metrics for Prometheus."}
    },
    tags=["server"],
)
async def prometheus(request: Request) -> Response:
    """Return metrics in the text format of Prometheus."""
    return Response(request.app.state.metrics.to_text(), headers={"Content-Type": metrics.CONTENT_TYPE})


async def fetch_picture(url: str, engine: SearchEngine, fetcher: Fetcher) -> bytes:
    """Fetch a picture from the web, if the server allows URLs."""
    if not engine.settings.allow_url:
        raise UsageError("this server does not fetch pictures from the web", "upload the picture")
    return await engine.run_fetch(lambda: fetcher.fetch(url))


async def _read_upload(file: UploadFile) -> tuple[str, bytes]:
    return "the uploaded picture", await file.read()


def _to_json_response(document: dict[str, Any]) -> Response:
    return Response(json.dumps(document, separators=(",", ":")), media_type="application/json")
