"""`simsearch duplicates`: JSON, text, files, errors."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from simsearch import Collection
from tests.conftest import ROOT
from tests.support.command_line import read_document, run
from tests.support.pages import Elements

HOSTILE = "<img src=x onerror=alert(1)>.png"


@pytest.fixture(scope="module")
def edited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two objects of each kind, a copy of one, a smaller one, a mirrored one; indexed with builtin. Only read."""
    base = tmp_path_factory.mktemp("edited")
    (base / "photos").mkdir()
    for picture in (ROOT / "data" / "objects").glob("*/*_0[12].jpg"):
        shutil.copy(picture, base / "photos")
    shutil.copy(base / "photos" / "bell_01.jpg", base / "photos" / HOSTILE)
    os.utime(base / "photos" / HOSTILE, (2e9, 2e9))
    with Image.open(base / "photos" / "lamp_01.jpg") as image:
        image.resize((image.width // 2, image.height // 2)).save(base / "photos" / "smaller.jpg")
    with Image.open(base / "photos" / "vase_02.jpg") as image:
        ImageOps.mirror(image).save(base / "photos" / "mirrored.jpg", quality=60)
    read_document("index", "photos", "--precision", "f32", cwd=base)
    return base


def test_duplicates_finds_copies_and_edits_and_deletes_nothing(edited: Path, tmp_path: Path):
    before = sorted((edited / "photos").iterdir())
    told = read_document("duplicates", "--out", tmp_path / "d.html", "--out", tmp_path / "d.csv", cwd=edited)
    photos = edited / "photos"
    exact = [group for group in told["groups"] if group["tier"] == "exact"]
    near = {frozenset(group["keep"] + group["remove"]) for group in told["groups"] if group["tier"] == "near"}
    assert [sorted(group["keep"] + group["remove"]) for group in exact] == [
        sorted([str(photos / "bell_01.jpg"), str(photos / HOSTILE)])
    ]
    assert frozenset({str(photos / "lamp_01.jpg"), str(photos / "smaller.jpg")}) in near
    assert frozenset({str(photos / "vase_02.jpg"), str(photos / "mirrored.jpg")}) in near
    assert 0 < told["calibration"]["recall"] <= 1
    assert sorted(photos.iterdir()) == before
    page = Elements((tmp_path / "d.html").read_text("utf-8"))
    assert HOSTILE in page.text
    assert all(image["src"].startswith("data:") for image in page.of("img"))
    with (tmp_path / "d.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["path"] for row in rows if row["suggestion"] == "remove"} == {
        path for group in told["groups"] for path in group["remove"]
    }


def test_the_kept_file_follows_the_rule(edited: Path):
    def kept(rule: str) -> list[str]:
        told = read_document("duplicates", "--tier", "exact", "--keep", rule, cwd=edited)
        return [Path(path).name for group in told["groups"] for path in group["keep"]]

    assert kept("newest") == [HOSTILE]
    assert kept("shortest-path") == ["bell_01.jpg"]


def test_exact_duplicates_need_no_network(edited: Path):
    done = run("duplicates", "--tier", "exact", "--keep", "shortest-path", cwd=edited)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"keep +1\.000 .*bell_01\.jpg\n +remove +1\.000 .*<img src=x", done.stdout)
    assert "1 group of identical files. 1 file can be removed. Nothing was deleted." in done.stdout


@pytest.mark.long
def test_a_rejected_group_is_not_reported_until_it_is_unrejected(edited: Path, tmp_path: Path):
    shutil.copytree(edited / "indexes", tmp_path / "indexes")

    def near() -> list[list[int]]:
        with Collection.open(tmp_path / "indexes" / "photos") as opened:
            groups = opened.duplicates().select_tier("near")
        return [sorted(member.image_id for member in group.members) for group in groups]

    first, *others = near()
    ids = ",".join(map(str, first))
    assert read_document("duplicates", "--reject", ids, cwd=tmp_path)["rejected_pairs"] == 1
    assert near() == others
    assert read_document("duplicates", "--unreject", ids, cwd=tmp_path)["forgotten_pairs"] == 1
    assert near() == [first, *others]


@pytest.mark.long
def test_the_json_of_groups_is_valid_json(edited: Path, tmp_path: Path):
    read_document("duplicates", "--tier", "similar", "--min-similarity", 0.2, "--out", tmp_path / "d.json", cwd=edited)
    told = json.loads((tmp_path / "d.json").read_text())
    assert told["question"]["min_similarity"] == 0.2
    similar = [group for group in told["groups"] if group["tier"] == "similar"]
    assert similar
    assert all(group["remove"] == [] and len(group["keep"]) > 1 for group in similar)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["duplicates", "--tier", "far"], 2, "'far' is not one of 'exact', 'near', 'similar'"),
        (["duplicates", "--keep", "best"], 2, "'best' is not one of 'largest', 'oldest', 'newest', 'shortest-path'"),
        (["duplicates", "--out", "d.xlsx"], 2, "use .html, .csv or .json"),
        (["duplicates", "--reject", "one"], 2, "--reject one is not a list of image ids"),
        (["duplicates", "--reject", "3"], 2, "one image is not a pair"),
        (["duplicates", "--reject", "3,99"], 1, "no image 99"),
        (["duplicates", "--false-positive-rate", "2"], 2, "the false positive rate is 2"),
    ],
)
def test_bad_input_gets_one_clear_line(edited: Path, arguments: list[str], code: int, message: str):
    done = run(*arguments, cwd=edited)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in re.sub(r"[\s│]+", " ", done.stderr)
    assert "Traceback" not in done.stderr
    if "Usage" not in done.stderr:
        assert done.stderr.count("\n") == 1
