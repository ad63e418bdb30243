"""The API under /api/v1 for browsing: lists of images page by page, facets, exports, and annotations."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Form, Query, Request, Response
from fastapi.responses import StreamingResponse

from simsearch.errors import UsageError
from simsearch.interchange.annotations import AnnotationKey, AnnotationValue
from simsearch.store.image_table import SortKey
from simsearch.web.api import (
    COMMON_ERRORS,
    PREFIX,
    check_can_write,
    check_parameter_names,
    describe_errors,
    find_engine,
    to_json_response,
)
from simsearch.web.browse import BrowseQuery, Direction
from simsearch.web.engine import SearchEngine
from simsearch.web.exports import EXPORT_TYPES, ExportFormat, export_images
from simsearch.web.images import read_stored_images
from simsearch.web.middleware import Receive, Scope, Send
from simsearch.web.parameters import WHERE, WHERE_EXAMPLE
from simsearch.web.query import MAX_ID, MAX_WHERE_LENGTH
from simsearch.web.resources import RETRY_AFTER_S, ServerBusy
from simsearch.web.schemas import (
    AnnotationDocument,
    AnnotationRequest,
    AnnotationUndo,
    BriefImageDocument,
    FacetsDocument,
    ImageDocument,
    ImageListDocument,
)

MAX_LISTED = 1000
_MAX_FACET_VALUES = 1000
_MAX_EXPORTED = 1_000_000
_MAX_IDS_LENGTH = 8_000_000
_IDS_PATTERN = r"^[0-9]{1,18}(,[0-9]{1,18})*$"

router = APIRouter(
    prefix=PREFIX, responses=describe_errors(*COMMON_ERRORS), dependencies=[Depends(check_parameter_names)]
)

Where = Annotated[str, Query(max_length=MAX_WHERE_LENGTH, description=WHERE, examples=[WHERE_EXAMPLE])]
_Sort = Annotated[
    SortKey, Query(description="`date` is the date when the picture was taken, or else when its file was modified.")
]
_Order = Annotated[Direction, Query()]
_CURSOR = "The `next` of the page before."
_BRIEF = "List only id, name and size of each image."


@router.get("/images", response_model=ImageListDocument, responses=describe_errors(400, 503), tags=["browse"])
async def list_images(
    request: Request,
    where: Where = "",
    sort: _Sort = "id",
    order: _Order = "ascending",
    limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = 100,
    start: Annotated[int, Query(ge=0, le=MAX_ID, description="The position of the first image, from 0.")] = 0,
    cursor: Annotated[str | None, Query(max_length=500, description=_CURSOR)] = None,
    brief: Annotated[bool, Query(description=_BRIEF)] = False,
) -> Response:
    """List the images that match a filter, in an order, page by page."""
    engine = find_engine(request)
    query = BrowseQuery(where=where, sort=sort, direction=order)
    page = await engine.run_browse(lambda browser: browser.list_page(query, limit, start=start, cursor=cursor))
    images = await engine.run_image_work(lambda: read_stored_images(engine.folder, page.image_ids))
    found = [images[image_id] for image_id in page.image_ids if image_id in images]
    described = [
        (BriefImageDocument if brief else ImageDocument).from_image(image, engine.paths).model_dump(mode="json")
        for image in found
    ]
    return to_json_response(
        {"total": page.n_matches, "start": page.start, "images": described, "next": page.cursor}
    )  # fmt: skip


@router.get("/facets", response_model=FacetsDocument, responses=describe_errors(400, 503), tags=["browse"])
async def facets(
    request: Request,
    where: Where = "",
    limit: Annotated[int, Query(ge=1, le=_MAX_FACET_VALUES, description="The most values of a facet.")] = 20,
) -> Response:
    """Count the images that match a filter by class, folder, year, camera, format, and your own columns.

    Every value comes with the filter that selects it.
    """
    total, found = await find_engine(request).run_browse(lambda browser: browser.count_facets(where, limit))
    return to_json_response(
        {
            "total": total,
            "facets": [
                {
                    "name": facet.name,
                    "distinct": facet.n_values,
                    "values": [
                        {"value": one.value, "images": one.n_images, "where": one.where} for one in facet.values
                    ],
                }
                for facet in found
            ],
        }
    )


_EXPORTED: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            kind: {"schema": {"type": "array"} if name == "json" else {"type": "string", "format": "binary"}}
            for name, kind in EXPORT_TYPES.items()
        },
        "description": "The list, as a download.",
    }
}
_FORMAT = "`zip` has the picture files, the others their names: one a line, with their metadata, or as JSON."


@router.get(
    "/exports", response_class=Response, responses=_EXPORTED | describe_errors(400, 503), tags=["browse"]
)  # fmt: skip
async def export_matching(
    request: Request,
    where: Where = "",
    sort: _Sort = "id",
    order: _Order = "ascending",
    format: Annotated[ExportFormat, Query(description=_FORMAT)] = "csv",
) -> Response:
    """Export the images that match a filter, in an order."""
    engine = find_engine(request)
    query = BrowseQuery(where=where, sort=sort, direction=order)
    page = await engine.run_browse(lambda browser: browser.list_page(query, _MAX_EXPORTED))
    return _export(engine, page.image_ids, format)


@router.post(
    "/exports", response_class=Response, responses=_EXPORTED | describe_errors(400, 408, 413, 503), tags=["browse"]
)  # fmt: skip
async def export_chosen(
    request: Request,
    ids: Annotated[
        str,
        Form(max_length=_MAX_IDS_LENGTH, pattern=_IDS_PATTERN, description="Image ids with commas.", examples=["1,2"]),
    ],
    format: Annotated[ExportFormat, Form(description=_FORMAT)] = "csv",
    name: Annotated[Literal["images", "to-remove"], Form(description="The name of the file.")] = "images",
) -> Response:
    """Export images by id, in the order of the ids. Those that are not in the collection are left out."""
    return _export(find_engine(request), tuple(dict.fromkeys(map(int, ids.split(",")))), format, name)


_slots = threading.BoundedSemaphore(2)


class _ExportResponse(StreamingResponse):
    """A download that holds one of the places for exports until it has been sent, or was given up."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            _slots.release()


def _export(engine: SearchEngine, image_ids: tuple[int, ...], format: ExportFormat, name: str = "images") -> Response:
    if not _slots.acquire(blocking=False):
        raise ServerBusy("the server sends other exports", f"try again in {RETRY_AFTER_S} s")
    chunks: Iterator[bytes] = export_images(engine.folder, image_ids, format, engine.paths)
    extension = {"list": "txt"}.get(format, format)
    headers = {
        "Content-Disposition": f'attachment; filename="{name}.{extension}"',
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Cache-Control": "private, no-store",
    }
    return _ExportResponse(chunks, headers=headers, media_type=EXPORT_TYPES[format])


@router.post(
    "/annotations",
    responses=describe_errors(400, 404, 408, 413, 503),
    dependencies=[Depends(check_can_write)],
    tags=["browse"],
)
async def annotate(request: Request, changes: AnnotationRequest) -> AnnotationDocument:
    """Set values of your own columns, or delete them. The answer has the changes that undo it."""
    values: dict[AnnotationKey, AnnotationValue | None] = {}
    for change in changes.changes:
        values |= {(image_id, change.column): change.value for image_id in change.image_ids}
    if not values:
        raise UsageError("the request changes nothing", "give image ids")
    previous = await find_engine(request).change(lambda collection: collection.set_values(values))
    undo: dict[tuple[str, str], AnnotationUndo] = {}
    for (image_id, column), value in previous.items():
        key = (column, repr(value))
        undo.setdefault(key, AnnotationUndo(image_ids=[], column=column, value=value)).image_ids.append(image_id)
    return AnnotationDocument(values=len(values), undo=list(undo.values()))
