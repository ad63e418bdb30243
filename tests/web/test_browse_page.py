"""The page of all images without scripts: filters that are put together, chips, facets, orders and pages."""

from __future__ import annotations

import html
import re

import httpx
import pytest


def visit(client: httpx.Client, **parameters: str) -> httpx.Response:
    return client.get("/browse", params=parameters, headers={"Accept": "text/html"})


def list_names(page: str) -> list[str]:
    return [html.unescape(name) for name in re.findall(r'<li class="cell".*?alt="(.*?)"', page, re.DOTALL)]


def find_where(page: str) -> str:
    found = re.search(r'<input id="where"[^>]*value="(.*?)"', page)
    assert found
    return html.unescape(found[1])


@pytest.mark.parametrize(
    ("field", "operator", "value", "written", "n"),
    [
        ("class", "is", "lamp", "class = 'lamp'", 7),
        ("class", "not", "lamp", "class != 'lamp'", 10),  # an image with a second file elsewhere is found
        ("name", "contains", "copy", "name ~ 'copy'", 1),
        ("width", "least", "48", "width >= 48", 16),
        ("taken", "missing", "", "taken is missing", 16),
        ("format", "is", "png", "format = png", 16),
        ("size", "most", "1kB", "size <= 1000", 0),
        ("class", "is", "a'b", "class = 'a''b'", 0),
    ],
)
def test_the_form_writes_the_filter(client: httpx.Client, field: str, operator: str, value: str, written: str, n: int):
    page = visit(client, field=field, operator=operator, value=value)
    assert page.status_code == 200
    assert find_where(page.text).replace("'png'", "png") == written
    assert len(list_names(page.text)) == n
    again = visit(client, where=find_where(page.text))
    assert list_names(again.text) == list_names(page.text)


def test_a_second_test_is_added_and_each_can_be_removed(client: httpx.Client):
    page = visit(client, where="class = 'lamp'", field="width", operator="least", value="48").text
    assert find_where(page) == "class = 'lamp' and width >= 48"
    chips = [html.unescape(address) for address in re.findall(r'href="([^"]*)" aria-label="Remove', page)]
    assert len(chips) == 2
    rest = [find_where(client.get(chip).text) for chip in chips]
    assert rest == ["width >= 48", "class = 'lamp'"]


@pytest.mark.parametrize(
    "parameters",
    [{"where": "width >"}, {"field": "width", "operator": "is", "value": "wide"}, {"field": "no such", "value": "1"},
     {"field": "class", "operator": "drop", "value": "x"}, {"field": "class", "value": ""}],
)  # fmt: skip
def test_an_invalid_filter_is_explained_beside_the_form(client: httpx.Client, parameters: dict[str, str]):
    page = visit(client, **parameters)
    assert page.status_code == 400
    assert 'class="complaint" id="complaint"' in page.text
    assert list_names(page.text)


def test_every_link_of_a_facet_shows_as_many_images_as_it_says(client: httpx.Client):
    page = visit(client).text
    links = re.findall(r'<a href="(/browse[^"]*)"><span class="user">(.*?)</span> <small>([\d,]+)</small>', page)
    assert len(links) > 5
    for address, name, number in links:
        shown = client.get(html.unescape(address)).text
        assert len(list_names(shown)) == int(number), name


def test_an_order_can_be_chosen(client: httpx.Client):
    names = list_names(visit(client, sort="name", order="descending").text)
    assert [name.casefold() for name in names] == sorted((name.casefold() for name in names), reverse=True)
    assert len(names) == 16
