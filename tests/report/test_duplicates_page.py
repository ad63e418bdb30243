"""The report of duplicates: the page with names that hurt, the table, the document."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import pytest

from simsearch.duplicates.options import DuplicateOptions
from simsearch.duplicates.results import (
    Action,
    Calibration,
    DuplicateGroup,
    DuplicateReport,
    GroupMember,
    MemberFile,
)
from simsearch.errors import SimsearchError, UsageError
from simsearch.report.duplicates import (
    MAX_IN_GROUP,
    DuplicatesContext,
    build_duplicates_csv,
    check_report_path,
    render_duplicates,
    summarize_duplicates,
    write_duplicates,
)
from tests.conftest import draw_picture
from tests.support.pages import Elements

HOSTILE = '<img src=x onerror=alert(1)>"&.png'
NOT_UTF8 = os.fsdecode(b"caf\xe9.png")
ABOUT = DuplicatesContext("in <b>dexes</b>; rm -rf x", "builtin", "builtin-0123", "simsearch duplicates --in '<b>'")


def member(image_id: int, *paths: object, actions: str, size_bytes: int = 1000, similarity: float = 1.0) -> GroupMember:
    """An image whose files have the actions k(eep), r(emove), l(ook)."""
    words: dict[str, tuple[Action, str]] = {"k": ("keep", "most pixels"), "r": ("remove", "gray"), "l": ("look", "")}
    files = tuple(MemberFile(str(path), *words[letter]) for path, letter in zip(paths, actions, strict=True))
    return GroupMember(image_id, files, 640, 480, size_bytes, similarity)


def report_of(*groups: DuplicateGroup, **facts) -> DuplicateReport:
    calibration = Calibration(similar_similarity=0.62, n_compared=300)
    known = {"calibration": calibration, "n_images": 40, "unread": (), "seconds": {"exact": 0.01}}
    return DuplicateReport(DuplicateOptions(down_to="similar"), groups, **(known | facts))


@pytest.fixture
def found(tmp_path: Path) -> DuplicateReport:
    """A group of each tier."""
    kept, hostile = draw_picture(tmp_path / "kept.png", 1), draw_picture(tmp_path / "x.png", 2)
    hostile = hostile.rename(tmp_path / HOSTILE)
    alike = draw_picture(tmp_path / "alike.png", 3)
    lost = os.path.join(os.fspath(tmp_path), NOT_UTF8)
    return report_of(
        DuplicateGroup("exact", (member(3, kept, lost, actions="kr"),)),
        DuplicateGroup("near", (member(1, kept, actions="k"), member(2, hostile, lost, actions="rr", size_bytes=300))),
        DuplicateGroup("similar", (member(8, kept, actions="l"), member(7, alike, actions="l", similarity=0.7))),
        unread=(lost,),
    )


def test_the_files_that_could_go_are_counted(found: DuplicateReport, tmp_path: Path):
    hostile, lost = str(tmp_path / HOSTILE), os.path.join(os.fspath(tmp_path), NOT_UTF8)
    assert found.removable_paths == (lost, hostile, lost)
    assert found.freed_bytes == 1600
    assert summarize_duplicates(found) == (
        "1 group of identical files, 1 group of edited copies and 1 group of similar images.",
        "3 files can be removed. Nothing was deleted.",
    )


def test_nothing_found_is_a_page_too():
    page = Elements(render_duplicates(report_of(calibration=None), ABOUT))
    assert "No duplicates among 40 images." in page.text
    assert page.of("img") == []


def test_the_page_shows_each_group_with_what_is_suggested(found: DuplicateReport):
    page = Elements(render_duplicates(found, ABOUT))
    assert len(page.of("article")) == 3
    pictures = page.of("img")
    assert len(pictures) == 5
    assert all(image["src"].startswith("data:image/webp;base64,") for image in pictures)
    classes = [tile["class"].split()[1] for tile in page.classed("tile")]
    assert classes == ["keep", "keep", "remove", "look", "look"]
    assert "a cosine of 0.620 or more" in page.text
    assert "gray" in page.text
    assert "--reject 1,2" in page.text
    assert "--reject 8,7" in page.text


def test_names_on_the_page_are_text_and_nothing_is_fetched(found: DuplicateReport):
    html = render_duplicates(found, ABOUT)
    page = Elements(html)
    assert HOSTILE in page.text
    assert "caf\ufffd.png" in page.text
    assert page.of("script") == page.of("b") or not page.of("script")
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert not any(attributes.get("href", "#").startswith("http") for attributes in page.of("a"))
    assert "--in 'in <b>dexes</b>; rm -rf x'" in page.text
    html.encode("utf-8")


def test_a_large_group_is_cut_and_says_so(tmp_path: Path):
    picture = draw_picture(tmp_path / "one.png", 1)
    group = DuplicateGroup("near", tuple(member(number, picture, actions="l") for number in range(1, MAX_IN_GROUP + 4)))
    page = Elements(render_duplicates(report_of(group), ABOUT))
    assert len(page.classed("tile")) == MAX_IN_GROUP
    assert f"The first {MAX_IN_GROUP} of {MAX_IN_GROUP + 3} images." in page.text


def test_the_table_has_a_row_for_each_file(found: DuplicateReport, tmp_path: Path):
    write_duplicates(found, ABOUT, tmp_path / "out" / "d.csv")
    written = (tmp_path / "out" / "d.csv").read_bytes().decode("utf-8", "surrogateescape")
    assert written == build_duplicates_csv(found)
    rows = list(csv.DictReader(io.StringIO(written, newline="")))
    assert [row["suggestion"] for row in rows] == ["keep", "remove", "keep", "remove", "remove", "look", "look"]
    assert rows[3]["path"] == str(tmp_path / HOSTILE)
    assert rows[3]["reason"] == "gray"
    assert os.fsencode(rows[1]["path"]).endswith(b"caf\xe9.png")
    assert [row["group"] for row in rows] == ["1", "1", "2", "2", "2", "3", "3"]


def test_the_document_is_what_was_found(found: DuplicateReport, tmp_path: Path):
    write_duplicates(found, ABOUT, tmp_path / "d.json")
    told = json.loads((tmp_path / "d.json").read_text())
    assert told == json.loads(json.dumps({"schema_version": 1} | ABOUT.to_dict() | found.to_dict()))
    assert [group["tier"] for group in told["groups"]] == ["exact", "near", "similar"]
    assert told["groups"][2]["remove"] == []
    assert (told["removable"], told["freed_bytes"]) == (3, 1600)
    assert told["calibration"] == {"similar_similarity": 0.62, "n_compared": 300}


def test_a_name_of_no_kind_and_a_place_that_cannot_be_are_said(found: DuplicateReport, tmp_path: Path):
    with pytest.raises(UsageError, match=r"use \.html, \.csv, \.json, or \.sh"):
        check_report_path("report.pdf")
    (tmp_path / "file").write_text("")
    with pytest.raises(SimsearchError, match="is a file, not a folder"):
        write_duplicates(found, ABOUT, tmp_path / "file" / "d.html")
