"""The API under /api/v1 for adding pictures, where the operator allows it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from simsearch.errors import UsageError
from simsearch.web.api import (
    COMMON_ERRORS,
    PREFIX,
    check_can_write,
    check_parameter_names,
    describe_errors,
    find_engine,
    read_body,
    to_json_response,
)
from simsearch.web.api_jobs import describe_job, locate_job
from simsearch.web.parameters import InvalidParameters, UploadParameters, describe_form, describe_unknown, parse_fields
from simsearch.web.query import MAX_EXAMPLES
from simsearch.web.schemas import AddedImageDocument, AddedImagesDocument

router = APIRouter(
    prefix=PREFIX, responses=describe_errors(*COMMON_ERRORS), dependencies=[Depends(check_parameter_names)]
)


@router.post(
    "/images",
    status_code=201,
    response_model=AddedImagesDocument,
    responses={
        200: {"model": AddedImagesDocument, "description": "The collection had all of them before."},
        202: {"model": AddedImagesDocument, "description": "They are stored; the job, whose URL is `Location`, runs."},
        **describe_errors(400, 408, 413, 503, 507),
    },
    openapi_extra={"requestBody": describe_form(UploadParameters, {"image": "Pictures.", "file": "As `image`."})},
    dependencies=[Depends(check_can_write)],
    tags=["images"],
)
async def add_images(request: Request, parameters: Annotated[UploadParameters, Query()]) -> Response:
    """Add pictures to the collection, where the server allows it: store and index those that it does not have.

    The body is a form with pictures, or one picture as it is. If one of them is no picture, none is stored.
    """
    engine, body = find_engine(request), await read_body(request)
    parameters = parse_fields(UploadParameters, [*request.query_params.multi_items(), *body.fields])
    if body.unlike:
        raise InvalidParameters(describe_unknown("unlike_image", ["image", "file"]), "see /api/v1/openapi.json")
    pictures = [picture[1] for picture in body.like if not isinstance(picture, int)]
    if not 1 <= len(pictures) <= MAX_EXAMPLES:
        raise UsageError(f"the request has {len(pictures)} pictures", f"send 1 to {MAX_EXAMPLES}")
    added = await engine.add_pictures(pictures, parameters.wait)
    document = AddedImagesDocument(
        images=[
            AddedImageDocument(
                name=one.name, digest=one.digest, image_id=added.image_ids.get(one.digest),
                problem=added.reasons.get(one.name),
            )
            for one in added.uploads
        ],
        job=None if added.job is None else describe_job(added.job),
    )  # fmt: skip
    response = to_json_response(document.model_dump(mode="json"))
    if added.job is None:
        response.status_code = 200
    elif added.job.is_done:
        response.status_code = 201
    else:
        response.status_code = 202
        response.headers["Location"] = locate_job(request, added.job)
    return response
