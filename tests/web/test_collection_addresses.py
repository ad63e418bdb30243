"""Addresses in templates and scripts begin with the root of their collection, as a server may have several."""

from __future__ import annotations

import re
from importlib import resources

import pytest

_WEB = resources.files("simsearch.web")
_SHARED = ("/static/", "/login")
"""What all collections of a server share."""


@pytest.mark.parametrize("file", list((_WEB / "templates").iterdir()), ids=lambda one: str(one.name))
def test_every_address_of_a_template_begins_with_the_root_of_the_collection(file: resources.abc.Traversable):
    addresses = re.findall(r"""\b(?:href|action|src|data-\w+)=["'](/[^"']*)""", file.read_text())
    assert [one for one in addresses if not one.startswith(_SHARED)] == []


@pytest.mark.parametrize(
    "file", [one for one in (_WEB / "static").iterdir() if one.name.endswith(".js")], ids=lambda one: str(one.name)
)
def test_every_address_of_a_script_begins_with_the_root_of_the_collection(file: resources.abc.Traversable):
    script = file.read_text()
    assert re.findall(r"""["'`]/(?:api|images|browse|label|pictures|c|map|duplicates|quality)\b""", script) == []
