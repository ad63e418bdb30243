"""Parsing list files. No list here is scanned that could name a folder outside the test's own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from simsearch.errors import SourceError
from simsearch.sources.list_files import is_broad_folder, parse_list
from simsearch.sources.scan import scan_sources
from tests.conftest import draw_picture
from tests.support.command_line import run

NAMES = ["a.jpg", "ä 猫.jpg", "photos"]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "utf-8"])
@pytest.mark.parametrize("joined", ["\n", "\r\n", "\0"], ids=["LF", "CRLF", "NUL"])
def test_a_byte_order_mark_tells_the_encoding(encoding: str, joined: str):
    content = ("\ufeff" + joined.join(NAMES) + joined).encode(encoding)
    assert parse_list(content, "list.txt") == NAMES


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("text", ["photos/a.jpg\r\n", "a", "猫/b.jpg", "/", "./"])
def test_utf16_without_a_mark_is_never_taken_for_a_list_of_letters(encoding: str, text: str):
    with pytest.raises(SourceError, match=r"list\.txt has NUL bytes .* save the list as UTF-8"):
        parse_list(text.encode(encoding), "list.txt")


@pytest.mark.parametrize("content", [b"\xff\xfea", b"\xff\xfe\x00\xd8a\x00", b"\xff\xfe\x00\x00\x00\x00\x11\x00"])
def test_a_mark_before_something_else_is_an_error(content: bytes):
    with pytest.raises(SourceError, match="cannot be decoded"):
        parse_list(content, "list.txt")


def test_the_output_of_find_print0_is_a_list():
    assert parse_list(b".\0./a\0./b.jpg\0", "-") == [".", "./a", "./b.jpg"]


def test_the_root_and_home_folders_are_broad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    home = tmp_path / "home" / "me"
    (home / "photos").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    assert [is_broad_folder(str(path)) for path in (Path("/"), home.parent, home)] == [True, True, True]
    assert [is_broad_folder(str(path)) for path in (home / "photos", tmp_path / "home" / "m")] == [False, False]


def test_a_list_that_names_a_home_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    home = draw_picture(tmp_path / "home" / "a.png", 1).parent
    monkeypatch.setenv("HOME", str(home))
    (tmp_path / "list.txt").write_bytes(os.fsencode(home))
    for sources, stdin in (([str(tmp_path / "list.txt")], b""), (["-"], os.fsencode(home))):
        with pytest.raises(SourceError, match=r"names .*home, which holds a whole disk or home folder"):
            scan_sources(sources, stdin)


def test_a_home_folder_is_indexed_only_with_yes(tmp_path: Path):
    home = draw_picture(tmp_path / "home" / "a.png", 1).parent
    words = ("index", home, "--into", tmp_path / "made", "--backbone", "histogram")
    done = run(*words, cwd=tmp_path, env={"HOME": str(home)})
    assert (done.returncode, (tmp_path / "made").exists()) == (2, False)
    assert "holds a whole disk or home folder; add --yes" in done.stderr
    assert run("watch", home, "--into", tmp_path / "made", cwd=tmp_path, env={"HOME": str(home)}).returncode == 2
    assert run(*words, "--yes", cwd=tmp_path, env={"HOME": str(home)}).returncode == 0


def test_the_list_of_query_may_be_utf16(tmp_path: Path):
    path = draw_picture(tmp_path / "photos" / "ä.png", 1)
    run("index", "photos", "--into", "made", "--backbone", "histogram", cwd=tmp_path)
    (tmp_path / "list.txt").write_text(f"{path}\n", encoding="utf-16")
    done = run("query", "--list", "list.txt", "--in", "made", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "photos/ä.png" in done.stdout
