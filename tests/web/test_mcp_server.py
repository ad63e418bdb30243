"""An assistant's tools, called by the client of the official package over stdin and stdout."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from simsearch import Collection
from tests.web.conftest import jpeg

pytestmark = pytest.mark.long

mcp = pytest.importorskip("mcp", reason="the extra mcp is not installed")


def call(collection: Path, *calls: tuple[str, dict[str, Any]]) -> list[Any]:
    """The results of some tools, of one server process."""
    from mcp import ClientSession, StdioServerParameters
    from mcp.client.stdio import stdio_client

    async def run() -> list[Any]:
        command = ["-m", "simsearch", "mcp", "--in", str(collection)]
        server = StdioServerParameters(command=sys.executable, args=command, env=dict(os.environ))
        async with stdio_client(server) as (read, write), ClientSession(read, write) as session:
            await session.initialize()
            listed = await session.list_tools()
            assert {tool.name for tool in listed.tools} == {
                "search", "list_images", "facets", "get_image", "contact_sheet"}  # fmt: skip
            assert all(tool.annotations is not None and tool.annotations.read_only_hint for tool in listed.tools)
            return [await session.call_tool(name, arguments) for name, arguments in calls]

    return asyncio.run(run())


def test_the_tools_answer_as_the_library(collection: Path):
    picture = base64.b64encode(jpeg(3)).decode()
    by_id, by_picture, listed, facets, one, sheet, wrong = call(
        collection,
        ("search", {"image_id": 3, "k": 4}),
        ("search", {"image_base64": picture, "where": "class = 'vase'", "k": 3}),
        ("list_images", {"where": "class = 'lamp'", "sort": "name"}),
        ("facets", {}),
        ("get_image", {"image_id": 2}),
        ("contact_sheet", {"image_ids": [1, 2, 3, 4, 5]}),
        ("search", {"image_id": 999}),
    )
    with Collection.open(collection) as opened:
        wanted = [hit.image_id for hit in opened.search(3, k=4, exclude_self=True).hits]
        filtered = [hit.image_id for hit in opened.search(jpeg(3), k=3, where="class = 'vase'").hits]
    assert [hit["image_id"] for hit in by_id.structured_content["hits"]] == wanted
    assert [hit["image_id"] for hit in by_picture.structured_content["hits"]] == filtered
    assert str(collection.parent) not in json.dumps(by_id.structured_content)
    assert listed.structured_content["total"] == 7
    assert facets.structured_content["facets"]["format"][0]["images"] == 16
    assert "photos/lamp/picture_01.png" in one.content[0].text
    assert Image.open(io.BytesIO(base64.b64decode(one.content[1].data))).size == (48, 49)
    assert Image.open(io.BytesIO(base64.b64decode(sheet.content[0].data))).size == (880, 480)
    assert wrong.is_error
    assert "999" in wrong.content[0].text
