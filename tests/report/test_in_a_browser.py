"""The pages in a real Chromium, where there is one."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from simsearch.duplicates.options import DuplicateOptions
from simsearch.duplicates.results import Calibration, DuplicateGroup, DuplicateReport, GroupMember, MemberFile
from simsearch.evaluation.results import BenchmarkResult
from simsearch.report.benchmark.writer import write_report
from simsearch.report.duplicates import DuplicatesContext, write_duplicates
from simsearch.report.study.writer import StudyReport
from tests.conftest import draw_picture

pytestmark = pytest.mark.long

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--enable-logging=stderr")
_NO_NETWORK = "--host-resolver-rules=MAP * ~NOTFOUND"


@pytest.fixture(scope="module")
def chromium() -> str:
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium on this machine to load the page in")
    return found


def _load(chromium: str, page: Path, profile: Path) -> tuple[str, list[str]]:
    """The document after loading, and every line on the console: errors, refused scripts, failed requests."""
    command = [chromium, *_FLAGS, _NO_NETWORK, f"--user-data-dir={profile}", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, re.findall(r"CONSOLE.*", done.stderr)


@pytest.fixture(scope="module")
def page(awkward: BenchmarkResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(awkward, tmp_path_factory.mktemp("report")).page


def test_the_page_loads_without_an_error_or_a_request(chromium: str, page: Path, tmp_path: Path):
    _, console = _load(chromium, page, tmp_path / "profile")
    assert console == []

    # What would be an error or a request is seen: the same page with one of each.
    spoilt = tmp_path / "spoilt.html"
    extra = '<img src="https://example.org/x.png"><script>alert(1)</script></body>'
    spoilt.write_text(page.read_text("utf-8").replace("</body>", extra), "utf-8")
    _, console = _load(chromium, spoilt, tmp_path / "profile")
    assert len(console) == 2


def test_a_click_on_a_title_sorts_the_table(chromium: str, page: Path, tmp_path: Path):
    def names(document: str) -> list[str]:
        found = re.findall(r'<th scope="row" class="series" data-value="([^"]*)"', document)
        return [html.unescape(name) for name in found[:4]]

    # The page's policy lets no other script run, so that the one that clicks needs a page without it.
    free = re.sub(r'<meta http-equiv="Content-Security-Policy"[^\n]*', "", page.read_text("utf-8"))
    click = "<script>document.querySelectorAll('table.sortable th')[COLUMN].firstChild.click()</script></body>"
    seen = {}
    for column in (0, 1):
        clicking = tmp_path / f"clicking{column}.html"
        clicking.write_text(free.replace("</body>", click.replace("COLUMN", str(column))), "utf-8")
        seen[column], _ = _load(chromium, clicking, tmp_path / "profile")
    ranked = names(page.read_text("utf-8"))
    assert len(ranked) == 4
    assert names(seen[0]) == sorted(ranked, key=str.lower)
    assert names(seen[0]) != ranked
    assert names(seen[1]) == ranked[::-1]  # it was sorted by that already: the other way round


def test_the_page_of_a_study_loads_without_an_error_or_a_request_and_fits_a_telephone(
    chromium: str, study_report: StudyReport, tmp_path: Path
):
    _, console = _load(chromium, study_report.page, tmp_path / "profile")
    assert console == []

    width, shown = _on_a_telephone(chromium, study_report.page, tmp_path)
    assert width == 360
    assert shown == study_report.page.read_text("utf-8").count("<img ")


def test_the_page_of_duplicates_loads_without_an_error_or_a_request_and_fits_a_telephone(chromium: str, tmp_path: Path):
    folder = tmp_path / "photos"
    names = ('<img src=x onerror=alert(1)>"&.png', "a_name_without_any_place_to_break_it_" * 4 + ".png", "plain.png")
    paths = [str(draw_picture(folder / f"{seed}.png", seed).rename(folder / name)) for seed, name in enumerate(names)]
    files = tuple(MemberFile(path, "keep", "the largest") for path in paths)
    members = tuple(GroupMember(number, (file,), 48, 48, 900, 0.9) for number, file in enumerate(files, start=1))
    groups = (
        DuplicateGroup("exact", (GroupMember(1, files, 48, 48, 900, 1.0),)),
        DuplicateGroup("near", members * 3),
    )
    calibration = Calibration(similar_similarity=0.6, n_compared=300)
    report = DuplicateReport(DuplicateOptions(), groups, calibration, 3, (), {"exact": 0.1})
    page = tmp_path / "duplicates.html"
    write_duplicates(report, DuplicatesContext(str(folder), "builtin", "builtin-0123", "simsearch duplicates"), page)
    _, console = _load(chromium, page, tmp_path / "profile")
    assert console == []
    assert _on_a_telephone(chromium, page, tmp_path) == (360, 10)


def test_no_page_of_a_benchmark_scrolls_sideways_on_a_telephone(
    chromium: str, awkward: BenchmarkResult, tmp_path: Path
):
    page = write_report(awkward, tmp_path / "report").page.read_text("utf-8")
    free = re.sub(r'<meta http-equiv="Content-Security-Policy"[^\n]*', "", page)
    tell = """<script>
        const measure = () => Math.max(document.documentElement.scrollWidth, document.body.scrollWidth);
        const closed = measure();
        for (const part of document.querySelectorAll("details")) part.open = true;
        parent.postMessage([innerWidth, closed, measure()].join(" "), "*");
    </script></body>"""
    (tmp_path / "inner.html").write_text(free.replace("</body>", tell), "utf-8")
    (tmp_path / "outer.html").write_text(
        """<body><script>addEventListener("message", (told) => { document.body.dataset.told = told.data; })</script>
        <iframe src="inner.html" style="width: 390px; height: 800px; border: 0"></iframe></body>""",
        "utf-8",
    )
    flags = [*_FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=3000"]
    command = [chromium, *flags, "--dump-dom", (tmp_path / "outer.html").as_uri()]
    seen = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    inner, *widths = map(int, re.search(r'data-told="([^"]*)"', seen)[1].split())
    assert inner == 390
    assert max(widths) <= inner


def _on_a_telephone(chromium: str, page: Path, tmp_path: Path) -> tuple[int, int]:
    """How wide the page is on a screen of 360 px, and how many of its pictures are shown."""
    # The page's policy lets no script run, so that the one that measures needs a page without it.
    free = re.sub(r'<meta http-equiv="Content-Security-Policy"[^\n]*', "", page.read_text("utf-8"))
    measure = """<script>
        document.documentElement.style.width = "360px";
        document.body.dataset.width = document.body.scrollWidth;
        document.body.dataset.pictures = [...document.images].filter((image) => image.naturalWidth > 0).length;
    </script></body>"""
    measuring = tmp_path / "measuring.html"
    measuring.write_text(free.replace("</body>", measure), "utf-8")
    flags = [*_FLAGS, "--window-size=360,900", f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=3000"]
    command = [chromium, *flags, "--dump-dom", measuring.as_uri()]
    seen = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    width, shown = (int(re.search(rf'data-{what}="(\d+)"', seen)[1]) for what in ("width", "pictures"))
    return width, shown
