"""Every route of the server holds every rule of security, and the API changes only on purpose."""

from __future__ import annotations

import json
import os
import re
import socket
import urllib.parse
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute

from simsearch.web import api, api_browse, api_jobs, login, page_browse, page_duplicates, page_label, pages
from simsearch.web.middleware import PUBLIC_PATHS
from tests.web.conftest import TOKEN

_CONTRACT = Path(__file__).parent / "api_contract.json"
_MODULES = (api, api_browse, api_jobs, pages, page_browse, page_duplicates, page_label, login)
_ROUTERS = (*(module.router for module in _MODULES), api.metrics_router)
_VALUES = {"image_id": "1", "job_id": "0123456789abcdef", "name": "x"}


def list_routes() -> list[tuple[str, str]]:
    """Method and path of every route, with a value in place of each parameter."""
    found = [("GET", "/api/v1/openapi.json")]
    for router in _ROUTERS:
        for route in router.routes:
            assert isinstance(route, APIRoute)
            path = re.sub(r"\{(\w+)\}", lambda match: _VALUES[match[1]], route.path)
            found += [(method, path) for method in sorted(route.methods)]
    return found


ROUTES = list_routes()
PRIVATE = [(method, path) for method, path in ROUTES if path not in PUBLIC_PATHS and not path.startswith("/static/")]
READ = {"Authorization": f"Bearer {TOKEN}"}


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


@pytest.mark.parametrize(("method", "path"), PRIVATE)
def test_without_a_token_every_route_is_closed(guarded: str, method: str, path: str):
    for headers in ({}, {"Authorization": "Bearer wrong-wrong-wrong-wrong"}, {"Cookie": "simsearch_token=x"}):
        answer = ask(guarded, method, path, **headers)
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_refuses_foreign_hosts_and_sites_and_has_the_headers(address: str, method: str, path: str):
    assert ask(address, method, path, Host="evil.example").status_code in (400, 421)
    foreign = [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}]
    if method != "GET":
        foreign += [{"Origin": "https://evil.example"}, {"Origin": "null"}]
    for headers in foreign if path not in PUBLIC_PATHS or method != "GET" else ():
        assert ask(address, method, path, **headers).status_code == 403, headers
    answer = ask(address, method, path)
    assert answer.status_code < 500
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "unsafe-inline" not in answer.headers["content-security-policy"] or "image" in path
    assert "access-control-allow-origin" not in answer.headers
    assert "server" not in answer.headers


@pytest.mark.parametrize(("method", "path"), [route for route in ROUTES if route[0] != "GET"])
def test_every_route_limits_its_body(address: str, method: str, path: str):
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n"
    parts = urllib.parse.urlsplit(address)
    with socket.create_connection((parts.hostname or "", parts.port or 0), 20) as connection:
        connection.sendall(head.encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("method", "path"), [route for route in ROUTES if route[1].startswith("/api/") and "openapi" not in route[1]]
)
def test_every_route_of_the_api_refuses_unknown_parameters(address: str, method: str, path: str):
    answer = ask(address, method, f"{path}?no_such_parameter=1")
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert "no_such_parameter" in answer.json()["detail"]


@pytest.mark.parametrize("text", ["../../../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%00", "1/../../etc", "💥", "-1"])
def test_no_parameter_in_a_path_leads_to_a_file(address: str, text: str):
    for router in _ROUTERS:
        for route in router.routes:
            assert isinstance(route, APIRoute)
            if "{" in route.path:
                for method in route.methods:
                    answer = ask(address, method, re.sub(r"\{\w+\}", text, route.path))
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
