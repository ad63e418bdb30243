"""The examples of docs/library.md, run as they stand there."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.long

PAGE = ROOT / "docs" / "library.md"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the rendered objects as `photos`, as the page says."""
    (tmp_path / "photos").symlink_to(ROOT / "data" / "objects")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_examples_of_the_library_page_give_what_the_page_says(place: Path):
    pytest.importorskip("sklearn")
    pytest.importorskip("pandas")
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.REPORT_NDIFF
    test = doctest.DocTestParser().get_doctest(PAGE.read_text("utf-8"), {}, "library.md", str(PAGE), 0)
    told: list[str] = []
    outcome = doctest.DocTestRunner(optionflags=options).run(test, out=told.append, clear_globs=False)
    assert outcome.attempted > 30
    assert outcome.failed == 0, "".join(told)
