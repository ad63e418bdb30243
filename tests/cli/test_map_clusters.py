"""`simsearch map`, `clusters`, `duplicates`, `export` and `import`: JSON, text, files, errors."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from simsearch import Collection
from tests.conftest import ROOT, draw_picture
from tests.support.command_line import read_document, run
from tests.support.pages import Elements

HOSTILE = "<img src=x onerror=alert(1)>.png"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """photos/ in two folders, one name hostile, indexed with the histogram under indexes/. Only read."""
    base = tmp_path_factory.mktemp("home")
    for seed in range(12):
        draw_picture(base / "photos" / ("a" if seed < 6 else "b") / f"picture_{seed:02}.png", seed)
    draw_picture(base / "photos" / "b" / "x.png", 40).rename(base / "photos" / "b" / HOSTILE)
    read_document("index", "photos", "--backbone", "histogram", cwd=base)
    return base


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


def test_a_map_is_a_page_by_default_and_an_image_by_its_extension(home: Path, tmp_path: Path):
    where = ["--in", home / "indexes" / "photos"]
    told = read_document("map", *where, "--clusters", 3, cwd=tmp_path)
    assert (told["images"], told["of_images"], told["clusters"], told["files"]) == (13, 13, 3, ["map.html"])
    page = (tmp_path / "map.html").read_text("utf-8")
    assert HOSTILE not in page
    assert '"n":13' in page
    done = run("map", *where, "--out", "x/m.png", "--out", "x/m.html", "--where", "class = a", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"6 images in \d clusters: x/m\.png, x/m\.html\n", done.stdout)
    with Image.open(tmp_path / "x" / "m.png") as image:
        assert image.width >= 480
    assert (tmp_path / "x" / "m.html").is_file()


def test_clusters_are_a_table_a_document_and_a_sheet(home: Path, tmp_path: Path):
    told = read_document("clusters", "-k", 2, "--sheet", tmp_path / "c.png", cwd=home)
    assert [cluster["cluster"] for cluster in told["clusters"]] == [1, 2]
    assert sum(cluster["size"] for cluster in told["clusters"]) == 13
    listed = [image["path"] for cluster in told["clusters"] for image in cluster["images"]]
    assert sorted(listed) == sorted(map(str, (home / "photos").rglob("*.png")))
    with Image.open(tmp_path / "c.png") as image:
        assert image.width > 900
    shown = run("clusters", "-k", 2, cwd=home, env={"COLUMNS": "80"}).stdout
    first = told["clusters"][0]
    assert re.search(rf"1 +{first['size']} +{first['tightness']:.3f} +{first['label']} \d+%", shown)


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
@pytest.mark.parametrize("name", ["e.csv", "e"])
def test_an_exported_and_imported_model_gives_the_same_results(home: Path, tmp_path: Path, name: str):
    exported = read_document("export", tmp_path / name, cwd=home)
    assert (exported["rows"], exported["backbone"]) == (13, "histogram")
    told = read_document("import", tmp_path / name, "--into", tmp_path / "again", "--name", "brought", cwd=tmp_path)
    assert (told["rows"], told["added"], told["images"], told["skipped"]) == (13, 13, 13, [])
    asked = [home / "photos" / "b" / "picture_09.png", "-k", 13]
    own = read_document("query", *asked, "--in", home / "indexes" / "photos", cwd=tmp_path)
    brought = read_document("query", *asked, "--in", tmp_path / "again", cwd=tmp_path)
    assert brought["backbone"] == "brought"
    assert [hit["path"] for hit in brought["hits"]] == [hit["path"] for hit in own["hits"]]
    similarities = [hit["similarity"] for hit in own["hits"]]
    assert [hit["similarity"] for hit in brought["hits"]] == pytest.approx(similarities, abs=2e-6)
    assert "imported" in run("info", "--in", tmp_path / "again", cwd=tmp_path).stdout


def test_relative_paths_are_relative_to_the_root(home: Path, tmp_path: Path):
    (tmp_path / "v.csv").write_text('path,vector\na/picture_00.png,"[1, 0]"\na/none.png,"[0, 1]"\n')
    done = run("import", "v.csv", "--into", "i", "--name", "x", "--root", home / "photos", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout == "i: 1 images with a vector of x, 2 d (1 vectors added, 1 skipped)\n"
    assert re.search(r"skipped .*none\.png: No such file", done.stderr)


def test_export_writes_the_folder_of_the_projector(home: Path, tmp_path: Path):
    told = read_document("export", tmp_path / "p", "--format", "projector", cwd=home)
    assert (told["format"], told["rows"], told["of_images"]) == ("projector", 13, 13)
    assert {"tensors.tsv", "metadata.tsv", "sprite.png", "projector_config.pbtxt"} <= {
        file.name for file in (tmp_path / "p").iterdir()
    }


def test_without_pyarrow_the_extra_is_named(home: Path, tmp_path: Path):
    code = (
        "import sys\nsys.modules['pyarrow'] = None\nfrom simsearch.cli import main\n"
        f"sys.argv = ['simsearch', 'export', {str(tmp_path / 'e.parquet')!r}]\nsys.exit(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=home, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert "pip install 'simsearch[parquet]'" in done.stderr
    assert not (tmp_path / "e.parquet").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["map", "--out", "m.pdf"], 2, "unknown map format of m.pdf"),
        (["map", "--clusters", "99"], 2, "13 images cannot form 99 clusters"),
        (["clusters", "--where", "class ="], 2, "class"),
        (["clusters", "--sheet", "c.txt"], 2, "no extension of a picture"),
        (["clusters", "--backbone", "vgg16"], 1, "was not indexed with vgg16"),
        (["duplicates", "--tier", "far"], 2, "'far' is not one of 'exact', 'near', 'similar'"),
        (["duplicates", "--keep", "best"], 2, "'best' is not one of 'largest', 'oldest', 'newest', 'shortest-path'"),
        (["duplicates", "--out", "d.xlsx"], 2, "use .html, .csv or .json"),
        (["duplicates", "--reject", "one"], 2, "--reject one is not a list of image ids"),
        (["duplicates", "--reject", "3"], 2, "one image is not a pair"),
        (["duplicates", "--reject", "3,99"], 1, "no image 99"),
        (["duplicates", "--false-positive-rate", "2"], 2, "the false positive rate is 2"),
        (["export", "e.xml"], 2, "has no known extension"),
        (["export", "e", "--format", "hdf5"], 2, "'hdf5' is not one of 'parquet', 'npy', 'csv', 'jsonl', 'projector'"),
        (["export", "e.csv", "--vectors", "int8"], 2, "'int8' is not one of 'float32', 'float16', 'none'"),
        (["export", "photos"], 2, "photos exists already"),
        (["import", "none.csv", "--into", "i", "--name", "x"], 1, "none.csv does not exist"),
        (["import", "none.csv", "--into", "i", "--name", "vgg16"], 2, "simsearch has a backbone vgg16"),
        (["import", "none.csv", "--name", "x"], 2, "Missing option"),
    ],
)
def test_bad_input_gets_one_clear_line(home: Path, arguments: list[str], code: int, message: str):
    done = run(*arguments, cwd=home)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in re.sub(r"[\s│]+", " ", done.stderr)
    assert "Traceback" not in done.stderr
    if "Usage" not in done.stderr:
        assert done.stderr.count("\n") == 1


@pytest.mark.long
def test_the_json_of_groups_is_valid_json(edited: Path, tmp_path: Path):
    read_document("duplicates", "--tier", "similar", "--min-similarity", 0.2, "--out", tmp_path / "d.json", cwd=edited)
    told = json.loads((tmp_path / "d.json").read_text())
    assert told["question"]["min_similarity"] == 0.2
    similar = [group for group in told["groups"] if group["tier"] == "similar"]
    assert similar
    assert all(group["remove"] == [] and len(group["keep"]) > 1 for group in similar)
