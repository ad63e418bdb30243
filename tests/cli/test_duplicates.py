"""`simsearch duplicates`: JSON, text, files, errors."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

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
    assert told["calibration"] is None  # measured for similar images only
    assert told["pairs"]
    assert all({"images", "kind", "similarity", "inliers", "box"} <= pair.keys() for pair in told["pairs"])
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
    assert re.search(
        r"keep +1\.000 .*bell_01\.jpg  \(.+\)\n +remove +1\.000 .*<img src=x.*  \(longer path\)", done.stdout
    )
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
    assert all(len(group["keep"]) == len(group["members"]) > 1 for group in similar)  # exact copies of one could go


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["duplicates", "--tier", "far"], 2, "'far' is not one of 'exact', 'near', 'similar'"),
        (["duplicates", "--keep", "best"], 2, "'best' is not one of 'largest', 'oldest', 'newest', 'shortest-path'"),
        (["duplicates", "--out", "d.xlsx"], 2, "use .html, .csv, .json, or .sh"),
        (["duplicates", "--reject", "one"], 2, "--reject one is not a list of image ids"),
        (["duplicates", "--reject", "3"], 2, "one image is not a pair"),
        (["duplicates", "--reject", "3,99"], 2, "no image 99"),
        (["duplicates", "--false-positive-rate", "0.1"], 2, "--false-positive-rate was removed"),
    ],
)
def test_bad_input_gets_one_clear_line(edited: Path, arguments: list[str], code: int, message: str):
    done = run(*arguments, cwd=edited)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in re.sub(r"[\s│]+", " ", done.stderr)
    assert "Traceback" not in done.stderr
    if "Usage" not in done.stderr:
        assert done.stderr.count("\n") == 1


# What could go, for other tools


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """`a/link.jpg` to `z/real.jpg`, hard links, and real copies with odd names; indexed with histogram."""
    source = ROOT / "data" / "objects" / "lamp" / "lamp_01.jpg"
    for name in ("photos/z/real.jpg", "photos/h/one.jpg", "photos/c/copied.jpg", "photos/c/-n 'new\nline'.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, tmp_path / "photos" / "z" / "real.jpg")
    (tmp_path / "photos" / "a").mkdir()
    (tmp_path / "photos" / "a" / "link.jpg").symlink_to("../z/real.jpg")
    shutil.copy(source.with_name("lamp_02.jpg"), tmp_path / "photos" / "h" / "one.jpg")
    (tmp_path / "photos" / "h" / "two.jpg").hardlink_to(tmp_path / "photos" / "h" / "one.jpg")
    copied = tmp_path / "photos" / "c" / "copied.jpg"
    shutil.copy(source.with_name("lamp_03.jpg"), copied)
    for name in (b"-n 'new\nline' (1).jpg", b"caf\xe9 (2).jpg"):
        shutil.copy2(copied, copied.with_name(os.fsdecode(name)))
    read_document("index", "photos", "--backbone", "histogram", cwd=tmp_path)
    return tmp_path


@pytest.mark.parametrize("rule", ["largest", "oldest", "newest", "shortest-path"])
def test_links_are_never_suggested_and_free_nothing(linked: Path, rule: str):
    told = read_document("duplicates", "--tier", "exact", "--keep", rule, cwd=linked)
    (group,) = told["groups"]
    folder = linked / "photos" / "c"
    assert sorted(map(os.fsencode, group["keep"] + group["remove"])) == sorted(
        os.path.join(os.fsencode(folder), name) for name in os.listdir(os.fsencode(folder))
    )
    assert told["freed_bytes"] == 2 * (folder / "copied.jpg").stat().st_size
    assert all(file["reason"] for member in group["members"] for file in member["files"])


def test_the_list_for_xargs_has_exactly_what_could_go(linked: Path):
    command = [sys.executable, "-m", "simsearch", "duplicates", "--tier", "exact", "--print0"]
    done = subprocess.run(command, cwd=linked, capture_output=True, check=True, timeout=120)
    folder = os.fsencode(linked / "photos" / "c")
    assert done.stderr == b""
    assert sorted(done.stdout.split(b"\0")) == sorted(
        [b"", folder + b"/-n 'new\nline' (1).jpg", folder + b"/caf\xe9 (2).jpg"]
    )


def test_the_script_moves_what_could_go_and_the_rest_stays(linked: Path):
    run("duplicates", "--tier", "exact", "--out", "move.sh", cwd=linked)
    before = set(linked.glob("photos/*/*"))
    done = subprocess.run(["sh", "move.sh", "gone"], cwd=linked, capture_output=True, check=True, timeout=60)
    assert done.stdout == b"2 files moved, 0 left where they are\n"
    moved = {path for path in before if not path.is_file()}
    assert sorted(os.fsencode(path.name) for path in moved) == [b"-n 'new\nline' (1).jpg", b"caf\xe9 (2).jpg"]
    assert all(Path(f"{linked / 'gone'}{path}").is_file() for path in moved)


@pytest.mark.parametrize("rule", ["largest", "oldest", "newest", "shortest-path"])
def test_the_only_file_that_is_left_is_never_suggested(linked: Path, rule: str):
    """Copies are deleted, or replaced by another picture, after the run that indexed them."""
    folder = linked / "photos" / "c"
    *others, last = sorted(folder.iterdir())
    others[0].unlink()
    shutil.copy(linked / "photos" / "z" / "real.jpg", others[1])
    told = read_document_with_messages("duplicates", "--tier", "exact", "--keep", rule, cwd=linked)
    assert told["groups"] == []
    assert sorted(told["unread"]) == sorted(map(str, others))
    assert last.is_file()


def test_a_list_for_xargs_is_no_json(edited: Path):
    done = run("duplicates", "--print0", "--json", cwd=edited)
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["problem"] == "--print0 and --json cannot be combined"
    assert "--print0 and --json cannot be combined" in done.stderr


def read_document_with_messages(*arguments: object, cwd: Path) -> dict[str, Any]:
    done = run(*arguments, "--json", cwd=cwd)
    assert done.returncode == 0
    assert "cannot be read now" in done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document
