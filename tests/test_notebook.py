"""The notebook in docs/, run cell by cell as a notebook does, and what it has stored.

Executed by Python itself and not by a Jupyter kernel: what is tested is that every cell runs against the library as it
is, and that what it shows is what is stored; a kernel would add thirty packages to the tests and nothing to that.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.support.pages import Elements

pytestmark = pytest.mark.long

NOTEBOOK = ROOT / "docs" / "simsearch.ipynb"
LARGEST_BYTES = 150_000


def cells() -> list[dict[str, Any]]:
    return [cell for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]


def execute(source: str, names: dict[str, Any]) -> dict[str, str]:
    """What a cell shows, by kind: what it prints, and its last expression as HTML or as text."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    printed, shown = io.StringIO(), None
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, str(NOTEBOOK), "exec"), names)
        if isinstance(last, ast.Expr):
            shown = eval(compile(ast.Expression(last.value), str(NOTEBOOK), "eval"), names)
    outputs = {"stream": printed.getvalue()} if printed.getvalue() else {}
    if shown is not None:
        as_html = getattr(shown, "_repr_html_", None)
        outputs |= {"text/html": as_html()} if as_html else {"text/plain": repr(shown)}
    return outputs


def stored(cell: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for output in cell["outputs"]:
        kinds = {"stream": output["text"]} if output["output_type"] == "stream" else output["data"]
        found |= {kind: "".join(lines) for kind, lines in kinds.items()}
    return found


def test_every_cell_runs_and_shows_what_is_stored(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(NOTEBOOK.parent)
    names: dict[str, Any] = {"__name__": "__main__"}
    for cell in cells():
        outputs, expected = execute("".join(cell["source"]), names), stored(cell)
        assert outputs.keys() == expected.keys()
        for kind in outputs.keys() - {"text/html"}:
            assert outputs[kind].split() == expected[kind].split()
        if "text/html" in outputs:
            shown, before = Elements(outputs["text/html"]), Elements(expected["text/html"])
            assert len(shown.of("img")) == len(before.of("img")) > 0
            assert shown.of("figure") == before.of("figure")


def test_what_is_stored_is_small_and_names_no_place_of_a_machine():
    text = NOTEBOOK.read_text("utf-8")
    assert len(text) < LARGEST_BYTES
    for cell in cells():
        assert cell["outputs"]
        for kind, shown in stored(cell).items():
            assert kind in ("stream", "text/plain", "text/html")
            assert not any(place in shown for place in ("/home/", "/work", "/tmp/", "/Users/"))
            assert all(image["src"].startswith("data:image/webp;base64,") for image in Elements(shown).of("img"))
