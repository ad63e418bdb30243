"""No option that names a file to write replaces a picture that is asked with or indexed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conftest import HISTOGRAM, draw_picture
from tests.support import oneshot
from tests.support.command_line import run


@pytest.mark.parametrize(
    "words",
    [
        ["query", "--id", "1", "--sheet"],
        ["map", "--out"],
        ["clusters", "-k", "2", "--sheet"],
    ],
    ids=lambda words: words[0],
)
@pytest.mark.parametrize("way", ["path", "symbolic link to its folder", "hard link"])
def test_an_indexed_picture_is_not_overwritten(words: list[str], way: str, photos: Path, tmp_path: Path):
    oneshot.ingest(tmp_path / "ix", [photos], HISTOGRAM)
    picture = photos / "a" / "picture_00.png"
    before, named = picture.read_bytes(), picture
    if way == "symbolic link to its folder":
        (tmp_path / "link").symlink_to(photos / "a")
        named = tmp_path / "link" / picture.name
    elif way == "hard link":  # another name of the same content: writing here leaves the picture as it is
        named = tmp_path / "hard.png"
        os.link(picture, named)
    force = ["--force"] if way == "hard link" else []
    done = run(*words, named, "--in", tmp_path / "ix", *force, cwd=tmp_path)
    if way == "hard link":
        assert done.returncode == 0
    else:
        assert done.returncode != 0
        assert "would be overwritten" in done.stderr
    assert picture.read_bytes() == before


def test_the_picture_that_is_asked_with_is_not_overwritten(photos: Path, tmp_path: Path):
    oneshot.ingest(tmp_path / "ix", [photos], HISTOGRAM)
    query = draw_picture(tmp_path / "query.png", 50)
    before = query.read_bytes()
    done = run("query", query, "--in", "ix", "--sheet", "./query.png", cwd=tmp_path)
    assert done.returncode != 0
    assert "query.png is a picture that would be overwritten; name another file" in done.stderr
    assert query.read_bytes() == before


def test_an_earlier_sheet_is_overwritten(photos: Path, tmp_path: Path):
    oneshot.ingest(tmp_path / "ix", [photos], HISTOGRAM)
    for _ in range(2):
        assert run("query", "--id", 1, "--in", "ix", "--sheet", "hits.png", cwd=tmp_path).returncode == 0
