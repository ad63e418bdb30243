"""`simsearch predict`, `features`, `compare` and `augment`: JSON, text, files, errors."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import draw_picture
from tests.support.command_line import read_document, run

pytestmark = pytest.mark.long

RANDOM = ["--backbone", "mobilenet_v3_small", "--weights", "random"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures, one of them in two folders, a file that is none, and a torn one."""
    for seed, name in enumerate(("vase.png", "pot.png", "other/vase.png")):
        draw_picture(tmp_path / name, seed)
    (tmp_path / "notes.txt").write_text("to do")
    (tmp_path / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0 torn")
    return tmp_path


def test_predict_lists_networks_side_by_side_and_draws_a_sheet(folder: Path):
    """Random weights: TensorFlow converts once, the cache serves the second call."""
    done = run(
        "predict",
        "vase.png",
        "torn.jpg",
        "pot.png",
        *RANDOM,
        "--top",
        2,
        "--json",
        "--sheet",
        "x/sheet.png",
        cwd=folder,
    )
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        "simsearch: mobilenet_v3_small has random weights: its results are meaningless",
        "  skipped torn.jpg: damaged header (Truncated File Read); restore it from a copy",
    ]
    told = json.loads(done.stdout)
    assert set(told) == {"schema_version", "images", "sheet", "models", "skipped", "notes"}
    assert [image["path"] for image in told["images"]] == ["vase.png", "pot.png"]
    guesses = told["images"][0]["predictions"]["mobilenet_v3_small"]
    assert [set(guess) for guess in guesses] == [{"rank", "class_id", "name", "probability"}] * 2
    assert told["models"]["mobilenet_v3_small"]["resize"] == "crop"
    with Image.open(folder / "x" / "sheet.png") as sheet:
        assert sheet.width > 500
    shown = run("predict", "pot.png", *RANDOM, "--top", 1, cwd=folder)
    first = told["images"][1]["predictions"]["mobilenet_v3_small"][0]
    assert re.search(rf"1\t{re.escape(first['name'])}.*\t{first['probability']:.4f}", shown.stdout)


def test_features_draws_named_and_numbered_layers(folder: Path):
    layers = ["--layer", "last", "--layer", "7"]
    told = read_document("features", "vase.png", *layers, "--max-maps", 3, "--sort", cwd=folder)
    assert set(told) == {"image", "backbone", "resize", "layers", "picture", "notes"}
    assert [(layer["name"], layer["index"], layer["maps"]) for layer in told["layers"]] == [
        ("last", 91, 1280),
        ("block_1_expand", 7, 96),
    ]
    for layer in told["layers"]:
        assert len(layer["channels"]) == 3
        assert layer["mean_activations"] == sorted(layer["mean_activations"], reverse=True)
    assert told["picture"] == "report/features/builtin/vase.png"
    with Image.open(folder / told["picture"]) as picture:
        assert picture.width > 1500


def test_features_lists_the_layers_and_names_the_picture(folder: Path):
    layers = ["--layer", "7", "--layer", "last"]
    done = run("features", "pot.png", *layers, "--max-maps", 2, "--out", "maps/pot.png", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    first, last, picture = done.stdout.splitlines()
    assert re.fullmatch(r" +7  block_1_expand +96 maps of \d+ x \d+", first)
    assert re.fullmatch(r" +91  last +1,280 maps of \d+ x \d+", last)
    assert picture == "image: maps/pot.png"
    assert (folder / "maps" / "pot.png").is_file()


def test_augment_writes_the_same_views_for_the_same_seed(folder: Path):
    words = ["augment", "vase.png", "other/vase.png", "-n", 3, "--seed", 7]
    told = read_document(*words, "--out", "first", cwd=folder)["views"]
    assert [(view["image"], view["number"]) for view in told] == [
        (image, number) for image in ("vase.png", "other/vase.png") for number in (1, 2, 3)
    ]
    files = [folder / view["path"] for view in told]
    assert sorted(files) == sorted((folder / "first").iterdir())
    assert len({file.read_bytes() for file in files}) == 6
    with Image.open(files[0]) as view, Image.open(folder / "vase.png") as picture:
        assert view.size == picture.size
    shown = run(*words, "--out", "second", cwd=folder)
    assert shown.stdout.count("\n") == 6
    assert shown.stdout.startswith(f"second/{files[0].name}: ")
    assert [(folder / "second" / file.name).read_bytes() for file in files] == [file.read_bytes() for file in files]
    other = read_document("augment", "vase.png", "-n", 1, "--seed", 8, "--out", "third", cwd=folder)["views"]
    assert (folder / other[0]["path"]).read_bytes() != files[0].read_bytes()


def test_compare_json_has_the_documented_keys_and_each_pair_is_drawn(folder: Path):
    images = ["vase.png", "pot.png", "other/vase.png", "vase.png"]
    told = read_document(
        "compare", *images, "--backbone", "builtin", "--backbone", "histogram", "--out", "out", cwd=folder
    )
    assert set(told) == {"pairs", "heat_maps", "models", "skipped", "notes"}
    assert [(pair["a"], pair["b"]) for pair in told["pairs"]] == [
        (images[a], images[b]) for a, b in ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
    ]
    assert told["pairs"][2]["similarities"] == pytest.approx({"builtin": 1, "histogram": 1}, abs=1e-6)
    assert told["pairs"][0]["pictures"] == {
        "builtin": "out/cos_sim/builtin/vase_pot.jpg",
        "histogram": "out/cos_sim/histogram/vase_pot.jpg",
    }
    files = {file for pair in told["pairs"] for file in pair["pictures"].values()} | set(told["heat_maps"].values())
    assert len(files) == 14
    assert {str(path.relative_to(folder)) for path in (folder / "out").rglob("*.*")} == files
    assert told["models"]["builtin"]["precision"] == "f32"


def test_compare_prints_a_table(folder: Path):
    done = run("compare", "vase.png", "pot.png", "torn.jpg", "--backbone", "histogram", cwd=folder)
    assert (done.returncode, done.stderr.count("\n")) == (0, 1)
    assert re.search(r"^vase\.png\tpot\.png\t0\.\d{4}$", done.stdout, re.MULTILINE)
    assert "skipped torn.jpg" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["predict"], 2, "Missing argument"),
        (["predict", "vase.png", "--top", "0"], 2, "top is 0"),
        (["predict", "vase.png", "--backbone", "histogram"], 1, "histogram has no classification head"),
        (["predict", "vase.png", "--backbone", "vgg61"], 2, "did you mean vgg19 or vgg16?"),
        (["predict", "vase.png", "--backbone", "mobilenet_v2", "--offline"], 1, "no weights for mobilenet_v2"),
        (["predict", "vase.png", "--sheet", "x.docx"], 2, "no extension of a picture"),
        (
            ["predict", "vase.png", "--resize", "stretch"],
            2,
            "'stretch' is not one of 'squash', 'crop', 'pad', 'nearest'",
        ),
        (["predict", "notes.txt", *RANDOM], 1, "cannot read notes.txt"),
        (["features", "vase.png", "notes.txt"], 2, "unexpected extra argument"),
        (["features", "notes.txt"], 1, "cannot read notes.txt"),
        (["features", "vase.png", "--backbone", "histogram"], 1, "histogram gives no access to its layers"),
        (["features", "vase.png", "--max-maps", "0"], 2, "the number of maps is 0"),
        (["features", "vase.png", "--out", "x.docx"], 2, "no extension of a picture"),
        (["features", "vase.png", "--layer", "stemm"], 2, "no layer 'stemm'; nearest names: stem"),
        (["augment", "vase.png", "-n", "0"], 2, "the number of views is 0"),
        (["augment", "vase.png", "--ranges", "huge"], 2, "huge"),
        (["augment", "notes.txt"], 1, "cannot read notes.txt"),
        (["augment", "vase.png", "--out", "notes.txt"], 1, "notes.txt cannot be written to"),
        (["compare", "vase.png"], 2, "cannot compare 1 image"),
        (["compare", "vase.png", "missing.png", "--backbone", "histogram"], 1, "cannot read missing.png"),
        (["compare", "vase.png", "pot.png", "--layer", "fc2"], 1, "--layer does not apply to the backbone builtin"),
        (
            ["compare", "vase.png", "pot.png", "--precision", "f16"],
            2,
            "'f16' is not one of 'auto', 'f32', 'bf16', 'int8'",
        ),
        (["compare", "vase.png", "pot.png", "--out", "notes.txt"], 1, "cannot be written"),
    ],
)
def test_bad_input_gets_one_clear_line(folder: Path, arguments: list[str], code: int, message: str):
    done = run(*arguments, cwd=folder, env={"SIMSEARCH_CACHE": str(folder / "cache"), "KERAS_HOME": str(folder / "k")})
    assert (done.returncode, done.stdout) == (code, "")
    assert message in re.sub(r"[\s│]+", " ", done.stderr)
    assert "Traceback" not in done.stderr
    if "Usage" not in done.stderr:
        assert done.stderr.count("\n") == 1
