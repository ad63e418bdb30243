"""The API under /api/v1 for results that take long: duplicates, pairs, clusters and the map, and their jobs.

A request for such a result starts a job, and gets status 202 with its state until the result is there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

import numpy as np
from fastapi import APIRouter, Depends, Path, Query, Request, Response

from simsearch.duplicates.options import Tier
from simsearch.duplicates.results import DuplicateGroup, DuplicateReport
from simsearch.errors import SimsearchError
from simsearch.quality.results import QualityKind, QualityReport
from simsearch.visualization.overview import Clustering, CollectionLayout
from simsearch.web.api import (
    COMMON_ERRORS,
    PREFIX,
    check_parameter_names,
    describe_errors,
    find_engine,
    to_json_response,
)
from simsearch.web.api_browse import Where
from simsearch.web.errors import to_error_response
from simsearch.web.jobs import BackgroundJob
from simsearch.web.path_names import PathNames
from simsearch.web.query import MAX_ID
from simsearch.web.schemas import (
    ClustersDocument,
    DuplicatesDocument,
    JobDocument,
    MapDocument,
    PairsDocument,
    QualityDocument,
)

T = TypeVar("T")
_POLL_S = 1
_COORDINATE_DECIMALS = 4
_MAX_CLUSTERS = 10_000

router = APIRouter(
    prefix=PREFIX, responses=describe_errors(*COMMON_ERRORS), dependencies=[Depends(check_parameter_names)]
)

_Start = Annotated[int, Query(ge=0, le=MAX_ID, description="The position of the first, from 0.")]
_Limit = Annotated[int, Query(ge=1, le=1000)]
_JobId = Annotated[str, Path(pattern="^[0-9a-f]{16}$", description="The id of a job.", examples=["0123456789abcdef"])]
_ACCEPTED: dict[int | str, dict[str, Any]] = {
    202: {"model": JobDocument, "description": "The job runs; `Location` is its URL. Request the result again later."}
}
_RESULT_ERRORS = describe_errors(400, 404, 410, 503)


@router.get("/duplicates", response_model=DuplicatesDocument, responses=_ACCEPTED | _RESULT_ERRORS, tags=["collection"])
async def duplicates(request: Request, tier: Tier = "near", start: _Start = 0, limit: _Limit = 100) -> Response:
    """List the groups of duplicates. Nothing is deleted."""
    engine = find_engine(request)

    def describe(report: DuplicateReport) -> dict[str, Any]:
        groups = [_describe_group(group, engine.paths) for group in report.groups[start : start + limit]]
        page = _describe_page(len(report.groups), start, limit)
        return page | {"freed_bytes": report.freed_bytes, "groups": groups}

    return _answer_with_result(request, await engine.find_duplicates(tier), describe)


@router.get("/pairs", response_model=PairsDocument, responses=_ACCEPTED | _RESULT_ERRORS, tags=["collection"])
async def pairs(request: Request, start: _Start = 0, limit: _Limit = 100) -> Response:
    """List the pairs of images that show the same picture, verified by their pixels, with what was changed."""
    engine = find_engine(request)

    def describe(report: DuplicateReport) -> dict[str, Any]:
        found = [
            {"images": list(pair.key), "kind": pair.evidence.kind, "similarity": round(pair.similarity, 6)}
            for pair in report.pairs[start : start + limit]
        ]
        return _describe_page(len(report.pairs), start, limit) | {"pairs": found}

    return _answer_with_result(request, await engine.find_duplicates("near"), describe)


@router.get("/quality", response_model=QualityDocument, responses=_ACCEPTED | _RESULT_ERRORS, tags=["collection"])
async def quality(
    request: Request,
    kind: Annotated[QualityKind | None, Query(description="Only this kind.")] = None,
    start: _Start = 0,
    limit: _Limit = 100,
) -> Response:
    """List pictures that are worth a look: blurred, dark, bright, uniform, tiny, odd-shaped, outliers, mislabelled."""
    engine = find_engine(request)

    def describe(report: QualityReport) -> dict[str, Any]:
        found = report.findings if kind is None else report.select(kind)
        page = _describe_page(len(found), start, limit)
        return page | {
            "images": report.n_images,
            "unread": report.n_unread,
            "labels": report.labels_from,
            "counts": report.count(),
            "findings": [one.to_dict() | {"path": engine.paths.name(one.path)} for one in found[start : start + limit]],
        }

    return _answer_with_result(request, await engine.check_quality(), describe)


@router.get("/clusters", response_model=ClustersDocument, responses=_ACCEPTED | _RESULT_ERRORS, tags=["collection"])
async def clusters(
    request: Request,
    k: Annotated[int | None, Query(ge=1, le=_MAX_CLUSTERS, description="Their number; chosen by default.")] = None,
    where: Where = "",
    members: Annotated[int, Query(ge=0, le=1000, description="The most images to list of a cluster.")] = 20,
) -> Response:
    """Group the images by similarity; of more than 100,000 images, a sample."""
    job = await find_engine(request).cluster(k, where or None)

    def describe(found: Clustering) -> dict[str, Any]:
        return _describe_overview(found) | {
            "clusters": [
                {
                    "cluster": one.number,
                    "size": one.size,
                    "tightness": round(one.tightness, 6),
                    "label": one.label,
                    "image_ids": [found.images[row].image_id for row in one.members[:members]],
                }
                for one in found.clusters
            ]
        }

    return _answer_with_result(request, job, describe)


@router.get("/map", response_model=MapDocument, responses=_ACCEPTED | _RESULT_ERRORS, tags=["collection"])
async def map_points(request: Request) -> Response:
    """Lay out the images on a plane, similar ones close together; of more than 100,000 images, a sample."""
    return _answer_with_result(request, await find_engine(request).lay_out(), _describe_layout)


@router.get("/jobs/{job_id}", responses=describe_errors(404, 503), tags=["jobs"])
async def job(request: Request, job_id: _JobId) -> JobDocument:
    """Tell the state of a job."""
    return describe_job(find_engine(request).jobs.find(job_id))


@router.post("/jobs/{job_id}/cancel", responses=describe_errors(404, 503), tags=["jobs"])
async def cancel_job(request: Request, job_id: _JobId) -> JobDocument:
    """Cancel a job. One that runs ends at its next step; one that is done stays as it is."""
    return describe_job(find_engine(request).jobs.cancel(job_id))


def _answer_with_result(request: Request, job: BackgroundJob[T], describe: Callable[[T], dict[str, Any]]) -> Response:
    """Answer with the result of a job, or with status 202 while it runs. Raises the error of a failed job."""
    if job.is_done:
        return to_json_response(describe(job.result()))
    response = to_json_response(describe_job(job).model_dump(mode="json"))
    response.status_code = 202
    response.headers["Location"] = locate_job(request, job)
    response.headers["Retry-After"] = str(_POLL_S)
    return response


def locate_job(request: Request, job: BackgroundJob[Any]) -> str:
    """The path of a job in the collection that a request is for."""
    return f"{find_engine(request).root}{PREFIX}/jobs/{job.job_id}"


def describe_job(job: BackgroundJob[Any]) -> JobDocument:
    """Describe the state of a job, with the error of one that has failed."""
    problem = None
    if job.state == "failed":
        error = job.future.exception()
        is_told = isinstance(error, SimsearchError)
        problem = to_error_response(error).problem if is_told else "internal error; see the log of the server"  # type: ignore[arg-type]
    return JobDocument(
        job_id=job.job_id, kind=job.kind, state=job.state, stage=job.stage, fraction=job.fraction, problem=problem
    )


def _describe_page(total: int, start: int, limit: int) -> dict[str, Any]:
    end = start + limit
    return {"total": total, "start": start, "next": end if end < total else None}


def _describe_group(group: DuplicateGroup, paths: PathNames) -> dict[str, Any]:
    return {
        "tier": group.tier,
        "freed_bytes": group.freed_bytes,
        "members": [
            {
                "image_id": member.image_id,
                "similarity": round(member.similarity, 6),
                "difference": member.copy_text,
                "files": [
                    {"path": paths.name(file.path), "action": file.action, "reason": file.reason}
                    for file in member.files
                ],
            }
            for member in group.members
        ],
    }


def _describe_overview(found: Clustering) -> dict[str, Any]:
    return {"backbone": found.backbone, "images": len(found.images), "of_images": found.n_images}


def _describe_layout(found: CollectionLayout) -> dict[str, Any]:
    numbers: list[int | None] = [None] * len(found.images)
    for cluster in found.clusters:
        for row in cluster.members:
            numbers[row] = cluster.number
    places: Sequence[Sequence[float]] = np.round(
        np.clip(found.grid.exact / max(1, found.grid.side), 0, 1), _COORDINATE_DECIMALS
    ).tolist()
    points = [
        {"image_id": image.image_id, "x": x, "y": y, "cluster": number}
        for image, (x, y), number in zip(found.images, places, numbers, strict=True)
    ]
    return _describe_overview(found) | {"points": points}
