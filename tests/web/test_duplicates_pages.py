"""The duplicates pages: groups in pages, rejecting a group, undoing it, and the list of what was rejected."""

from __future__ import annotations

import csv
import io
import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from simsearch import Collection
from simsearch.duplicates.options import DuplicateOptions
from simsearch.duplicates.rejections import join_pairs
from simsearch.duplicates.results import DuplicateGroup, DuplicateReport, GroupMember, MemberCopy, MemberFile
from simsearch.errors import UsageError
from simsearch.report.duplicates import build_duplicates_csv
from simsearch.store.snapshot import open_snapshot
from simsearch.web.page_duplicates import write_list
from simsearch.web.path_names import PathNames
from simsearch.web.settings import ServerSettings
from simsearch.web.tiles import build_group_tiles
from tests.conftest import HISTOGRAM, draw_picture
from tests.support import oneshot
from tests.web.conftest import serving

REJECTIONS = "/duplicates/rejections"


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen drawn pictures, and three of them recompressed."""
    home = tmp_path_factory.mktemp("album")
    for seed in range(16):
        file = draw_picture(home / "photos" / f"picture_{seed:02}.png", seed)
        if seed < 3:
            with Image.open(file) as image:
                image.convert("RGB").save(file.with_suffix(".jpg"), quality=92)
    oneshot.ingest(home / "ix", [home / "photos"], HISTOGRAM)
    return home / "ix"


@pytest.fixture(scope="module")
def page(album: Path) -> Iterator[httpx.Client]:
    with (
        serving(ServerSettings(collection=str(album), port=0)) as address,
        httpx.Client(base_url=address, headers={"Origin": address}, timeout=120, follow_redirects=True) as client,
    ):
        yield client


def read_page(page: httpx.Client, path: str = "/duplicates") -> str:
    """The page once the search is done."""
    deadline = time.monotonic() + 120
    while "Looking for duplicates" in (text := page.get(path).text):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return text


def list_groups(text: str) -> list[str]:
    return re.findall(
        r'name="ids" value="([0-9,]+)"[^\n]*\n +<button name="action" value="(?:reject|unreject)">[NR]', text
    )


def test_a_group_is_rejected_at_once_undone_and_listed(page: httpx.Client, album: Path):
    before = list_groups(read_page(page))
    assert len(before) == 3
    answer = page.post(REJECTIONS, data={"ids": before[0], "action": "reject", "tier": "near"})
    assert answer.status_code == 200
    assert "Looking for duplicates" not in answer.text  # no new search
    assert list_groups(answer.text) == before[1:]
    assert f'name="ids" value="{before[0]}"' in answer.text  # to undo it
    with Collection.open(album) as collection:
        assert len(collection.catalog.list_rejected_pairs()) == 1
    listed = page.get("/duplicates/rejected").text
    assert list_groups(listed) == [before[0]]
    assert "1 group of images" in listed
    page.post(REJECTIONS, data={"ids": before[0], "action": "unreject", "tier": "near"})
    assert list_groups(read_page(page)) == before
    assert "No group was rejected." in page.get("/duplicates/rejected").text


@pytest.mark.parametrize("ids", ["", "3", "a,b", "1,2;3", "1,,2", "1,999999"])
def test_ids_that_are_no_group_are_refused_and_change_nothing(page: httpx.Client, album: Path, ids: str):
    answer = page.post(REJECTIONS, data={"ids": ids, "action": "reject", "tier": "near"})
    assert answer.status_code in (404, 422)
    with Collection.open(album) as collection:
        assert collection.catalog.list_rejected_pairs() == set()


def test_another_site_cannot_reject(page: httpx.Client):
    data = {"ids": "1,2", "action": "reject", "tier": "near"}
    assert page.post(REJECTIONS, data=data, headers={"Origin": "https://example.org"}).status_code == 403


def test_a_position_after_the_last_group_is_an_empty_page_with_a_way_back(page: httpx.Client):
    read_page(page)
    text = page.get("/duplicates", params={"start": 60}).text
    assert list_groups(text) == []
    assert 'href="/duplicates?tier=near&amp;start=0"' in text or 'href="/duplicates?tier=near&start=0"' in text
    assert page.get("/duplicates", params={"start": -1}).status_code == 422


def test_a_text_in_the_address_that_is_no_list_of_ids_is_not_shown(page: httpx.Client):
    read_page(page)
    assert "alert(1)" not in page.get("/duplicates", params={"rejected": "<script>alert(1)</script>"}).text


def read_removable(page: httpx.Client, format: str) -> httpx.Response:
    answer = page.get("/duplicates/removable", params={"tier": "near", "format": format})
    assert answer.status_code == 200
    return answer


def test_the_files_that_can_go_are_the_ones_that_the_command_lists(page: httpx.Client, album: Path):
    read_page(page)
    with Collection.open(album) as collection:
        report = collection.duplicates(DuplicateOptions(down_to="near"))
    shown = [f"photos/{Path(path).name}" for path in report.removable_paths]
    assert len(shown) == 3
    assert read_removable(page, "list").text.split("\n") == [*shown, ""]
    assert read_removable(page, "null").content.split(b"\0") == [*map(str.encode, shown), b""]
    rows = list(csv.DictReader(io.StringIO(read_removable(page, "csv").text)))
    expected = list(csv.DictReader(io.StringIO(build_duplicates_csv(report))))
    assert [row | {"path": f"photos/{Path(row['path']).name}"} for row in expected] == rows
    ids = [member.image_id for group in report.groups for member in group.members[1:]]
    assert read_removable(page, "ids").json() == {"image_ids": ids}
    for answer in (read_removable(page, "list"), read_removable(page, "csv")):
        assert answer.headers["content-disposition"].startswith("attachment; filename=")


def test_the_list_of_the_removable_is_offered_with_its_number(page: httpx.Client):
    text = read_page(page)
    assert "Save the list of 3 files" in text
    assert "Select all 3 images that can go" in text
    assert "Save the list" not in page.get("/duplicates/rejected").text.partition('class="selection')[0]


def test_paths_in_the_list_are_bytes_and_a_line_break_is_refused_where_lines_end_in_one():
    def report_of(name: str) -> DuplicateReport:
        files = (MemberFile("/a/keep.png", "keep", ""), MemberFile(f"/a/{name}", "remove", "newer"))
        group = DuplicateGroup("exact", (GroupMember(1, files, 10, 10, 10, 1.0),))
        return DuplicateReport(DuplicateOptions(), (group,), None, 2, (), {})

    whole = PathNames("/a", is_whole=True)
    assert write_list(report_of("\udcff.png"), "list", whole) == b"/a/\xff.png\n"
    assert write_list(report_of("b\nc.png"), "null", PathNames("/a")) == b"a/b\nc.png\0"
    with pytest.raises(UsageError, match="line break"):
        write_list(report_of("b\nc.png"), "list", whole)
    assert b"'=1+1.png" in write_list(report_of("=1+1.png"), "csv", PathNames("/a/=1+1.png"))


def test_pairs_that_share_an_image_are_one_group():
    assert join_pairs([(1, 2), (5, 9), (2, 3), (3, 4)]) == [[5, 9], [1, 2, 3, 4]]
    assert join_pairs([(1, 2), (3, 4), (2, 3)]) == [[1, 2, 3, 4]]
    assert join_pairs([]) == []


def test_the_box_of_a_crop_is_where_it_lies_in_the_larger_picture(album: Path):
    with open_snapshot(album) as snapshot:
        first, second = snapshot.sample_image_ids(2)
    evidence = MemberCopy(first, "crop of", ("crop of", "tone"), first, (0.1, 0.2, 0.6, 0.7), 40, 1.0, 20)
    kept = GroupMember(first, (MemberFile("a.png", "keep", ""),), 100, 80, 10, 1.0)
    part = GroupMember(second, (MemberFile("b.png", "remove", ""),), 50, 40, 10, 0.8, evidence)
    larger, smaller = build_group_tiles(album, DuplicateGroup("near", (kept, part)))
    assert larger.boxes == (((0.1, 0.2, 0.6, 0.7), f"The part that image {second} shows"),)
    assert smaller.boxes == ()
