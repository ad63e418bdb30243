"""`simsearch study`: JSON, text, files, errors."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from tests.conftest import draw_picture
from tests.support.command_line import read_document, run

QUICK = ["--backbone", "histogram"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures, a file that is none, and a torn one."""
    for seed, name in enumerate(("vase.png", "pot.png", "other/vase.png")):
        draw_picture(tmp_path / name, seed)
    (tmp_path / "notes.txt").write_text("to do")
    (tmp_path / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0 torn")
    return tmp_path


def test_a_study_writes_one_page_and_prints_its_json(folder: Path):
    images = ["vase.png", "pot.png", "torn.jpg", "other/vase.png"]
    done = run("study", *images, *QUICK, "-n", 2, "--seed", 7, "--ranges", "flip=no", "--json", cwd=folder)
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        "  skipped torn.jpg: damaged header (Truncated File Read); restore it from a copy"
    ]
    told = json.loads(done.stdout)
    assert told == {"schema_version": 1, **json.loads((folder / "report" / "study.json").read_text())}
    assert told["images"] == ["vase.png", "pot.png", "other/vase.png"]
    assert (told["augmented"]["seed"], told["augmented"]["ranges"]["horizontal_flip"]) == (7, False)
    assert told["command"].startswith("simsearch study vase.png pot.png torn.jpg other/vase.png --backbone histogram")
    assert {path.name for path in (folder / "report" / "cos_sim" / "histogram").iterdir()} == {
        "vase_pot.jpg",
        "vase_vase.jpg",
        "pot_vase.jpg",
    }
    assert len(list((folder / "report" / "augmented").iterdir())) == 6


def test_the_text_output_has_the_findings_and_the_path_of_the_page(folder: Path):
    done = run("study", "vase.png", "pot.png", *QUICK, "--out", "x/y", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    first, *_, last = done.stdout.splitlines()
    assert re.fullmatch(r"Similarity of vase and pot: 0\.\d{4} by histogram\.", first)
    assert last == "page: x/y/study.html"
    assert (folder / "x" / "y" / "study.html").is_file()


@pytest.mark.long
def test_the_default_needs_no_download(folder: Path):
    environment = {name: str(folder / "none") for name in ("SIMSEARCH_WEIGHTS", "SIMSEARCH_CACHE", "KERAS_HOME")}
    done = run("study", "vase.png", "pot.png", "-n", 1, "--json", cwd=folder, env=environment)
    assert done.returncode == 0
    assert "no weights of vgg16 and resnet50 on this machine: using builtin and histogram" in done.stderr
    told = json.loads(done.stdout)
    assert list(told["models"]) == ["builtin", "histogram"]
    assert list(told["features"]) == ["builtin"]
    assert set(told["no_predictions"]) == {"histogram"}


def test_a_name_that_is_not_utf8_can_be_studied(folder: Path):
    name = os.fsencode(folder) + b"/caf\xe9.png"
    try:
        os.rename(folder / "vase.png", name)
    except OSError as error:
        pytest.skip(f"this file system refuses such names: {error}")
    told = read_document("study", os.fsdecode(name), "pot.png", *QUICK, "-n", 1, cwd=folder)
    assert os.fsencode(told["images"][0]) == name
    assert "caf\ufffd" in (folder / "report" / "study.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["study"], 2, "Missing argument"),
        (["study", "vase.png", "-n", "-1", *QUICK], 2, "invalid number of augmented views -1"),
        (["study", "vase.png", "--top", "0", *QUICK], 2, "top is 0"),
        (["study", "vase.png", "--ranges", "rotation=-5", *QUICK], 2, "invalid rotation range -5"),
        (["study", "vase.png", "--resize", "stretch"], 2, "'stretch' is not one of 'squash', 'crop', 'pad', 'nearest'"),
        (["study", *["vase.png"] * 25, *QUICK], 2, "cannot study 25 images"),
        (["study", "vase.png", "--out", "notes.txt", *QUICK], 2, "notes.txt is a file, not a folder"),
        (["study", "notes.txt", *QUICK], 1, "cannot read notes.txt"),
        (["study", "vase.png", "--backbone", "vgg61"], 2, "did you mean vgg19 or vgg16?"),
        (["study", "vase.png", "--backbone", "vgg16", "--offline"], 1, "no weights for vgg16"),
        (["study", "vase.png", "--layer", "fc2", *QUICK], 1, "--layer does not apply to the backbone histogram"),
    ],
)
def test_bad_input_gets_one_clear_line(folder: Path, arguments: list[str], code: int, message: str):
    done = run(*arguments, cwd=folder, env={"SIMSEARCH_CACHE": str(folder / "cache"), "KERAS_HOME": str(folder / "k")})
    assert (done.returncode, done.stdout) == (code, "")
    assert message in re.sub(r"[\s│]+", " ", done.stderr)
    assert "Traceback" not in done.stderr
    if "Usage" not in done.stderr:
        assert done.stderr.count("\n") == 1
