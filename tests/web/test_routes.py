"""Every route of the server holds every rule of security, and the API changes only on purpose."""

from __future__ import annotations

import json
import os
import re
import socket
import time
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute

from simsearch.web import login, page_collections
from simsearch.web.app import COLLECTION_ROUTERS, SERVER_ROUTERS
from simsearch.web.middleware import PUBLIC_PATHS
from tests.web.conftest import TOKEN

_CONTRACT = Path(__file__).parent / "api_contract.json"
_ROUTERS = (*COLLECTION_ROUTERS, *SERVER_ROUTERS, login.router)
_SHARED_ROUTERS = (*SERVER_ROUTERS, login.router, page_collections.router)
"""What a server with several collections has at its root."""
_VALUES = {"image_id": "1", "job_id": "0123456789abcdef", "name": "x"}


def is_public(server: str, base: str, path: str) -> bool:
    return (server == "address" or base == "/") and (path in PUBLIC_PATHS or path.startswith("/static/"))


def list_routes(routers: Sequence[APIRouter] = _ROUTERS) -> list[tuple[str, str]]:
    """Method and path of every route, with a value in place of each parameter."""
    found = [("GET", "/api/v1/openapi.json")]
    for router in routers:
        for route in router.routes:
            assert isinstance(route, APIRoute)
            path = re.sub(r"\{(\w+)\}", lambda match: _VALUES[match[1]], route.path)
            found += [(method, path) for method in sorted(route.methods)]
    return found


ROUTES = list_routes()
OF_COLLECTIONS = list_routes((*COLLECTION_ROUTERS, *SERVER_ROUTERS))
EVERYWHERE = [
    *(("address", "", method, path) for method, path in ROUTES),
    *(("several", "", method, path) for method, path in OF_COLLECTIONS),
    *(("several", "/", method, path) for method, path in list_routes(_SHARED_ROUTERS)),
]
"""The fixture of a server, whether a path is relative to the collection (empty) or to the server, method and path."""
PRIVATE = [
    (server.replace("address", "guarded").replace("several", "several_guarded"), base, method, path)
    for server, base, method, path in EVERYWHERE
    if not is_public(server, base, path)
]
READ = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def place(request: pytest.FixtureRequest, server: str, base: str) -> str:
    """The address that the paths of a test are relative to."""
    found: str = request.getfixturevalue(server)
    return found.partition("/c/")[0] if base else found


def wait_for_pages(client: httpx.Client, root: str = "") -> None:
    """Wait until the pages that take long are there."""
    for path in ("/duplicates", "/quality", "/map"):
        end = time.monotonic() + 60
        while "This page reloads by itself" in client.get(root + path).text:
            assert time.monotonic() < end
            time.sleep(0.1)


def ask(address: str, method: str, path: str, **headers: str) -> httpx.Response:
    return httpx.request(method, address + path, headers=headers, timeout=60)


def test_every_route_is_listed(address: str):
    described = httpx.get(f"{address}/api/v1/openapi.json").json()["paths"]
    listed = {(method, path) for method, path in ROUTES if path.startswith(("/api/", "/metrics"))}
    expected = {
        (method.upper(), re.sub(r"\{(\w+)\}", lambda match: _VALUES[match[1]], path))
        for path, operations in described.items()
        for method in operations
    }
    assert expected == listed - {("GET", "/api/v1/openapi.json")}


@pytest.mark.parametrize(("server", "base", "method", "path"), PRIVATE)
def test_without_a_token_every_route_is_closed(place: str, method: str, path: str):
    for headers in ({}, {"Authorization": "Bearer wrong-wrong-wrong-wrong"}, {"Cookie": "simsearch_token=x"}):
        answer = ask(place, method, path, **headers)
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(("server", "base", "method", "path"), EVERYWHERE)
def test_every_route_refuses_foreign_hosts_and_sites_and_has_the_headers(
    place: str, server: str, base: str, method: str, path: str
):
    assert ask(place, method, path, Host="evil.example").status_code in (400, 421)
    foreign = [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}]
    if method != "GET":
        foreign += [{"Origin": "https://evil.example"}, {"Origin": "null"}]
    for headers in foreign if not is_public(server, base, path) or method != "GET" else ():
        assert ask(place, method, path, **headers).status_code == 403, headers
    answer = ask(place, method, path)
    assert answer.status_code < 500
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "unsafe-inline" not in answer.headers["content-security-policy"] or "image" in path
    assert "access-control-allow-origin" not in answer.headers
    assert "server" not in answer.headers


@pytest.mark.parametrize(("server", "base", "method", "path"), [route for route in EVERYWHERE if route[2] == "GET"])
def test_every_route_of_get_answers_head_with_the_same_status_and_no_body(place: str, method: str, path: str):
    while (expected := ask(place, "GET", path).status_code) == 202:  # it is computed in the background
        time.sleep(0.05)
    answer = ask(place, "HEAD", path)
    assert (answer.status_code, answer.content) == (expected, b"")
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(("server", "base", "method", "path"), [route for route in EVERYWHERE if route[2] != "GET"])
def test_every_route_limits_its_body(place: str, method: str, path: str):
    parts = urllib.parse.urlsplit(place)
    head = f"{method} {parts.path}{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n"
    with socket.create_connection((parts.hostname or "", parts.port or 0), 20) as connection:
        connection.sendall(head.encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("server", "base", "method", "path"),
    [route for route in EVERYWHERE if route[3].startswith("/api/") and "openapi" not in route[3]],
)
def test_every_route_of_the_api_refuses_unknown_parameters(place: str, method: str, path: str):
    answer = ask(place, method, f"{path}?no_such_parameter=1")
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert "no_such_parameter" in answer.json()["detail"]


@pytest.mark.parametrize(("server", "base"), [("address", ""), ("several", ""), ("several", "/")])
@pytest.mark.parametrize("text", ["../../../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%00", "1/../../etc", "💥", "-1"])
def test_no_parameter_in_a_path_leads_to_a_file(place: str, base: str, text: str):
    for router in _SHARED_ROUTERS if base else _ROUTERS:
        for route in router.routes:
            assert isinstance(route, APIRoute)
            if "{" in route.path:
                for method in route.methods:
                    answer = ask(place, method, re.sub(r"\{\w+\}", text, route.path))
                    assert answer.status_code in (404, 405, 410, 422), (route.path, answer.status_code)
                    assert b"root:" not in answer.content


def summarize(description: dict[str, Any]) -> dict[str, Any]:
    """What clients rely on: routes, parameters, statuses, and the fields of documents."""
    operations = {}
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            operations[f"{method.upper()} {path}"] = {
                "parameters": sorted(
                    f"{one['in']} {one['name']}{' required' if one.get('required') else ''}"
                    for one in operation.get("parameters", ())
                ),
                "bodies": sorted(operation.get("requestBody", {}).get("content", ())),
                "statuses": sorted(operation["responses"]),
            }
    documents = {
        name: sorted(schema.get("properties", ())) for name, schema in description["components"]["schemas"].items()
    }
    return {"operations": operations, "documents": documents}


def test_the_api_is_the_stored_one(address: str):
    """After a change on purpose, $SIMSEARCH_UPDATE_CONTRACT=1 stores the new one; tell it in the CHANGELOG."""
    summary = summarize(httpx.get(f"{address}/api/v1/openapi.json").json())
    if os.environ.get("SIMSEARCH_UPDATE_CONTRACT"):
        _CONTRACT.write_text(json.dumps(summary, indent=1, sort_keys=True) + "\n")
    assert summary == json.loads(_CONTRACT.read_text())


def test_the_reference_shows_every_operation_and_loads_nothing_from_elsewhere(address: str):
    page = httpx.get(f"{address}/docs")
    assert page.status_code == 200
    for path in httpx.get(f"{address}/api/v1/openapi.json").json()["paths"]:
        assert path in page.text
    loaded = re.findall(r'(?:src|<link[^>]*href)="([^"]+)"', page.text)
    assert loaded
    assert all(place.startswith("/static/") for place in loaded)
