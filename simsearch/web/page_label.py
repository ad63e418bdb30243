"""The page of images to label next: those that the labels so far leave unsure, and those that are like none of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from simsearch.errors import UsageError
from simsearch.learn.suggestions import DEFAULT_COLUMN, LabelSuggestion
from simsearch.web.api import find_engine
from simsearch.web.engine import SearchEngine
from simsearch.web.page_state import PageState
from simsearch.web.pages import render_page
from simsearch.web.tiles import ImageTile, build_tiles

_N_SUGGESTIONS = 24
_N_KEYS = 9
_WAIT_S = 1.5
"""Most searches take less; for one that takes longer, the page shows its progress."""

router = APIRouter(include_in_schema=False)


@router.get("/label")
async def label_page(
    request: Request, column: Annotated[str, Query(max_length=100, pattern=r"^\s*\S.*$")] = DEFAULT_COLUMN
) -> Response:
    """Show the images to label next in a column, and the labels that the digits give, or the progress of the search."""
    engine, column = find_engine(request), column.strip()
    job = await engine.suggest_labels(column, _N_SUGGESTIONS)
    await job.wait(_WAIT_S)
    if not job.is_done:
        return await render_page(request, "progress.html.j2", heading="Looking for images to label", job=job)
    try:
        suggestions = job.result()
    except UsageError:  # every image has a label
        suggestions = ()
    tiles = await engine.run_image_work(lambda: _build_suggestion_tiles(engine, suggestions))
    values, columns = await engine.run_browse(
        lambda browser: (browser.list_values(column, _N_KEYS), browser.list_own_columns())
    )
    is_first = not values
    if is_first:  # until there are labels, the names of folders are offered
        _, facets = await engine.run_browse(lambda browser: browser.count_facets("", _N_KEYS))
        values = [str(one.value) for facet in facets if facet.name == "class" for one in facet.values if one.value]
    n_unsure = sum(one.reason == "unsure" for one in suggestions)
    return await render_page(
        request, "label.html.j2", tiles=tiles, column=column, columns=columns, values=values, is_first=is_first,
        n_unsure=n_unsure, state=PageState(root=engine.root),
    )  # fmt: skip


def _build_suggestion_tiles(engine: SearchEngine, suggestions: Sequence[LabelSuggestion]) -> list[ImageTile]:
    remarks = {one.image_id: _describe(one) for one in suggestions}
    tiles = build_tiles(engine.folder, list(remarks), most=_N_SUGGESTIONS)
    return [replace(tile, remark=remarks[tile.image_id]) for tile in tiles]


def _describe(suggestion: LabelSuggestion) -> str:
    """What the labels so far say about an image, such as `lamp 52 % or vase 44 %`."""
    if suggestion.labels:
        return " or ".join(f"{name} {probability:.0%}" for name, probability in suggestion.labels)
    return "unlike all labeled"
