"""The API under /api/v1: searches, images, thumbnails, files, and the state of the server."""

from __future__ import annotations

import base64
import binascii
import json
import mimetypes
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.datastructures import FormData
from starlette.datastructures import UploadFile as ReceivedFile

from simsearch.errors import SimsearchError, UsageError
from simsearch.search.results import Answer
from simsearch.web import metrics
from simsearch.web.engine import SearchEngine, ServerNotReady
from simsearch.web.errors import WritingForbidden, to_error_response
from simsearch.web.images import (
    THUMBNAIL_SIDES,
    OriginalGone,
    draw_gone_tile,
    read_stored_image,
    read_stored_original,
)
from simsearch.web.middleware import CAN_WRITE, IMAGE_POLICY
from simsearch.web.parameters import (
    EmbedParameters,
    InvalidParameters,
    SearchParameters,
    describe_form,
    describe_unknown,
    parse_fields,
    parse_object,
)
from simsearch.web.problems import PROBLEM_TYPE, make_problem
from simsearch.web.query import MAX_EXAMPLES, MAX_ID, RequestPicture, build_query
from simsearch.web.safe_fetch import Fetcher
from simsearch.web.schemas import (
    AnswerDocument,
    BatchDocument,
    BatchRequest,
    CollectionDocument,
    EmbeddingDocument,
    ImageDocument,
    ModelDocument,
    Problem,
    StateDocument,
    StatsDocument,
)

PREFIX = "/api/v1"
_CACHE_FOREVER = "private, max-age=31536000, immutable"  # an id is never reused for another content

ImageId = Annotated[int, Path(ge=1, le=MAX_ID, description="The id of a stored image, as in search results.")]
_Side = IntEnum("_Side", {f"_{side}": side for side in THUMBNAIL_SIDES})  # type: ignore[misc]  # built from the list
_PICTURE_FIELDS = {
    "image": "Pictures of positive examples.",
    "file": "The same as `image`.",
    "unlike_image": "Pictures of negative examples.",
}
_FORM_TYPES = ("multipart/form-data", "application/x-www-form-urlencoded")
_UPLOAD_NAME = "the uploaded picture"


def describe_errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe error responses for OpenAPI."""
    meanings = {
        400: "A parameter is invalid.",
        401: "A token is required.",
        403: "The request comes from another site, or may not change the collection.",
        404: "The image, the model or the job does not exist.",
        408: "The request body arrived too slowly.",
        410: "The file of the image is gone or has changed since it was indexed; or the job was cancelled.",
        413: "The request is too large.",
        429: "Too many requests, or too many wrong tokens, were sent; Retry-After gives the time in seconds.",
        422: "The request is malformed, or its picture cannot be read.",
        421: "The Host header does not name this server.",
        500: "Internal server error.",
        507: "The disk, or what uploads may take of it, is full.",
        503: "The server is overloaded; Retry-After gives the time in seconds.",
    }
    content = {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"model": Problem, "description": meanings[status], "content": content} for status in statuses}


def check_parameter_names(request: Request) -> None:
    """Raise `InvalidParameters` if the query string has a parameter that the route does not have."""
    sent = request.query_params.keys()
    if not sent:
        return
    path = getattr(request.scope.get("route"), "path", "")
    operations = request.app.openapi()["paths"].get(path, {})
    described = operations.get(request.method.lower(), {}).get("parameters", ())
    known = [one["name"] for one in described if one["in"] == "query"]
    for name in sent:
        if name not in known:
            raise InvalidParameters(describe_unknown(name, known), "see /api/v1/openapi.json")


def check_can_write(request: Request) -> None:
    """Raise `WritingForbidden` if the request may not change the collection."""
    if not request.scope.get(CAN_WRITE):
        raise WritingForbidden("this token may not change the collection", "send the write token of the server")


COMMON_ERRORS = (401, 403, 421, 422, 429, 500)
router = APIRouter(
    prefix=PREFIX, responses=describe_errors(*COMMON_ERRORS), dependencies=[Depends(check_parameter_names)]
)


def find_engine(request: Request) -> SearchEngine:
    """Return the engine of the collection that a request is for."""
    engine: SearchEngine = request.app.state.engine
    return engine


def list_engines(request: Request) -> Sequence[SearchEngine]:
    """List the engines of all collections of the server."""
    engines: Sequence[SearchEngine] = request.app.state.engines
    return engines


@router.get("/search", response_model=AnswerDocument, responses=describe_errors(400, 404, 410, 503), tags=["search"])
async def search_by_parameters(request: Request, parameters: Annotated[SearchParameters, Query()]) -> Response:
    """Find the images most similar to stored images and texts, sorted by cosine similarity."""
    pictures = await _fetch_url(parameters, request)
    return to_json_response(await _search(find_engine(request), parameters, pictures, ()))


@router.post(
    "/search",
    response_model=AnswerDocument,
    responses=describe_errors(400, 404, 408, 410, 413, 503),
    openapi_extra={"requestBody": describe_form(SearchParameters, _PICTURE_FIELDS)},
    tags=["search"],
)
async def search(request: Request, parameters: Annotated[SearchParameters, Query()]) -> Response:
    """Find the images most similar to pictures, stored images and texts. Several examples are averaged.

    The parameters are form fields, or in the query string. The body may be a picture as it is.
    """
    body = await read_body(request)
    parameters = parse_fields(SearchParameters, [*request.query_params.multi_items(), *body.fields])
    like = [*body.like, *await _fetch_url(parameters, request)]
    return to_json_response(await _search(find_engine(request), parameters, like, body.unlike))


@router.post("/search/batch", responses=describe_errors(400, 408, 413, 503), tags=["search"])
async def search_batch(request: Request, batch: BatchRequest) -> BatchDocument:
    """Run up to 64 searches. Each has the parameters of a search, and may have a picture in Base64 as `image`.

    A search that fails has an error instead of an answer; the others are not concerned.
    """
    engine = find_engine(request)
    answers = [await _search_one(request, engine, one) for one in batch.searches]
    return BatchDocument.model_validate({"answers": answers})


@router.post(
    "/embed",
    response_model=EmbeddingDocument,
    responses=describe_errors(400, 404, 408, 413, 503),
    openapi_extra={"requestBody": describe_form(EmbedParameters, {"image": "Pictures."})},
    tags=["search"],
)
async def embed(request: Request, parameters: Annotated[EmbedParameters, Query()]) -> Response:
    """Embed pictures and texts with a model of the collection.

    The vectors are those of the uploaded pictures, then of stored images, then of texts.
    """
    engine, body = find_engine(request), await read_body(request)
    parameters = parse_fields(EmbedParameters, [*request.query_params.multi_items(), *body.fields])
    if body.unlike:
        raise InvalidParameters(describe_unknown("unlike_image", ["image"]), "see /api/v1/openapi.json")
    pictures = [picture if isinstance(picture, int) else picture[1] for picture in [*body.like, *parameters.id]]
    n_inputs = len(pictures) + len(parameters.text)
    if not 1 <= n_inputs <= MAX_EXAMPLES:
        raise UsageError(f"the request has {n_inputs} pictures and texts", f"send 1 to {MAX_EXAMPLES}")
    backbone, vectors = await engine.embed(pictures, parameters.text, parameters.backbone)
    return to_json_response(
        {"backbone": backbone, "width": vectors.shape[1], "vectors": [list(map(float, row)) for row in vectors]}
    )


async def _search_one(request: Request, engine: SearchEngine, fields: dict[str, Any]) -> dict[str, Any]:
    try:
        given = dict(fields)
        like = [(_UPLOAD_NAME, _decode_base64(text)) for text in _as_list(given.pop("image", []))]
        parameters = parse_object(SearchParameters, given)
        return await _search(engine, parameters, [*like, *await _fetch_url(parameters, request)], ())
    except SimsearchError as error:
        found = to_error_response(error)
        if found.status >= 500:
            raise
        return make_problem(found.status, found.problem, found.advice)


async def _search(
    engine: SearchEngine, parameters: SearchParameters, like: Sequence[RequestPicture], unlike: Sequence[RequestPicture]
) -> dict[str, Any]:
    query = build_query(
        engine.settings, [*like, *parameters.id], [*unlike, *parameters.unlike_id],
        **parameters.model_dump(exclude={"id", "unlike_id", "url"}),
    )  # fmt: skip
    return describe_answer(await engine.search(query), engine)


def describe_answer(answer: Answer, engine: SearchEngine) -> dict[str, Any]:
    """Describe an answer, with the names of files that visitors see."""
    document = answer.to_api_dict()
    for hit, found in zip(document["hits"], answer.hits, strict=True):
        hit["path"] = engine.paths.name(found.path)
        hit["paths"] = [engine.paths.name(path) for path in found.paths]
    return document


@dataclass(frozen=True, slots=True)
class RequestBody:
    """The body of a request: fields, and pictures of positive and negative examples."""

    fields: Sequence[tuple[str, str]] = ()
    like: Sequence[RequestPicture] = ()
    unlike: Sequence[RequestPicture] = ()


async def read_body(request: Request) -> RequestBody:
    """Read a form with fields and pictures, or one picture. Raises `InvalidParameters`."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in _FORM_TYPES:
        data = await request.body()
        return RequestBody(like=[(_UPLOAD_NAME, data)] if data else ())
    async with request.form() as form:
        return await _read_form(form)


async def _read_form(form: FormData) -> RequestBody:
    pictures: dict[str, list[RequestPicture]] = {name: [] for name in _PICTURE_FIELDS}
    fields = []
    for name, value in form.multi_items():
        if isinstance(value, ReceivedFile):
            if name not in pictures:
                raise InvalidParameters(describe_unknown(name, list(pictures)), "see /api/v1/openapi.json")
            if len(pictures[name]) == MAX_EXAMPLES:
                raise InvalidParameters(f"{name}: more than {MAX_EXAMPLES} pictures", "send fewer")
            pictures[name].append((_UPLOAD_NAME, await value.read()))
        elif name in pictures:
            raise InvalidParameters(f"{name}: a file is expected", "send it as a file of a multipart form")
        else:
            fields.append((name, value))
    return RequestBody(fields, [*pictures["image"], *pictures["file"]], pictures["unlike_image"])


def _as_list(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list) else [value]


def _decode_base64(text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise InvalidParameters("image: it is not valid Base64", "encode the bytes of the picture file") from error


async def _fetch_url(parameters: SearchParameters, request: Request) -> list[RequestPicture]:
    if not parameters.url:
        return []
    return [
        ("the picture at the URL", await fetch_picture(parameters.url, find_engine(request), request.app.state.fetcher))
    ]


@router.get("/images/{image_id}", responses=describe_errors(404, 503), tags=["images"])
async def image(request: Request, image_id: ImageId) -> ImageDocument:
    """Return the metadata of an image: size, files, EXIF data and user columns."""
    engine = find_engine(request)
    found = await engine.run_image_work(lambda: read_stored_image(engine.folder, image_id))
    return ImageDocument.from_image(found, engine.paths)


_PICTURE: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}


@router.get(
    "/images/{image_id}/thumbnail",
    response_class=Response,
    responses={
        200: {"content": {"image/webp": _PICTURE}, "description": "The whole picture as WebP."},
        304: {"description": "The thumbnail matches If-None-Match."},
        **describe_errors(404, 410, 503),
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
    try:
        digest, data = await find_engine(request).load_thumbnail(image_id, side)
    except OriginalGone as error:
        if request.headers.get("sec-fetch-dest") != "image":
            raise
        headers = {"Cache-Control": "private, no-cache", "Content-Security-Policy": IMAGE_POLICY}
        return Response(draw_gone_tile(error.label), 410, headers, "image/webp")
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
        **describe_errors(404, 410, 503),
    },
    tags=["images"],
)
async def file(request: Request, image_id: ImageId) -> Response:
    """Return the original file of an image, with the content that was indexed and all its metadata, such as GPS."""
    engine = find_engine(request)
    found = await engine.run_image_work(lambda: read_stored_image(engine.folder, image_id))
    raw = await engine.run_image_work(lambda: read_stored_original(found))
    extension = mimetypes.guess_extension(f"image/{found.format.lower()}") or ""
    headers = {
        "Content-Disposition": f'attachment; filename="image-{image_id}{extension}"',
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Cache-Control": _CACHE_FOREVER,
    }
    return Response(raw.data, media_type="application/octet-stream", headers=headers)


@router.get("/stats", responses=describe_errors(503), tags=["server"])
async def stats(request: Request) -> StatsDocument:
    """Return statistics of the collection."""
    info = await find_engine(request).load_info()
    return StatsDocument.model_validate(info.to_dict())


@router.get("/models", responses=describe_errors(503), tags=["server"])
async def models(request: Request) -> list[ModelDocument]:
    """List the models whose vectors are in the collection; the first one is the default of searches."""
    info = await find_engine(request).load_info()
    return [ModelDocument.model_validate(model.to_dict()) for model in info.models]


server_router = APIRouter(
    prefix=PREFIX, responses=describe_errors(*COMMON_ERRORS), dependencies=[Depends(check_parameter_names)]
)
"""What concerns the whole server."""


@server_router.get("/collections", responses=describe_errors(503), tags=["server"])
async def collections(request: Request) -> list[CollectionDocument]:
    """List the collections of the server. The addresses of each begin with its `root`, such as `ROOT/api/v1/search`."""
    found = []
    for engine in list_engines(request):
        info = await engine.load_info()
        found.append(CollectionDocument(name=engine.settings.name, root=engine.root, images=info.n_images))
    return found


@server_router.get("/health", tags=["server"])
async def health() -> StateDocument:
    """Report that the server runs. Needs no token."""
    return StateDocument(status="ok")


@server_router.get("/ready", responses=describe_errors(503), tags=["server"])
async def ready(request: Request) -> StateDocument:
    """Report whether the collections are open and their models are loaded."""
    for engine in list_engines(request):
        if not engine.is_ready:
            raise ServerNotReady("the server is starting or stopping", "try again in a moment")
        await engine.load_info()
    return StateDocument(status="ready")


metrics_router = APIRouter(responses=describe_errors(*COMMON_ERRORS))


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
    return Response(
        list_engines(request)[0].resources.metrics.to_text(), headers={"Content-Type": metrics.CONTENT_TYPE}
    )


async def fetch_picture(url: str, engine: SearchEngine, fetcher: Fetcher) -> bytes:
    """Fetch a picture from the web, if the server allows URLs."""
    if not engine.settings.allow_url:
        raise UsageError("this server does not fetch pictures from the web", "upload the picture")
    return await engine.run_fetch(lambda: fetcher.fetch(url))


def to_json_response(document: dict[str, Any]) -> Response:
    """Make a compact JSON response, without the checks of a response model."""
    return Response(json.dumps(document, separators=(",", ":")), media_type="application/json")
