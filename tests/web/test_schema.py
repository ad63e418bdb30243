"""The OpenAPI description is true: requests generated from it get responses that it describes."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from simsearch.web.settings import ServerSettings
from tests.web.conftest import TOKEN, WRITE_TOKEN, serving

_EXPECTATIONS = """
[checks]
# A text that fits the schema may still be no filter, a file no picture, an id nobody's.
positive_data_acceptance.expected-statuses = ["2xx", 400, 404, 422]

[warnings]
# For the same reason most generated searches are rejected: OpenAPI cannot say that a search needs an id, a picture
# or a text, nor what a filter is. The examples of the description are accepted.
# All the other warnings of the default:
display = [
    "missing_auth", "missing_test_data", "base_url_mismatch", "missing_deserializer", "unused_openapi_auth",
    "unsupported_regex", "method_not_allowed", "constants_extraction", "unmatched_filter", "unresolvable_reference",
    "rate_limited", "dictionary_mismatch", "timeout_units",
]
"""


@pytest.mark.long
@pytest.mark.parametrize("has_token", [pytest.param(False, marks=pytest.mark.thorough), True])
def test_generated_requests_get_the_described_responses(own_collection: Path, tmp_path: Path, has_token: bool):
    (tmp_path / "schemathesis.toml").write_text(_EXPECTATIONS)
    settings = ServerSettings(collection=str(own_collection), port=0)  # generated requests write, too
    if has_token:
        settings = replace(settings, token=TOKEN, write_token=WRITE_TOKEN)
    with serving(settings) as server:
        run_schemathesis(server, tmp_path, has_token=has_token)


def run_schemathesis(server: str, folder: Path, *, has_token: bool) -> None:
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server}/api/v1/openapi.json"]
    command += [
        "--max-examples",
        "25" if os.environ.get("HYPOTHESIS_PROFILE") == "thorough" else "8",
        "--generation-deterministic",
        "--no-color",
    ]
    command += ["-H", f"Authorization: Bearer {WRITE_TOKEN}"] if has_token else []
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "No issues found" in done.stdout


def test_the_description_differs_only_by_the_token(address: str, guarded: str):
    plain = httpx.get(f"{address}/api/v1/openapi.json").json()
    secured = httpx.get(f"{guarded}/api/v1/openapi.json", headers={"Authorization": f"Bearer {TOKEN}"}).json()
    assert secured.pop("security") == [{"token": []}]
    assert secured["components"].pop("securitySchemes") == {"token": {"type": "http", "scheme": "bearer"}}
    assert secured["paths"]["/api/v1/health"]["get"].pop("security") == []
    assert secured == plain
