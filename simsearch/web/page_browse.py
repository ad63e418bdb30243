"""The page that shows the whole collection: a grid in an order, facets, and a form for filters."""

from __future__ import annotations

import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Query, Request, Response

from simsearch.errors import UsageError
from simsearch.store.image_table import SortKey
from simsearch.web.api import find_engine
from simsearch.web.api_browse import Where
from simsearch.web.browse import BrowsePage, BrowseQuery, CollectionBrowser, Direction, Facet
from simsearch.web.errors import to_error_response
from simsearch.web.filter_form import FIELDS, OPERATORS, BuiltTest, join_conditions, split_conditions
from simsearch.web.images import read_stored_images
from simsearch.web.pages import render_page
from simsearch.web.query import MAX_ID
from simsearch.web.schemas import BriefImageDocument

_IMAGES_PER_PAGE = 100
_FACET_VALUES = 24

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class FilterLink:
    """A link that adds or removes a filter."""

    text: str
    url: str


@dataclass(frozen=True, slots=True)
class FacetLink:
    """A value of a facet, the number of its images, and the link that selects them."""

    name: str
    n_images: int
    url: str


@dataclass(frozen=True, slots=True)
class FacetView:
    """A facet as the page shows it."""

    name: str
    n_values: int
    links: tuple[FacetLink, ...]


@router.get("/browse")
async def browse_page(
    request: Request,
    where: Where = "",
    sort: SortKey = "id",
    order: Direction = "ascending",
    start: Annotated[int, Query(ge=0, le=MAX_ID)] = 0,
    field: Annotated[str, Query(max_length=200)] = "",
    operator: Annotated[str, Query(max_length=20)] = "is",
    value: Annotated[str, Query(max_length=500)] = "",
) -> Response:
    """Show the images that match a filter. `field`, `operator` and `value` add a test to the filter."""
    engine, built, error = find_engine(request), BuiltTest(field or "class", operator, value), None
    try:
        chosen = join_conditions([where, built.build_condition()] if field else [where])
        found = await engine.run_browse(lambda browser: _find(browser, BrowseQuery(chosen, sort, order), start))
        built = BuiltTest() if field else built
    except UsageError as failure:
        error, chosen = to_error_response(failure), ""
        found = await engine.run_browse(lambda browser: _find(browser, BrowseQuery(chosen, sort, order), 0))
    view = BrowseQuery(chosen, sort, order)
    page, facets, columns = found
    images = await engine.run_image_work(lambda: read_stored_images(engine.folder, page.image_ids))
    brief = [
        BriefImageDocument.from_image(images[image_id], engine.paths)
        for image_id in page.image_ids
        if image_id in images
    ]
    root = engine.root
    return await render_page(
        request, "browse.html.j2", 200 if error is None else error.status, view=view, page=page, images=brief,
        facets=[_link_facet(facet, view, root) for facet in facets], chips=_list_chips(view, root), error=error,
        built=built, written=where if error else view.where, fields=[*FIELDS, *columns], operators=OPERATORS,
        sorts=get_args(SortKey), api_query=_encode(view),
        previous_url=_build_url(root, view, max(0, page.start - _IMAGES_PER_PAGE)),
        next_url=_build_url(root, view, page.start + _IMAGES_PER_PAGE),
    )  # fmt: skip


def _find(
    browser: CollectionBrowser, query: BrowseQuery, start: int
) -> tuple[BrowsePage, Sequence[Facet], Sequence[str]]:
    page = browser.list_page(query, _IMAGES_PER_PAGE, start=start)
    facets = browser.count_facets(query.where, _FACET_VALUES)[1]
    return page, facets, browser.list_own_columns()


def _link_facet(facet: Facet, view: BrowseQuery, root: str) -> FacetView:
    links = tuple(
        FacetLink(
            "none" if one.value is None else str(one.value),
            one.n_images,
            _build_url(root, BrowseQuery(join_conditions([view.where, one.where]), view.sort, view.direction)),
        )
        for one in facet.values
    )
    return FacetView(facet.name, facet.n_values, links)


def _list_chips(view: BrowseQuery, root: str) -> list[FilterLink]:
    """The parts of the filter, each with the link without it."""
    parts = split_conditions(view.where)
    return [
        FilterLink(
            part, _build_url(root, BrowseQuery(join_conditions(parts[:i] + parts[i + 1 :]), view.sort, view.direction))
        )
        for i, part in enumerate(parts)
    ]


def _encode(view: BrowseQuery) -> str:
    parameters: dict[str, Any] = {"where": view.where, "sort": view.sort, "order": view.direction}
    return urllib.parse.urlencode({name: value for name, value in parameters.items() if value})


def _build_url(root: str, view: BrowseQuery, start: int = 0) -> str:
    return f"{root}/browse?{_encode(view)}" + (f"&start={start}" if start else "")
