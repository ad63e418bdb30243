"""The pages of duplicates: the groups, the list of the files that can go, and the groups that were rejected."""

from __future__ import annotations

import os
import re
import urllib.parse
from typing import Annotated, Literal

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse

from simsearch.duplicates.options import Tier
from simsearch.duplicates.results import DuplicateReport
from simsearch.errors import UsageError
from simsearch.report.duplicates import TIER_TITLES, build_duplicates_csv
from simsearch.text import escape_formula
from simsearch.web.api import find_engine
from simsearch.web.page_state import PageState
from simsearch.web.pages import Offset, render_page
from simsearch.web.path_names import PathNames
from simsearch.web.tiles import build_group_tiles, build_tiles

ListFormat = Literal["list", "null", "csv", "ids"]
"""`list` ends each path with a line break, `null` with a NUL character; `ids` are the images whose files can all go."""

_GROUPS_PER_PAGE = 60
_IDS_PATTERN = re.compile(r"[0-9]{1,18}(,[0-9]{1,18}){1,999}")
_LIST_FILES = {"list": ("to-remove.txt", "text/plain"), "null": ("to-remove.list", "application/octet-stream"),
               "csv": ("duplicates.csv", "text/csv; charset=utf-8")}  # fmt: skip

router = APIRouter(include_in_schema=False)


@router.get("/duplicates")
async def duplicates_page(
    request: Request,
    tier: Tier = "near",
    start: Offset = 0,
    rejected: Annotated[str, Query(max_length=20_000)] = "",
) -> Response:
    """Show the groups of duplicates from a position on, or the progress of the search for them.

    `rejected` are the ids of the group that was just rejected, for a button that undoes it.
    """
    engine = find_engine(request)
    job = await engine.find_duplicates(tier)
    if not job.is_done:
        return await render_page(request, "progress.html.j2", heading="Looking for duplicates", job=job)
    report = job.result()
    groups = report.groups[start : start + _GROUPS_PER_PAGE]
    tiles = await engine.run_image_work(lambda: [build_group_tiles(engine.folder, group) for group in groups])
    return await render_page(
        request, "duplicates.html.j2", report=report, groups=list(zip(groups, tiles, strict=True)), tier=tier,
        titles=TIER_TITLES, state=PageState(root=engine.root), start=start, groups_per_page=_GROUPS_PER_PAGE,
        n_removable=len(report.removable_paths), n_removable_images=len(_list_removable_images(report)),
        root_name=os.path.basename(engine.paths.root), rejected=rejected if _IDS_PATTERN.fullmatch(rejected) else "",
    )  # fmt: skip


@router.get("/duplicates/removable")
async def removable_list(request: Request, tier: Tier = "near", format: ListFormat = "list") -> Response:
    """Send the files that can go, as `simsearch duplicates` lists them, or show the progress of the search for them."""
    engine = find_engine(request)
    job = await engine.find_duplicates(tier)
    if not job.is_done:
        return RedirectResponse(f"{engine.root}/duplicates?tier={tier}", 303)
    report = job.result()
    if format == "ids":
        return JSONResponse({"image_ids": _list_removable_images(report)})
    name, media_type = _LIST_FILES[format]
    headers = {
        "Content-Disposition": f'attachment; filename="{name}"',
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Cache-Control": "private, no-store",
    }
    content = await engine.run_image_work(lambda: write_list(report, format, engine.paths))
    return Response(content, media_type=media_type, headers=headers)


@router.get("/duplicates/rejected")
async def rejected_page(request: Request, start: Offset = 0) -> Response:
    """Show the images that were marked as no duplicates of each other, to undo it."""
    engine = find_engine(request)
    rejected = await engine.list_rejected_groups()
    shown = rejected[start : start + _GROUPS_PER_PAGE]
    tiles = await engine.run_image_work(lambda: [build_tiles(engine.folder, image_ids) for image_ids in shown])
    groups = [(",".join(map(str, ids)), some) for ids, some in zip(shown, tiles, strict=True)]
    return await render_page(
        request, "rejected.html.j2", groups=groups, n_groups=len(rejected), titles=TIER_TITLES,
        state=PageState(root=engine.root), start=start, groups_per_page=_GROUPS_PER_PAGE,
    )  # fmt: skip


@router.post("/duplicates/rejections")
async def change_rejections(
    request: Request,
    ids: Annotated[str, Form(max_length=20_000, pattern=f"^{_IDS_PATTERN.pattern}$")],
    action: Annotated[Literal["reject", "unreject"], Form()],
    tier: Annotated[Tier, Form()] = "near",
    start: Annotated[int, Form(ge=0, le=10_000_000)] = 0,
) -> Response:
    """Mark the images of a group as no duplicates of each other, or undo it, and show the groups again."""
    engine, image_ids = find_engine(request), [int(part) for part in ids.split(",")]
    parameters = {"tier": tier, "start": str(start)}
    if action == "reject":
        await engine.reject_duplicates(image_ids)
        parameters["rejected"] = ids
    else:
        await engine.unreject_duplicates(image_ids)
    return RedirectResponse(f"{engine.root}/duplicates?{urllib.parse.urlencode(parameters, safe=',')}", 303)


def _list_removable_images(report: DuplicateReport) -> list[int]:
    """List the images whose files can all be removed; of the others a file stays."""
    return [
        member.image_id
        for group in report.groups
        for member in group.members
        if all(file.action == "remove" for file in member.files)
    ]


def write_list(report: DuplicateReport, format: ListFormat, paths: PathNames) -> bytes:
    """Write the files that can go, byte by byte, or the table of all groups, with the paths that visitors see.

    Raises `UsageError` where a line break in a path would make two paths of it.
    """
    if format == "csv":
        table = build_duplicates_csv(report, lambda path: escape_formula(paths.cut(path)))
        return table.encode("utf-8", "surrogateescape")
    removable = [os.fsencode(paths.cut(path)) for path in report.removable_paths]
    end = b"\0" if format == "null" else b"\n"
    if any(end in path for path in removable):
        raise UsageError("a path in the list has a line break", "save the list with NUL characters, or the table")
    return b"".join(path + end for path in removable)
