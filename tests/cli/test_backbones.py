"""`simsearch backbones`, `--check`, and collections that are indexed with ONNX exports."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.support.command_line import read_document, run
from tests.support.onnx_models import make_two_towers
from tests.support.servers import serving_hub

NOWHERE = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_CACHE": "nowhere", "COLUMNS": "80"}


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make_two_towers(tmp_path / "tiny-clip")


def read_row(name: str, env: dict[str, str], cwd: Path) -> dict:
    rows = read_document("backbones", cwd=cwd, env=env)["backbones"]
    return next(row for row in rows if row["name"] == name)


def test_the_table_shows_licenses_text_encoders_and_what_is_not_verified(tmp_path):
    done = run("backbones", cwd=tmp_path, env=NOWHERE | {"SIMSEARCH_CACHE": str(tmp_path / "cache"), "COLUMNS": "120"})
    lines = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line.strip()}
    assert lines["dinov2_small"][1:] == ["224", "22.1", "M", "384", "download", "89", "MB", "no", "Apache-2.0"]
    assert lines["clip_vit_b32"][5:7] == ["yes", "download"]
    assert lines["mobileclip2_s0"][-3:] == ["Apple", "AMLR", "*"]
    assert lines["builtin"][-2:] == ["yes", "Apache-2.0"]


def test_a_check_prints_figures_and_marks_the_row_as_verified(photos, tmp_path):
    env = NOWHERE | {"SIMSEARCH_CACHE": str(tmp_path / "cache")}
    done = run("backbones", "--check", "histogram", "--images", "photos", cwd=photos.parent, env=env)
    assert done.returncode == 0
    for part in ("histogram: 12 pictures, vectors of length 864", "P@1 ", "mAP ", "images/s", "norms 1.0000 to 1.0000"):
        assert part in done.stdout
    assert not read_row("vgg16", env, tmp_path)["verified"]
    (tmp_path / "cache" / "checks" / "vgg16.json").write_text("{}")
    assert read_row("vgg16", env, tmp_path)["verified"]


def test_a_check_of_a_folder_as_json(photos, clip, tmp_path):
    env = NOWHERE | {"SIMSEARCH_CACHE": str(tmp_path / "cache")}
    found = read_document("backbones", "--check", clip, "--images", "photos", cwd=photos.parent, env=env)
    assert (found["backbone"], found["images"], found["width"]) == ("tiny_clip", 12, 6)
    assert 0 <= found["mean_average_precision"] <= 1


def test_a_check_without_pictures_says_how_to_name_them(tmp_path):
    done = run("backbones", "--check", "builtin", cwd=tmp_path)
    assert done.returncode == 2
    assert "name pictures with --images FOLDER" in done.stderr


def test_a_restricted_license_is_explained(photos, tmp_path):
    env = NOWHERE | {"SIMSEARCH_CACHE": str(tmp_path / "cache")}
    done = run("index", "photos", "--backbone", "dinov3_vits16", cwd=photos.parent, env=env)
    assert done.returncode == 1
    assert "dinov3_vits16 is under the DINOv3 License, which limits its use" in done.stderr
    assert "simsearch backbones --check dinov3_vits16 --accept-license" in done.stderr


def test_a_hub_model_is_indexed_and_searched_and_found_again_offline(photos, clip, tmp_path):
    env = {"SIMSEARCH_CACHE": str(tmp_path / "cache"), "HF_HUB_CACHE": "nowhere"}
    with serving_hub() as hub:
        hub.add_folder("owner/tiny-clip", clip)
        done = run(
            "index", "photos", "--backbone", "hf:owner/tiny-clip", "--precision", "f32", "--json",
            cwd=photos.parent, env=env | {"HF_ENDPOINT": hub.url},
        )  # fmt: skip
    assert done.returncode == 0
    assert "hf:owner/tiny-clip is pinned to its commit" in done.stderr
    assert json.loads(done.stdout)["backbone"] == "tiny_clip"
    picture = photos / "a" / "picture_02.png"
    assert picture.is_file()
    shutil.copy(picture, tmp_path / "example.png")
    for query in (picture, tmp_path / "example.png"):
        hits = read_document("query", query, "--offline", cwd=photos.parent, env=env | NOWHERE)
        assert json.dumps(hits).count("picture_02.png") >= 1
    again = read_document("index", "photos", "--offline", cwd=photos.parent, env=env | NOWHERE)
    assert (again["backbone"], again["reused"]) == ("tiny_clip", 12)
