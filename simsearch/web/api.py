"""The API, under /api/v1: searches, images, their pictures, and how the server is."""

from __future__ import annotations

import json
import mimetypes
from enum import IntEnum
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Header, Path, Query, Request, Response, UploadFile

from simsearch.errors import UsageError
from simsearch.images.decode import default_max_pixels
from simsearch.web import metrics
from simsearch.web.engine import Engine, NotReady
from simsearch.web.images import THUMBNAIL_SIDES, original, stored_image
from simsearch.web.query import (
    LARGEST_ID,
    LONGEST_WHERE,
    MOST_ANSWERS,
    MOST_EXAMPLES,
    MOST_OFFSET,
    Question,
    Rerank,
    answered,
)
from simsearch.web.safe_fetch import Fetcher
from simsearch.web.schemas import (
    AnswerDocument,
    ImageDocument,
    Problem,
    StateDocument,
    StatsDocument,
    answer_document,
    image_document,
    stats_document,
)

PREFIX = "/api/v1"
_KEPT = "private, max-age=31536000, immutable"  # an id never comes to mean another content

ImageId = Annotated[int, Path(ge=1, le=LARGEST_ID, description="The id of a stored image, as answers give it.")]
_Side = IntEnum("_Side", {f"_{side}": side for side in THUMBNAIL_SIDES})  # type: ignore[misc]  # made of the list
_Id = Annotated[int, Query(ge=1, le=LARGEST_ID)]
K = Annotated[int, Query(ge=1, le=MOST_ANSWERS, description="How many images to find.")]
_WHERE = "Which images may be found, such as `width >= 800 and class = 'lamp'`."
_CROP = "The part of the first picture that is meant: x,y,w,h in px, or in fractions."
_SELF = "Leave out images of the same content as a query."


def _pictures(description: str) -> Any:
    """Files of a form; there may be none."""
    return File(default_factory=list, max_length=MOST_EXAMPLES, description=description)


def _ids(description: str) -> Any:
    """Ids in a form; there may be none."""
    return Form(default_factory=list, max_length=MOST_EXAMPLES, description=description)


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
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


_ALWAYS = (401, 421, 500)
router = APIRouter(prefix=PREFIX, responses=_problems(*_ALWAYS))


def engine_of(request: Request) -> Engine:
    """The engine of the app that a request came to."""
    engine: Engine = request.app.state.engine
    return engine


@router.get("/search", response_model=AnswerDocument, responses=_problems(400, 404, 422, 503), tags=["search"])
async def search_by_id(
    request: Request,
    *,
    id: Annotated[list[_Id], Query(min_length=1, max_length=MOST_EXAMPLES, description="Images to be like.")],
    unlike_id: Annotated[
        list[_Id], Query(default_factory=list, max_length=MOST_EXAMPLES, description="Images to be unlike.")
    ],
    crop: Annotated[str | None, Query(max_length=100, description=_CROP)] = None,
    where: Annotated[str | None, Query(max_length=LONGEST_WHERE, description=_WHERE)] = None,
    k: K = 20,
    offset: Annotated[int, Query(ge=0, le=MOST_OFFSET, description="How many answers to pass over.")] = 0,
    min_similarity: Annotated[float, Query(ge=-1, le=1)] = -1.0,
    exclude_self: Annotated[bool, Query(description=_SELF)] = False,
    backbone: Annotated[str | None, Query(max_length=200)] = None,
    rerank: Rerank = "default",
) -> Response:
    """The images most similar to stored ones, by falling cosine similarity."""
    question = Question(
        like=id, unlike=unlike_id, crop=crop, where=where, k=k, offset=offset, min_similarity=min_similarity,
        exclude_self=exclude_self, backbone=backbone, rerank=rerank,
    )  # fmt: skip
    return _json(answer_document(await answered(question, engine_of(request))))


@router.post(
    "/search",
    response_model=AnswerDocument,
    responses=_problems(400, 403, 404, 408, 413, 422, 503),
    tags=["search"],
)
async def search(
    request: Request,
    *,
    image: Annotated[list[UploadFile], _pictures("Pictures to be like.")],
    unlike_image: Annotated[list[UploadFile], _pictures("Pictures to be unlike.")],
    id: Annotated[list[Annotated[int, Form(ge=1, le=LARGEST_ID)]], _ids("Images to be like.")],
    unlike_id: Annotated[list[Annotated[int, Form(ge=1, le=LARGEST_ID)]], _ids("Images to be unlike.")],
    url: Annotated[str | None, Form(max_length=2000, description="Only where the server allows it.")] = None,
    crop: Annotated[str | None, Form(max_length=100, description=_CROP)] = None,
    where: Annotated[str | None, Form(max_length=LONGEST_WHERE, description=_WHERE)] = None,
    k: Annotated[int, Form(ge=1, le=MOST_ANSWERS, description="How many images to find.")] = 20,
    offset: Annotated[int, Form(ge=0, le=MOST_OFFSET, description="How many answers to pass over.")] = 0,
    min_similarity: Annotated[float, Form(ge=-1, le=1)] = -1.0,
    exclude_self: Annotated[bool, Form(description=_SELF)] = False,
    backbone: Annotated[str | None, Form(max_length=200)] = None,
    rerank: Annotated[Rerank, Form()] = "default",
) -> Response:
    """The images most similar to pictures that are sent, to stored ones, or to both; several are averaged."""
    engine = engine_of(request)
    like: list[int | tuple[str, bytes]] = [await _sent(file) for file in image]
    if url:
        like.append(("the picture at that address", await fetched(url, engine, request.app.state.fetcher)))
    question = Question(
        like=[*like, *id], unlike=[*[await _sent(file) for file in unlike_image], *unlike_id], crop=crop, where=where,
        k=k, offset=offset, min_similarity=min_similarity, exclude_self=exclude_self, backbone=backbone, rerank=rerank,
    )  # fmt: skip
    return _json(answer_document(await answered(question, engine)))


@router.get("/images/{image_id}", responses=_problems(404, 422, 503), tags=["images"])
async def image(request: Request, image_id: ImageId) -> ImageDocument:
    """What is known of an image: its size, its files, what its camera and its owner noted."""
    engine = engine_of(request)
    return image_document(await engine.read(lambda: stored_image(engine.folder, image_id)))


_PICTURE: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}


@router.get(
    "/images/{image_id}/thumbnail",
    response_class=Response,
    responses={
        200: {"content": {"image/webp": _PICTURE}, "description": "The picture, whole, as WebP."},
        304: {"description": "It is what If-None-Match says."},
        **_problems(404, 422, 503),
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
    digest, data = await engine_of(request).thumbnail(image_id, side)
    headers = {"ETag": f'"{digest}-{side}"', "Cache-Control": _KEPT}
    if if_none_match is not None and headers["ETag"] in if_none_match:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type="image/webp", headers=headers)


@router.get(
    "/images/{image_id}/file",
    response_class=Response,
    responses={
        200: {"content": {"application/octet-stream": _PICTURE}, "description": "The file's bytes, to be saved."},
        **_problems(404, 422, 503),
    },
    tags=["images"],
)
async def file(request: Request, image_id: ImageId) -> Response:
    """An image's own bytes, as they were indexed."""
    engine = engine_of(request)
    found = await engine.read(lambda: stored_image(engine.folder, image_id))
    raw = await engine.read(lambda: original(found, default_max_pixels()))
    extension = mimetypes.guess_extension(f"image/{found.format.lower()}") or ""
    headers = {
        "Content-Disposition": f'attachment; filename="image-{image_id}{extension}"',
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Cache-Control": _KEPT,
    }
    return Response(raw.data, media_type="application/octet-stream", headers=headers)


@router.get("/stats", responses=_problems(503), tags=["server"])
async def stats(request: Request) -> StatsDocument:
    """What the collection holds."""
    return stats_document(await engine_of(request).info())


@router.get("/health", tags=["server"])
async def health() -> StateDocument:
    """Whether the server is there. Needs no token."""
    return StateDocument(status="ok")


@router.get("/ready", responses=_problems(503), tags=["server"])
async def ready(request: Request) -> StateDocument:
    """Whether the collection is open and its model is loaded."""
    engine = engine_of(request)
    if not engine.is_ready:
        raise NotReady("the server is starting or stopping", "try again in a moment")
    await engine.info()
    return StateDocument(status="ready")


plain = APIRouter(responses=_problems(*_ALWAYS))


@plain.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "For Prometheus."}},
    tags=["server"],
)
async def prometheus(request: Request) -> Response:
    """Counts and times in Prometheus's text format."""
    return Response(request.app.state.metrics.text(), headers={"Content-Type": metrics.CONTENT_TYPE})


async def fetched(url: str, engine: Engine, fetcher: Fetcher) -> bytes:
    """A picture from the web, where that is allowed."""
    if not engine.settings.allow_url:
        raise UsageError("this server fetches nothing from the web", "send the picture itself")
    return await engine.wait_for(lambda: fetcher.fetch(url))


async def _sent(file: UploadFile) -> tuple[str, bytes]:
    return "the picture that was sent", await file.read()


def _json(document: dict[str, Any]) -> Response:
    return Response(json.dumps(document, separators=(",", ":")), media_type="application/json")
