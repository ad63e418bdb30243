"""The report of a study: a page, the same facts as JSON, and the files it is made of."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from simsearch import ModelChoice
from simsearch.errors import SimsearchError, UsageError
from simsearch.images.views import NO_AUGMENTATION, Augmentation
from simsearch.report.study.findings import name_images, summarize_study
from simsearch.report.study.writer import StudyReport, write_study
from simsearch.study.augmented import Separation
from simsearch.study.study import StudyResult, run_study
from tests.conftest import HISTOGRAM, draw_picture
from tests.support.benchmarks import HOSTILE, SCRIPT
from tests.support.pages import Elements

pytestmark = pytest.mark.long

SECTIONS = ["predictions", "features", "pairs", "views", "separation", "made"]


@pytest.fixture(scope="module")
def page(study_report: StudyReport) -> str:
    return study_report.page.read_text("utf-8")


@pytest.fixture(scope="module")
def told(study_report: StudyReport) -> dict:
    return json.loads(study_report.file.read_text("ascii"))


def section(page: str, name: str) -> Elements:
    return Elements(page[page.index(f'<section id="{name}">') :].partition("</section>")[0] + "</section>")


def numbers(text: str) -> list[str]:
    return re.findall(r"\d\.\d{4}", text)


def shown(values: list[float]) -> list[str]:
    return [f"{abs(value):.4f}" for value in values]


def test_names_are_text_and_never_elements(page: str):
    parsed = Elements(page)
    assert parsed.of("script") == []
    assert {"u", "s"} & {tag for tag, _ in parsed.elements} == set()
    assert [found for tag, found in parsed.elements if tag == "i" and "style" not in found] == [{}] * 2  # of d'
    for attributes in (found for _, found in parsed.elements):
        assert not any(name.startswith("on") for name in attributes)
    titles = " ".join(str(found.get("title")) for _, found in parsed.elements)
    assert HOSTILE in titles
    assert SCRIPT in titles
    assert SCRIPT.removesuffix(".png") in parsed.text
    assert "<u>torn.jpg: damaged header" in parsed.text


def test_names_that_are_no_utf8_are_shown_as_far_as_they_can_be_and_kept_whole_in_json(
    page: str, told: dict, awkward_study: StudyResult
):
    assert "caf\ufffd" in page
    assert told["images"] == list(awkward_study.comparison.paths)
    assert os.fsencode(told["images"][2]).endswith(b"caf\xe9.png")


def test_the_page_fetches_nothing_and_its_links_lead_to_files_beside_it(page: str, study_report: StudyReport):
    parsed = Elements(page)
    policy = next(found["content"] for found in parsed.of("meta") if "http-equiv" in found)
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert not re.search(r"@import|url\(", page)
    assert all((found["src"] or "").startswith("data:image/webp;base64,") for found in parsed.of("img"))
    links = [str(found["href"]) for found in parsed.of("a")]
    beside = [link for link in links if not link.startswith("#")]
    # A drawing of the maps, six pairs under two models, three views of each of four pictures.
    assert len(beside) == 1 + 6 * 2 + 4 * 3
    for link in beside:
        assert (study_report.page.parent / unquote(link, errors="surrogateescape")).is_file()
    assert sorted(link for link in links if link not in beside) == sorted(f"#{name}" for name in SECTIONS)


def test_the_page_says_what_the_json_says(page: str, told: dict):
    guesses = [guess for image in told["predictions"] for of in image["models"].values() for guess in of]
    assert len(guesses) == 4 * 3
    found = section(page, "predictions")
    assert numbers(found.text) == shown([guess["probability"] for guess in guesses])
    similarities = [value for pair in told["pairs"] for value in pair["similarities"].values()]
    assert len(similarities) == 6 * 2
    pairs = section(page, "pairs").text
    cards = page[page.index('<ul class="cards pairs">') : page.index('<div class="grids">')]
    assert numbers(Elements(cards).text) == shown(similarities)
    both = [
        value
        for pair in told["pairs"]
        for name, softmax in pair["softmax_similarities"].items()
        for value in (pair["similarities"][name], softmax)
    ]
    assert numbers(pairs.partition("by both")[2]) == shown(both)
    own = [
        of["own"]
        for image in told["augmented"]["images"]
        for view in image["views"]
        for of in view["similarities"].values()
    ]
    strips = page[page.index('<div class="strip">') : page.index("Mean similarity to each image")].rpartition("<h3>")[0]
    assert numbers(Elements(strips).text) == shown(own)
    separation = section(page, "separation").text
    for row in told["separation"]:
        assert f"mean {row['own_mean']:.3f} to the own image, {row['others_mean']:.3f} to others" in separation
        assert f"{row['views_nearest_to_own']} of 12 views nearest to their own image" in separation
    for sentence in told["summary"]:
        assert sentence in Elements(page).text


def test_the_json_has_every_similarity_of_the_study(told: dict, awkward_study: StudyResult):
    augmented = awkward_study.augmented
    for name, expected in augmented.similarities.items():
        found = [
            [view["similarities"][name]["images"] for view in image["views"]] for image in told["augmented"]["images"]
        ]
        np.testing.assert_array_equal(found, expected)
    views = told["augmented"]["images"][1]["views"]
    assert [view["rotation_deg"] for view in views] == [each.rotation_deg for each in augmented.transformations[1]]
    assert (told["augmented"]["n"], told["augmented"]["seed"]) == (3, 5)
    assert told["no_predictions"] == {"histogram": "histogram has no classification head"}
    assert told["no_features"] == {"histogram": "histogram gives no access to its layers"}
    assert [os.path.basename(skip["path"]) for skip in told["skipped"]] == ["<u>torn.jpg"]


def test_a_view_that_is_nearer_to_another_picture_is_marked(awkward_study: StudyResult, tmp_path: Path):
    similarities = {name: every.copy() for name, every in awkward_study.augmented.similarities.items()}
    for every in similarities.values():
        every[:] = 0.2
        every[np.arange(4), :, np.arange(4)] = 0.9
    similarities["histogram"][1, 2, 3] = 0.95
    augmented = replace(awkward_study.augmented, similarities=similarities)
    report = write_study(replace(awkward_study, augmented=augmented), tmp_path, "")
    found = section(report.page.read_text("utf-8"), "views")
    assert len(found.classed("mistaken")) == 1
    assert "nearer to plain (histogram)" in found.text


def test_the_files_beside_the_page_are_pictures(study_report: StudyReport):
    folder = study_report.page.parent
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".html", ".json")]
    assert len(files) == 1 + 6 * 2 + 2 + 4 * 3  # maps, pairs, heat maps, views
    for file in files:
        with Image.open(file) as image:
            image.verify()


def test_large_pictures_have_views_of_a_sensible_size(tmp_path: Path):
    draw_picture(tmp_path / "large.png", 1, side_px=1500)
    found = run_study([tmp_path / "large.png"], [HISTOGRAM], Augmentation(1))
    report = write_study(found, tmp_path / "report", "")
    with Image.open(tmp_path / "report" / report.to_dict()["augmented"]["images"][0]["views"][0]["file"]) as view:
        assert max(view.size) == 640


@pytest.mark.parametrize(
    ("n_images", "n_views", "lacking"),
    [(1, 2, {"separation"}), (1, 0, {"views", "separation"}), (3, 0, {"views", "separation"}), (2, 1, set())],
)
def test_a_study_without_a_step_makes_a_page_without_it(n_images: int, n_views: int, lacking: set, tmp_path: Path):
    paths = [draw_picture(tmp_path / f"{seed}.png", seed) for seed in range(n_images)]
    found = run_study(paths, [HISTOGRAM], Augmentation(n_views) if n_views else NO_AUGMENTATION)
    report = write_study(found, tmp_path / "report", "simsearch study")
    parsed = Elements(report.page.read_text("utf-8"))
    assert [each["id"] for each in parsed.of("section")] == [name for name in SECTIONS if name not in lacking]
    assert "nan" not in parsed.text.lower().replace("nanosecond", "")
    assert ("There is only one image, so there is no pair." in parsed.text) == (n_images == 1)
    assert (report.to_dict()["augmented"] is None) == (n_views == 0)


def test_many_pictures_and_views_are_shown_in_part_and_told_whole(tmp_path: Path):
    paths = [draw_picture(tmp_path / f"{seed}.png", seed) for seed in range(9)]
    report = write_study(run_study(paths, [HISTOGRAM], Augmentation(21)), tmp_path / "report", "")
    page = report.page.read_text("utf-8")
    assert "The first 30 of 36 pairs" in page
    assert "20 of 21 views are shown" in page
    assert len(section(page, "views").classed("view")) == 9 * 21
    assert len(report.to_dict()["pairs"]) == 36
    assert len(report.to_dict()["augmented"]["images"][8]["views"]) == 21


def test_a_picture_that_is_gone_by_now_is_an_error_of_one_line(awkward_study: StudyResult, tmp_path: Path):
    gone = tmp_path / "gone.png"
    draw_picture(gone, 1)
    found = run_study([gone], [HISTOGRAM], Augmentation(1))
    gone.unlink()
    with pytest.raises(SimsearchError, match=r"cannot read .*gone\.png"):
        write_study(found, tmp_path / "report", "")


def test_a_place_that_is_taken_by_a_file_is_told(awkward_study: StudyResult, tmp_path: Path):
    (tmp_path / "report").write_text("")
    with pytest.raises(UsageError, match="is a file, not a folder"):
        write_study(awkward_study, tmp_path / "report", "")


def test_images_are_called_by_their_stems_or_with_their_folders_where_these_meet():
    assert name_images(["a/vase.jpg", "b/pot.png"]) == ["vase", "pot"]
    assert name_images(["a/vase.jpg", "b/vase.png", "pot.png"]) == ["a/vase.jpg", "b/vase.png", "pot"]
    (name,) = name_images(["x" * 90 + "y.png"])
    assert len(name) == 40
    assert name.endswith("xy")


def test_the_summary_does_not_choose_among_backbones_that_all_separate_completely(awkward_study: StudyResult):
    def last(**separated: tuple[list[float], list[float]]) -> str:
        found = {
            name: Separation(np.array([own]), np.array(others), len(own)) for name, (own, others) in separated.items()
        }
        return summarize_study(replace(awkward_study, separations=found))[-1]

    complete, mixed, poor = ([0.9, 0.8], [0.1, 0.2]), ([0.9, 0.5], [0.1, 0.6]), ([0.5, 0.4], [0.4, 0.5])
    assert "so few images do not show which network is better" in last(one=complete, two=complete)
    assert last(one=complete, two=complete).startswith("one and two separate the images completely")
    assert last(one=complete, two=poor).startswith("Only one separates the images completely")
    assert last(one=mixed, two=poor).startswith("one separates views of an image from other images best")
    assert "d\N{PRIME} 1.5 (two: 0.0)" in last(one=mixed, two=poor)
    assert last(one=poor, two=poor).endswith("equally well.")


def test_the_summary_names_the_closest_pair_of_each_backbone(tmp_path: Path):
    paths = [draw_picture(tmp_path / name, 1) for name in ("one.png", "same.png")]
    paths.append(draw_picture(tmp_path / "other.png", 2))
    other = ModelChoice(backbone="builtin", precision="f32")
    found = run_study(paths, [other, HISTOGRAM], Augmentation(2))
    first, second, *_ = summarize_study(found)
    assert first == "Most similar: one and same (similarity 1.0000 by builtin, 1.0000 by histogram)."
    assert re.fullmatch(r"(All 6|Of 6) augmented views.* nearest to their own image.*", second)
