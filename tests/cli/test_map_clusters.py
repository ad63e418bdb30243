"""`simsearch map`, `clusters`, `export` and `import`: JSON, text, files, errors."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import draw_picture
from tests.support.command_line import read_document, run

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
    assert re.search(rf"1\t{first['size']}\t{first['tightness']:.3f}\t{first['label']} \d+%", shown)


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
    assert done.stdout == "i: 1 image with a vector of x, 2 d (1 vector added, 1 skipped)\n"
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
    assert "pip install 'pandas>=2.2' 'pyarrow>=20'" in done.stderr
    assert not (tmp_path / "e.parquet").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["map", "--out", "m.pdf"], 2, "unknown map format of m.pdf"),
        (["map", "--clusters", "99"], 2, "13 images cannot form 99 clusters"),
        (["clusters", "--where", "class ="], 2, "class"),
        (["clusters", "--sheet", "c.txt"], 2, "no extension of a picture"),
        (["clusters", "--backbone", "vgg16"], 2, "was not indexed with vgg16"),
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
