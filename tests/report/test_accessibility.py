"""The pages that commands write hold the rules of axe-core: light on a desktop, dark on a phone.

So each rule is checked in both schemes and both sizes; the schemes change colors only, and colors do not depend on the
size.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simsearch.duplicates.options import DuplicateOptions
from simsearch.duplicates.results import DuplicateGroup, DuplicateReport, GroupMember, MemberFile
from simsearch.evaluation.results import BenchmarkResult
from simsearch.report.benchmark.writer import write_report
from simsearch.report.duplicates import DuplicatesContext, write_duplicates
from simsearch.report.study.writer import StudyReport
from tests.conftest import draw_picture
from tests.support.browser import list_violations, open_browser

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with open_browser() as browser:
        yield browser


def check(chromium: Any, file: Path) -> None:
    for width, scheme in ((1400, "light"), (390, "dark")):
        context = chromium.new_context(
            viewport={"width": width, "height": 900},
            is_mobile=width < 500,
            color_scheme=scheme,
            reduced_motion="reduce",
        )
        page = context.new_page()
        page.goto(file.as_uri())
        page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
        assert list_violations(page) == [], (width, scheme)
        context.close()


def test_the_report_of_a_benchmark_is_accessible(chromium: Any, awkward: BenchmarkResult, tmp_path: Path):
    check(chromium, write_report(awkward, tmp_path / "report").page)


def test_the_report_of_a_study_is_accessible(chromium: Any, study_report: StudyReport):
    check(chromium, study_report.page)


def test_the_report_of_duplicates_is_accessible(chromium: Any, tmp_path: Path):
    paths = [str(draw_picture(tmp_path / "photos" / f"{seed}.png", seed)) for seed in range(3)]
    files = tuple(MemberFile(path, "keep" if path == paths[0] else "remove", "the largest") for path in paths)
    members = tuple(GroupMember(number, (file,), 48, 48, 900, 0.9) for number, file in enumerate(files, start=1))
    report = DuplicateReport(DuplicateOptions(), (DuplicateGroup("near", members),), None, 3, (), {"exact": 0.1})
    page = tmp_path / "duplicates.html"
    write_duplicates(report, DuplicatesContext("photos", "builtin", "builtin-0123", "simsearch duplicates"), page)
    check(chromium, page)
